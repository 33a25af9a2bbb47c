# SPDX-License-Identifier: BSD-2-Clause
"""
What nesting costs: the guest bench_nested, a guest hypervisor of the smallest kind, bare (one level) and in a
partition with `nested = yes`, with VMCS shadowing and without.
"""
from bench import phases
from bench.table import Row

GUEST = "bench_nested"
MEMORY = 64  # MiB

# `vmcs-shadowing` → what the rows say of it
_VARIANTS = {"yes": "with VMCS shadowing", "no": "without VMCS shadowing"}

# A phase has a few exits that are no operation's: entering Lv2's loop, and leaving it.
_SLACK = 0.02

# (instructions, exits) of one operation; what is not here is only reported.
_ROUND_TRIPS = {"lv2-cpuid": (2000, 2), "lv2-cpuid-with-ept": (2000, 2), "lv2-ept-violation": (4000, 2)}
_NOTHING = {
    name: (None, 0)
    for name in (
        *("lv2-cr0-ts", "lv2-cr0-mp", "lv2-cr0-em", "lv2-clts", "lv2-read-cr0", "lv2-cr4-pge"),
        *("lv2-cr4-pge-with-ept", "lv2-read-cr4", "lv2-read-cr8", "lv2-write-cr8"),
    )
}
_ALWAYS = _NOTHING | {"vmptrld-same": (900, 1), "vmptrld-two": (1800, 2), "vmclear": (900, 1)}
_GOALS = {
    "yes": _ALWAYS
    | _ROUND_TRIPS
    | {"vmread": (None, 0), "vmread-reason": (None, 0), "vmwrite": (None, 0), "vmwrite-rare": (350, 1)},
    # Each VMREAD and VMWRITE of the handler is an exit of its own: no bound on the whole.
    "no": _ALWAYS | {"vmread": (350, 1), "vmread-reason": (350, 1), "vmwrite": (350, 1), "vmwrite-rare": (350, 1)},
}


def rows(folder):
    """Runs the guest bare, and in the partitions."""
    bare = phases.run_bare(folder, GUEST, MEMORY)
    for shadowing, text in _VARIANTS.items():
        keys = {"nested": "yes", "vmcs_shadowing": shadowing, "cmdline": "wait"}
        figures, counted = phases.run_partition(folder, GUEST, MEMORY, **keys)
        yield from rows_of(shadowing, text, bare, figures, counted)


def rows_of(shadowing, text, bare, figures, counted):
    """The rows of one variant: `figures` of the guest itself, `counted` (phases) from outside."""
    goals = _GOALS[shadowing]
    for name, figure in figures.items():
        values = {"bare": bare[name], "umbra-ept": figure}
        goal = goals.get(name, (None, None))[0]
        yield Row(f"nested, {text}: instructions", name, "instructions", values, goal, judge="umbra-ept")
    for phase in counted:
        goal = goals.get(phase.name, (None, None))[1]
        goal = None if goal is None else goal + _SLACK
        values = {"umbra-ept": phase.exits()}
        yield Row(f"nested, {text}: exits", phase.name, "exits", values, goal, judge="umbra-ept")
