# SPDX-License-Identifier: BSD-2-Clause
"""Debian's stock kernel in a partition, down to a shell in which one can work."""
import re

from tests.boot import bare_linux, conf
from tests.boot.guest_shell import run, wait_ready, warnings

# Lines that only a partition's log has, each with its reason.
REASONS = {}


def test_life(machine, tmp_path):
    """
    The kernel as the ELF inside its bzImage: boot, work, power-off, and a second boot from the monitor. Fails when the guest is
    told something else than it gets (processor, time), when power-off does not stop it, or when a stopped one does not start.
    """
    allowed = bare_linux.warnings(machine, tmp_path)
    machine.boot(conf.write(tmp_path, linux=conf.shell()), "--on", "bochs")
    wait_ready(machine)
    assert "6.1." in run(machine, "uname -a")
    assert run(machine, "grep -c ^processor /proc/cpuinfo").strip() == "1"
    assert "hypervisor" in run(machine, "grep ^flags /proc/cpuinfo")
    run(machine, "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done")
    assert run(machine, "cat /sys/devices/system/clocksource/clocksource0/current_clocksource").strip() == "tsc"
    log = run(machine, "dmesg -r")
    assert "clocksource: timekeeping watchdog" not in log
    assert [line for line in warnings(log) if line not in allowed and line not in REASONS] == []

    machine.send_line("poweroff -f")
    machine.monitor()
    machine.until("list", r"linux +stopped")
    assert machine.command("start linux").strip() == "linux started"
    machine.send_line("console linux")
    wait_ready(machine)
    run(machine, "true")
    machine.monitor()
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def test_bzimage(machine, tmp_path):
    """The kernel as Debian ships it. Fails when its decompressor, or the way it finds its initrd, does not work."""
    machine.boot(conf.write(tmp_path, linux=conf.shell(kernel="build/guests/vmlinuz", on_stop="poweroff")), "--on", "bochs")
    wait_ready(machine)
    machine.send_line("poweroff -f")
    assert machine.wait_end() == 0
    assert re.search(r"umbra: off", machine.before)
