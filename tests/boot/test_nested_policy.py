# SPDX-License-Identifier: BSD-2-Clause
"""
Rows of the policy table that a configuration overrides, in a partition whose guest is a hypervisor (tests/guests/lv1_registers.c):
it and its guest find what they find on the bare machine, and Umbra has more exits to answer. A row fails when a result differs, when
exits become fewer, and when the guest writes the bit and exits do not become more: then the override has no effect.
"""
import re

import pytest

from tests.boot import bare, compare, conf, hand
from tests.boot.machine import BUILD, ROOT

GUEST = "lv1_registers"
CONTROL_REGISTERS = "nested_exits_control_register_access"

# What may be overridden (core/policy_keys.h), by how the names of the guest's rows begin that write it: None if none does.
WRITTEN = {
    "cr0.pe": None,
    "cr0.mp": "cr0-mp-own",
    "cr0.em": "cr0-em-own",
    "cr0.ts": "cr0-ts-own",
    "cr0.wp": "cr0-wp-own",
    "cr0.am": "cr0-am-own",
    "cr3": "cr3-target",
    "cr4.vme": "cr4-vme-own",
    "cr4.pvi": "cr4-pvi-own",
    "cr4.tsd": "cr4-tsd-own",
    "cr4.de": "cr4-de-own",
    "cr4.pse": "cr4-pse-own",
    "cr4.pae": None,
    "cr4.pge": "cr4-pge-own",
    "cr4.pce": "cr4-pce-own",
    "cr4.osfxsr": "cr4-osfxsr-own",
    "cr4.osxmmexcpt": "cr4-osxmmexcpt-own",
    "cr4.umip": "cr4-umip-own",
    "cr4.fsgsbase": "cr4-fsgsbase-own",
    "cr4.pcide": None,
    "cr4.osxsave": "cr4-osxsave-own",
    "cr4.smep": "cr4-smep-own",
    "cr4.smap": "cr4-smap-own",
    "cr4.pke": "cr4-pke-own",
    "tpr": "cr8-own",
}
QUICK = ("cr4.pge", "tpr")


@pytest.fixture(scope="module")
def expected():
    """The guest's output on the bare machine."""
    return bare.run(BUILD / "tests" / "guests" / f"{GUEST}.elf").text


def run(machine, folder, expected, *overridden):
    """Runs the guest with these rows overridden, and returns what the monitor counted; its results are the bare machine's."""
    keys = {f"policy.{row}": "intercept" for row in overridden}
    machine.boot(conf.write(folder, guest=conf.guest(GUEST, nested="yes", on_stop="stay", **keys)), "--on", "bochs")
    match = machine.expect(r"DONE[^\r]*\r")
    output = machine.before + match.group()
    machine.monitor()
    counted = hand.stats(machine, "guest")
    machine.send_line("poweroff")
    assert machine.wait_end() == 0
    result = compare.compare(GUEST, expected, output)
    assert result.problems == []
    assert counted["exits"] == counted["lv1_exits"] + counted["nested_exits"]
    assert counted["nested_exits"] == counted["nested_exits_passed"] + counted["nested_exits_kept"]
    return counted


def check(before, after, row, expected):
    """What an override of `row` made of the counts `before`: more exits if the guest writes what the row is about, never fewer."""
    written = WRITTEN[row] is not None and WRITTEN[row] in expected
    assert after.get(CONTROL_REGISTERS, 0) >= before.get(CONTROL_REGISTERS, 0) + written, row
    # What the guest hypervisor itself asked for is not touched.
    assert after["nested_exits_passed"] == before["nested_exits_passed"], row
    assert after["nested_entries"] == before["nested_entries"], row


def test_overrides(machine, tmp_path, expected):
    """Without overrides, with one of a control register's bits, with the TPR's, and with all of them."""
    default = run(machine, tmp_path, expected)
    for row in QUICK:
        check(default, run(machine, tmp_path, expected, row), row, expected)
    everything = run(machine, tmp_path, expected, *WRITTEN)
    check(default, everything, QUICK[0], expected)
    assert everything["nested_exits_kept_cr"] > default["nested_exits_kept_cr"] + 30


@pytest.mark.soak
def test_each_override(machine, tmp_path, expected):
    """Every row alone."""
    default = run(machine, tmp_path, expected)
    for row in WRITTEN:
        if row not in QUICK:
            check(default, run(machine, tmp_path, expected, row), row, expected)


def test_the_rows_that_may_be():
    """Fails when a row that may be overridden is not tried here."""
    keys = re.findall(r'X\(\w+, "([\w.]+)",', (ROOT / "core" / "policy_keys.h").read_text())
    assert set(WRITTEN) == {*keys, "tpr"}
