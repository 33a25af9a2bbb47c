# SPDX-License-Identifier: BSD-2-Clause
"""The result: rows, and for each a figure from every system that was measured; as a table and as JSON."""
import dataclasses


@dataclasses.dataclass
class Row:
    """
    `values` is system → figure; a figure is a number, or {median, min, max, count}. A `goal` is the most that
    the system called umbra may need, by the median; None: the row is only reported.
    """

    group: str
    name: str
    unit: str
    values: dict
    goal: float | None = None

    @property
    def verdict(self):
        if self.goal is None:
            return ""
        return "ok" if _figure(self.values["umbra"]) <= self.goal else "over"


def as_json(rows):
    return [{**dataclasses.asdict(row), "verdict": row.verdict} for row in rows]


def as_text(rows, systems):
    """The rows under their groups' names, a column for each of `systems`."""
    heads = ("", *systems, "goal", "", "unit", "least … most × count")
    lines = []
    for row in rows:
        if not lines or lines[-1][0] != row.group:
            lines.append((row.group, heads if not lines else (row.group,)))
        lines.append((row.group, _cells(row, systems)))
    widths = [max(len(cells[i]) for _, cells in lines if len(cells) > i) for i in range(len(heads))]
    text = []
    group = None
    for name, cells in lines:
        if name != group:
            text += ["", name]
            group = name
            if cells is not heads:
                continue
        padded = [
            cell.ljust(width) if i == 0 or i > len(systems) + 1 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths))
        ]
        text.append(("  " + "  ".join(padded)).rstrip())
    return "\n".join(text[1:])


def _cells(row, systems):
    shown = [_shown(row.values[system]) if system in row.values else "–" for system in systems]
    goal = "" if row.goal is None else f"≤ {_number(row.goal)}"
    return (row.name, *shown, goal, row.verdict, row.unit, _spread(row.values.get("umbra")))


def _figure(value):
    return value["median"] if isinstance(value, dict) else value


def _shown(value):
    return _number(_figure(value))


def _spread(value):
    if not isinstance(value, dict):
        return ""
    return f"{_number(value['min'])} … {_number(value['max'])} × {_number(value['count'])}"


def _number(value):
    return f"{value:,.4f}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"
