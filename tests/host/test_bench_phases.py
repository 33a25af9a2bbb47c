# SPDX-License-Identifier: BSD-2-Clause
"""What the benchmark makes of a guest's phases, in a partition and on KVM."""
import re
from pathlib import Path

import pytest
from bench import exits, kvm, phases, vtlb

from umbra.common import Problem

GUESTS = Path(__file__).parents[1] / "guests"


class Guest:
    """Plays a partition `guest` and its monitor to phases.attend: what it says, first and after each byte."""

    def __init__(self, *said, counters):
        self._said = list(said)
        self._counters = list(counters)
        self.console = self._said.pop(0)
        self.typed = ""

    def wait_console(self, pattern, start=0):
        found = re.search(pattern, self.console[start:], re.MULTILINE | re.DOTALL)
        assert found, f"nobody says {pattern} in {self.console[start:]}"
        return found

    def type(self, text):
        self.typed += text
        if text == "\x01c":
            self.console += "[monitor]\numbra> "
        elif text.startswith("stats"):
            lines = "".join(f"{name} {value}\n" for name, value in self._counters.pop(0).items())
            self.console += f"stats guest\n{lines}umbra> "
        else:
            self.console += "[guest]\n" + self._said.pop(0)


def test_a_phase_is_what_was_counted_between_its_two_halts():
    """
    Fails if a phase's preparation is counted, if an exit of the guest's talking is or one of its own ports is
    not, if an exit that had not occurred before is lost, or if the phase `end`, which does not wait, is
    waited for.
    """
    guest = Guest(
        "PASS multiboot\nPHASE first 4\n",
        "END first\n",
        "OWN first 50 1\nBENCH first 5 4 6 4\nPHASE second 2\n",
        "END second\n",
        "OWN second 0 0\nBENCH second 7 7 7 2\nPHASE end 0\nDONE 1 0\n",
        counters=(
            {"exits": 10, "exits_I_O_instruction": 9, "vtlb_filled": 1},
            {"exits": 90, "exits_I_O_instruction": 63, "exits_HLT": 1, "exits_INVLPG": 8, "vtlb_filled": 3},
            {"exits": 99, "exits_INVLPG": 50, "vtlb_filled": 50},
            {"exits": 99, "exits_INVLPG": 51, "exits_external_interrupt": 9, "vtlb_filled": 50},
        ),
    )
    first, second = phases.attend(guest, "guest")
    assert (first.name, first.operations, first.exits(), first.of("vtlb_filled")) == ("first", 4, 3, 0.5)
    assert (second.name, second.exits(), second.of("vtlb_filled")) == ("second", 0.5, 0)
    assert guest.typed.count("\x011 ") == 4


def test_a_timer_is_an_operations_only_where_the_operation_has_one():
    """
    Fails if the end of a turn counts as an exit of what happened to be going on, or a deadline's end does
    not.
    """
    phase = phases.Phase("p", 2, {"exits_WRMSR": 2, "exits_VMX_preemption_timer_expired": 2})
    assert (phase.exits(), phase.exits(timed=True)) == (1, 2)


def test_fewer_exits_than_the_guest_knows_of():
    """Fails if a snapshot that was taken too early or too late goes unnoticed."""
    with pytest.raises(Problem, match="1 of exits_HLT, of at least 2"):
        phases.Phase("p", 1, {"exits_HLT": 1}, halts=2).exits()
    with pytest.raises(Problem, match="KVM counted fewer"):
        kvm.Phase("p", 1, {"exits": 9, "io_exits": 3}, ports=4).exits()


def test_counters_that_disagree_with_the_guest():
    """Fails if a figure is reported though what was counted is not what the guest did."""
    assert exits.exits_of([phases.Phase("cpuid", 200, {"exits_CPUID": 200, "exits_EPT_violation": 2})]) == {
        "cpuid": 1.01
    }
    with pytest.raises(Problem, match="cpuid exits once, but 0.950"):
        exits.exits_of([phases.Phase("cpuid", 200, {"exits_CPUID": 190})])


SAID = """\
GUEST bench_exits
PASS multiboot
PHASE cpuid 10
COUNTERS exits=100 io_exits=60 halt_exits=1
END cpuid
COUNTERS exits=140 io_exits=80 halt_exits=2 irq_exits=9 blocking=1
OWN cpuid 20 1
BENCH cpuid 1126 1126 9000 10
PHASE end 0
DONE 1 0
GUEST bench_vtlb
PHASE fill 2
COUNTERS exits=7
END fill
COUNTERS exits=9
OWN fill 0 0
BENCH fill 8 7 9 2
DONE 1 0
"""


def test_what_the_peer_says():
    """
    Fails if a guest's lines are taken for another's, if an interrupt of the machine counts as an exit, or if
    what was counted before a phase is taken for the phase's.
    """
    found = kvm.read(SAID)
    assert list(found) == ["bench_exits", "bench_vtlb"]
    figures, (cpuid,) = found["bench_exits"]
    assert figures == {"cpuid": {"median": 1126, "min": 1126, "max": 9000, "count": 10}}
    assert (cpuid.operations, cpuid.counted["exits"], cpuid.exits()) == (10, 40, 1.0)
    assert found["bench_vtlb"][1][0].exits() == 1.0
    with pytest.raises(Problem, match="a guest failed on KVM"):
        kvm.read(SAID.replace("DONE 1 0", "DONE 1 1"))


def test_each_goal_is_of_something_that_a_guest_does():
    """Fails if a guest's table and the benchmark's goals differ in a name."""

    def names(guest):
        source = (GUESTS / f"{guest}.c").read_text(encoding="utf-8")
        return set(re.findall(r'\{"([a-z0-9-]+)",', source))

    assert set(exits.GOALS) | set(exits.PROVOKES_ONE) | set(exits.TIMED) <= names("bench_exits")
    assert {
        name for group in (*vtlb._EXITS, *vtlb._COUNTS, *vtlb._INSTRUCTIONS) for name in group[-1]
    } <= names("bench_vtlb")


def test_rows_of_a_guest():
    """
    Fails if a system that has no counters loses its figures, or a goal is measured on another regime than it
    is for.
    """
    figures = {"bare": {"cpuid": 5}, "umbra-ept": {"cpuid": 226, "vmcall": 200}}
    counted = {"umbra-ept": [phases.Phase("cpuid", 1, {"exits_CPUID": 1})]}
    rows = {(row.unit, row.name): row for row in exits.rows(figures, counted)}
    assert rows["instructions", "cpuid"].values == {"bare": 5, "umbra-ept": 226}
    assert (rows["instructions", "cpuid"].verdict, rows["instructions", "vmcall"].verdict) == ("over", "ok")
    assert rows["exits", "cpuid"].values == {"umbra-ept": 1} and ("exits", "vmcall") not in rows

    names = [name for group in (*vtlb._EXITS, *vtlb._COUNTS, *vtlb._INSTRUCTIONS) for name in group[-1]]
    costs = {"bare": 1, "umbra-ept": 1_000_000, "umbra-vtlb": 1}
    said = {"umbra-ept": {"exits_CPUID": 1_000_000}, "umbra-vtlb": {"vtlb_filled": 0, "vtlb_compared": 0}}
    counted = {system: [phases.Phase(name, 1, counts) for name in names] for system, counts in said.items()}
    rows = list(vtlb.rows({system: dict.fromkeys(names, cost) for system, cost in costs.items()}, counted))
    assert {row.verdict for row in rows} == {"ok", ""}
