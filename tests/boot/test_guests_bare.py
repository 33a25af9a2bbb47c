# SPDX-License-Identifier: BSD-2-Clause
"""The guests on the bare processor, and the comparison that partitions are measured by.

A guest fails here if what it expects is not what the emulated processor does: the guest is wrong then, or the
emulator is, and the row becomes a VALUE or a DIFF.
"""

import os
from pathlib import Path

import pytest

from tests.boot import bare, compare

BUILD = Path(os.environ.get("BUILD", bare.ROOT / "build"))
GUESTS = bare.compared() + sorted(bare.NESTED) + ["bench_exits", "bench_nested"]


def image(name):
    return BUILD / "tests" / "guests" / f"{name}.elf"


def text_of(name):
    return bare.run(image(name), count=bare.PROCESSORS.get(name, 1)).text


@pytest.mark.parametrize("name", GUESTS)
def test_bare(name):
    """Fails if a row of the guest fails on the bare processor, or a DIFF row is not in differences.txt."""
    text = text_of(name)
    assert compare.compare(name, text, text).problems == []


def test_bad_msr():
    """Fails if a missing MSR is not #GP(0), or the guest does not go on after it."""
    text = bare.run(image("hostile"), "badmsr").text
    assert compare.compare("hostile", text, text).problems == []
    assert text.rstrip().endswith("DONE 11 0")


def test_declared_rows_are_few():
    """Fails if more than 2 % of the rows are declared different, or a declared row is printed by no guest."""
    texts = {name: text_of(name) for name in GUESTS}
    line, few = compare.summary([compare.compare(name, text, text) for name, text in texts.items()])
    print(line)
    assert few, line
    printed = {(name, row) for name, text in texts.items()
               for kind, row, _ in compare.rows_of(text) if kind == "DIFF"}
    assert set(compare.declared_rows()) == printed


TABLE = {("g", "d"): "reason"}


@pytest.mark.parametrize("bare_text, partition_text, problems", [
    ("PASS a\nVALUE v 1\nDIFF d 1\nDONE 1 0\n", "PASS a\nVALUE v 1\nDIFF d 2\nDONE 1 0\n", 0),
    ("PASS a\nBENCH b 1 1 1 9\nDONE 1 0\n", "GRUB\r\nPASS a\r\nBENCH b 2 2 2 9\nDONE 1 0\n", 0),
    ("VALUE v 1\nDONE 0 0\n", "VALUE v 2\nDONE 0 0\n", 1),
    ("PASS a\nDONE 1 0\n", "FAIL a: 2\nDONE 0 1\n", 1),
    ("PASS a\nPASS b\nDONE 2 0\n", "PASS a\nDONE 1 0\n", 2),
    ("PASS a\nDONE 1 0\n", "PASS a\n", 2),
    ("DIFF e 1\nDONE 0 0\n", "DIFF e 1\nDONE 0 0\n", 2),
    ("PASS a\nDONE 1 0\n", "", 2),
])
def test_compare(bare_text, partition_text, problems):
    """Fails if the comparison overlooks a difference or invents one."""
    assert len(compare.compare("g", bare_text, partition_text, TABLE).problems) == problems
