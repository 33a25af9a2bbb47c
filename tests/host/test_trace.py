# SPDX-License-Identifier: BSD-2-Clause
"""`umbra trace`: what it reads out of a console's text, its table, and its picture."""
import json
import re
from xml.etree import ElementTree

import pytest

from umbra import reasons, timeline, trace

SVG = "{http://www.w3.org/2000/svg}"

BEGIN = "trace-begin partition=linux vcpus=2 tsc_hz=100000000"


def saved(*records, end=None):
    """A saved trace of (vcpu, tsc, reason, ticks)."""
    lines = [BEGIN]
    lines += [
        f"trace {vcpu:x} {tsc:x} {reason:x} 7c00 3fd0008 60 {ticks:x}" for vcpu, tsc, reason, ticks in records
    ]
    return [*lines, end or f"trace-end records={len(records)} lost=0"]


# ---- Reading -----------------------------------------------------------------------------------------------


def test_record():
    """Fails when a number is taken for another, or read as decimal."""
    lines = [
        BEGIN,
        "trace 1 2a51f00c3 8000001e ffffffff8188d7ff 3fd0008 60 5b",
        "trace-end records=1 lost=12",
    ]
    read = trace.parse(lines)
    assert (read.partition, read.vcpus, read.tsc_hz, read.saved, read.lost) == ("linux", 2, 100000000, 1, 12)
    assert read.records == [
        trace.Record(1, 0x2A51F00C3, 0x8000001E, 0xFFFFFFFF8188D7FF, 0x3FD0008, 0x60, 0x5B)
    ]
    assert read.complete


def test_console_around():
    """Fails when what else a terminal shows disturbs, or counts as a record."""
    lines = saved((0, 1, 10, 0), (1, 2, 12, 3))
    noise = [
        "umbra> trace linux save",
        "log: partition linux: started",
        "\x1b[K",
        "trace of hope",
        "trace 1 2 3",
        "ok",
    ]
    mixed = [*noise, "trace 0 1 a 0 0 0 0"]
    for line in lines:
        mixed += [f"\r\x1b[K{line}\r", *noise]
    read = trace.parse([*mixed, "trace 0 1 a 0 0 0 0"])
    assert (len(read.records), read.complete) == (2, True)


def test_last_trace_counts():
    """Fails when two traces in a file are one."""
    read = trace.parse([*saved((0, 1, 10, 0), (0, 2, 10, 0)), *saved((1, 9, 12, 0))])
    assert [record.tsc for record in read.records] == [9]


@pytest.mark.parametrize(
    "lines, records",
    [
        (saved((0, 1, 10, 0), (0, 2, 10, 0))[:-1], 2),
        (saved((0, 1, 10, 0), (0, 2, 10, 0))[:-2], 1),
        (saved((0, 1, 10, 0), end="trace-end records=2 lost=0"), 1),
        (saved((0, 1, 10, 0), (2, 2, 10, 0)), 1),  # there is no such vCPU
    ],
)
def test_incomplete(host, lines, records):
    """Fails when a damaged trace is taken for a whole one, or not decoded at all."""
    file = host.folder / "trace"
    file.write_text("\n".join(lines))
    done = host.umbra("trace", file, "--json")
    assert done.returncode == 0
    assert (json.loads(done.stdout)["records"], json.loads(done.stdout)["complete"]) == (records, False)
    assert f"only {records} records are there" in done.stderr


