# SPDX-License-Identifier: BSD-2-Clause
"""
A guest hypervisor that is an enemy (tests/guests/hostile_nested.c), on two processors, beside a partition that watches
its own memory.
"""
import re

import pytest

from tests.boot import conf, hand

BILLION = 1_000_000_000
SOME = 200  # operations that take as long as a restart does

ALIVE = r"ALIVE (\d+) (\d+) (\d+) (\d+) (\d+)\r"
CRASHED = r"partition enemy: crashed: ([^\r]*)\r"
# What a processor answers by a VMX abort, which stops it: the enemy may do that to itself.
OWN_FAULT = r"VMX abort: "


class Enemy:
    """What the enemy has done in all its lives."""

    def __init__(self, machine):
        self._machine = machine
        self.restarts = 0
        self.entered = self.failed = 0  # of its present life
        self._seen = (0, 0)

    def live_on(self):
        """Waits until all its processors have done some more, or it has ended itself; then it is started again."""
        self._machine.send_line("console enemy")
        match = self._machine.expect(rf"{ALIVE}|{CRASHED}", timeout=900)
        self._machine.monitor()
        if match.group(6) is not None:
            assert re.match(OWN_FAULT, match.group(6)), match.group(6)
            self.restarts += 1
            self._seen = (0, 0)
            hand.act(self._machine, "start enemy")
            return
        operations, self.entered, self.failed, _, others = (int(number) for number in match.groups()[:5])
        if operations < self._seen[0]:  # it has reset itself, and begun anew
            self.restarts += 1
            self._seen = (0, 0)
        assert operations > self._seen[0] and others > self._seen[1]
        self._seen = (operations, others)


def fight(machine, tmp_path, instructions):
    """The enemy on two processors, who watches on a third, until this many instructions have passed on each of them."""
    path = conf.write(
        tmp_path,
        watch=conf.guest("spin", cmdline="watch", cpus="1"),
        enemy=conf.guest("hostile_nested", vcpus=2, cpus="2-3", nested="yes"),
    )
    machine.boot(path, "--on", "bochs", "--cpus", 4, timeout=7200)
    machine.expect(r"WATCHING \d+\r")
    machine.monitor()
    machine.send_line("console enemy")
    machine.expect(r"HOSTILE nested 2\r")
    machine.monitor()
    owned = hand.frames(machine)
    began, turns = hand.watched(machine)
    enemy = Enemy(machine)
    while True:
        enemy.live_on()
        now, more_turns = hand.watched(machine)
        assert more_turns > turns
        if now - began > instructions:
            break
    print(f"{enemy.restarts} restarts; in its last life {enemy.entered} exits, {enemy.failed} entries that failed")
    assert enemy.entered > enemy.failed, "an enemy whose entries fail does no harm"
    assert enemy.restarts <= 1 + instructions // (BILLION // SOME)
    assert hand.frames(machine) == owned
    assert "panic" not in machine.command("log")
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def test_enemy(machine, tmp_path):
    """
    VMCSs, lists, bitmaps and EPT changed at random under two processors that run guests by them. Fails when that ends
    Umbra, makes a frame change hands or another partition's memory change, keeps a processor of the enemy from going
    on, or crashes the partition for another reason than a VMX abort.
    """
    fight(machine, tmp_path, BILLION // 20)


@pytest.mark.soak
def test_enemy_for_long(machine, tmp_path):
    """The same for a billion instructions, counted by the other partition's clock."""
    fight(machine, tmp_path, BILLION)
