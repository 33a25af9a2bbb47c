#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Draws a captured serial console (`umbra run … --log LOG`) as an SVG picture of a terminal.

The log is what the machine sent, control sequences and all. It is replayed on the model of a terminal, so
that what was overwritten is gone and what scrolled away is kept; lines longer than the picture is wide are
cut. Of a long session the picture shows the beginning and the end. The same log gives the same picture.
"""
import argparse
import pathlib
import re
import sys
from xml.sax.saxutils import escape

BANNER = ", a microhypervisor"  # Umbra's first line

ROWS = 24  # of the terminal that is drawn on with cursor movements: what GRUB takes a serial line for

# Geometry, in user units: a character cell, the window's padding and its title bar.
CELL_WIDTH = 8.4
CELL_HEIGHT = 19
FONT_SIZE = 14
PADDING = 18
BAR = 34

STYLE = """\
.window { fill: #14171c; stroke: #3a404b; }
.bar { fill: #232831; }
.title { fill: #a4acb9; }
text { fill: #d9dee7; font-family: "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace; }
.umbra { fill: #f0b865; }
.prompt { fill: #84c98b; }
.typed { fill: #ffffff; font-weight: bold; }
.faint { fill: #808a99; }
@media print {
    .window { fill: #ffffff; stroke: #808080; }
    .bar { fill: #eeeeee; }
    text, .title { fill: #202020; }
    .umbra { fill: #7a4a00; }
    .prompt { fill: #1c6b26; }
    .typed { fill: #000000; }
    .faint { fill: #606060; }
}
"""

CONTROL = re.compile(
    r"\x1b\[(?P<parameters>[0-9;?]*)[ -/]*(?P<final>[@-~])"  # CSI
    r"|\x1b[()*+][ -~]"  # choice of a character set
    r"|\x1b(?P<escape>[ -~])"
    r"|(?P<control>[\x00-\x1f\x7f])"
)

# What a line is made of: the first pattern that fits gives its groups their classes; the rest is plain.
LINES = [
    (re.compile(r"(?P<umbra>umbra>)(?P<typed>(?: .*)?)"), ("umbra", "typed")),
    (re.compile(r"(?P<prompt>[~/][\w/.-]* [#$])(?P<typed>(?: .*)?)"), ("prompt", "typed")),
    (re.compile(r"(?P<umbra>(?:Umbra \d|umbra: |partition \S+: |config:\d).*)"), ("umbra",)),
    (re.compile(r"(?P<umbra>\[[A-Za-z][\w-]*(?:, \d+ bytes lost)?\])"), ("umbra",)),
    (re.compile(r"(?P<faint>\[ *\d+\.\d+\])(?P<plain>.*)"), ("faint", "plain")),
    (re.compile(r"(?P<faint>⋮.*)"), ("faint",)),
]


class Terminal:
    """A screen of ROWS rows without a right edge, and the lines that have left it."""

    def __init__(self):
        self._gone = []
        self._rows = [[] for _ in range(ROWS)]
        self._row = 0
        self._column = 0

    def feed(self, text):
        at = 0
        for match in CONTROL.finditer(text):
            self._put(text[at : match.start()])
            at = match.end()
            if match["final"]:
                self._sequence(match["final"], match["parameters"])
            elif match["escape"] == "c":
                self._erase_screen()
            elif match["control"]:
                self._control(match["control"])
        self._put(text[at:])

    def lines(self):
        """All lines so far, without trailing blanks, and without blank lines at the end."""
        return _without_blank_end(self._gone + [_text(row) for row in self._rows])

    def _put(self, text):
        row = self._rows[self._row]
        row.extend(" " * (self._column - len(row)))
        row[self._column : self._column + len(text)] = text
        self._column += len(text)

    def _control(self, control):
        if control == "\r":
            self._column = 0
        elif control == "\n":
            self._line_feed()
        elif control == "\b":
            self._column = max(0, self._column - 1)
        elif control == "\t":
            self._column = self._column // 8 * 8 + 8

    def _line_feed(self):
        if self._row < ROWS - 1:
            self._row += 1
            return
        self._gone.append(_text(self._rows.pop(0)))
        self._rows.append([])

    def _sequence(self, final, parameters):
        numbers = [int(number) if number.isdigit() else 0 for number in parameters.split(";")]
        count = max(1, numbers[0])
        row = self._rows[self._row]
        if final in "Hf":
            self._row = min(count, ROWS) - 1
            self._column = max(1, numbers[1] if len(numbers) > 1 else 1) - 1
        elif final == "A":
            self._row = max(0, self._row - count)
        elif final == "B":
            self._row = min(ROWS - 1, self._row + count)
        elif final == "C":
            self._column += count
        elif final == "D":
            self._column = max(0, self._column - count)
        elif final == "G":
            self._column = count - 1
        elif final == "K" and numbers[0] == 0:
            del row[self._column :]
        elif final == "K":
            row[: self._column] = " " * min(self._column, len(row))
            if numbers[0] == 2:
                row.clear()
        elif final == "J" and numbers[0] == 2:
            self._erase_screen()
        elif final == "J" and numbers[0] == 0:
            del row[self._column :]
            self._rows[self._row + 1 :] = [[] for _ in self._rows[self._row + 1 :]]

    def _erase_screen(self):
        """What the screen showed has been seen: it goes where scrolled lines go."""
        self._gone += _without_blank_end([_text(row) for row in self._rows])
        self._rows = [[] for _ in range(ROWS)]
        self._row = self._column = 0


def _text(row):
    return "".join(row).rstrip()


def _without_blank_end(lines):
    while lines and not lines[-1]:
        lines = lines[:-1]
    return lines


def choose(lines, start, head, tail):
    """
    The lines that are shown: from the first that contains `start` (from the first of all if none does), blank
    ones never side by side; if they are too many, both ends and a count.
    """
    first = next((i for i, line in enumerate(lines) if start in line), 0)
    lines = [line for line, before in zip(lines[first:], ["", *lines[first:]]) if line or before]
    if len(lines) <= head + tail + 1:
        return lines
    return [*lines[:head], f"⋮ {len(lines) - head - tail} lines", *lines[len(lines) - tail :]]


def _spans(line):
    """The line's pieces with their classes."""
    for pattern, classes in LINES:
        match = pattern.fullmatch(line)
        if match:
            return [(name, match[name]) for name in classes if match[name]]
    return [("plain", line)] if line else []


def _draw_line(line, columns, y):
    shown = line if len(line) <= columns else line[: columns - 1] + "…"
    spans = "".join(
        escape(text) if name == "plain" else f'<tspan class="{name}">{escape(text)}</tspan>'
        for name, text in _spans(shown)
    )
    if not spans:
        return ""
    # The width is said, so that the columns stand under each other whatever the font.
    return (
        f'<text x="{PADDING}" y="{y}" textLength="{len(shown) * CELL_WIDTH:.1f}" '
        f'lengthAdjust="spacingAndGlyphs" xml:space="preserve">{spans}</text>\n'
    )


def draw(lines, columns, title):
    """The picture of these lines as SVG text."""
    width = round(columns * CELL_WIDTH + 2 * PADDING)
    height = BAR + len(lines) * CELL_HEIGHT + 2 * PADDING
    body = "".join(
        _draw_line(line, columns, BAR + PADDING + row * CELL_HEIGHT + FONT_SIZE)
        for row, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" '
        f'role="img" aria-labelledby="title" font-size="{FONT_SIZE}">\n'
        f'<title id="title">{escape(title)}</title>\n'
        f"<style>\n{STYLE}</style>\n"
        f'<rect class="window" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>\n'
        f'<path class="bar" d="M1 {BAR}V9a8 8 0 0 1 8-8h{width - 18}a8 8 0 0 1 8 8V{BAR}z"/>\n'
        f'<text class="title" x="{width / 2}" y="{BAR / 2 + 5}" text-anchor="middle">{escape(title)}</text>\n'
        f"{body}</svg>\n"
    )


def main(words=None):
    parser = argparse.ArgumentParser(description="Draws a captured serial console as an SVG picture.")
    parser.add_argument("log", type=pathlib.Path, metavar="LOG", help="as `umbra run --log` writes it")
    parser.add_argument("out", type=pathlib.Path, metavar="OUT.svg")
    parser.add_argument(
        "--from",
        dest="start",
        default=BANNER,
        metavar="TEXT",
        help=f"begin with the first line that contains it ({BANNER}); '' for the first of all",
    )
    parser.add_argument("--head", type=int, default=16, metavar="N", help="lines shown of the beginning (16)")
    parser.add_argument("--tail", type=int, default=24, metavar="N", help="and of the end (24)")
    parser.add_argument("--columns", type=int, default=100, metavar="N", help="characters of a line (100)")
    parser.add_argument("--title", default="umbra run examples/linux.conf", help="in the window's bar")
    arguments = parser.parse_args(words)
    if min(arguments.head, arguments.tail) < 1 or arguments.columns < 20:
        parser.error("the picture needs at least a line of each end, and 20 columns")

    terminal = Terminal()
    terminal.feed(arguments.log.read_bytes().decode(errors="replace"))
    lines = terminal.lines()
    if not lines:
        sys.exit(f"{arguments.log}: nothing was printed")
    shown = choose(lines, arguments.start, arguments.head, arguments.tail)
    arguments.out.write_text(draw(shown, arguments.columns, arguments.title), encoding="utf-8")


if __name__ == "__main__":
    main()
