# SPDX-License-Identifier: BSD-2-Clause
"""
The Linux boot ratio: instructions from the kernel proper's first (that of the ELF file inside bzImage, so that
its decompression is left out) to the one where the shell would start, in a partition and bare, with one
processor and equal memory.

The emulator stops at both ends and at every halt on the way; what goes by until a halted processor's next
instruction is taken off. That leaves retired instructions, exactly: the guest's own, and in a partition all of
Umbra's too. Each serial line is as fast as the machine has it.
"""
from bench import media, monitor
from bench.bochs import MIB, Bochs
from bench.programs import Elf, bzimage_entry
from umbra.common import HYPERVISOR, Problem
from umbra.guests import GUESTS

MEMORY = 256  # MiB, of the bare machine and of the partition
MACHINE = 1024  # MiB, of the machine that the partition is on

# The kernel halts with the one instruction that is looked for, where the ELF file says.
COMMAND_LINE = "console=ttyS0 quiet nokaslr idle=halt"
# The processor is told of a frequency that is not this emulator's. A partition is told the truth.
BARE_ONLY = "tsc_early_khz=100000"

# Linux clears processor buffers before it halts, if it must: VERW (SDM volume 2); STI; HLT.
_LINUX_HALT = rb"\x0f\x00\x2d.{4}\xfb(\xf4)"
_UMBRA_HALT = rb"\xfb(\xf4)\xfa"  # STI; HLT; CLI

_READY = r"^umbra: ready after (\d+) ticks: (\d+) own, (\d+) clearing memory, (\d+) waiting for the console$"


class Boot:
    """What one boot came to; `start` is the tick of the kernel's first instruction."""

    def __init__(self, start):
        self.start = start
        self.instructions = 0
        self.halts = 0
        self.halted_ticks = 0


def boot_bare(folder):
    """Boots the stock bzImage by GRUB."""
    archive, end_code = media.make_archive(folder)
    kernel = Elf(GUESTS / "vmlinux")
    commands = [f"linux /vmlinuz {COMMAND_LINE} {BARE_ONLY}", "initrd /initrd"]
    iso = media.bare_iso(folder, "bare-linux", commands, vmlinuz=GUESTS / "vmlinuz", initrd=archive)
    with Bochs(iso, folder, MEMORY * MIB) as bochs:
        start = bochs.go_to(kernel.entry, kernel.entry_code())
        return _count(bochs, start, end_code, _halts(kernel, _LINUX_HALT))


def boot_partition(folder, paging="auto"):
    """
    Boots the ELF file in a partition, its addresses translated by `paging`. Returns the boot, and the monitor's
    statistics after it: the guest sleeps by then, so what asking adds to them is a few timer interrupts.
    """
    archive, end_code = media.make_archive(folder)
    umbra = Elf(HYPERVISOR)
    kernel = Elf(GUESTS / "vmlinux")
    with Bochs(_partition(folder, GUESTS / "vmlinux", archive, paging), folder, MACHINE * MIB) as bochs:
        bochs.go_to(umbra.entry, umbra.entry_code())
        start = bochs.go_to(kernel.entry, kernel.entry_code())
        boot = _count(bochs, start, end_code, _halts(umbra, _UMBRA_HALT) + _halts(kernel, _LINUX_HALT))
        bochs.run_on()
        return boot, monitor.statistics(bochs, "linux")


def start_partition(folder):
    """
    Umbra's start with the stock bzImage and the stock archive. Returns the ticks from the boot loader's
    hand-over to the guest's first instruction, by the emulator, and what Umbra says of them: (all, its own,
    clearing memory, waiting for the console).
    """
    umbra = Elf(HYPERVISOR)
    iso = _partition(folder, GUESTS / "vmlinuz", GUESTS / "shell.cpio.gz")
    with Bochs(iso, folder, MACHINE * MIB) as bochs:
        hand_over = bochs.go_to(umbra.entry, umbra.entry_code())
        first = bochs.go_to(*bzimage_entry(GUESTS / "vmlinuz"))
        bochs.run_on()
        return first.ticks - hand_over.ticks, tuple(map(int, bochs.wait_console(_READY).groups()))


def _partition(folder, kernel, archive, paging="auto"):
    keys = {"kernel": kernel, "initrd": archive, "cmdline": COMMAND_LINE, "paging": paging}
    return media.umbra_iso(folder, "linux", memory=f"{MEMORY}M", boot="linux", **keys)


def _halts(elf, pattern):
    found = elf.find_code(pattern)
    if not found:
        raise Problem("the benchmark does not find where a program halts: its pattern is out of date")
    return found


def _count(bochs, start, end_code, halts):
    """Runs from `start`, where the machine stands, to the end program, past all `halts` (HLTs' addresses)."""
    boot = Boot(start.ticks)
    end = bochs.stop_at(media.END_ADDRESS)
    breakpoints = [bochs.stop_at(halt) for halt in halts]
    while True:
        stop = bochs.go()
        if stop.text == "hlt":
            boot.halts += 1
            halted = bochs.step()
            woken = bochs.step()  # the first instruction behind the wait: it takes one tick itself
            boot.halted_ticks += woken.ticks - halted.ticks - 1
        elif stop.address == media.END_ADDRESS and stop.code and end_code.startswith(stop.code):
            break
    for number in (end, *breakpoints):
        bochs.ignore(number)
    boot.instructions = stop.ticks - start.ticks - boot.halted_ticks
    return boot
