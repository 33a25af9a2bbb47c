# SPDX-License-Identifier: BSD-2-Clause
"""How much there is of Umbra: its image, and the lines that run in root mode, room by room."""
import re

from bench.programs import Elf
from umbra.common import HYPERVISOR, ROOT, need_file

ROOMS = ("lib", "arch", "mm", "drivers", "vmx", "nested", "core", "boot")

# A comment, or a string or character that may hold what looks like one.
_TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def image():
    """The ELF file's segments in bytes: (as loaded, in the file)."""
    elf = Elf(need_file(HYPERVISOR, "run make"))
    return elf.memory, elf.file


def lines_of_code():
    """Room → lines that are neither blank nor all comment, of its C and assembly files."""
    return {
        room: sum(
            _count(path.read_text(encoding="utf-8"))
            for path in (ROOT / room).rglob("*")
            if path.suffix in (".c", ".h", ".S")
        )
        for room in ROOMS
    }


def _count(text):
    def keep(match):
        comment = match[0].startswith(("//", "/*"))
        return "\n" * match[0].count("\n") if comment else match[0]

    return sum(1 for line in _TOKEN.sub(keep, text).splitlines() if line.strip())
