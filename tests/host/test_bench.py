# SPDX-License-Identifier: BSD-2-Clause
"""The benchmark's own arithmetic; what it measures is seen only by running it."""
import re
import struct
from pathlib import Path

from bench import linux, media, monitor, size, vtlb
from bench.bochs import Stop
from bench.programs import Elf, bzimage_entry
from bench.table import Row, as_json, as_text


def test_lines_of_code_leave_out_comments_and_blanks():
    """Fails if a comment's line counts, or code behind, before or in a string with comment marks does not."""
    assert size._count("int a; // b\n\n/* c\n   d */\n  /* e */ int f;\n") == 2
    assert size._count('print("/*");\nint a;\nprint("*/ \\" // ");\n') == 3
    assert size._count('"only a string"\n') == 1
    assert size._count('char c = \'"\'; /* " */\n// "\nint a;\n') == 2


def test_a_goal_is_met_by_the_median_up_to_the_goal_itself():
    """Fails if equality is a miss, or if the extremes decide."""
    figure = {"median": 225, "min": 1, "max": 900, "count": 3}
    assert Row("g", "n", "", {"umbra": figure}, 225).verdict == "ok"
    assert Row("g", "n", "", {"umbra": figure}, 224).verdict == "over"
    assert Row("g", "n", "", {"umbra": 1.0501}, 1.05).verdict == "over"
    assert Row("g", "n", "", {"umbra": figure}).verdict == ""


def test_the_table_has_a_column_for_each_system_and_a_line_for_each_row():
    """Fails if a system that was not measured shifts the others, or a figure or verdict is lost."""
    rows = [
        Row(
            "one", "fast", "ticks", {"bare": 5, "umbra": {"median": 1234, "min": 7, "max": 8, "count": 9}}, 10
        ),
        Row("two", "ratio", "", {"umbra": 1.01519}, 1.05),
    ]
    lines = [line.split() for line in as_text(rows, ("bare", "umbra")).splitlines() if line]
    assert lines[0] == ["one"]
    assert lines[2] == ["fast", "5", "1,234", "≤", "10", "over", "ticks", "7", "…", "8", "×", "9"]
    assert lines[4] == ["ratio", "–", "1.0152", "≤", "1.0500", "ok"]
    assert [row["verdict"] for row in as_json(rows)] == ["over", "ok"]


def test_a_stop_is_read_off_the_debugger():
    """Fails if Bochs' words are misread; the second is a stop at code that is not in memory yet."""
    stop = Stop(
        "(0) Breakpoint 6, 0x0000600000001000 in ?? ()\nNext at t=6676730220\n"
        "(0) [0x0000044d4000] 0033:0000600000001000 (unk. ctxt): mov eax, 0x00000022       ; b822000000\n<bochs:16> "
    )
    assert (stop.ticks, stop.address, stop.text) == (6676730220, media.END_ADDRESS, "mov eax, 0x00000022")
    assert stop.code == bytes.fromhex("b822000000")
    fault = Stop("Next at t=77\n(0).[77] ??? (physical address not available)\n<bochs:11> ")
    assert (fault.ticks, fault.code) == (77, b"")


class Emulator:
    """Plays stops to linux._count: each (ticks, text, address, code)."""

    def __init__(self, *stops):
        self._stops = [self._stop(*stop) for stop in stops]

    @staticmethod
    def _stop(ticks, text="nop", address=0x1000, code="90"):
        return Stop(f"Next at t={ticks}\n(0) [0x1] 0010:{address:x} (unk. ctxt): {text} ; {code}\n")

    def stop_at(self, _address):
        return 1

    def ignore(self, _number):
        pass

    def go(self):
        return self._stops.pop(0)

    step = go


def test_waits_are_taken_off_and_halts_are_not():
    """
    Fails if the tick of HLT itself or of the instruction that follows the wait is lost, or if the end's page
    fault is taken for the end.
    """
    start = Emulator((100,)).go()
    emulator = Emulator(
        (150, "hlt"),
        (151,),
        (1152,),  # a wait of 1000
        (1200, "hlt"),
        (1201,),
        (1202,),  # something was pending
        (1300, "mov eax, 34", media.END_ADDRESS, "bb"),
        (1400, "mov eax, 34", media.END_ADDRESS, "b822"),
    )
    boot = linux._count(emulator, start, bytes.fromhex("b822000000"), [0x1000])
    assert (boot.halts, boot.halted_ticks, boot.instructions) == (2, 1000, 300)


def test_the_reasons_of_exits_are_told_from_other_counters():
    """Fails if a total counts as a reason."""
    assert monitor.reasons({"exits": 3, "exits_sampled": 1, "exits_CPUID": 2, "starts": 1}) == ["exits_CPUID"]


