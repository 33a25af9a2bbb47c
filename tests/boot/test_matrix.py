# SPDX-License-Identifier: BSD-2-Clause
"""
The access matrix (tests/guests/matrix.c): bare and in a partition the same hash of all observations, for each paging mode
and each set of control bits; and none that the SDM does not say. And what else there is to protection keys (keys.c).
"""
import pytest

from tests.boot import bare, compare, conf
from tests.boot.machine import BUILD

FULL = 1800  # seconds for all of it

KEYS = "tigerlake"  # has protection keys; without them it is as Skylake
# The model, who translates, and which shards. Penryn has no EPT.
MACHINES = [
    ("corei7_skylake_x", "ept", ""),
    ("corei7_skylake_x", "vtlb", ""),
    ("corei5_lynnfield_750", "ept", ""),
    ("corei5_lynnfield_750", "vtlb", ""),
    ("core2_penryn_t9600", "vtlb", ""),
    (KEYS, "ept", "keys"),
    (KEYS, "vtlb", "keys"),
]
PARTS = {"": 20, "keys": 80}  # of which a test takes one


def same_as_bare(machine, folder, model, paging, words, timeout, name="matrix"):
    """Runs the guest bare and in a partition of `model`, and returns their Comparison."""
    expected = bare.run(BUILD / "tests" / "guests" / f"{name}.elf", words, model=model, timeout=timeout)
    keys = {"cmdline": words} if words else {}
    partition = conf.guest(name, paging=paging, on_stop="poweroff", **keys)
    machine.boot(conf.write(folder, guest=partition), "--on", "bochs", "--model", model, timeout=timeout)
    assert machine.wait_end(timeout) == 0
    return compare.compare(name, expected.text, machine.before)


@pytest.mark.parametrize("model, paging, shards", MACHINES)
def test_part(machine, tmp_path, record_property, model, paging, shards):
    """
    Each twentieth combination, or eightieth. Fails when an access in a partition is allowed, refused, told by CR2 or
    error code, or leaves A and D otherwise than on the bare processor; and when that does otherwise than the SDM says.
    """
    result = same_as_bare(machine, tmp_path, model, paging, f"{shards} part=0/{PARTS[shards]}".strip(), 600)
    assert result.problems == []
    record_property("guest_rows", (result.rows, result.declared))


@pytest.mark.soak
@pytest.mark.parametrize("model, paging, shards", [*MACHINES, ("corei7_skylake_x", "vtlb base", "")])
def test_all(machine, tmp_path, model, paging, shards):
    """All combinations. Fails as test_part does."""
    assert same_as_bare(machine, tmp_path, model, paging, shards, FULL).problems == []


@pytest.mark.parametrize("paging", ["ept", "vtlb"])
def test_keys(machine, tmp_path, record_property, paging):
    """
    Fails when a partition is not offered the processor's keys, or when a change of PKRU does not count at the next access,
    be it one that Umbra makes in the guest's place.
    """
    result = same_as_bare(machine, tmp_path, KEYS, paging, "", 120, name="keys")
    assert result.problems == []
    assert result.rows > 100
    record_property("guest_rows", (result.rows, result.declared))
