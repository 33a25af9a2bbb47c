# SPDX-License-Identifier: BSD-2-Clause
"""What single operations cost: the guest bench_exits, bare and in a partition, by its own TSC."""
import re

from bench import media
from bench.bochs import MIB, Bochs
from umbra.common import BUILD, Problem, need_file

MEMORY = 64  # MiB

_BENCH = re.compile(r"^BENCH (\S+) (-?\d+) (-?\d+) (-?\d+) (\d+)$", re.MULTILINE)
DONE = r"^DONE \d+ (\d+)$"  # the last line of a guest: how many of its checks failed


def run_bare(folder):
    """Returns operation → {median, min, max, count}, in the guest's order."""
    commands = ["multiboot /guest.elf"]
    return _run(media.bare_iso(folder, "bare-exits", commands, **{"guest.elf": _guest()}), folder, MEMORY)


def run_partition(folder):
    """The same in a partition."""
    iso = media.umbra_iso(folder, "exits", memory=f"{MEMORY}M", boot="multiboot", kernel=_guest())
    return _run(iso, folder, 4 * MEMORY)


def _guest():
    return need_file(BUILD / "tests/guests/bench_exits.elf", "run make guests-elf")


def _run(iso, folder, memory):
    with Bochs(iso, folder, memory * MIB) as bochs:
        bochs.run_on()
        failed = int(bochs.wait_console(DONE)[1])
        found = figures(bochs.console)
    if failed or not found:
        raise Problem(f"bench_exits failed:\n{bochs.console[-1000:]}")
    return found


def figures(console):
    """What a guest's BENCH rows say: operation → {median, min, max, count}, in its order."""
    return {
        name: dict(zip(("median", "min", "max", "count"), map(int, numbers)))
        for name, *numbers in _BENCH.findall(console)
    }
