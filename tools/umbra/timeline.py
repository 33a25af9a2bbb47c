# SPDX-License-Identifier: BSD-2-Clause
"""The picture of a trace: exits over time as SVG, one lane per virtual processor."""
from xml.sax.saxutils import escape

from umbra import reasons

# The kinds of exit in the order of their rows in a lane: name in core/monitor_top.h, words, colours on a light
# and on a dark ground. The colours differ for colour-blind eyes, and the rows for those who see none.
KINDS = [
    ("INTERRUPT", "interrupts", "#0b6fb8", "#5cb3f2"),
    ("IO", "ports", "#c25e00", "#f29a4a"),
    ("MEMORY", "memory", "#00805c", "#3fc79b"),
    ("MSR", "MSRs", "#a8327e", "#ea86c4"),
    ("CPUID", "CPUID", "#7a6a00", "#e0cc4b"),
    ("HALT", "halts", "#6a4fc9", "#ab98f5"),
    (reasons.OTHER, "other", "#5f6773", "#a9b2bf"),
]

# Geometry, in user units.
WIDTH = 960
MARGIN = 24
LABEL = 72  # the lanes' names
HEAD = 88  # title and legend
ROW = 9  # of one kind in a lane
MARK = 7  # a mark's height
THIN = 1.4  # the least width of a mark
GAP = 14  # between lanes
AXIS = 46  # below them
CHARACTER = 7.25  # of the legend's font

GRID_MOST = 8  # lines of the time axis

STYLE = """\
.paper { fill: #ffffff; stroke: #d3d8e0; }
.lane { fill: #f1f3f6; }
.seen { fill: #e2e6ec; }
.grid { stroke: #c6ccd6; stroke-width: 1; }
text { fill: #20252d; font: 12px "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace; }
.title { font-size: 15px; font-weight: bold; }
.faint { fill: #5a6270; }
"""

DARK_STYLE = """\
.paper { fill: #14171c; stroke: #3a404b; }
.lane { fill: #1b1f26; }
.seen { fill: #272d36; }
.grid { stroke: #414956; }
text { fill: #d9dee7; }
.faint { fill: #98a1af; }
"""


def draw(trace):
    """The picture as SVG text; the same trace gives the same picture."""
    kinds = [row for row in KINDS if any(reasons.kind(record.reason) == row[0] for record in trace.records)]
    lane = max(1, len(kinds)) * ROW + ROW - MARK
    bottom = HEAD + trace.vcpus * (lane + GAP)
    height = bottom + AXIS
    time = _Time(trace)
    body = [
        f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        f'<text class="title" x="{MARGIN}" y="34">{escape(_title(trace))}</text>',
        *_legend(trace, kinds),
    ]
    tops = [HEAD + vcpu * (lane + GAP) for vcpu in range(trace.vcpus)]
    for vcpu, top in enumerate(tops):
        body += _ground(trace, vcpu, top, lane, time)
    body += _axis(time, bottom)
    for vcpu, top in enumerate(tops):
        body += _marks(trace, vcpu, top, kinds, time)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-labelledby="title">\n'
        f'<title id="title">{escape(_title(trace))}</title>\n'
        f"<style>\n{_style()}</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


def _style():
    light = "".join(f".{name.lower()} {{ fill: {colour}; }}\n" for name, _, colour, _ in KINDS)
    dark = "".join(f".{name.lower()} {{ fill: {colour}; }}\n" for name, _, _, colour in KINDS)
    return f"{STYLE}{light}@media (prefers-color-scheme: dark) {{\n{DARK_STYLE}{dark}}}\n"


def _title(trace):
    lost = f", {trace.lost} lost" if trace.lost else ""
    return f"{trace.partition}: {len(trace.records)} exits{lost}"


