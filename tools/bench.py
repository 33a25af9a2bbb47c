#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Measures Umbra in Bochs and prints a table, with the goals; the same goes to build/bench/result.json. A figure
is a count of instructions, exits, bytes or lines, and the same on every run; wall time is none.
"""
import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from bench import bochs, exits, linux, monitor, size, table, vtlb
from bench.table import Row
from umbra.common import BUILD, ROOT, Problem

OUT = BUILD / "bench"
SYSTEMS = ("bare", "umbra")

EXIT_GOALS = {
    "cpuid": 225,
    "rdmsr": 225,
    "wrmsr": 225,
    "vmcall": 225,
    "port-read": 400,
    "ioapic-read": 900,
    "tsc-deadline": 900,
}
OWN_GOAL = 5_000_000
BOOT_GOALS = {"ept": 1.05, "vtlb": 1.35}
BOOT_BOUND = 2.0  # what the ratio with `paging = vtlb` must not exceed on the way to its goal
IMAGE_GOAL = 512 << 10

REPORTED = ("exits", "ticks_per_exit", "interrupts_injected")


def exit_rows(folder):
    """What a guest pays for one operation."""
    figures = {"bare": exits.run_bare(folder), "umbra": exits.run_partition(folder)}
    for name in figures["umbra"]:
        values = {system: found[name] for system, found in figures.items() if name in found}
        yield Row("one operation", name, "instructions", values, EXIT_GOALS.get(name))


def start_rows(folder):
    """Umbra's own start, with the stock kernel."""
    by_emulator, (total, own, clearing, waiting) = linux.start_partition(folder)
    group = "from the boot loader's hand-over to Linux's first instruction"
    yield Row(group, "Umbra's own work", "instructions", {"umbra": own}, OWN_GOAL)
    yield Row(group, "clearing memory", "instructions", {"umbra": clearing})
    yield Row(group, "waiting for the console", "instructions", {"umbra": waiting})
    yield Row(group, "all, as Umbra says", "ticks", {"umbra": total})
    yield Row(group, "all, by the emulator's clock", "ticks", {"umbra": by_emulator})


def linux_rows(folder):
    """Linux's boot in a partition, translated by the processor and by Umbra; by exits too."""
    bare = linux.boot_bare(folder)
    for paging, goal in BOOT_GOALS.items():
        boot, counted = linux.boot_partition(folder, paging)
        boots = {"bare": bare, "umbra": boot}
        group = f"Linux, from the kernel's entry to the shell, paging = {paging}"
        ratio = {"bare": 1.0, "umbra": boot.instructions / bare.instructions}
        yield Row(group, "ratio to bare", "", ratio, goal)
        if paging == "vtlb":
            yield Row(group, "ratio to bare, first bound", "", ratio, BOOT_BOUND)
        for name, unit, key in (
            ("executed", "instructions", "instructions"),
            ("halted", "ticks", "halted_ticks"),
            ("halts", "", "halts"),
        ):
            yield Row(group, name, unit, {system: getattr(b, key) for system, b in boots.items()})
        group = f"Linux, what the monitor counted, paging = {paging}"
        if paging == "vtlb":
            yield from vtlb.boot_rows(group, counted, linux.MEMORY)
        vtlb_names = [name for name in counted if name.startswith("vtlb_") and counted[name] != 0]
        kinds = sorted(monitor.reasons(counted), key=lambda reason: -counted[reason])
        for name in (*REPORTED, *vtlb_names, *kinds):
            yield Row(group, name, "", {"umbra": counted[name]})


def vtlb_rows(folder):
    """What translation by Umbra costs, operation by operation."""
    bare = vtlb.run_bare(folder)
    yield from vtlb.rows(bare, *vtlb.run_partition(folder))


def size_rows(_folder):
    """How big Umbra is."""
    loaded, file = size.image()
    yield Row("the image", "loaded", "bytes", {"umbra": loaded}, IMAGE_GOAL)
    yield Row("the image", "in the file", "bytes", {"umbra": file})
    rooms = size.lines_of_code()
    for room, lines in rooms.items():
        yield Row("code that runs in root mode", f"{room}/", "lines", {"umbra": lines})
    yield Row("code that runs in root mode", "all", "lines", {"umbra": sum(rooms.values())})


PARTS = {"exits": exit_rows, "vtlb": vtlb_rows, "start": start_rows, "linux": linux_rows, "size": size_rows}


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def measure(parts):
    OUT.mkdir(parents=True, exist_ok=True)
    rows = []
    for part in parts:
        say(part)
        with tempfile.TemporaryDirectory(prefix="run-", dir=OUT) as folder:
            rows += PARTS[part](Path(folder))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--check", action="store_true", help="exit with status 1 if a goal is missed")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    os.chdir(ROOT)  # a configuration's files are looked for from there
    os.environ["SOURCE_DATE_EPOCH"] = "1700000000"  # the same ISO each time, down to its dates
    try:
        rows = measure(arguments.parts or PARTS)
    except Problem as problem:
        sys.exit(f"bench: {problem}")
    result = {"processor": bochs.MODEL, "systems": SYSTEMS, "rows": table.as_json(rows)}
    (OUT / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"Bochs, {bochs.MODEL}, one processor\n")
    print(table.as_text(rows, SYSTEMS))
    return 1 if arguments.check and any(row.verdict == "over" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
