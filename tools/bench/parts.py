# SPDX-License-Identifier: BSD-2-Clause
"""The parts of the benchmark: what each runs, the rows that it yields, and what these depend on."""
import dataclasses
import typing

from bench import exits, kvm, linux, matrix, model, monitor, nested, phases, profile, result, size, vtlb
from bench.table import Row

UMBRAS = {"umbra-ept": "ept", "umbra-vtlb": "vtlb"}  # system → `paging`
GUESTS = (exits, vtlb)  # the guests that all systems run

OWN_GOAL = 5_000_000
BOOT_GOALS = {"umbra-ept": 1.05, "umbra-vtlb": 1.35}
BOOT_BOUND = 2.0  # what the ratio with `paging = vtlb` must not exceed on the way to its goal
IMAGE_GOAL = 512 << 10

REPORTED = ("exits", "ticks_per_exit", "interrupts_injected")


def _guest_rows(guest, folder):
    """A guest bare and in partitions."""
    figures = {"bare": phases.run_bare(folder, guest.GUEST, guest.MEMORY)}
    counted = {}
    for system, paging in UMBRAS.items():
        run = phases.run_partition(folder, guest.GUEST, guest.MEMORY, cmdline="wait", paging=paging)
        figures[system], counted[system] = run
    yield from guest.rows(figures, counted)


def exit_rows(folder):
    """What a guest pays for one operation."""
    return _guest_rows(exits, folder)


def vtlb_rows(folder):
    """What translation costs, operation by operation."""
    return _guest_rows(vtlb, folder)


def profile_rows(folder):
    """What single operations execute, by kind of instruction and by Umbra's functions."""
    traces = {
        system: profile.run_partition(folder, exits.MEMORY, paging=paging)
        for system, paging in UMBRAS.items()
    }
    yield from _kind_rows(traces)
    yield from profile.function_rows(traces)


def _kind_rows(traces):
    """What was executed, and what that may come to."""
    kinds = list(profile.kind_rows(traces))
    yield from kinds
    yield from model.rows(kinds)


def kvm_rows(folder):
    """The same guests on the peer."""
    found, traces = kvm.run(folder, [guest.GUEST for guest in GUESTS])
    for guest in GUESTS:
        runs = {system: said[guest.GUEST] for system, said in found.items()}
        figures, counted = ({system: run[at] for system, run in runs.items()} for at in (0, 1))
        yield from guest.rows(figures, counted)
    yield from _kind_rows(traces)


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
    boots, counted = {"bare": bare}, {}
    for system, paging in UMBRAS.items():
        boots[system], counted[system] = linux.boot_partition(folder, paging)
    group = "Linux, from the kernel's entry to the shell"
    ratios = {system: boot.instructions / bare.instructions for system, boot in boots.items()}
    for system, goal in BOOT_GOALS.items():
        row = {"bare": 1.0, system: ratios[system]}
        yield Row(group, f"ratio to bare, paging = {UMBRAS[system]}", "", row, goal)
    row = {"bare": 1.0, "umbra-vtlb": ratios["umbra-vtlb"]}
    yield Row(group, "ratio to bare, paging = vtlb, first bound", "", row, BOOT_BOUND)
    for name, unit, key in (
        ("executed", "instructions", "instructions"),
        ("halted", "ticks", "halted_ticks"),
        ("halts", "", "halts"),
    ):
        yield Row(group, name, unit, {system: getattr(boot, key) for system, boot in boots.items()})
    yield from _monitor_rows(counted)


def _monitor_rows(counted):
    """What the monitor counted at a boot: system → counters."""
    group = "Linux, what the monitor counted"
    yield from vtlb.boot_rows(group, counted["umbra-vtlb"], linux.MEMORY)
    names = {name for found in counted.values() for name in found}
    total = {name: sum(found.get(name, 0) for found in counted.values()) for name in names}
    vtlb_names = sorted(name for name in names if name.startswith("vtlb_") and total[name] != 0)
    kinds = sorted(monitor.reasons(total), key=lambda reason: (-total[reason], reason))
    for name in (*REPORTED, *vtlb_names, *kinds):
        yield Row(
            group, name, "", {system: found[name] for system, found in counted.items() if name in found}
        )


def size_rows(_folder):
    """How big Umbra is."""
    loaded, file = size.image()
    yield Row("the image", "loaded", "bytes", {"umbra": loaded}, IMAGE_GOAL)
    yield Row("the image", "in the file", "bytes", {"umbra": file})
    rooms = size.lines_of_code()
    for room, lines in rooms.items():
        yield Row("code that runs in root mode", f"{room}/", "lines", {"umbra": lines})
    yield Row("code that runs in root mode", "all", "lines", {"umbra": sum(rooms.values())})


class Part(typing.NamedTuple):
    rows: typing.Callable  # folder for the run's files → rows
    packages: typing.Callable = tuple  # the Debian packages that the figures depend on
    command_line: str | None = None
    stored: bool = True  # in the baseline


PARTS = {
    "exits": Part(exit_rows),
    "vtlb": Part(vtlb_rows),
    "nested": Part(nested.rows),
    "matrix": Part(matrix.rows),
    "profile": Part(profile_rows, stored=False),  # what `exits` says, in more words
    "kvm": Part(kvm_rows, kvm.made_of, kvm.COMMAND_LINE),
    "start": Part(start_rows, result.stock_packages, linux.COMMAND_LINE),
    "linux": Part(linux_rows, result.stock_packages, linux.COMMAND_LINE),
    "size": Part(size_rows),
}


def measure(name, folder):
    """Runs a part. Returns (its versions, its rows)."""
    part = PARTS[name]
    rows = [dataclasses.replace(row, part=name) for row in part.rows(folder)]
    return result.versions(part.packages(), part.command_line), rows
