# SPDX-License-Identifier: BSD-2-Clause
"""
Systems other than Linux in a partition, by each boot protocol, as examples/ has them: GNU Mach and Xen by
Multiboot 1, Xen and Umbra itself by Multiboot2, Memtest86+ as Linux.
"""
import re

import pytest

BOOT = 300.0  # seconds: none takes more than a few G instructions, but two may run at a time


def state(machine, name):
    """What the monitor's list says of the partition."""
    return re.search(rf"{name} +(\w+)", machine.command("list")).group(1)


def test_gnumach(machine):
    """
    GNU Mach counts its memory and ends for want of a bootstrap module. Fails when the Multiboot 1 information
    (memory map, command line) is not what it expects, or its clock or console does not work.
    """
    machine.boot("examples/gnumach.conf", "--on", "bochs")
    machine.expect("GNU Mach 1", timeout=BOOT)
    machine.expect(r"DMA32: pages: 12288 \(48M\)", timeout=BOOT)
    machine.expect("No bootstrap code loaded with the kernel!", timeout=BOOT)


def test_memtest(machine):
    """
    Memtest86+ draws its screen and goes through its first tests. Fails when a bzImage that cannot be moved is not
    where it wants to be, when it does not see the memory, or finds an error in it.
    """
    machine.boot("examples/memtest.conf", "--on", "bochs")
    machine.expect(r"Memtest86\+", timeout=BOOT)
    machine.expect(r"#[1-9] +\[", timeout=BOOT)
    machine.expect(r"4MB - 32MB", timeout=BOOT)
    machine.expect(r"Errors: +(\d+)", timeout=BOOT)
    assert machine.expect(r"Errors: +(\d+)", timeout=BOOT).group(1) == "0"


@pytest.mark.parametrize("boot", ["multiboot", "multiboot2"])
def test_xen(machine, tmp_path, boot):
    """
    Xen says who loaded it and complains that it has no dom0. Fails when its information, or what it looks for in
    the BIOS data area, is wrong; by Multiboot2 also when it is not moved as it asks to be.
    """
    with open("examples/xen.conf", encoding="ascii") as text:
        configuration = re.sub(r"boot +=.*", f"boot = {boot}", text.read())
    (tmp_path / "xen.conf").write_text(configuration)
    machine.boot(tmp_path / "xen.conf", "--on", "bochs")
    machine.expect(r"\(XEN\) Xen version 4\.", timeout=BOOT)
    machine.expect(r"\(XEN\) Bootloader: Umbra", timeout=BOOT)
    machine.expect(r"\(XEN\) Command line: com1=115200,8n1 console=com1 noreboot", timeout=BOOT)
    machine.expect("dom0 kernel not specified", timeout=BOOT)
    machine.expect("Manual reset required", timeout=BOOT)


def test_umbra(machine):
    """
    Umbra in Umbra finds no VT-x, and its monitor answers. Fails when the Multiboot2 information does not hold
    what it reads (module, memory map, ACPI root pointer), or the outer one crashes for what the inner one asks.
    """
    machine.boot("examples/umbra.conf", "--on", "bochs")
    machine.expect("loaded by Umbra", timeout=BOOT)
    machine.expect("no partition can run: this processor has no VT-x", timeout=BOOT)
    machine.expect(re.escape("umbra> "))
    free = re.search(r"free +(\d+) KiB", machine.command("memory"))
    assert 48 << 10 < int(free.group(1)) < 64 << 10
    machine.monitor()
    assert state(machine, "umbra") in ("running", "halted")
    machine.send_line("console umbra")
    machine.send_line("poweroff")
    machine.expect("umbra: off")
    machine.monitor()
    assert machine.until("list", r"umbra +stopped")
    machine.send_line("poweroff")
    assert machine.wait_end() == 0
