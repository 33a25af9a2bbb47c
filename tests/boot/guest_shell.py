# SPDX-License-Identifier: BSD-2-Clause
"""A hand on the shell of the stock Linux guest, whose console a Machine shows."""
import re

READY = "Umbra guest: shell ready"
PROMPT = r"~? ?# "
BOOT = 500.0  # seconds: the decompression of a bzImage alone is 5 G instructions


def wait_ready(machine):
    """Waits until the guest has booted to its shell."""
    machine.expect(READY, timeout=BOOT)
    machine.expect(PROMPT)


def run(machine, line, timeout=120.0):
    """Runs `line`, which must succeed, and returns what it printed."""
    machine.send_line(f"{line}; echo status=$?=")
    machine.expect(r"status=\$\?=\r*\n")  # the echo of the line itself
    status = machine.expect(r"status=(\d+)=", timeout=timeout).group(1)
    printed = machine.before.replace("\r", "")
    assert status == "0", f"{line}: status {status}\n{printed}"
    machine.expect(PROMPT)
    return printed


def warnings(dmesg):
    """The lines of `dmesg -r` at level warning or worse, without their times."""
    found = re.findall(r"^<(\d+)>\[ *\d+\.\d+\] (.*)$", dmesg, re.MULTILINE)
    return [text for level, text in found if int(level) & 7 <= 4]
