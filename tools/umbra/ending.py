# SPDX-License-Identifier: BSD-2-Clause
"""How a run ended: read off the last line that the console shows."""
import re

OFF = 0  # Umbra ended in order
PANIC = 3
TIMEOUT = 4
DIED = 5  # the emulator ended, or never started, and Umbra had said nothing of an end

_LINE_MAX = 4096
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f]")


class LastLine:
    """
    Follows the console's output. Only the very last line counts, so a guest's text in the middle decides
    nothing.
    """

    def __init__(self):
        self._complete = b""
        self._open = b""

    def feed(self, data):
        *lines, tail = (self._open + data).split(b"\n")
        for line in reversed(lines):
            if _plain(line):
                self._complete = line[:_LINE_MAX]
                break
        self._open = tail[:_LINE_MAX]

    def status(self):
        """OFF or PANIC if the last line says so, else None."""
        line = _plain(self._open) or _plain(self._complete)
        if line == b"umbra: off":
            return OFF
        if re.match(rb"umbra: panic\b", line):
            return PANIC
        return None


def _plain(line):
    return _CONTROL.sub(b"", line).strip()
