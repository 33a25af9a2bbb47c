# SPDX-License-Identifier: BSD-2-Clause
"""Guests on several virtual processors."""
import re

import pytest

from tests.boot import bare, compare, conf, hand
from tests.boot.machine import BUILD

LAYOUTS = [
    pytest.param(2, "1-2", 3, id="2-dedicated"),
    pytest.param(2, "shared on 1", 2, id="2-on-one"),
    pytest.param(4, "1-4", 5, id="4-dedicated", marks=pytest.mark.soak),
    pytest.param(4, "shared on 1-2", 3, id="4-on-two", marks=pytest.mark.soak),
    pytest.param(4, "shared on 0-1", 2, id="4-with-the-housekeeper", marks=pytest.mark.soak),
]


@pytest.mark.parametrize("vcpus, cpus, processors", LAYOUTS)
def test_same_as_bare(machine, tmp_path, record_property, vcpus, cpus, processors):
    """
    Fails when an interrupt between processors goes elsewhere, comes twice or never; when INIT leaves what it clears, or a start-up
    IPI is taken by who runs; when processors see different memory, translations or times.
    """
    expected = bare.run(BUILD / "tests" / "guests" / "smp.elf", count=vcpus, timeout=300)
    keys = conf.guest("smp", vcpus=vcpus, cpus=cpus, on_stop="poweroff")
    machine.boot(conf.write(tmp_path, guest=keys), "--on", "bochs", "--cpus", processors)
    assert machine.wait_end(timeout=600) == 0
    result = compare.compare("smp", expected.text, machine.before)
    assert result.problems == []
    record_property("guest_rows", (result.rows, result.declared))


# Exits that an operation may cost where the processor has APIC virtualisation but posts no interrupts.
MOST_EXITS = {
    "eoi": 0, "tpr": 0, "cr8": 0, "self-ipi": 1, "timer": 2, "ipi": 2,
    "x2apic-eoi": 0, "x2apic-tpr": 0, "x2apic-self-ipi": 0, "x2apic-timer": 2, "x2apic-ipi": 2,
}
STEP = r"STEP (\S+) (\d+)\r"
PORTS = "exits_I_O_instruction"  # of the guest's own lines, and of its wait for a byte


def exits(machine):
    counted = hand.stats(machine, "guest")
    return counted["exits"] - counted.get(PORTS, 0)


def test_exits(machine, tmp_path):
    """Fails when an operation of the local APIC costs more exits than it must."""
    machine.boot(conf.write(tmp_path, guest=conf.guest("bench_smp", vcpus=2, cpus="1-2")), "--on", "bochs", "--cpus", 3)
    found = {}
    name, rounds = machine.expect(STEP).groups()
    machine.monitor()
    while name != "end":
        before = exits(machine)
        following = hand.ask(machine, "guest", rf"END {re.escape(name)}\r\s+{STEP}")
        found[name] = (exits(machine) - before) / int(rounds)
        name, rounds = following.groups()
    assert set(found) == set(MOST_EXITS)
    over = {name: cost for name, cost in found.items() if cost > MOST_EXITS[name] + 0.05}
    assert not over, f"exits for one operation: {found}"
    machine.send_line("poweroff")
    assert machine.wait_end() == 0
