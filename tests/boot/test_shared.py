# SPDX-License-Identifier: BSD-2-Clause
"""Two partitions with a shared region: what each sees of it, and of the other through it."""
import re

from tests.boot import conf
from tests.boot.machine import ESCAPE

DONE = r"DONE (\d+) (\d+)\r"


def rows(machine):
    """What the partition in focus has said, up to its end: the names of its PASS rows, and its FAIL rows."""
    passed, failed = map(int, machine.expect(DONE).groups())
    good = re.findall(r"^PASS (\S+)\r$", machine.before, re.MULTILINE)
    bad = re.findall(r"^FAIL .*$", machine.before, re.MULTILINE)
    assert (len(good), len(bad)) == (passed, failed), machine.before
    return good, bad


def test_two_members(machine, tmp_path):
    """
    Fails when a member finds another function than the one documented, other memory than the other member, or hears not
    exactly one interrupt for each ring, by register or by hypercall.
    """
    keys = {"memory": "16M", "shared": "mail 1M"}
    path = conf.write(
        tmp_path,
        first=conf.guest("ivshmem", cmdline="first", cpus="1", **keys),
        second=conf.guest("ivshmem", cmdline="second", cpus="2", **keys),
    )
    machine.boot(path, "--on", "bochs", "--cpus", 3)
    first, first_bad = rows(machine)
    machine.send(ESCAPE + "2")
    second, second_bad = rows(machine)
    assert first_bad == [] and second_bad == []
    assert first == second
    machine.monitor()
    machine.send_line("poweroff")
    assert machine.wait_end() == 0
