# SPDX-License-Identifier: BSD-2-Clause
"""
Where the instructions of one operation go: everything that the emulator's processor executes from one call of a
guest's function to the next, by the emulator's trace; by kind of instruction, and by Umbra's functions.
"""
import bisect
import collections
import re

from bench import exits, media, phases
from bench.bochs import MIB, Bochs
from bench.programs import Elf
from bench.table import Row
from umbra.common import HYPERVISOR, Problem, run_tool

# Those that a processor needs longer for, and that hypervisors differ in; VMRESUME and VMLAUNCH are `entries`.
SPECIAL = (
    "vmread",
    "vmwrite",
    "vmptrld",
    "vmclear",
    "invept",
    "invvpid",
    "rdmsr",
    "wrmsr",
    "in",
    "out",
    "rdtsc",
)
_ENTRIES = ("vmresume", "vmlaunch")

# Operation of bench_exits → its function.
OPERATIONS = {
    "cpuid": "do_cpuid",
    "vmcall": "do_vmcall",
    "port-read": "do_port_read",
    "pic-read": "do_pic_read",
    "rdmsr": "do_rdmsr",
    "wrmsr": "do_wrmsr",
    "ioapic-read": "do_ioapic_read",
    "self-ipi": "do_self_ipi",
    "tsc-deadline": "do_deadline",
}
GUEST = range(1 << 20, 14 << 20)  # where a guest's code is (tests/guests/lib/guest.lds)
WARM = 100  # calls before the one that is looked at

_EXECUTED = re.compile(r"\[0x\w+\] \w+:(\w+) \([^)]*\): (?:(?:lock|rep\w*) )?([a-z]\w*)")
_SYMBOL = re.compile(r"^([0-9a-f]+) [tTwW] (\S+)$", re.MULTILINE)


class Symbols:
    """The functions of an ELF file."""

    def __init__(self, program):
        found = _SYMBOL.findall(run_tool("nm", program).decode())
        self._sorted = sorted((int(address, 16), name) for address, name in found)
        self._addresses = [address for address, _ in self._sorted]
        self.by_name = {name: address for address, name in self._sorted}

    def at(self, address):
        """The function that this address is in, or `?` if it is below all of them."""
        found = bisect.bisect_right(self._addresses, address)
        return self._sorted[found - 1][1] if found else "?"


class Trace:
    """What was executed outside the guest, of the debugger's lines."""

    def __init__(self, text):
        executed = [(int(address, 16), mnemonic) for address, mnemonic in _EXECUTED.findall(text)]
        if not executed:
            raise Problem(f"the emulator's trace is not understood:\n{text[:500]}")
        self.outside = [step for step in executed if step[0] not in GUEST]

    def kinds(self):
        """How often each of SPECIAL was executed, what else there was (`other`), and VM entries (`entries`)."""
        counted = collections.Counter(mnemonic for _, mnemonic in self.outside)
        found = {"entries": sum(counted.pop(name, 0) for name in _ENTRIES)}
        found |= {name: counted.pop(name, 0) for name in SPECIAL}
        return found | {"other": sum(counted.values())}

    def functions(self, symbols):
        """Function → instructions in it, the most first."""
        counted = collections.Counter(symbols.at(address) for address, _ in self.outside)
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def first_address():
    """Where the first of OPERATIONS is."""
    return Symbols(phases.program(exits.GUEST)).by_name[next(iter(OPERATIONS.values()))]


def take(bochs):
    """Goes with bench_exits through OPERATIONS, in its order. Returns operation → Trace of one call."""
    guest = Symbols(phases.program(exits.GUEST))
    found = {}
    for operation, function in OPERATIONS.items():
        number = bochs.stop_at(guest.by_name[function])
        for _ in range(WARM):
            bochs.go()
        bochs.ignore(number)
        found[operation] = Trace(bochs.trace_to(guest.by_name[function]))
    return found


def run_partition(folder, memory, **keys):
    """In a partition; bench_exits must not wait."""
    keys = {"boot": "multiboot", "kernel": phases.image(exits.GUEST)} | keys
    iso = media.umbra_iso(folder, "profile", memory=f"{memory}M", **keys)
    guest = Elf(phases.program(exits.GUEST))
    with Bochs(iso, folder, 4 * memory * MIB) as bochs:
        bochs.go_to(guest.entry, guest.entry_code())
        return take(bochs)


def kind_rows(traces):
    """`traces`: system → operation → Trace."""
    for operation in OPERATIONS:
        kinds = {system: found[operation].kinds() for system, found in traces.items() if operation in found}
        for name in dict.fromkeys(name for counted in kinds.values() for name in counted):
            values = {system: counted[name] for system, counted in kinds.items()}
            if any(values.values()):
                yield Row(group(operation), name, "instructions", values)


def function_rows(traces):
    """The same by Umbra's functions."""
    symbols = Symbols(HYPERVISOR)
    for operation in OPERATIONS:
        by_system = {system: found[operation].functions(symbols) for system, found in traces.items()}
        for name in dict.fromkeys(name for counted in by_system.values() for name in counted):
            values = {system: counted.get(name, 0) for system, counted in by_system.items()}
            yield Row(f"{operation}, by function", name, "instructions", values)


def group(operation):
    """The group of the rows that say how often an operation executes what."""
    return f"{operation}, by kind of instruction"
