# SPDX-License-Identifier: BSD-2-Clause
"""`umbra trace`: what the monitor's `trace NAME save` printed, as a table and as a picture."""
import collections
import dataclasses
import json
import pathlib
import re
import sys

from umbra import reasons, timeline
from umbra.common import Problem

_BEGIN = re.compile(r"trace-begin partition=(\S+) vcpus=(\d+) tsc_hz=(\d+)")
_RECORD = re.compile(r"trace((?: [0-9a-f]{1,16}){7})")
_END = re.compile(r"trace-end records=(\d+) lost=(\d+)")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclasses.dataclass(frozen=True)
class Record:
    """One exit. `ticks`: time in Umbra; 0: not measured."""

    vcpu: int
    tsc: int
    reason: int
    rip: int
    qualification: int
    detail: int
    ticks: int


@dataclasses.dataclass
class Trace:
    """`saved` is how many records the end speaks of; None if the trace was cut before it."""

    partition: str
    vcpus: int
    tsc_hz: int
    records: list
    saved: int | None = None
    lost: int | None = None

    @property
    def complete(self):
        return self.saved == len(self.records)

    @property
    def span(self):
        """Ticks between the first exit and the last."""
        times = [record.tsc for record in self.records]
        return max(times) - min(times) if times else 0


def parse(lines):
    """
    The last trace among `lines`, which may be all that a terminal has shown: what is no part of a trace is
    passed over.
    """
    trace = None
    for line in lines:
        line = _CONTROL.sub("", line).strip()
        if found := _BEGIN.fullmatch(line):
            trace = Trace(found[1], int(found[2]), int(found[3]), [])
        elif trace is None or trace.saved is not None:
            continue
        elif found := _RECORD.fullmatch(line):
            record = Record(*(int(number, 16) for number in found[1].split()))
            if record.vcpu < trace.vcpus:
                trace.records.append(record)
        elif found := _END.fullmatch(line):
            trace.saved, trace.lost = int(found[1]), int(found[2])
    if trace is None:
        raise Problem("there is no trace in it: no line 'trace-begin partition=… vcpus=… tsc_hz=…'")
    if trace.tsc_hz == 0:
        raise Problem("the trace's clock has 0 ticks a second")
    return trace


# ---- The table ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """The exits of one reason. `mean` and `p99` are ticks of those that were timed; None: none was."""

    number: int | None  # basic reason; None: all of them
    name: str
    count: int
    share: float
    timed: int
    mean: float | None
    p99: int | None


def table(trace):
    """A row for each exit reason, the most frequent first."""
    groups = collections.defaultdict(list)
    for record in trace.records:
        groups[reasons.basic(record.reason)].append(record)
    rows = [_row(number, reasons.name(number), group, trace) for number, group in groups.items()]
    return sorted(rows, key=lambda row: (-row.count, row.number))


def _row(number, name, records, trace):
    ticks = sorted(record.ticks for record in records if record.ticks)
    return Row(
        number=number,
        name=name,
        count=len(records),
        share=len(records) / max(1, len(trace.records)),
        timed=len(ticks),
        mean=sum(ticks) / len(ticks) if ticks else None,
        p99=ticks[-(-99 * len(ticks) // 100) - 1] if ticks else None,  # of 100, one may be slower
    )


def as_object(trace):
    """The trace's head and table, for json."""
    return {
        "partition": trace.partition,
        "vcpus": trace.vcpus,
        "tsc_hz": trace.tsc_hz,
        "records": len(trace.records),
        "lost": trace.lost,
        "complete": trace.complete,
        "span_ticks": trace.span,
        "reasons": [
            {
                **dataclasses.asdict(row),
                "share": round(row.share, 4),
                "mean": None if row.mean is None else round(row.mean, 1),
            }
            for row in table(trace)
        ],
    }


def records_as_objects(trace):
    """Each record, for json."""
    return [{**dataclasses.asdict(record), "name": reasons.name(record.reason)} for record in trace.records]


def as_text(trace):
    """The same for people."""
    rows = table(trace)
    cells = [("exit reason", "count", "share", "timed", "mean", "p99")]
    for row in [*rows, _row(None, "all", trace.records, trace)]:
        mean = "-" if row.mean is None else f"{row.mean:.0f}"
        p99 = "-" if row.p99 is None else str(row.p99)
        cells.append((row.name, str(row.count), f"{100 * row.share:.1f}%", str(row.timed), mean, p99))
    widths = [max(map(len, column)) for column in zip(*cells)]
    processors = "processor" if trace.vcpus == 1 else "processors"
    head = (
        f"{trace.partition}: {len(trace.records)} exits of {trace.vcpus} virtual {processors}"
        f" in {1e3 * trace.span / trace.tsc_hz:.3f} ms, {trace.lost or 0} lost; mean and p99 in ticks"
    )
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))])
        for row in cells
    ]
    return "\n".join([head, "", *lines]) + "\n"


# ---- The command -------------------------------------------------------------------------------------------


def run(file, out=None, as_json=False):
    """
    Decodes `file` (`-`: standard input). The picture goes to `out`, by default beside the file; of standard
    input there is none by default. Returns the exit status.
    """
    if file == "-":
        text = sys.stdin.buffer.read()
    else:
        text = pathlib.Path(file).read_bytes()
        if out is None:
            out = pathlib.Path(file).with_suffix(".svg")
    if out is not None and file != "-" and pathlib.Path(out).resolve() == pathlib.Path(file).resolve():
        raise Problem(f"{file} is the trace itself: name the picture with -o", 2)
    trace = parse(text.decode(errors="replace").split("\n"))
    if not trace.complete:
        saved = "it has no end" if trace.saved is None else f"it had {trace.saved}"
        print(f"umbra trace: only {len(trace.records)} records are there: {saved}", file=sys.stderr)
    if out is not None:
        pathlib.Path(out).write_text(timeline.draw(trace), encoding="utf-8")
    sys.stdout.write(json.dumps(as_object(trace), indent=2) + "\n" if as_json else as_text(trace))
    return 0