@pytest.mark.parametrize("text", ["", "trace 0 1 a 0 0 0 0\n", BEGIN.replace("100000000", "0")])
def test_no_trace(host, text):
    """Fails when a file without a trace is no failure."""
    file = host.folder / "trace"
    file.write_text(text)
    done = host.umbra("trace", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch("umbra trace: .*\n", done.stderr)
    assert not (host.folder / "trace.svg").exists()


# ---- Names -------------------------------------------------------------------------------------------------


def test_names():
    """Fails when the hypervisor's tables are not read, or a flag above the basic reason gets into it."""
    assert reasons.name(0) == "exception or NMI"
    assert reasons.name(77) == "TDCALL"  # the last row
    assert reasons.name(0x80000021) == "VM-entry failure: invalid guest state"
    assert reasons.name(1000) == "unknown exit reason 1000"
    kinds = {
        1: "INTERRUPT",
        30: "IO",
        48: "MEMORY",
        31: "MSR",
        10: "CPUID",
        12: "HALT",
        28: "OTHER",
        1000: "OTHER",
    }
    assert {number: reasons.kind(number) for number in kinds} == kinds


def test_every_kind_is_drawn():
    """Fails when the hypervisor has a kind of exit that the picture has no colour for."""
    assert {reasons.kind(number) for number in range(78)} == {row[0] for row in timeline.KINDS}


# ---- The table ---------------------------------------------------------------------------------------------


def test_table():
    """Fails when a count, share, mean or percentile is another, or an exit that was not timed is counted in."""
    records = [(0, n, 30, n) for n in range(1, 201)] + [(1, n, 10, 0) for n in range(49)] + [(1, 500, 12, 7)]
    rows = trace.table(trace.parse(saved(*records)))
    assert rows == [
        trace.Row(30, "I/O instruction", 200, 0.8, 200, 100.5, 198),
        trace.Row(10, "CPUID", 49, 0.196, 0, None, None),
        trace.Row(12, "HLT", 1, 0.004, 1, 7.0, 7),
    ]


@pytest.mark.parametrize(
    "count, p99", [(1, 1), (2, 2), (99, 99), (100, 99), (101, 100), (200, 198), (201, 199)]
)
def test_percentile(count, p99):
    """Fails when more than one of a hundred is slower than the p99, or it is not the least such."""
    assert trace.table(trace.parse(saved(*[(0, 0, 1, n) for n in range(count, 0, -1)])))[0].p99 == p99


def test_text(host):
    """Fails when the table for people says something else."""
    file = host.folder / "some.trace"
    file.write_text("\n".join(saved((0, 1000, 30, 400), (0, 51000, 30, 101), (1, 101000, 10, 0))))
    done = host.umbra("trace", file)
    assert done.stdout == (
        "linux: 3 exits of 2 virtual processors in 1.000 ms, 0 lost; mean and p99 in ticks\n"
        "\n"
        "exit reason      count   share  timed  mean  p99\n"
        "I/O instruction      2   66.7%      2   250  400\n"
        "CPUID                1   33.3%      0     -    -\n"
        "all                  3  100.0%      2   250  400\n"
    )
    assert done.stderr == ""
    assert (host.folder / "some.svg").exists()


def test_json(host):
    """Fails when a value is missing or of another type."""
    text = "\n".join(saved((0, 1000, 30, 400), (1, 51000, 30, 101), (1, 1000, 10, 0)))
    done = host.umbra("trace", "-", "--json", given=text)
    assert json.loads(done.stdout) == {
        "partition": "linux",
        "vcpus": 2,
        "tsc_hz": 100000000,
        "records": 3,
        "lost": 0,
        "complete": True,
        "span_ticks": 50000,
        "reasons": [
            {
                "number": 30,
                "name": "I/O instruction",
                "count": 2,
                "share": 0.6667,
                "timed": 2,
                "mean": 250.5,
                "p99": 400,
            },
            {
                "number": 10,
                "name": "CPUID",
                "count": 1,
                "share": 0.3333,
                "timed": 0,
                "mean": None,
                "p99": None,
            },
        ],
    }
    assert not list(host.folder.glob("*.svg"))


def test_trace_is_not_overwritten(host):
    """Fails when the picture takes the place of the trace."""
    file = host.folder / "trace.svg"
    text = "\n".join(saved((0, 1, 10, 0)))
    file.write_text(text)
    assert host.umbra("trace", file).returncode == 2
    assert file.read_text() == text
    assert host.umbra("trace", file, "-o", host.folder / "other.svg").returncode == 0
    assert file.read_text() == text


# ---- The picture -------------------------------------------------------------------------------------------


def draw(*records):
    return ElementTree.fromstring(timeline.draw(trace.parse(saved(*records))))


def marks(path):
    """Left, top and width of each mark."""
    found = re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v7h-([\d.]+)z", path.get("d"))
    assert "".join(f"M{x} {y}h{w}v7h-{back}z" for x, y, w, back in found) == path.get("d")
    return [(float(x), float(y), float(width)) for x, y, width, _ in found]


def paths(picture):
    return {
        path.find(f"{SVG}title").text: path
        for path in picture.iter(f"{SVG}path")
        if path.get("class") != "grid"
    }


def test_marks():
    """Fails when an exit has no mark, one too many, or one of another lane, kind, place or width."""
    picture = draw((0, 1000, 30, 0), (0, 1500, 30, 250), (0, 1600, 10, 0), (1, 2000, 48, 0), (1, 1000, 28, 0))
    found = {title: (path.get("class"), marks(path)) for title, path in paths(picture).items()}
    left, width = timeline.MARGIN + timeline.LABEL, timeline.WIDTH - 2 * timeline.MARGIN - timeline.LABEL
    row, lane = timeline.ROW, 4 * timeline.ROW + 2 + timeline.GAP  # four kinds
    top = timeline.HEAD + 2
    assert found == {
        "vcpu 0: ports 2": ("io", [(left, top, 1.4), (left + width / 2, top, width / 4)]),
        "vcpu 0: CPUID 1": ("cpuid", [(left + width * 0.6, top + 2 * row, 1.4)]),
        "vcpu 1: memory 1": ("memory", [(left + width, top + lane + row, 1.4)]),
        "vcpu 1: other 1": ("other", [(left, top + lane + 3 * row, 1.4)]),
    }
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"vcpu 0", "vcpu 1", "ports 2", "memory 1", "CPUID 1", "other 1"} <= set(texts)
    assert not {"halts 0", "MSRs 0"} & set(texts)


