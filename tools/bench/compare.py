# SPDX-License-Identifier: BSD-2-Clause
"""Two results: what moved from the one to the other."""
import dataclasses

from bench import table

MOVED = 0.01  # what is listed
REGRESSION = 0.02  # what fails

# A part's figures say something about another's only where these are the same.
_SAME = ("emulator", "processor", "packages", "command_line")


@dataclasses.dataclass
class Move:
    """A figure that is in both, by its medians."""

    part: str
    group: str
    name: str
    unit: str
    system: str
    old: float
    new: float

    @property
    def share(self):
        """How much more it is now, of what it was; from nothing, anything is infinitely more."""
        if self.old == self.new:
            return 0.0
        return (self.new - self.old) / abs(self.old) if self.old else float("inf")

    def __str__(self):
        share = "" if self.share == float("inf") else f"  {self.share:+.1%}"
        what = f"{self.group}: {self.name}, {self.unit}".rstrip(", ")
        system = table.SYSTEMS[self.system]
        return f"{what} [{system}]  {table.number(self.old)} → {table.number(self.new)}{share}"


def incomparable(old, new):
    """Part → why its figures are not compared, of the parts that both have."""
    found = {}
    for part in old["parts"].keys() & new["parts"].keys():
        before, after = old["parts"][part], new["parts"][part]
        different = [name for name in _SAME if before.get(name) != after.get(name)]
        if different:
            found[part] = f"different {', '.join(name.replace('_', ' ') for name in different)}"
    return found


def moves(old, new):
    """Every measured figure that is in both documents, of the parts that can be compared."""
    skipped = incomparable(old, new)
    before = {_key(row): row["values"] for row in old["rows"] if row["kind"] == "measured"}
    for row in new["rows"]:
        known = before.get(_key(row), {})
        if row["part"] in skipped:
            continue
        for system in table.SYSTEMS:
            if system in known and system in row["values"]:
                yield Move(
                    row["part"],
                    row["group"],
                    row["operation"],
                    row["unit"],
                    system,
                    table.figure(known[system]),
                    table.figure(row["values"][system]),
                )


def _key(row):
    return row["part"], row["group"], row["operation"], row["unit"], row["kind"]


def report(old, new):
    """The lines that `--compare` prints."""
    all_moves = list(moves(old, new))
    lines = [f"not compared: {part} ({why})" for part, why in sorted(incomparable(old, new).items())]
    lines += map(str, sorted((m for m in all_moves if abs(m.share) > MOVED), key=lambda m: -abs(m.share)))
    lines += _only(old, new, "gone") + _only(new, old, "new")
    moved = sum(abs(move.share) > MOVED for move in all_moves)
    return [*lines, f"{moved} of {len(all_moves)} figures moved by more than {MOVED:.0%}"]


def _only(first, second, word):
    """The rows of `first` that `second` lacks, though it has their part."""
    known = {_key(row) for row in second["rows"]}
    return [
        f"{word}: {row['group']}: {row['operation']}"
        for row in first["rows"]
        if row["part"] in second["parts"] and _key(row) not in known
    ]


def regressions(old, new):
    """Umbra's figures that need more than they may: fewer is never wrong."""
    return [move for move in moves(old, new) if move.system.startswith("umbra") and move.share > REGRESSION]
