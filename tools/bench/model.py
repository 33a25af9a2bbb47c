# SPDX-License-Identifier: BSD-2-Clause
"""
What counted operations may come to in cycles: no measurement, and marked as none wherever it is shown.

    cycles = VM entries · round trip + the other instructions · cycles an instruction

The round trip of an exit and an entry is a processor's, as its source measured it. How many cycles the
instructions in between take depends on what the caches hold, so there are two figures for each processor: for code
that runs well, and for code that is cold. VMREAD, VMWRITE and the like are counted as instructions: no source has a
figure for each of these processors. Their numbers stand beside, in the rows by kind of instruction.
"""
import typing

from bench import profile
from bench.table import Row


class Processor(typing.NamedTuple):
    name: str
    round_trip: int  # cycles from a guest's instruction that exits to its next, with nothing done in between
    source: str


_AGESEN = (
    "Agesen, Mattson, Rugina, Sheldon: Software Techniques for Avoiding Hardware Virtualization Exits, "
    "USENIX ATC 2012, table 1"
)

PROCESSORS = (
    Processor("Penryn (2008)", 1266, _AGESEN),
    Processor("Nehalem (2009)", 1009, _AGESEN),
    Processor("Sandy Bridge (2011)", 784, _AGESEN),
)

# Cycles an instruction. What a wide processor reaches in code that it has in its caches, and what it is left with
# when much is not: the two ends between which a hypervisor's exit path lies, and no one's measurement.
CPI = {"warm": 0.5, "cold": 2.0}


def rows(found):
    """Of the rows by kind of instruction among `found`: cycles of each operation, on each processor."""
    counts = _counts(found)
    for processor in PROCESSORS:
        for operation, systems in counts.items():
            for state, cpi in CPI.items():
                values = {system: cycles(processor, kinds, cpi) for system, kinds in systems.items()}
                yield Row(
                    f"cycles on {processor.name}", f"{operation}, {state}", "cycles", values, kind="model"
                )


def cycles(processor, kinds, cpi):
    """`kinds` as Trace.kinds() has them."""
    instructions = sum(count for name, count in kinds.items() if name != "entries")
    return round(kinds["entries"] * processor.round_trip + instructions * cpi)


def _counts(found):
    """operation → system → kinds."""
    counts = {}
    for operation in profile.OPERATIONS:
        for row in found:
            if row.group == profile.group(operation):
                for system, value in row.values.items():
                    counts.setdefault(operation, {}).setdefault(system, {"entries": 0})[row.name] = value
    return counts
