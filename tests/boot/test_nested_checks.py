# SPDX-License-Identifier: BSD-2-Clause
"""
Which rows of Umbra's tables of entry checks (nested/checks*.c) the test hypervisors show on the bare machine: their rows are the
same in a partition (tests/boot/test_nested_guests.py), and there the monitor counts which check refused an entry. Fails when a row
refuses none and is not declared, or is declared and refuses one.
"""
import re
import subprocess

from tests.boot import conf, hand
from tests.boot.machine import BUILD

PREFIX = "nested_check_"

GUESTS = ("lv1_entry", "lv1_refused")

# Rows by which no entry of theirs is refused, and why.
UNSEEN = {
    "IA-32e mode guest of a 32-bit host": "Lv1 is in 64-bit mode, and \"host address-space size\" comes first",
    "host CR4.PCIDE": "likewise",
    "host SS is null": "likewise: a 64-bit host may have none",
    "NMI behind STI": "SDM vol. 3, 26.3.1.5: some processors refuse it, the emulator's do not",
    "pending RTM": "the emulator has no RTM",
}


def rows():
    """The names of all rows."""
    listed = subprocess.run([BUILD / "unit" / "test_nested_checks", "rows"], capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def refused(machine, folder, name):
    """{row as the monitor spells it: entries of this guest's that it refused}"""
    machine.boot(conf.write(folder, guest=conf.guest(name, nested="yes", on_stop="stay")), "--on", "bochs")
    machine.expect(r"DONE[^\r]*\r")
    machine.monitor()
    counted = hand.stats(machine, "guest")
    machine.send_line("poweroff")
    assert machine.wait_end() == 0
    return {key.removeprefix(PREFIX): value for key, value in counted.items() if key.startswith(PREFIX)}


def test_rows_shown(machine, tmp_path, record_property):
    """Prints the table: each row, and how many entries of which guest it refused."""
    found = {name: refused(machine, tmp_path, name) for name in GUESTS}
    wrong = []
    for row in rows():
        spelled = re.sub(r"[^A-Za-z0-9]", "_", row)
        counts = {name: counts[spelled] for name, counts in found.items() if spelled in counts}
        print(f"{row:50} {', '.join(f'{name} {count}' for name, count in counts.items()) or 'not shown: ' + UNSEEN.get(row, '?')}")
        if bool(counts) == (row in UNSEEN):
            wrong.append(row)
    assert wrong == []
    assert set(UNSEEN) <= set(rows())
    total = len(rows())
    record_property(
        "told", f"entry checks: {total - len(UNSEEN)} of {total} rows shown by guests as on the bare machine, {len(UNSEEN)} declared"
    )
