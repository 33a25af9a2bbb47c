# SPDX-License-Identifier: BSD-2-Clause
"""What the benchmark makes of the emulator's trace: kinds of instructions, functions, the model's cycles."""
import pytest
from bench import model, profile, table
from bench.table import Row

from umbra.common import Problem

# The guest's CPUID and the instruction behind it, and between them a hypervisor that is not much.
TRACE = """\
(0).[100] [0x000000101234] 0008:0000000000101234 (unk. ctxt): cpuid                     ; 0fa2
(0).[101] [0x000000300010] 0008:ffffffff80000010 (unk. ctxt): push rax                  ; 50
(0).[102] [0x000000300011] 0008:ffffffff80000011 (unk. ctxt): vmread rax, rcx           ; 0f78c8
(0).[103] [0x000000300020] 0008:ffffffff80000020 (unk. ctxt): vmwrite rax, rcx          ; 0f79c1
(0).[104] [0x000000300024] 0008:ffffffff80000024 (unk. ctxt): lock vmread rax, rcx      ; 0f78c8
(0).[105] [0x000000300028] 0008:ffffffff80000028 (unk. ctxt): rep movsb byte ptr [rdi]  ; f3a4
(0).[106] [0x00000030002f] 0008:ffffffff8000002f (unk. ctxt): vmresume                  ; 0f01c3
(0).[107] [0x000000101236] 0008:0000000000101236 (unk. ctxt): ret                       ; c3
"""


class Symbols(profile.Symbols):
    def __init__(self):
        self._addresses = [0xFFFFFFFF80000010, 0xFFFFFFFF80000020]
        self._sorted = list(zip(self._addresses, ("entry", "handler")))


def test_what_was_executed_outside_the_guest():
    """
    Fails if the guest's instructions count, a prefix hides one, an entry is another instruction, or a
    function ends late.
    """
    trace = profile.Trace(TRACE)
    kinds = {name: count for name, count in trace.kinds().items() if count}
    assert kinds == {"entries": 1, "vmread": 2, "vmwrite": 1, "other": 2}
    assert trace.functions(Symbols()) == {"handler": 4, "entry": 2}
    with pytest.raises(Problem, match="not understood"):
        profile.Trace("nothing\n")


def test_the_rows_of_a_profile():
    """Fails if a system's counts are another's, or a kind that nobody executes has a row."""
    traces = {"umbra-ept": {"cpuid": profile.Trace(TRACE)}, "kvm-ept": {"cpuid": profile.Trace(TRACE * 2)}}
    rows = {row.name: row.values for row in profile.kind_rows(traces)}
    assert rows["vmread"] == {"umbra-ept": 2, "kvm-ept": 4}
    assert set(rows) == {"entries", "vmread", "vmwrite", "other"}


def test_the_model_is_one_and_says_so():
    """
    Fails if an entry counts as an instruction as well, if it is forgotten, or if a row is not marked as a
    model's.
    """
    rows = [
        Row(profile.group("cpuid"), name, "instructions", {"umbra-ept": n})
        for name, n in (("entries", 2), ("other", 100))
    ]
    found = {(row.group, row.name): row for row in model.rows(rows)}
    assert {row.kind for row in found.values()} == {"model"}
    nehalem = next(processor for processor in model.PROCESSORS if processor.name.startswith("Nehalem"))
    warm = found[f"cycles on {nehalem.name}", "cpuid, warm"]
    assert warm.values == {"umbra-ept": 2 * nehalem.round_trip + 50}
    assert all(processor.source for processor in model.PROCESSORS)
    assert "(model)" in table.as_text(found.values())
