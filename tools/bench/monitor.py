# SPDX-License-Identifier: BSD-2-Clause
"""Asks the monitor of a machine that runs in Bochs, over its serial line."""
import re

_MONITOR = "\x01c"
_FIRST_PARTITION = "\x011"


def statistics(bochs, partition, paused=False):
    """
    The counters of `partition` by name; those of exits that have not occurred are not there. `paused`: it
    stands still meanwhile, which is faster if it would not sleep.
    """
    said = len(bochs.console)
    bochs.type(_MONITOR)
    bochs.wait_console("umbra> ", said)
    if paused:
        _command(bochs, f"pause {partition}")
    counters = read(_command(bochs, f"stats {partition}"))
    if paused:
        _command(bochs, f"resume {partition}")
    return counters


def _command(bochs, line):
    """Types a command at the monitor, which has the console, and returns its answer."""
    said = len(bochs.console)
    bochs.type(f"{line}\r")
    bochs.wait_console(rf"{line}\n.*umbra> ", said)
    return bochs.console[said:]


def read(text):
    """The counters in what the monitor printed."""
    return {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", text, re.MULTILINE)}


def reasons(counters):
    """The names of those counters that count the exits of one reason."""
    return [name for name in counters if name.startswith("exits_") and name != "exits_sampled"]


def type_at_guest(bochs, text):
    """Types at the first partition."""
    bochs.type(_FIRST_PARTITION + text)
