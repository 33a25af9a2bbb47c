# SPDX-License-Identifier: BSD-2-Clause
"""
Two partitions on one processor keep numbers of their own in every register there is (tests/guests/state.c): neither finds one of
the other's, and each finds its own again.
"""
import re

import pytest

from tests.boot import conf, hand
from tests.boot.machine import ESCAPE

SEEDS = {"first": 1, "second": 2}


def holds(machine, tmp_path, rounds, least, timeout):
    """Each partition goes through `rounds` rounds; between them they take the processor `least` times from the other, or more."""
    partitions = {
        name: conf.guest("state", cmdline=f"seed={seed} rounds={rounds}", memory="16M", cpus="shared on 0")
        for name, seed in SEEDS.items()
    }
    machine.boot(conf.write(tmp_path, **partitions), "--on", "bochs", "--cpus", 1, timeout=timeout + 60)
    machine.expect("PASS multiboot\r")  # until then nobody hears the keys
    for number, name in enumerate(SEEDS, 1):
        machine.send(f"{ESCAPE}{number}")
        verdict = machine.expect(r"(PASS|FAIL) state[^\r]*\r", timeout=timeout).group(0)
        assert verdict == f"PASS state rounds={rounds}\r", f"{name}: {verdict}"
    machine.monitor()
    switches = {name: hand.stats(machine, name)["switches"] for name in SEEDS}
    print(switches)
    assert sum(switches.values()) >= least, switches
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def test_state(machine, tmp_path):
    holds(machine, tmp_path, 100, 10, 60)
