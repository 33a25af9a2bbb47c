# SPDX-License-Identifier: BSD-2-Clause
"""What single operations cost: the guest bench_exits, by its own TSC and by the counters of who runs it."""
from bench.table import Row
from umbra.common import Problem

GUEST = "bench_exits"
MEMORY = 128  # MiB

INSTRUCTIONS = "one operation"
EXITS = "exits of one operation"

# What an operation may cost, in instructions and in exits.
GOALS = {
    "cpuid": (225, 1),
    "vmcall": (225, 1),
    "port-read": (400, 1),
    "pic-read": (400, 1),
    "rdmsr": (225, 1),
    "wrmsr": (225, 1),
    "ioapic-read": (900, 1),
    "tpr-write": (None, 0),
    "eoi": (None, 0),
    "cr8": (None, 0),
    "self-ipi": (None, 0),
    "tsc-deadline": (900, 2),
    "halt": (2000, 3),
    "first-touch-2m": (700, 1),
}

# Operations that exit once, whoever runs the guest: a counter that says something else is wrong.
PROVOKES_ONE = ("cpuid", "vmcall", "port-read", "pic-read", "rdmsr", "wrmsr", "ioapic-read")
_TOLERANCE = 0.02  # exits that are nobody's (bench/phases.py)

# Operations that end when a timer does.
TIMED = ("tsc-deadline", "halt")


def rows(figures, phases):
    """
    `figures`: system → what the guest measured, `phases`: system → what was counted outside, for systems that
    count.
    """
    by_length = sorted(figures.values(), key=len, reverse=True)  # who has most, has the guest's order
    names = list(dict.fromkeys(name for found in by_length for name in found))
    for name in names:
        values = {system: found[name] for system, found in figures.items() if name in found}
        yield Row(INSTRUCTIONS, name, "instructions", values, GOALS.get(name, (None, None))[0])
    counted = {system: exits_of(found) for system, found in phases.items()}
    for name in names:
        values = {system: found[name] for system, found in counted.items() if name in found}
        if values:
            yield Row(EXITS, name, "exits", values, GOALS.get(name, (None, None))[1])


def exits_of(phases):
    """Operation → exits. Fails if the counters disagree with what the guest provoked."""
    found = {phase.name: phase.exits(timed=phase.name in TIMED) for phase in phases}
    for name in PROVOKES_ONE:
        if name in found and abs(found[name] - 1) > _TOLERANCE:
            raise Problem(f"{name} exits once, but {found[name]:.3f} exits were counted for it")
    return found