def test_entries_and_halts_are_found_in_programs(tmp_path):
    """Fails if an address is taken from the wrong column of the program headers, or if data is code."""
    code, data = b"\x90\x90\xfb\xf4\xfa\x90", b"\xfb\xf4\xfa"
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF", 2, 62, 1, 0x2002, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    segments = struct.pack("<IIQQQQQQ", 1, 5, 176, 0x8000, 0x2000, len(code), 0x100, 1)
    segments += struct.pack("<IIQQQQQQ", 1, 4, 182, 0x9000, 0x3000, len(data), len(data), 1)
    path = tmp_path / "program"
    path.write_bytes(header + segments + code + data)
    elf = Elf(path)
    assert (elf.entry, elf.memory, elf.file) == (0x2002, 0x103, 9)
    assert elf.entry_code().startswith(b"\xfb\xf4\xfa\x90")
    assert elf.find_code(rb"\xfb(\xf4)\xfa") == [0x8003]


def test_the_entry_of_a_bzimage(tmp_path):
    """Fails if the setup sectors are counted without the boot sector."""
    image = bytearray(512 * 4 + 0x200) + b"entry"
    image[0x1F1] = 3
    struct.pack_into("<Q", image, 0x258, 0x1000000)
    path = tmp_path / "vmlinuz"
    path.write_bytes(image)
    assert bzimage_entry(path) == (0x1000200, b"entry")


class Guest:
    """Plays a partition with bench_vtlb and its monitor to vtlb._attend: what it says, and after each byte."""

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
        elif text in ("pause vtlb\r", "resume vtlb\r"):
            self.console += f"{text[:-1]}\nvtlb {text[:-6]}d\numbra> "
        elif text.startswith("stats"):
            lines = "".join(f"{name} {value}\n" for name, value in self._counters.pop(0).items())
            self.console += f"stats vtlb\n{lines}umbra> "
        else:
            self.console += "[vtlb]\n" + self._said.pop(0)


def test_a_phase_is_what_was_counted_between_its_two_waits():
    """
    Fails if a phase's preparation is counted, if an exit of waiting or talking is, if an exit that had not
    occurred before is lost, or if the phase `end`, which does not wait, is waited for.
    """
    guest = Guest(
        "PHASE first 4\n",
        "END first\n",
        "BENCH first 5 4 6 4\nPHASE second 2\n",
        "END second\n",
        "BENCH second 7 7 7 2\nPHASE end 0\nPASS faults-deserved\nDONE 1 0\n",
        counters=(
            {"exits": 10, "exits_I_O_instruction": 9, "vtlb_filled": 1},
            {"exits": 90, "exits_I_O_instruction": 60, "exits_INVLPG": 12, "vtlb_filled": 3},
            {"exits": 99, "exits_I_O_instruction": 60, "exits_INVLPG": 50, "vtlb_filled": 50},
            {
                "exits": 99,
                "exits_I_O_instruction": 60,
                "exits_INVLPG": 51,
                "exits_PAUSE": 9,
                "vtlb_filled": 50,
            },
        ),
    )
    first, second = vtlb._attend(guest)
    assert (first.name, first.operations, first.exits(), first.per_operation("vtlb_filled")) == (
        "first",
        4,
        3,
        0.5,
    )
    assert (second.name, second.exits(), second.per_operation("vtlb_filled")) == ("second", 0.5, 0)
    assert guest.typed.count("\x011 ") == 4


def test_each_figure_of_the_virtual_tlb_is_a_phase_of_the_guest():
    """Fails if the guest's table and the benchmark's goals differ in a name."""
    source = Path(__file__).parents[1] / "guests/bench_vtlb.c"
    phases = set(re.findall(r'^ *\{"([a-z0-9-]+)", \w+', source.read_text(encoding="utf-8"), re.MULTILINE))
    assert phases
    named = {name for group in (*vtlb._EXITS, *vtlb._COUNTS, *vtlb._INSTRUCTIONS) for name in group[-1]}
    assert named <= phases


def test_the_virtual_tlb_at_a_boot():
    """Fails if a share is of something else, or if it is divided by nothing."""
    counted = {
        "vtlb_filled": 30,
        "vtlb_guest_faults": 10,
        "vtlb_prefetched": 0,
        "vtlb_prefetched_used": 0,
        "vtlb_stale": 2,
        "vtlb_tables_peak": 64,
        "vtlb_evictions": 1,
        "vtlb_flushed_entries": 3,
    }
    values = [row.values["umbra"] for row in vtlb.boot_rows("g", counted, 256)]
    assert values == [0.75, 0.0, 2, 1024, 1, 3]
    counted |= {"vtlb_prefetched": 4, "vtlb_prefetched_used": 1}
    assert [row.verdict for row in vtlb.boot_rows("g", counted, 256)] == ["", "over", "", "", "", ""]
