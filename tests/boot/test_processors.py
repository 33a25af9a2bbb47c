# SPDX-License-Identifier: BSD-2-Clause
"""Every processor of the machine is started, and the monitor comes up beside them."""
import re

import pytest

from tests.boot import conf


@pytest.mark.parametrize(
    "emulator, count, said",
    [("bochs", 1, "1 processor"), ("bochs", 4, "4 processors"), ("qemu", 8, "8 processors")],
)
def test_starts(machine, tmp_path, emulator, count, said):
    """
    Fails when a processor does not answer, differs from the first where it should not, or disturbs it; and when
    what the others needed for their start stays behind in memory.
    """
    machine.boot(conf.write(tmp_path), "--on", emulator, "--cpus", str(count))
    machine.expect(r"loaded by GRUB")
    machine.expect(r"umbra: ready after \d+ ticks")
    text = machine.before
    assert re.search(rf"umbra: {said}\r", text), text
    for wrong in ("is not used", "time stamp counter is", "machine-check"):
        assert wrong not in text
    machine.monitor()
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def test_reboot(machine, tmp_path):
    """
    Fails when processors cannot be started a second time after a reset. In QEMU: Bochs' BIOS ends the emulator
    when it boots again (a keyboard error).
    """
    machine.boot(conf.write(tmp_path), "--on", "qemu", "--cpus", "4")
    machine.expect("umbra: 4 processors\r")
    machine.expect("umbra: ready")
    machine.monitor()
    machine.send_line("reboot")
    machine.expect("umbra: 4 processors\r")
    machine.expect("umbra: ready")
    machine.monitor()
    machine.send_line("poweroff")
    assert machine.wait_end() == 0
