# SPDX-License-Identifier: BSD-2-Clause
"""
The access matrix (tests/guests/matrix.c) by its own TSC: bare, and in a partition whose addresses the processor or Umbra
translates. Each of its observations is one access that meets entries which have just been changed.
"""
from bench import media, monitor, phases
from bench.bochs import MIB, Bochs
from bench.table import Row
from umbra.common import BUILD, Problem, need_file

MEMORY = 64  # MiB
GOALS = {"ept": 1.01, "vtlb": 1.25}
_PART = "part=0/20"  # of the combinations
_LINES = "exits_I_O_instruction"  # what the guest's own lines cost


def run_bare(folder):
    """Returns the ticks of all shards, and how many observations they made."""
    commands = [f"multiboot /guest.elf {_PART}"]
    iso = media.bare_iso(folder, "bare-matrix", commands, **{"guest.elf": _guest()})
    with Bochs(iso, folder, MEMORY * MIB) as bochs:
        bochs.run_on()
        return _end(bochs)


def run_partition(folder, paging):
    """The same in a partition; and its counters."""
    keys = {"boot": "multiboot", "kernel": _guest(), "cmdline": _PART, "paging": paging, "on_stop": "stay"}
    iso = media.umbra_iso(folder, f"matrix-{paging}", memory=f"{MEMORY}M", **keys)
    with Bochs(iso, folder, 4 * MEMORY * MIB) as bochs:
        bochs.run_on()
        return *_end(bochs), monitor.statistics(bochs, f"matrix-{paging}")


def _guest():
    return need_file(BUILD / "tests/guests/matrix.elf", "run make guests-elf")


def _end(bochs):
    failed = int(bochs.wait_console(phases.DONE)[1])
    found = phases.figures(bochs.console)
    if failed or "matrix-ticks" not in found:
        raise Problem(f"matrix failed:\n{bochs.console[-1000:]}")
    observations = bochs.wait_console(r"^VALUE matrix-observations (0x[0-9a-f]+)$")[1]
    return found["matrix-ticks"]["median"], int(observations, 16)


def rows(folder):
    """What an access costs on the average, and its ratio to the bare machine's."""
    bare, observations = run_bare(folder)
    for paging, goal in GOALS.items():
        ticks, same, counted = run_partition(folder, paging)
        if same != observations:
            raise Problem(f"matrix: {observations} observations bare, {same} with paging = {paging}")
        group = f"the access matrix, each twentieth combination, paging = {paging}"
        system = f"umbra-{paging}"
        yield Row(group, "ratio to bare", "", {"bare": 1.0, system: ticks / bare}, goal)
        each = {"bare": bare / observations, system: ticks / observations}
        yield Row(group, "an observation", "instructions", each)
        taken = sum(counted[name] for name in monitor.reasons(counted) if name != _LINES)
        yield Row(group, "exits for an observation", "exits", {system: taken / observations})
