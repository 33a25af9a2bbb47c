# SPDX-License-Identifier: BSD-2-Clause
"""
An enemy in a partition (tests/guests/sweep.c) that reaches for all memory, MSRs, ports and hypercalls, and ends
its lives in every way there is: nothing changes for the others.
"""
import pytest

from tests.boot import conf, hand

COVERAGE = r"sweep: msrs (\d+) of (\d+), ports (\d+) of (\d+), hypercalls (\d+) of (\d+)\r"
LIFE = r"SWEEP life (\d+)\r"
ENOUGH = 0.99
BILLION = 1_000_000_000


def booted(machine, tmp_path):
    """
    Who watches on processor 1, the enemy on processor 2; the enemy has the console. Returns whose the frames are.
    """
    path = conf.write(
        tmp_path,
        watch=conf.guest("spin", cmdline="watch", cpus="1"),
        sweep=conf.guest("sweep", cpus="2", on_stop="restart", start="manual"),
    )
    machine.boot(path, "--on", "bochs", "--cpus", 3, timeout=3600)
    machine.expect(r"WATCHING \d+\r")
    machine.monitor()
    hand.act(machine, "start sweep")
    hand.wait_state(machine, "sweep", "running")
    owned = hand.frames(machine)
    machine.send_line("console sweep")
    return owned


def covered(match):
    numbers = [int(number) for number in match.groups()]
    return [reached / there for reached, there in zip(numbers[::2], numbers[1::2])]


def test_one_life(machine, tmp_path):
    """
    Fails when a sweep over all MSRs, hypercalls and ports ends Umbra, stops or changes another partition, or does not reach
    99 of 100.
    """
    booted(machine, tmp_path)
    assert min(covered(machine.expect(COVERAGE, timeout=400))) >= ENOUGH
    machine.monitor()
    _, turns = hand.watched(machine)
    assert hand.watched(machine)[1] > turns
    assert "panic" not in machine.command("log")
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def next_word(machine):
    """What the enemy says next. One of its lives may loop for ever: the operator ends that."""
    try:
        return machine.expect(LIFE, COVERAGE, timeout=300)
    except AssertionError:
        machine.monitor()
        hand.act(machine, "reset sweep")
        machine.send_line("console sweep")
        return machine.expect(LIFE, COVERAGE, timeout=300)


@pytest.mark.soak
def test_many_lives(machine, tmp_path):
    """
    A billion instructions and more, counted by the other partition's clock, and eight lives with as many ends. Fails when anything
    outside of the partition changes, or one frame more or less is anybody's.
    """
    owned = booted(machine, tmp_path)
    machine.monitor()
    began, _ = hand.watched(machine)
    machine.send_line("console sweep")
    sweeps = 0
    lives = set()
    while sweeps < 8 or len(lives) < 8:
        match = next_word(machine)
        if match.re.groups == 1:
            lives.add(match.group(1))
        else:
            assert min(covered(match)) >= ENOUGH
            sweeps += 1
    machine.monitor()
    now, _ = hand.watched(machine)
    assert now - began > BILLION
    hand.act(machine, "reset sweep")
    hand.wait_state(machine, "sweep", "running")
    assert hand.frames(machine) == owned
    assert "panic" not in machine.command("log")
    machine.send_line("poweroff")
    assert machine.wait_end() == 0
