# SPDX-License-Identifier: BSD-2-Clause
"""What the benchmark wants to know of the programs that it boots: a 64-bit ELF file, a Linux bzImage."""
import re
import struct

# ELF: segments that are loaded, and of those the ones that hold code.
_LOAD = 1
_EXECUTABLE = 1

# bzImage (Linux, Documentation/x86/boot.rst): setup sectors before the code, where the code prefers to be, and
# how far in it is entered in 64-bit mode.
_SETUP_SECTORS = 0x1F1
_PREFERRED = 0x258
_ENTRY_64 = 0x200

CODE_BYTES = 16  # as much of an entry's code as tells it from other code


class Elf:
    """`entry` is the address that a boot loader jumps to; `memory` what its segments take there, in bytes."""

    def __init__(self, path):
        self._data = path.read_bytes()
        self.entry, table = struct.unpack_from("<QQ", self._data, 24)
        count = struct.unpack_from("<H", self._data, 56)[0]
        headers = [struct.unpack_from("<IIQQQQQ", self._data, table + 56 * number) for number in range(count)]
        self._segments = [header[1:] for header in headers if header[0] == _LOAD]
        self.memory = sum(size for *_, size in self._segments)
        self.file = sum(size for *_, size, _ in self._segments)

    def entry_code(self):
        """The first bytes that are executed."""
        for _, offset, _, physical, size, _ in self._segments:
            if physical <= self.entry < physical + size:
                start = offset + self.entry - physical
                return self._data[start : start + CODE_BYTES]
        raise ValueError("the entry is in no segment")

    def find_code(self, pattern):
        """The linear addresses of what `pattern`'s first group matches in the code."""
        return [
            linear + found.start(1)
            for flags, offset, linear, _, size, _ in self._segments
            if flags & _EXECUTABLE
            for found in re.finditer(pattern, self._data[offset : offset + size], re.DOTALL)
        ]


def bzimage_entry(path):
    """The 64-bit entry of a bzImage loaded where it prefers to be: (its address, its code's beginning)."""
    data = path.read_bytes()
    start = (data[_SETUP_SECTORS] + 1) * 512 + _ENTRY_64
    return struct.unpack_from("<Q", data, _PREFERRED)[0] + _ENTRY_64, data[start : start + CODE_BYTES]
