# SPDX-License-Identifier: BSD-2-Clause
"""
Two partitions on one processor keep numbers of their own in every register there is (tests/guests/state.c),
each over halts and over the ends of its turns. Fails when one finds a number of the other's, or not its own.
"""
import re

import pytest

from tests.boot import bare, conf, hand
from tests.boot.machine import ESCAPE

SEEDS = {"first": 1, "second": 2}
# What the emulator's processors have, that is: a guest that held less would find less.
SKYLAKE, TIGER_LAKE = bare.MODEL, "tigerlake"
HELD = {
    SKYLAKE: "HOLDS components 0xe7, all but spec-ctrl pkru\r",
    TIGER_LAKE: "HOLDS components 0xe7, all but\r",
}


def hold(machine, tmp_path, rounds, switches, timeout, model=SKYLAKE):
    """
    Each partition looks `rounds` times; the processor, a `model`, has gone from one to the other `switches` times by
    then, or more. Both consoles are read.
    """
    partitions = {
        name: conf.guest("state", cmdline=f"seed={seed} rounds={rounds}", memory="16M", cpus="shared on 0")
        for name, seed in SEEDS.items()
    }
    machine.boot(conf.write(tmp_path, **partitions), "--on", "bochs", "--cpus", 1, "--model", model,
                 timeout=2 * timeout)
    for number, name in enumerate(SEEDS, 1):
        # The first has the console from the start; the second's shows all that it has said so far.
        if number != 1:
            machine.send(f"{ESCAPE}{number}")
        machine.expect(re.escape(HELD[model]))
        verdict = machine.expect(r"(PASS|FAIL) state[^\r]*\r", timeout=timeout).group(0)
        assert verdict == f"PASS state rounds={rounds}\r", f"{name}: {verdict}"
    machine.monitor()
    counted = {name: hand.stats(machine, name)["switches"] for name in SEEDS}
    print(counted)
    assert sum(counted.values()) >= switches, counted
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def test_switches(machine, tmp_path):
    """A thousand switches."""
    hold(machine, tmp_path, rounds=1000, switches=1000, timeout=120)


def test_switches_of_keys(machine, tmp_path):
    """A hundred of a processor with protection keys. PKRU is one's own whether or not XCR0 covers it."""
    hold(machine, tmp_path, rounds=100, switches=100, timeout=120, model=TIGER_LAKE)


@pytest.mark.soak
def test_ten_thousand_switches(machine, tmp_path):
    """Ten thousand."""
    hold(machine, tmp_path, rounds=10000, switches=10000, timeout=900)
