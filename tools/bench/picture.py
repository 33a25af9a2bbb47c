# SPDX-License-Identifier: BSD-2-Clause
"""
The headline rows as an SVG picture: bars by operation and system on a logarithmic scale. It names no font that is
not there anyway, and follows the reader's light or dark scheme; on paper the bars have outlines.
"""
import math
from xml.sax.saxutils import escape

from bench import headline, table

# Geometry, in user units.
WIDTH = 920
LABELS = 330  # the width of the operations' names
VALUES = 70  # room for a figure behind the longest bar
BAR = 11
GAP = 14  # between two operations
TOP = 74
BOTTOM = 34

STYLE = """\
text { font: 13px system-ui, "Helvetica Neue", Arial, sans-serif; fill: #1c2330; }
.title { font-weight: 600; font-size: 15px; }
.figure, .tick { font-size: 10.5px; fill: #4a5361; }
.back { fill: #ffffff; }
.grid { stroke: #d5dae1; stroke-width: 1; }
.bare { fill: #8b93a0; }
.umbra-ept { fill: #1f5fbf; }
.umbra-vtlb { fill: #7fb0ee; }
.kvm-ept { fill: #b8500f; }
.kvm-shadow { fill: #f0a868; }
@media (prefers-color-scheme: dark) {
    text { fill: #e3e7ee; }
    .figure, .tick { fill: #a9b2c0; }
    .back { fill: #14171c; }
    .grid { stroke: #343b47; }
    .umbra-ept { fill: #4b8df0; }
    .umbra-vtlb { fill: #a9ccfa; }
    .kvm-ept { fill: #d9722c; }
    .kvm-shadow { fill: #f6c79a; }
}
@media print {
    text, .figure, .tick { fill: #000000; }
    .back { fill: #ffffff; }
    .bar { stroke: #000000; stroke-width: 0.6; }
    .umbra-vtlb, .kvm-shadow { stroke-dasharray: 3 2; }
}
"""


def draw(rows):
    """The picture of the headline rows among `rows`, as text. The same rows give the same picture."""
    shown = headline.rows(rows)
    systems = headline.systems(shown)
    sizes = [max(table.figure(value), 1) for _, row in shown for value in row.values.values()]
    decades = max(1, math.ceil(math.log10(max(sizes, default=1))))
    scale = (WIDTH - LABELS - VALUES) / decades
    body = []
    y = TOP
    for title, row in shown:
        present = [system for system in systems if system in row.values]
        middle = y + BAR * len(present) / 2 + 4
        body.append(_text(LABELS - 10, middle, title, "", "end"))
        for system in present:
            body += _bar(y, scale, system, table.figure(row.values[system]))
            y += BAR
        y += GAP
    height = y - GAP + BOTTOM
    grid = [_tick(LABELS + decade * scale, height, f"{10**decade:,}") for decade in range(decades + 1)]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<style>\n{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{height}"/>',
        _text(16, 26, "Instructions for one operation, hypervisor included; logarithmic scale", "title"),
        *_legend(systems),
        *grid,
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bar(y, scale, system, value):
    length = max(math.log10(max(value, 1)) * scale, 1.5)
    yield f'<rect class="bar {system}" x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR - 1}"/>'
    yield _text(LABELS + length + 5, y + BAR - 2, table.number(value), "figure")


def _legend(systems):
    x = 16
    for system in systems:
        name = table.SYSTEMS[system]
        yield f'<rect class="bar {system}" x="{x}" y="40" width="12" height="12"/>'
        yield _text(x + 18, 51, name)
        x += 44 + 7 * len(name)


def _tick(x, height, name):
    line = f'<line class="grid" x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - BOTTOM + 8}"/>'
    return line + _text(x, height - 10, name, "tick", "middle")


def _text(x, y, text, style="", anchor=""):
    style = f' class="{style}"' if style else ""
    anchor = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}{anchor}>{escape(text)}</text>'
