# SPDX-License-Identifier: BSD-2-Clause
"""Who gets how much of a processor that partitions share, by the guests' own counters."""
import re

from tests.boot import conf, hand

COUNT = r"COUNT (\d+) (\d+)\r"
WINDOW = 300_000_000  # ticks, 3 s of the emulator's time: 300 slices
EXACTLY = 0.03


def spin(word, cpus, **keys):
    return conf.guest("spin", cmdline=word, memory="16M", cpus=cpus, **keys)


def booted(machine, tmp_path, processors, **partitions):
    machine.boot(conf.write(tmp_path, **partitions), "--on", "bochs", "--cpus", processors)
    machine.expect(r"SPIN \w+\r")
    machine.monitor()
    for name in partitions:
        hand.wait_state(machine, name, "running", "halted")


def count(machine, name):
    ticks, turns = hand.ask(machine, name, COUNT).groups()
    return int(ticks), int(turns)


def rates(machine, *names):
    """{name: turns of its loop for each tick} over a window, the same for all but for the time it takes to ask."""
    first = {name: count(machine, name) for name in names}
    while count(machine, names[0])[0] - first[names[0]][0] < WINDOW:
        continue
    last = {name: count(machine, name) for name in names}
    return {
        name: (last[name][1] - first[name][1]) / (last[name][0] - first[name][0]) for name in names
    }


def power_off(machine):
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def test_weights(machine, tmp_path):
    """Fails when weights 3 : 1 do not give shares 3 : 1."""
    booted(machine, tmp_path, 2, heavy=spin("counter", "shared on 1 weight 300"), light=spin("counter", "shared on 1 weight 100"))
    rate = rates(machine, "heavy", "light")
    assert abs(rate["heavy"] / rate["light"] / 3 - 1) < EXACTLY, rate
    power_off(machine)


def test_top(machine, tmp_path):
    """Fails when `top` gives another share of a processor than the guests' own counters, or not all of it."""
    booted(machine, tmp_path, 2, heavy=spin("counter", "shared on 1 weight 300"), light=spin("counter", "shared on 1 weight 100"))
    rate = rates(machine, "heavy", "light")
    table = machine.command("top once")
    share = {name: float(re.search(rf"^ *1 {name} .*?([\d.]+)%", table, re.MULTILINE).group(1)) for name in rate}
    for name in rate:
        counted = 100 * rate[name] / sum(rate.values())
        assert abs(share[name] / counted - 1) < EXACTLY, (name, share, rate)
    power_off(machine)


def test_cap(machine, tmp_path):
    """Fails when a capped partition gets more than its cap of a processor that nobody else wants, or less."""
    booted(machine, tmp_path, 3, capped=spin("counter", "shared on 1 cap 25%"), free=spin("counter", "2"))
    rate = rates(machine, "free", "capped")
    assert abs(rate["capped"] / rate["free"] / 0.25 - 1) < EXACTLY, rate
    power_off(machine)


def test_interrupts_off(machine, tmp_path):
    """
    A guest that spins with interrupts off, beside one that wants a timer every 10 ms, and another that does so on the monitor's own
    processor. Fails when the timer is later than one slice, or the monitor does not answer.
    """
    booted(machine, tmp_path, 2, greedy=spin("cli", "shared on 1"), tick=spin("tick", "shared on 1"), near=spin("cli", "shared on 0"))
    hand.ask(machine, "tick", r"TICKS (\d+) (\d+)\r")  # up to here it was starting
    number = 0
    while number < 100:
        answer = hand.ask(machine, "tick", r"TICKS (\d+) (\d+)\r")
        number += int(answer.group(1))
        # A slice is 10 ms, and so is the timer; what comes on top is the way of an exit.
        assert int(answer.group(2)) < 1_050_000, answer.group(0)
    assert hand.state(machine, "greedy") == "running"
    assert hand.state(machine, "near") == "running"
    power_off(machine)


def test_halted_costs_nothing(machine, tmp_path):
    """Fails when a guest that halts takes anything of the processor it shares."""
    booted(machine, tmp_path, 3, busy=spin("counter", "shared on 1"), idle=spin("halt", "shared on 1"), free=spin("counter", "2"))
    rate = rates(machine, "free", "busy")
    assert abs(rate["busy"] / rate["free"] - 1) < EXACTLY, rate
    hand.ask(machine, "idle", r"AWAKE\r")
    power_off(machine)
