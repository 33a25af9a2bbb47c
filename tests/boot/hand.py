# SPDX-License-Identifier: BSD-2-Clause
"""A hand on partitions: what tests ask the monitor, and the guests behind it. The monitor has the console."""
import re


def ask(machine, name, pattern, timeout=120.0):
    """Types one byte at partition `name` and returns the match of its answer; the monitor has the console again."""
    machine.send_line(f"console {name}")
    machine.send("x")
    match = machine.expect(pattern, timeout=timeout)
    machine.monitor()
    return match


def act(machine, line, timeout=120.0):
    """Gives a command that must succeed, and returns its answer."""
    answer = machine.command(line, timeout)
    assert "error:" not in answer, f"{line}: {answer}"
    return answer


def state(machine, name):
    """The state of partition `name`, as `list` says."""
    rows = machine.command("list")
    row = re.search(rf"^ *\d+ {re.escape(name)} +(\w+)", rows, re.MULTILINE)
    assert row, f"no {name} in\n{rows}"
    return row.group(1)


def wait_state(machine, name, *states):
    """Asks until partition `name` is in one of `states`, and returns it."""
    either = "|".join(states)
    return machine.until("list", rf"\d+ {re.escape(name)} +({either})\b").group(1)


def stats(machine, name):
    """{name: number} of partition `name`; for exits that have not occurred there is no name."""
    pairs = re.findall(r"^(\S+) (\d+)$", machine.command(f"stats {name}"), re.MULTILINE)
    return {key: int(value) for key, value in pairs}


def frames(machine):
    """
    {owner: KiB} of the machine's memory. What is free counts as free before it is cleared as well; the largest
    free piece and the sum are no owners.
    """
    rows = re.findall(r"^(\S.*?) +(\d+) KiB", machine.command("memory"), re.MULTILINE)
    owners = {name: int(kib) for name, kib in rows if name not in ("largest free", "together")}
    owners["free"] += owners.pop("being cleared")
    return owners


def watched(machine):
    """Asks the partition `watch` (guest spin): its time, its turns, and that not a byte of its memory is another one."""
    answer = ask(machine, "watch", r"WATCH (\d+) (\d+) (\w+)\r")
    assert answer.group(3) == "good", answer.group(0)
    return int(answer.group(1)), int(answer.group(2))
