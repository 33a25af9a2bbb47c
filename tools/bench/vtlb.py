# SPDX-License-Identifier: BSD-2-Clause
"""
What address translation by Umbra costs: the guest bench_vtlb in a partition with `paging = vtlb`. Its phases
wait for a byte at both ends, and there the monitor is asked what it has counted. Their instructions are
counted by the guest's own TSC.
"""
import dataclasses

from bench import exits, media, monitor
from bench.bochs import MIB, Bochs
from bench.table import Row
from umbra.common import BUILD, Problem, need_file

MEMORY = 64  # MiB

# What exits while the guest waits and says something, or because the machine's own devices want attention.
_NOT_THE_PHASES = {
    f"exits_{reason}"
    for reason in ("I_O_instruction", "PAUSE", "external_interrupt", "VMX_preemption_timer_expired")
}

_WAITING = r"^(?:PHASE (?!end )|END )(\S+)(?: (\d+))?\n"


@dataclasses.dataclass
class Phase:
    """What was counted while the guest did `operations`: differences of the monitor's counters."""

    name: str
    operations: int
    counted: dict

    def exits(self):
        """Exits for one operation."""
        own = set(monitor.reasons(self.counted)) - _NOT_THE_PHASES
        return sum(self.counted[name] for name in own) / self.operations

    def per_operation(self, counter):
        return self.counted[counter] / self.operations


def difference(before, after):
    """How much each counter has grown. One that is not in `before` was 0."""
    return {name: value - before.get(name, 0) for name, value in after.items()}


def run_bare(folder):
    """Returns operation → {median, min, max, count}, in the guest's order."""
    iso = media.bare_iso(folder, "bare-vtlb", ["multiboot /guest.elf"], **{"guest.elf": _guest()})
    with Bochs(iso, folder, MEMORY * MIB) as bochs:
        bochs.run_on()
        return _end(bochs)


def run_partition(folder, paging="vtlb"):
    """The same in a partition. Returns it, and the phases."""
    keys = {"boot": "multiboot", "kernel": _guest(), "cmdline": "wait", "paging": paging}
    iso = media.umbra_iso(folder, "vtlb", memory=f"{MEMORY}M", **keys)
    with Bochs(iso, folder, 4 * MEMORY * MIB) as bochs:
        bochs.run_on()
        phases = _attend(bochs)
        return _end(bochs), phases


def _attend(bochs):
    """Goes through the phases with the guest, up to its last line."""
    phases = []
    seen = 0
    while True:
        said = bochs.wait_console(f"{_WAITING}|{exits.DONE}", seen)
        if said[1] is None:
            return phases
        counted = monitor.statistics(bochs, "vtlb", paused=True)
        if said[2] is not None:
            begun = int(said[2]), counted
        else:
            phases.append(Phase(said[1], begun[0], difference(begun[1], counted)))
        seen = len(bochs.console)
        monitor.type_at_guest(bochs, " ")


def _guest():
    return need_file(BUILD / "tests/guests/bench_vtlb.elf", "run make guests-elf")


def _end(bochs):
    failed = int(bochs.wait_console(exits.DONE)[1])
    found = exits.figures(bochs.console)
    if failed or not found:
        raise Problem(f"bench_vtlb failed:\n{bochs.console[-1000:]}")
    return found


# ---- Figures and goals --------------------------------------------------------------------------------------

_EXITS = (
    (
        "M2: exits for a page fault, or for eight pages in order that are mapped",
        {"demand-ascending": 2, "demand-random": 2, "touch-8-mapped": 1.3, "flush-touch-8": None},
    ),
    (
        "M3: exits for a switch there and back, by pages in use",
        {"switch-8": 2, "switch-64": 2, "switch-512": 2, "switch-4096": 2},
    ),
    (
        "M4: exits for a fork and its end; 2, one for a page table, 3 for a page that is copied",
        {"fork-t1-c0": 3, "fork-t4-c16": 54, "fork-t16-c0": 18, "fork-t16-c64": 210},
    ),
)

_COUNTS = (
    ("M5: fills for a page that is used between two flushes", "vtlb_filled", {"distinct": 1}),
    ("M6: fills of global pages for a load of CR3", "vtlb_filled", {"globals": 0, "globals-two-roots": 0}),
    (
        "M9: entries compared for a switch there and back, two flushes, by pages in use",
        "vtlb_compared",
        {"switch-8": 1024, "switch-64": 1024, "switch-512": 1024, "switch-4096": 1024},
    ),
)

_INSTRUCTIONS = (
    (
        "M10: instructions",
        {
            "fill": 600,
            "fill-with-neighbours": None,
            "fill-sets-a-d": 600,
            "first-store": 600,
            "fault-passed-on": 500,
            "invlpg-unused": 400,
            "invlpg-used": 400,
            "cr3-same": 900,
            "switch-8": 900,
            "switch-64": 900,
            "switch-512": 900,
            "switch-4096": 900,
            "switch-changed-0": 900,
            "switch-changed-1": 900 + 600,
            "switch-changed-2": 900 + 2 * 600,
        },
    ),
    ("CR0.WP and CR4.PGE toggled: instructions", {"toggle-wp": 900, "toggle-pge": 600}),
)


def rows(bare, partition, phases):
    """What run_bare and run_partition returned, in rows with the goals."""
    by_name = {phase.name: phase for phase in phases}
    for group, goals in _EXITS:
        for name, goal in goals.items():
            yield Row(group, name, "exits", {"umbra": by_name[name].exits()}, goal)
    for group, counter, goals in _COUNTS:
        for name, goal in goals.items():
            yield Row(group, name, "entries", {"umbra": by_name[name].per_operation(counter)}, goal)
    for group, goals in _INSTRUCTIONS:
        for name, goal in goals.items():
            yield Row(group, name, "instructions", {"bare": bare[name], "umbra": partition[name]}, goal)


def boot_rows(group, counted, memory):
    """What the monitor counted while a system ran in a partition of `memory` MiB: M1, M7, M8, M11, M12."""
    hidden, faults = counted["vtlb_filled"], counted["vtlb_filled"] + counted["vtlb_guest_faults"]
    yield Row(group, "M1: hidden faults ÷ all faults", "", {"umbra": hidden / max(faults, 1)})
    unused = counted["vtlb_prefetched"] - counted["vtlb_prefetched_used"]
    share = unused / max(counted["vtlb_prefetched"], 1)
    yield Row(group, "M7: prefetched entries not known to be used ÷ all", "", {"umbra": share}, 0.5)
    yield Row(group, "M8: misses whose entry was there", "", {"umbra": counted["vtlb_stale"]})
    peak = counted["vtlb_tables_peak"] * 4096 / memory
    yield Row(group, "M11: shadow tables for a guest's MiB, peak", "bytes", {"umbra": peak})
    yield Row(group, "M11: evictions", "", {"umbra": counted["vtlb_evictions"]})
    yield Row(group, "M12: entries dropped without comparing", "", {"umbra": counted["vtlb_flushed_entries"]})
