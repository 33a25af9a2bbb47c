# SPDX-License-Identifier: BSD-2-Clause
"""
Each guest of tests/guests bare and in a partition: the same rows, but for those that tests/guests/differences.txt declares. Fails
when a partition's processor or board does anything else than the bare one.
"""
import pytest

from tests.boot import bare, compare, conf
from tests.boot.machine import BUILD, ROOT

NAMES = sorted(path.stem for path in (ROOT / "tests" / "guests").glob("*.c") if path.stem not in ("hostile", "bench_exits"))


@pytest.mark.parametrize("name", NAMES)
def test_same_as_bare(machine, tmp_path, record_property, name):
    expected = bare.run(BUILD / "tests" / "guests" / f"{name}.elf")
    machine.boot(conf.write(tmp_path, guest=conf.guest(name, on_stop="poweroff")), "--on", "bochs")
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
