# SPDX-License-Identifier: BSD-2-Clause
"""The life of a partition, again and again: nothing is left behind, and nobody else notices."""
import re

import pytest

from tests.boot import conf, hand

COUNT = r"COUNT (\d+) (\d+)\r"


def booted(machine, tmp_path, **partitions):
    """One partition that counts on processor 1 while others live and die on processor 2."""
    path = conf.write(tmp_path, steady=conf.guest("spin", cmdline="counter", memory="16M", cpus="1"), **partitions)
    machine.boot(path, "--on", "bochs", "--cpus", 3, timeout=36000)
    machine.expect(r"SPIN counter\r")
    machine.monitor()


def mortal(name, word, **keys):
    return conf.guest(name, cmdline=word, memory="16M", cpus="shared on 2", start="manual", timeout=1, **keys)


def progress(machine):
    return int(hand.ask(machine, "steady", COUNT).group(2))


def power_off(machine):
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def cycle(machine, number):
    """One life of either partition, by turns with another end."""
    if number % 2 == 0:
        hand.act(machine, "start short")
        hand.wait_state(machine, "short", "running")
        hand.act(machine, "pause short")
        assert hand.state(machine, "short") == "paused"
        hand.act(machine, "resume short")
        if number % 4 == 0:
            hand.act(machine, "reset short")
            hand.wait_state(machine, "short", "running")
        hand.act(machine, "stop short")
        hand.wait_state(machine, "short", "stopped")
    else:
        machine.command("start fatal")
        hand.wait_state(machine, "fatal", "crashed")


def lives(machine, tmp_path, number):
    booted(machine, tmp_path, short=mortal("spin", "cli"), fatal=mortal("hostile", "triple"))
    cycle(machine, 0)
    cycle(machine, 1)
    owned = hand.frames(machine)
    for i in range(2, 2 + number):
        before = progress(machine) if i % 10 == 0 else 0
        cycle(machine, i)
        if i % 10 == 0:
            assert progress(machine) > before
    assert hand.frames(machine) == owned
    power_off(machine)


def test_twenty_lives(machine, tmp_path):
    """Fails when a start, pause, reset, stop or crash keeps a frame, or another partition stands still meanwhile."""
    lives(machine, tmp_path, 20)


@pytest.mark.soak
def test_thousand_lives(machine, tmp_path):
    """The same a thousand times."""
    lives(machine, tmp_path, 1000)


def test_pause(machine, tmp_path):
    """Fails when a paused guest counts on, a resumed one has lost its place, or its clock has gone back."""
    booted(machine, tmp_path, other=conf.guest("spin", cmdline="counter", memory="16M", cpus="2"))
    ticks, turns = map(int, hand.ask(machine, "other", COUNT).groups())
    hand.act(machine, "pause other")
    exits = hand.stats(machine, "other")["exits"]
    before = progress(machine)
    while progress(machine) < before + 100:
        continue
    assert hand.stats(machine, "other")["exits"] == exits
    hand.act(machine, "resume other")
    ticks_now, turns_now = map(int, hand.ask(machine, "other", COUNT).groups())
    assert ticks_now > ticks and turns_now > turns
    power_off(machine)


def test_create_and_destroy(machine, tmp_path):
    """Fails when a section that is typed makes no partition, or one that is destroyed keeps memory or name."""
    booted(machine, tmp_path, first=mortal("spin", "cli"))
    owned = hand.frames(machine)
    section = ["[partition typed]", *(f"{key} = {value}" for key, value in mortal("spin", "cli").items())]
    for _ in range(2):
        machine.send_line("create")
        for line in section:
            machine.send_line(line)
        assert "error:" not in machine.command("end")
        hand.act(machine, "start typed")
        hand.wait_state(machine, "typed", "running")
        hand.act(machine, "stop typed")
        hand.wait_state(machine, "typed", "stopped")
        hand.act(machine, "destroy typed")
        assert not re.search(r"\btyped\b", machine.command("list"))
    assert hand.frames(machine) == owned
    power_off(machine)


def test_powers_itself_off(machine, tmp_path):
    """Fails when a guest's own power-off is not its end, or what it had stays its own."""
    booted(machine, tmp_path, brief=mortal("hostile", "badmsr"))
    owned = hand.frames(machine)
    hand.act(machine, "start brief")
    hand.wait_state(machine, "brief", "stopped")
    left = hand.frames(machine)
    assert left["umbra"] == owned["umbra"] and left["steady"] == owned["steady"]
    power_off(machine)
