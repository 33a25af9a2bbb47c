# SPDX-License-Identifier: BSD-2-Clause
"""
What address translation costs: the guest bench_vtlb, by its own TSC and by the counters of who runs it; and what
the virtual TLB does while Linux boots.
"""
from bench.table import Row

GUEST = "bench_vtlb"
MEMORY = 64  # MiB

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
    ("exits of what kernels do with pages", {"copy-on-write": 3, "map-touch-unmap-8": None}),
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
    (
        "what kernels do with pages: instructions, their own among them",
        {
            "demand-ascending": None,
            "demand-random": None,
            "copy-on-write": None,
            "map-touch-unmap-8": None,
            "fork-t4-c16": None,
            "fork-t16-c64": None,
        },
    ),
    ("CR0.WP and CR4.PGE toggled: instructions", {"toggle-wp": 900, "toggle-pge": 600}),
)


def rows(figures, phases):
    """
    `figures`: system → what the guest measured, `phases`: system → what was counted outside, for systems that
    count. Entries are counted by the virtual TLB alone.
    """
    by_name = {system: {phase.name: phase for phase in found} for system, found in phases.items()}
    for group, goals in _EXITS:
        for name, goal in goals.items():
            values = {system: found[name].exits() for system, found in by_name.items()}
            if values:
                yield Row(group, name, "exits", values, goal, judge="umbra-vtlb")
    own = by_name.get("umbra-vtlb")
    for group, counter, goals in _COUNTS if own else ():
        for name, goal in goals.items():
            yield Row(group, name, "entries", {"umbra-vtlb": own[name].of(counter)}, goal)
    for group, goals in _INSTRUCTIONS:
        for name, goal in goals.items():
            values = {system: found[name] for system, found in figures.items()}
            yield Row(group, name, "instructions", values, goal, judge="umbra-vtlb")


def boot_rows(group, counted, memory):
    """What the monitor counted while a system ran in a partition of `memory` MiB: M1, M7, M8, M11, M12."""
    hidden, faults = counted["vtlb_filled"], counted["vtlb_filled"] + counted["vtlb_guest_faults"]
    yield Row(group, "M1: hidden faults ÷ all faults", "", {"umbra-vtlb": hidden / max(faults, 1)})
    unused = counted["vtlb_prefetched"] - counted["vtlb_prefetched_used"]
    share = unused / max(counted["vtlb_prefetched"], 1)
    yield Row(group, "M7: prefetched entries not known to be used ÷ all", "", {"umbra-vtlb": share}, 0.5)
    yield Row(group, "M8: misses whose entry was there", "", {"umbra-vtlb": counted["vtlb_stale"]})
    peak = counted["vtlb_tables_peak"] * 4096 / memory
    yield Row(group, "M11: shadow tables for a guest's MiB, peak", "bytes", {"umbra-vtlb": peak})
    yield Row(group, "M11: evictions", "", {"umbra-vtlb": counted["vtlb_evictions"]})
    yield Row(
        group, "M12: entries dropped without comparing", "", {"umbra-vtlb": counted["vtlb_flushed_entries"]}
    )
