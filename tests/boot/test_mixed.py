# SPDX-License-Identifier: BSD-2-Clause
"""Four partitions of three kinds at once, on four processors: examples/mixed.conf with the kernel as ELF."""
import pytest

from tests.boot import conf, hand
from tests.boot.guest_shell import run, wait_ready

ESCAPE = "\x01"


@pytest.mark.soak
def test_four_partitions(machine, tmp_path):
    """
    Fails when one of them does not come up beside the others, when a key does not switch to its console, or when what they
    do reaches another's.
    """
    path = conf.write(
        tmp_path,
        linux=conf.shell(cpus="2-3"),
        second=conf.shell(cpus="shared on 1"),
        mach={"memory": "64M", "boot": "multiboot", "kernel": "build/guests/gnumach", "cmdline": "console=com0",
              "cpus": "shared on 1"},
        bare=conf.guest("spin", cmdline="counter", memory="16M", cpus="shared on 0"),
    )
    machine.boot(path, "--on", "bochs", "--cpus", 4, timeout=2000)
    wait_ready(machine)
    assert run(machine, "nproc").strip().splitlines()[-1] == "2"
    machine.send(ESCAPE + "3")
    machine.expect("No bootstrap code loaded with the kernel!", timeout=600)
    machine.send(ESCAPE + "2")
    wait_ready(machine)
    assert run(machine, "nproc").strip().splitlines()[-1] == "1"
    machine.send(ESCAPE + "4")
    machine.expect(r"SPIN \w+\r")
    machine.monitor()
    first = hand.ask(machine, "bare", r"COUNT (\d+) (\d+)\r").groups()
    second = hand.ask(machine, "bare", r"COUNT (\d+) (\d+)\r").groups()
    assert int(second[1]) > int(first[1])
    print(machine.command("list"))
    print(machine.command("top once"))
    machine.send_line("poweroff")
    assert machine.wait_end() == 0
