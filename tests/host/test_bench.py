# SPDX-License-Identifier: BSD-2-Clause
"""The benchmark's own arithmetic; what it measures is seen only by running it."""
import struct

from bench import linux, media, monitor, size, vtlb
from bench.bochs import Stop
from bench.programs import Elf, bzimage_entry


def test_lines_of_code_leave_out_comments_and_blanks():
    """Fails if a comment's line counts, or code behind, before or in a string with comment marks does not."""
    assert size._count("int a; // b\n\n/* c\n   d */\n  /* e */ int f;\n") == 2
    assert size._count('print("/*");\nint a;\nprint("*/ \\" // ");\n') == 3
    assert size._count('"only a string"\n') == 1
    assert size._count('char c = \'"\'; /* " */\n// "\nint a;\n') == 2


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
    values = [row.values["umbra-vtlb"] for row in vtlb.boot_rows("g", counted, 256)]
    assert values == [0.75, 0.0, 2, 1024, 1, 3]
    counted |= {"vtlb_prefetched": 4, "vtlb_prefetched_used": 1}
    assert [row.verdict for row in vtlb.boot_rows("g", counted, 256)] == ["", "over", "", "", "", ""]
