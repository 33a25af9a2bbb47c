# SPDX-License-Identifier: BSD-2-Clause
"""Compares what a guest printed bare with what it printed in a partition.

Every line must be the same, but for rows that tests/guests/differences.txt declares and for measured numbers
(BENCH).
"""

from dataclasses import dataclass, field
from pathlib import Path

TABLE = Path(__file__).resolve().parents[1] / "guests" / "differences.txt"
MOST_DECLARED = 0.02
KINDS = ("PASS", "FAIL", "VALUE", "DIFF", "BENCH", "DONE")


@dataclass
class Comparison:
    """rows: how many were compared; declared: how many of them may differ; problems: none is good."""

    rows: int = 0
    declared: int = 0
    problems: list = field(default_factory=list)


def declared_rows(text=None):
    """{(guest, row): why} of the table; a row without a reason is an error."""
    table = {}
    for number, line in enumerate((TABLE.read_text() if text is None else text).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(None, 2)
        if len(words) < 3:
            raise ValueError(f"differences.txt:{number}: guest, row and reason are wanted")
        table[words[0], words[1]] = words[2]
    return table


def rows_of(output):
    """The guest's own lines as [(kind, name, line)], whatever firmware or boot loader printed around them."""
    rows = []
    for line in output.replace("\r", "").split("\n"):
        words = line.split()
        if len(words) >= 2 and words[0] in KINDS:
            rows.append((words[0], words[1].rstrip(":"), line.rstrip()))
    return rows


def compare(guest, bare, partition, table=None):
    """The Comparison of two outputs (texts) of `guest` (its name)."""
    table = declared_rows() if table is None else table
    result = Comparison()
    ours, theirs = ([row for row in rows_of(text) if row[0] != "BENCH"] for text in (bare, partition))

    for where, rows in (("bare", ours), ("partition", theirs)):
        if not rows or rows[-1][0] != "DONE":
            result.problems.append(f"{guest}: {where}: no DONE, last {rows[-1][2] if rows else None!r}")
        result.problems += [f"{guest}: {where}: {line}" for kind, _, line in rows if kind == "FAIL"]
        result.problems += [f"{guest}: {where}: {name} is DIFF but not declared" for kind, name, _ in rows
                            if kind == "DIFF" and (guest, name) not in table]

    for (kind, name, line), (kind2, name2, line2) in zip(ours, theirs):
        if kind == "DONE":
            break
        result.rows += 1
        if kind == kind2 == "DIFF" and name == name2:
            result.declared += 1
        elif line != line2 and "FAIL" not in (kind, kind2):
            result.problems.append(f"{guest}: bare {line!r}, partition {line2!r}")
            if name != name2:
                break  # everything behind would differ as well
    if len(ours) != len(theirs):
        result.problems.append(f"{guest}: {len(ours)} rows bare, {len(theirs)} in the partition")
    return result


def summary(comparisons):
    """One line of counts over all guests, and whether the declared rows are few enough."""
    rows = sum(c.rows for c in comparisons)
    declared = sum(c.declared for c in comparisons)
    few = declared <= MOST_DECLARED * rows
    return f"{rows} rows, {declared} declared different ({100 * declared / max(rows, 1):.1f} %)", few