@pytest.mark.parametrize(
    "ticks, texts",
    [
        (1, ["0 ns", "2 ns", "4 ns", "6 ns", "8 ns", "10 ns"]),
        (160, ["0 ns", "500 ns", "1000 ns", "1500 ns"]),
        (199, ["0 ns", "500 ns", "1000 ns", "1500 ns"]),
        (1_000_000, ["0 ms", "2 ms", "4 ms", "6 ms", "8 ms", "10 ms"]),
        (70_000, ["0 µs", "100 µs", "200 µs", "300 µs", "400 µs", "500 µs", "600 µs", "700 µs"]),
        (100_000 * 86400 * 1000, ["0 s", "20000 s", "40000 s", "60000 s", "80000 s"]),
    ],
)
def test_axis(ticks, texts):
    """Fails when the axis has too few or too many lines, or they say the wrong time."""
    picture = draw((0, 0, 10, 0), (0, ticks, 10, 0))
    faint = [text for text in picture.iter(f"{SVG}text") if text.get("class") == "faint"]
    assert [text.text for text in faint] == texts
    left, width = timeline.MARGIN + timeline.LABEL, timeline.WIDTH - 2 * timeline.MARGIN - timeline.LABEL
    units = {"ns": 1, "µs": 10**3, "ms": 10**6, "s": 10**9}
    for text in faint:
        number, unit = text.text.split()
        assert float(text.get("x")) == pytest.approx(
            left + width * int(number) * units[unit] / (ticks * 10), abs=0.01
        )


def test_both_grounds():
    """Fails when a kind has no colour, or the same as another, on a light or a dark ground."""
    style = draw((0, 1, 10, 0)).find(f"{SVG}style").text
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for part in (light, dark):
        colours = [re.search(rf"\.{row[0].lower()} {{ fill: (#\w+); }}", part)[1] for row in timeline.KINDS]
        assert len(set(colours)) == len(timeline.KINDS)
        assert re.search(r"\.paper { fill: (#\w+)", part)[1] not in colours


def test_same_trace_same_picture(host):
    """Fails when the picture depends on anything but the trace."""
    file = host.folder / "trace"
    file.write_text("\n".join(saved(*[(n % 2, n * n, n % 70, n % 9) for n in range(500)])))
    for name, seed in (("a", "1"), ("b", "2")):
        host.environment["PYTHONHASHSEED"] = seed
        assert host.umbra("trace", file, "-o", host.folder / name).returncode == 0
    assert (host.folder / "a").read_bytes() == (host.folder / "b").read_bytes()


@pytest.mark.parametrize("records", [(), ((1, 5, 10, 0),)])
def test_hardly_anything(host, records):
    """Fails when a trace of no exit, or of one, is no trace."""
    done = host.umbra("trace", "-", "-o", host.folder / "out.svg", given="\n".join(saved(*records)))
    assert (done.returncode, done.stderr) == (0, "")
    ElementTree.parse(host.folder / "out.svg")


def test_name_is_escaped():
    """Fails when a name breaks the picture."""
    read = trace.parse([BEGIN.replace("linux", "<&>"), "trace-end records=0 lost=0"])
    assert "<&>: 0 exits" in [
        text.text for text in ElementTree.fromstring(timeline.draw(read)).iter(f"{SVG}text")
    ]
