# SPDX-License-Identifier: BSD-2-Clause
"""
The access matrix (tests/guests/matrix.c): bare and in a partition the same hash of all observations, for each paging mode
and each set of control bits; and none that the SDM does not say.
"""
import pytest

from tests.boot import bare, compare, conf
from tests.boot.machine import BUILD

IMAGE = BUILD / "tests" / "guests" / "matrix.elf"
FULL = 1800  # seconds for all of it

# The model, and who translates. Penryn has no EPT.
MACHINES = [
    ("corei7_skylake_x", "ept"),
    ("corei7_skylake_x", "vtlb"),
    ("corei5_lynnfield_750", "ept"),
    ("corei5_lynnfield_750", "vtlb"),
    ("core2_penryn_t9600", "vtlb"),
]


def same_as_bare(machine, folder, model, paging, words, timeout):
    """Runs the matrix bare and in a partition of `model`, and returns their Comparison."""
    expected = bare.run(IMAGE, words, model=model, timeout=timeout)
    keys = {"cmdline": words} if words else {}
    partition = conf.guest("matrix", paging=paging, on_stop="poweroff", **keys)
    machine.boot(conf.write(folder, guest=partition), "--on", "bochs", "--model", model, timeout=timeout)
    assert machine.wait_end(timeout) == 0
    return compare.compare("matrix", expected.text, machine.before)


@pytest.mark.parametrize("model, paging", MACHINES)
def test_twentieth(machine, tmp_path, record_property, model, paging):
    """
    Each twentieth combination. Fails when an access in a partition is allowed, refused, told by CR2 or error
    code, or leaves A and D otherwise than on the bare processor; and when that does otherwise than the SDM says.
    """
    result = same_as_bare(machine, tmp_path, model, paging, "part=0/20", 600)
    assert result.problems == []
    record_property("guest_rows", (result.rows, result.declared))


@pytest.mark.soak
@pytest.mark.parametrize("model, paging", [*MACHINES, ("corei7_skylake_x", "vtlb base")])
def test_all(machine, tmp_path, model, paging):
    """All combinations. Fails as test_twentieth does."""
    assert same_as_bare(machine, tmp_path, model, paging, "", FULL).problems == []
