# SPDX-License-Identifier: BSD-2-Clause
"""
The Linux boot ratio: instructions from the kernel proper's first (that of the ELF file inside bzImage, so that its
decompression is left out) to the one where the shell would start, in a partition and bare, with one processor and
equal memory.

The emulator stops at both ends and at every halt on the way; what goes by until a halted processor's next
instruction is taken off. That leaves retired instructions, exactly: the guest's own, and in a partition all of
Umbra's, of which the wait is none.
"""
import re

from bench import media
from bench.bochs import MIB, Bochs
from bench.elf import Elf
from umbra.common import HYPERVISOR, Problem
from umbra.guests import GUESTS

MEMORY = 256  # MiB, of the bare machine and of the partition
MACHINE = 1024  # MiB, of the machine that the partition is on

# Halts with the one instruction that is looked for; at places that are known before the kernel moves itself.
COMMAND_LINE = "console=ttyS0 quiet nokaslr idle=halt"
# The processor is told of a frequency that is not this emulator's. A partition is told the truth.
BARE_ONLY = "tsc_early_khz=100000"

# Linux clears processor buffers before it halts, if it must: VERW (SDM volume 2); STI; HLT.
_LINUX_HALT = rb"\x0f\x00\x2d.{4}\xfb(\xf4)"
_UMBRA_HALT = rb"\xfb(\xf4)\xfa"  # STI; HLT; CLI


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


def boot_partition(folder):
    """
    Boots the ELF file in a partition. Returns the boot, the tick at which the boot loader handed over, Umbra's own
    line about its start, and its statistics after the boot.
    """
    archive, end_code = media.make_archive(folder)
    umbra = Elf(HYPERVISOR)
    kernel = Elf(GUESTS / "vmlinux")
    iso = media.umbra_iso(
        folder,
        "linux",
        memory=f"{MEMORY}M",
        boot="linux",
        kernel=GUESTS / "vmlinux",
        initrd=archive,
        cmdline=COMMAND_LINE,
    )
    with Bochs(iso, folder, MACHINE * MIB) as bochs:
        hand_over = bochs.go_to(umbra.entry, umbra.entry_code()).ticks
        start = bochs.go_to(kernel.entry, kernel.entry_code())
        boot = _count(bochs, start, end_code, _halts(umbra, _UMBRA_HALT) + _halts(kernel, _LINUX_HALT))
        statistics = _ask_statistics(bochs)
        ready = re.search(r"^umbra: ready after .*", bochs.console, re.MULTILINE)
        if not ready:
            raise Problem(f"Umbra did not say when it was ready:\n{bochs.console}")
        return boot, hand_over, ready[0], statistics


def _halts(elf, pattern):
    found = elf.find_code(pattern)
    if not found:
        raise Problem("the benchmark does not find where a program halts: its pattern is out of date")
    return found


def _count(bochs, start, end_code, halts):
    """Runs from `start`, where the machine stands, to the end program, past all `halts` (addresses of HLT)."""
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


def _ask_statistics(bochs):
    """
    Lets the machine go on and asks the monitor. The guest sleeps by now, so what it adds to the counts is a few
    timer interrupts.
    """
    said = len(bochs.console)
    bochs.run_on()
    bochs.type("\x01c")
    bochs.wait_console("umbra> ", said)
    said = len(bochs.console)
    bochs.type("stats linux\r")
    bochs.wait_console(r"stats linux\n.*umbra> ", said)
    lines = re.findall(r"^(\w+) (\d+)$", bochs.console[said:], re.MULTILINE)
    return {name: int(value) for name, value in lines}
