# SPDX-License-Identifier: BSD-2-Clause
"""
Each guest of tests/guests bare and in a partition: the same rows, but for those that tests/guests/differences.txt declares. Fails
when a partition's processor or board does anything else than the bare one.
"""
import pytest

from tests.boot import bare, compare, conf
from tests.boot.machine import BUILD


# Its rows about the shadow of STI stand or fall with Bochs' defect of virtual interrupts (docs/notes/bochs.md), which an
# interrupt of the machine at that moment brings out: it runs where none comes.
UNDISTURBED = {"interrupts"}


@pytest.mark.parametrize("name", [name for name in bare.compared() if name not in bare.PROCESSORS])
def test_same_as_bare(machine, tmp_path, record_property, name):
    expected = bare.run(BUILD / "tests" / "guests" / f"{name}.elf")
    place = {"cpus": 1} if name in UNDISTURBED else {}
    configuration = conf.write(tmp_path, guest=conf.guest(name, on_stop="poweroff", **place))
    machine.boot(configuration, "--on", "bochs", "--cpus", len(place) + 1)
    assert machine.wait_end() == 0
    result = compare.compare(name, expected.text, machine.before)
    assert result.problems == []
    record_property("guest_rows", (result.rows, result.declared))


@pytest.mark.parametrize("name", ["cr", "interrupts"])
def test_tpr_intercepted(machine, tmp_path, name):
    """The other embodiment of the TPR's policy, by exits. Fails when the guest could tell it from the first."""
    expected = bare.run(BUILD / "tests" / "guests" / f"{name}.elf")
    keys = {"policy.tpr": "intercept"}
    machine.boot(conf.write(tmp_path, guest=conf.guest(name, on_stop="poweroff", **keys)), "--on", "bochs")
    assert machine.wait_end() == 0
    assert compare.compare(name, expected.text, machine.before).problems == []
