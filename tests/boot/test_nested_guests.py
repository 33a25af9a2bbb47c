# SPDX-License-Identifier: BSD-2-Clause
"""
The test hypervisors of tests/guests (lv1_*) bare and in a partition with `nested = yes`: the same rows, but for those that
tests/guests/differences.txt declares. Fails when a virtual VT-x does anything else than the bare one.
"""
import pytest

from tests.boot import bare, compare, conf
from tests.boot.machine import BUILD


# Those of bare.NESTED that have been seen to be the same; docs/status.md says what the others want.
SAME = ["lv1_basic", "lv1_entry", "lv1_ept", "lv1_registers"]


@pytest.mark.parametrize("name", SAME)
def test_same_as_bare(machine, tmp_path, record_property, name):
    expected = bare.run(BUILD / "tests" / "guests" / f"{name}.elf")
    machine.boot(conf.write(tmp_path, guest=conf.guest(name, nested="yes", on_stop="poweroff")), "--on", "bochs")
    assert machine.wait_end() == 0
    result = compare.compare(name, expected.text, machine.before)
    assert result.problems == []
    record_property("guest_rows", (result.rows, result.declared))
