# SPDX-License-Identifier: BSD-2-Clause
"""Exit reasons and their kinds, read off the hypervisor's own tables."""
import functools
import re

from umbra.common import ROOT, Problem

REASONS = ROOT / "vmx/reasons.h"  # the names
KINDS = ROOT / "core/report.c"  # what `top` counts together

OTHER = "OTHER"  # the kind of all that the second table does not name

_BASIC = 0xFFFF  # of the exit-reason field; flags above it (SDM vol. 3, 24.9.1)


def name(reason):
    """The name of an exit-reason field's basic reason."""
    row = _rows().get(basic(reason))
    return row[1] if row else f"unknown exit reason {basic(reason)}"


def kind(reason):
    """What kind of exit that is: the end of MONITOR_EXIT_… in core/monitor_top.h."""
    row = _rows().get(basic(reason))
    return _kinds().get(row[0], OTHER) if row else OTHER


def basic(reason):
    """The number of the basic reason."""
    return reason & _BASIC


@functools.cache
def _rows():
    """Number to the table's (identifier, name)."""
    text = REASONS.read_text(encoding="utf-8")
    table = re.search(r"#define EXIT_REASONS\(X\)(.*?[^\\])\n", text, re.DOTALL)
    rows = re.findall(r'X\((\d+), (\w+), "([^"]*)"\)', table[1]) if table else []
    if not rows:
        raise Problem(f"{REASONS}: no table of exit reasons")
    return {int(number): (identifier, words) for number, identifier, words in rows}


@functools.cache
def _kinds():
    rows = re.findall(r"\bKIND\((\w+), (\w+)\),", KINDS.read_text(encoding="utf-8"))
    if not rows:
        raise Problem(f"{KINDS}: no table of kinds of exits")
    return dict(rows)
