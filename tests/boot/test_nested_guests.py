# SPDX-License-Identifier: BSD-2-Clause
"""
The test hypervisors of tests/guests (lv1_*) bare and in a partition with `nested = yes`: the same rows, but for those that
tests/guests/differences.txt declares. Fails when a virtual VT-x does anything else than the bare one.
"""
import re

import pytest

from tests.boot import bare, compare, conf
from tests.boot.machine import BUILD


# Where Umbra translates Lv2's addresses by shadow tables, less is offered: lv1_ept finds no execute-only pages there, and neither
# it nor two rows of lv1_refused an unrestricted guest.
LESS = {"lv1_ept", "lv1_refused"}
CASES = [(name, "ept") for name in sorted(bare.NESTED)] + [(name, "vtlb") for name in sorted(bare.NESTED - LESS)]


@pytest.mark.parametrize("name, paging", CASES)
def test_same_as_bare(machine, tmp_path, record_property, name, paging):
    expected = bare.run(BUILD / "tests" / "guests" / f"{name}.elf")
    keys = conf.guest(name, nested="yes", paging=paging, on_stop="poweroff")
    machine.boot(conf.write(tmp_path, guest=keys), "--on", "bochs")
    assert machine.wait_end() == 0
    result = compare.compare(name, expected.text, machine.before)
    assert result.problems == []
    record_property("guest_rows", (result.rows, result.declared))


def test_shadowed_ept(machine, tmp_path):
    """Fails when EPT that no processor translates by is anything else than EPT."""
    keys = conf.guest("lv1_ept", nested="yes", paging="vtlb", on_stop="poweroff")
    machine.boot(conf.write(tmp_path, guest=keys), "--on", "bochs")
    assert machine.wait_end() == 0
    assert "FAIL" not in machine.before
    assert re.search(r"DONE \d+ 0", machine.before)
