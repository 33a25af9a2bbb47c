# SPDX-License-Identifier: BSD-2-Clause
"""Rows: a figure from every system that was measured; as JSON, and as text in columns."""
import dataclasses

# Every system, in the order of columns, and its heading. "umbra" is Umbra where there is nothing to choose.
SYSTEMS = {
    "bare": "bare",
    "umbra": "Umbra",
    "umbra-ept": "Umbra, EPT",
    "umbra-vtlb": "Umbra, vTLB",
    "kvm-ept": "KVM, EPT",
    "kvm-shadow": "KVM, ept=0",
}
KINDS = ("measured", "model")


@dataclasses.dataclass
class Row:
    """
    `values` is system → figure; a figure is a number, or {median, min, max, count}. A `goal` is the most that
    the system `judge` may need, by the median (of Umbra's systems the first, if none is named); None: the row is
    only reported. `part` is the part of the benchmark that it comes from.
    """

    group: str
    name: str
    unit: str
    values: dict
    goal: float | None = None
    kind: str = "measured"
    part: str = ""
    judge: str | None = None

    @property
    def key(self):
        """What the row says, whichever part found it out."""
        return self.group, self.name, self.unit, self.kind

    @property
    def judged(self):
        """The system that the goal is for; None if there is none, or no figure of it."""
        judge = self.judge or self.own
        return judge if judge in self.values and self.goal is not None else None

    @property
    def own(self):
        """The first of Umbra's systems that the row has a figure of, or None."""
        return next((name for name in SYSTEMS if name in self.values and name.startswith("umbra")), None)

    @property
    def verdict(self):
        if self.judged is None:
            return ""
        return "ok" if figure(self.values[self.judged]) <= self.goal else "over"


def merged(rows):
    """Rows of several parts that say the same of different systems as one, where the first of them stands."""
    found = {}
    for row in rows:
        if row.key not in found:
            found[row.key] = dataclasses.replace(row, values=dict(row.values))
            continue
        known = found[row.key]
        known.values.update(row.values)
        if known.judged is None:
            known.goal, known.judge = row.goal, row.judge
    groups = {}
    for row in found.values():
        groups.setdefault(row.group, []).append(row)
    return [row for group in groups.values() for row in group]


def as_json(rows):
    return [
        {
            "part": row.part,
            "group": row.group,
            "operation": row.name,
            "unit": row.unit,
            "kind": row.kind,
            "values": row.values,
            "goal": row.goal if row.judged else None,
            "judged": row.judged,
            "verdict": row.verdict,
        }
        for row in rows
    ]


def from_json(rows):
    names = ("group", "operation", "unit", "values", "goal", "kind", "part", "judged")
    return [Row(*(row[name] for name in names)) for row in rows]


def by_group(rows):
    """Yields (group, the systems that it has figures of, its rows), a measured and a model's group apart."""
    groups = {}
    for row in rows:
        groups.setdefault((row.group, row.kind), []).append(row)
    for (group, kind), members in groups.items():
        systems = [system for system in SYSTEMS if any(system in row.values for row in members)]
        yield group if kind == "measured" else f"{group} ({kind})", systems, members


def as_text(rows):
    """The rows under their groups' names, with a column for each system that a group has figures of."""
    rows = merged(rows)
    names = max((len(row.name) for row in rows), default=0)
    text = []
    for group, systems, members in by_group(rows):
        heads = ("", *(SYSTEMS[system] for system in systems), "goal", "", "unit", "least … most × count")
        lines = [heads, *(_cells(row, systems) for row in members)]
        widths = [max(map(len, column)) for column in zip(*lines)]
        widths[0] = names
        text += ["", group]
        for cells in lines:
            padded = [
                cell.ljust(width) if i == 0 or i > len(systems) + 1 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(cells, widths))
            ]
            text.append(("  " + "  ".join(padded)).rstrip())
    return "\n".join(text[1:])


def _cells(row, systems):
    values = [shown(row.values.get(system)) for system in systems]
    goal = "" if row.goal is None else f"≤ {number(row.goal)}"
    return (row.name, *values, goal, row.verdict, row.unit, spread(row.values.get(row.judged or row.own)))


def figure(value):
    """The one number of a figure."""
    return value["median"] if isinstance(value, dict) else value


def shown(value):
    return "–" if value is None else number(figure(value))


def spread(value):
    """Least, most and count of a figure that has them."""
    if not isinstance(value, dict):
        return ""
    return f"{number(value['min'])} … {number(value['max'])} × {number(value['count'])}"


def number(value):
    """With what counts of the fraction of a ratio, and that of a count only where there is one."""
    if isinstance(value, float) and value < 100 and not value.is_integer():
        return f"{value:,.4f}"
    return f"{value:,.0f}"
