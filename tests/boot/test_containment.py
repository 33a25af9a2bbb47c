# SPDX-License-Identifier: BSD-2-Clause
"""What a guest does wrong stays in its partition: the monitor answers, the others go on."""
import re

import pytest

from tests.boot import conf
from tests.boot.machine import PROMPT


def booted(machine, tmp_path, word):
    """A machine with a hostile guest and a good one that loops, in the monitor."""
    path = conf.write(tmp_path, bad=conf.guest("hostile", cmdline=word), other=conf.guest("hostile", cmdline="cli-loop"))
    machine.boot(path, "--on", "bochs")
    machine.expect(f"HOSTILE {word}")
    machine.monitor()
    return machine


@pytest.mark.parametrize("word, reason", [("triple", "triple fault"), ("jump", "triple fault")])
def test_crash(machine, tmp_path, word, reason):
    """Fails when a crash takes more than its partition along, keeps no reason, or cannot be started again."""
    booted(machine, tmp_path, word)
    assert re.search(rf"bad +crashed.*{reason}", machine.command("list"))
    assert re.search(r"other +running", machine.command("list"))
    dump = machine.command("dump bad")
    assert re.search(r"GUEST_RIP +[0-9a-f]{16}", dump)
    assert re.search(r"rax [0-9a-f]{16}", dump)
    assert "triple fault" in dump.splitlines()[-1]
    machine.send_line("start bad")
    machine.expect(rf"partition bad: crashed: {reason}")
    machine.expect(re.escape(PROMPT))
    assert re.search(rf"bad +crashed.*{reason}", machine.command("list"))
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def test_bad_msr(machine, tmp_path):
    """Fails when an MSR that does not exist is anything but a #GP for the guest."""
    path = conf.write(tmp_path, bad=conf.guest("hostile", cmdline="badmsr", on_stop="poweroff"))
    machine.boot(path, "--on", "bochs")
    machine.expect(r"DONE \d+ 0\r")
    assert machine.wait_end() == 0


def test_restart(machine, tmp_path):
    """Fails when on-stop = restart does not bring a guest that powers itself off back, each time anew."""
    machine.boot(conf.write(tmp_path, again=conf.guest("hostile", cmdline="badmsr", on_stop="restart")), "--on", "bochs")
    for _ in range(3):
        machine.expect(r"PASS multiboot\r")
        machine.expect(r"DONE \d+ 0\r")
    machine.monitor()
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def test_interrupts_off(machine, tmp_path):
    """A guest that loops with interrupts off. Fails when it keeps the processor from the monitor or from the others."""
    booted(machine, tmp_path, "cli-loop")
    before = _exits(machine, "other")
    assert re.search(r"bad +running", machine.command("list"))
    assert _exits(machine, "other") > before
    machine.command("stop bad")
    assert re.search(r"bad +stopped", machine.command("list"))
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def _exits(machine, name):
    return int(re.search(r"^exits (\d+)$", machine.command(f"stats {name}"), re.MULTILINE).group(1))
