# SPDX-License-Identifier: BSD-2-Clause
"""
Guests that measure in phases (tests/guests/lib/bench.h): what they say, and what is counted outside while they
halt at both ends of a phase.
"""
import dataclasses
import re

from bench import media, monitor
from bench.bochs import MIB, Bochs
from umbra.common import BUILD, Problem, need_file

_BENCH = re.compile(r"^BENCH (\S+) (-?\d+) (-?\d+) (-?\d+) (\d+)$", re.MULTILINE)
_LINE = r"^(?:(PHASE|END) (\S+)(?: (\d+))?|OWN (\S+) (\d+) (\d+)|DONE \d+ (\d+))\n"
DONE = r"^DONE \d+ (\d+)$"  # the last line of a guest: how many of its checks failed

PORTS = "exits_I_O_instruction"
HALTS = "exits_HLT"
TIMER = "exits_VMX_preemption_timer_expired"
MACHINE = "exits_external_interrupt"  # the machine's own devices want attention: nobody's exits


# What is counted for one operation is told to this many decimals. A phase has a few exits that are nobody's: the
# guest takes notes of its samples, and touches a page of them for the first time.
_DECIMALS = 2


def per_operation(count, operations):
    """A count of a whole phase as a figure of one operation."""
    return round(count / operations, _DECIMALS)


@dataclasses.dataclass
class Phase:
    """
    What was counted while the guest did `operations`: differences of counters, and how many of the exits for
    ports and halts were those of its talking.
    """

    name: str
    operations: int
    counted: dict
    ports: int = 0
    halts: int = 0

    def exits(self, timed=False):
        """Exits for one operation. `timed`: a timer's end is the operation's, not the end of a turn."""
        reasons = set(monitor.reasons(self.counted)) - {MACHINE} - (set() if timed else {TIMER})
        own = {PORTS: self.ports, HALTS: self.halts}
        for reason, count in own.items():
            if self.counted.get(reason, 0) < count:
                raise Problem(f"{self.name}: {self.counted.get(reason, 0)} of {reason}, of at least {count}")
        count = sum(self.counted[name] for name in reasons) - self.ports - self.halts
        return per_operation(count, self.operations)

    def of(self, counter):
        """How much a counter grew for one operation."""
        return per_operation(self.counted[counter], self.operations)


def difference(before, after):
    """How much each counter has grown. One that is not in `before` was 0."""
    return {name: value - before.get(name, 0) for name, value in after.items()}


def figures(console):
    """What a guest's BENCH rows say: operation → {median, min, max, count}, in its order."""
    return {
        name: dict(zip(("median", "min", "max", "count"), map(int, numbers)))
        for name, *numbers in _BENCH.findall(console)
    }


def run_bare(folder, guest, memory):
    """Runs a guest (its name) without a hypervisor, in `memory` MiB. Returns its figures."""
    iso = media.bare_iso(folder, f"bare-{guest}", ["multiboot /guest.elf"], **{"guest.elf": image(guest)})
    with Bochs(iso, folder, memory * MIB) as bochs:
        bochs.run_on()
        return _end(bochs, guest)


def run_partition(folder, guest, memory, **keys):
    """
    Runs a guest in a partition of `memory` MiB, with these keys of its configuration. Returns its figures, and
    its phases: none unless the key `cmdline` has the word wait.
    """
    name = "guest"
    keys = {"boot": "multiboot", "kernel": image(guest)} | keys
    iso = media.umbra_iso(folder, name, memory=f"{memory}M", **keys)
    with Bochs(iso, folder, 4 * memory * MIB) as bochs:
        bochs.run_on()
        counted = attend(bochs, name) if "wait" in keys.get("cmdline", "").split() else []
        return _end(bochs, guest), counted


def attend(bochs, partition):
    """Goes through the phases with the guest, up to its last line."""
    found = []
    said = 0
    while True:
        line = bochs.wait_console(_LINE, said)
        said += line.end()
        what, name, operations, own, ports, halts, failed = line.groups()
        if failed is not None:
            return found
        if own is not None:
            found[-1].ports, found[-1].halts = int(ports), int(halts)
        elif (what, name) != ("PHASE", "end"):
            counted = monitor.statistics(bochs, partition)
            if what == "PHASE":
                begun = int(operations), counted
            else:
                found.append(Phase(name, begun[0], difference(begun[1], counted)))
            monitor.type_at_guest(bochs, " ")


def image(guest):
    """The file of a guest."""
    return need_file(BUILD / f"tests/guests/{guest}.elf", "run make guests-elf")


def program(guest):
    """The same as a 64-bit ELF file, with its symbols."""
    return need_file(image(guest).with_suffix(".elf.64"), "run make guests-elf")


def _end(bochs, guest):
    failed = int(bochs.wait_console(DONE)[1])
    found = figures(bochs.console)
    if failed or not found:
        raise Problem(f"{guest} failed:\n{bochs.console[-1000:]}")
    return found