def _legend(trace, kinds):
    x = MARGIN
    for name, words, _, _ in kinds:
        count = sum(reasons.kind(record.reason) == name for record in trace.records)
        text = f"{words} {count}"
        yield f'<rect class="{name.lower()}" x="{_number(x)}" y="53" width="12" height="12" rx="2"/>'
        yield f'<text x="{_number(x + 18)}" y="63">{text}</text>'
        x += 18 + len(text) * CHARACTER + 20


class _Time:
    """From ticks of the TSC to places, and the lines of the axis."""

    def __init__(self, trace):
        times = [record.tsc for record in trace.records] or [0]
        ends = [record.tsc + record.ticks for record in trace.records] or [0]
        self.first = min(times)
        self.ticks = max(1, max(ends) - self.first)
        self.hz = trace.tsc_hz
        self.left = MARGIN + LABEL
        self.width = WIDTH - MARGIN - self.left

    def place(self, tsc):
        return self.left + self.length(tsc - self.first)

    def length(self, ticks):
        return self.width * ticks / self.ticks

    def lines(self):
        """Ticks from the first exit on, and a text, for each line: at 1, 2 or 5 times a power of ten."""
        nanoseconds = self.ticks * 1_000_000_000 // self.hz
        step = 1
        while nanoseconds // step >= GRID_MOST:
            # 1, 2, 5, 10: the first digit tells which comes next.
            step = step * 5 // 2 if str(step).startswith("2") else step * 2
        scale, unit = next(
            (pair for pair in ((10**9, "s"), (10**6, "ms"), (10**3, "µs")) if step >= pair[0]),
            (1, "ns"),
        )
        for at in range(0, nanoseconds + 1, step):
            yield at * self.hz / 1_000_000_000, f"{at // scale} {unit}"


def _axis(time, bottom):
    for ticks, text in time.lines():
        x = time.left + time.length(ticks)
        yield f'<path class="grid" d="M{_number(x)} {HEAD - 8}V{bottom - GAP + 8}"/>'
        # Text that would leave the picture ends at its line instead of standing below it.
        anchor = "middle" if x + len(text) * CHARACTER / 2 < WIDTH - 8 else "end"
        yield f'<text class="faint" x="{_number(x)}" y="{bottom + 14}" text-anchor="{anchor}">{text}</text>'


def _ground(trace, vcpu, top, height, time):
    """The lane's name and ground; darker where its exits were recorded: of before nothing is known."""
    records = [record for record in trace.records if record.vcpu == vcpu]
    yield f'<text x="{MARGIN}" y="{_number(top + height / 2 + 4)}">vcpu {vcpu}</text>'
    yield (
        f'<rect class="lane" x="{time.left}" y="{top}" width="{time.width}" height="{height}">'
        f"<title>vcpu {vcpu}: {len(records)} exits</title></rect>"
    )
    if records:
        start = time.place(min(record.tsc for record in records))
        end = time.place(max(record.tsc + record.ticks for record in records))
        yield (
            f'<rect class="seen" x="{_number(start)}" y="{top}" width="{_number(max(THIN, end - start))}" '
            f'height="{height}"/>'
        )


def _marks(trace, vcpu, top, kinds, time):
    """A path for each kind that the lane has; in it a mark for each exit, as wide as its time in Umbra."""
    for row, (name, words, _, _) in enumerate(kinds):
        marks = [
            record for record in trace.records if record.vcpu == vcpu and reasons.kind(record.reason) == name
        ]
        if not marks:
            continue
        y = top + ROW - MARK + row * ROW
        path = "".join(
            f"M{_number(time.place(record.tsc))} {y}h{_number(max(THIN, time.length(record.ticks)))}v{MARK}"
            f"h-{_number(max(THIN, time.length(record.ticks)))}z"
            for record in marks
        )
        yield (
            f'<path class="{name.lower()}" d="{path}">'
            f"<title>vcpu {vcpu}: {words} {len(marks)}</title></path>"
        )


def _number(value):
    """Two digits are enough; no trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
