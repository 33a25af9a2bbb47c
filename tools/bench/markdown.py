# SPDX-License-Identifier: BSD-2-Clause
"""The result as Markdown: every row on a page, the headline rows in README."""
from bench import headline, table
from umbra.common import Problem

BEGIN = "<!-- benchmark: made by `umbra bench --readme`; do not edit -->"
END = "<!-- benchmark: end -->"


def page(result):
    """A page with everything that is in a result."""
    lines = [
        "# Umbra's benchmark",
        "",
        "Exact counts in an emulator with one processor; no figure is a time.",
        "",
    ]
    for part, about in result["parts"].items():
        facts = [
            about["umbra"],
            f"gcc {about['compiler']}",
            about["emulator"],
            about["processor"],
            *about["packages"],
        ]
        lines.append(f"- {part}: Umbra {', '.join(facts)}")
        if "command_line" in about:
            lines[-1] += f"; `{about['command_line']}`"
    for group, systems, rows in table.by_group(table.merged(table.from_json(result["rows"]))):
        heads = [
            "",
            *(table.SYSTEMS[system] for system in systems),
            "goal",
            "",
            "unit",
            "least … most × count",
        ]
        lines += ["", f"## {group}", "", _line(heads), _ruler(len(heads), len(systems) + 1)]
        for row in rows:
            goal = "" if row.goal is None else f"≤ {table.number(row.goal)}"
            values = [table.shown(row.values.get(system)) for system in systems]
            spread = table.spread(row.values.get(row.judged or row.own))
            lines.append(_line([row.name, *values, goal, row.verdict, row.unit, spread]))
    return "\n".join(lines) + "\n"


def headline_table(result):
    """README's rows."""
    shown = headline.rows(table.from_json(result["rows"]))
    systems = headline.systems(shown)
    heads = ["instructions for", *(table.SYSTEMS[system] for system in systems)]
    lines = [_line(heads), _ruler(len(heads), len(heads) - 1)]
    lines += [
        _line([title, *(table.shown(row.values.get(system)) for system in systems)]) for title, row in shown
    ]
    return "\n".join(lines)


def into_readme(text, result):
    """`text`, README's, with the table of this result between the markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Problem(f"README.md lacks the lines '{BEGIN}' and '{END}'")
    return f"{before}{BEGIN}\n\n{headline_table(result)}\n\n{END}{after}"


def _line(cells):
    return f"| {' | '.join(cells)} |"


def _ruler(count, numbers):
    """Between heads and rows: numbers, which begin in the second column, stand to the right."""
    return f"|{'|'.join('---:' if 0 < at <= numbers else '---' for at in range(count))}|"
