# SPDX-License-Identifier: BSD-2-Clause
"""Debian's stock kernel on two processors of its own."""
from tests.boot import bare_linux, conf
from tests.boot.guest_shell import run, wait_ready, warnings
from tests.boot.test_linux import REASONS

# Two processes, each on its own processor, that wait for each other at every step: a step is two wake-ups of the other one.
PING_PONG = (
    "mkfifo a b; "
    "(taskset -p 1 $(sh -c 'echo $PPID') >/dev/null; i=0; "
    "while [ $i -lt 500 ]; do echo x; read y; i=$((i+1)); done) <a >b & "
    "(taskset -p 2 $(sh -c 'echo $PPID') >/dev/null; i=0; "
    "while [ $i -lt 500 ]; do read y; echo x; i=$((i+1)); done) >a <b; wait; rm a b"
)


def _wake_ups(machine):
    """Interrupts that the processors have sent each other: to reschedule, and to call a function (a remote wake-up is one)."""
    lines = run(machine, "grep -E 'RES:|CAL:' /proc/interrupts")
    return sum(int(number) for line in lines.splitlines() if line.lstrip()[:4] in ("RES:", "CAL:") for number in line.split()[1:3])


def test_two_processors(machine, tmp_path):
    """
    Fails when the second processor does not come up, when interrupts between the two are lost or late (stalls, a ping-pong
    that stands still), or when the log has a warning that the bare kernel's has not.
    """
    allowed = bare_linux.warnings(machine, tmp_path)
    machine.boot(conf.write(tmp_path, linux=conf.shell(cpus="1-2")), "--on", "bochs", "--cpus", 3)
    wait_ready(machine)
    assert run(machine, "nproc").strip().splitlines()[-1] == "2"
    assert run(machine, "cat /sys/devices/system/cpu/online").strip().splitlines()[-1] == "0-1"
    before = _wake_ups(machine)
    run(machine, PING_PONG, timeout=300)
    after = _wake_ups(machine)
    assert after - before > 500, (before, after)  # half of the steps: a processor that is awake sees a wake-up without one
    log = run(machine, "dmesg -r")
    assert "stall" not in log
    assert [line for line in warnings(log) if line not in allowed and line not in REASONS] == []
    machine.send_line("poweroff -f")
    machine.monitor()
    machine.until("list", r"linux +stopped")
