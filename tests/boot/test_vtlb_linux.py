# SPDX-License-Identifier: BSD-2-Clause
"""Stock systems whose addresses Umbra translates itself: they boot, and what they compute is right."""
import hashlib
import re

import pytest

from tests.boot import bare_linux, conf
from tests.boot.guest_shell import run, wait_ready, warnings
from tests.boot.machine import ROOT
from tests.boot.test_linux import REASONS

SKYLAKE = "corei7_skylake_x"
LYNNFIELD = "corei5_lynnfield_750"  # EPT, but no unrestricted guest: what runs with paging off is translated by Umbra
PENRYN = "core2_penryn_t9600"  # no EPT
BOOT = 600.0  # seconds

# model, paging, vCPUs, processes of the fork storm
CASES = [
    pytest.param(SKYLAKE, "vtlb", 1, 200, id="skylake"),
    pytest.param(SKYLAKE, "ept", 1, 2000, id="skylake-ept", marks=pytest.mark.soak),
    pytest.param(SKYLAKE, "vtlb", 1, 2000, id="skylake-storm", marks=pytest.mark.soak),
    pytest.param(SKYLAKE, "vtlb", 2, 2000, id="skylake-2", marks=pytest.mark.soak),
    pytest.param(SKYLAKE, "vtlb base", 1, 2000, id="skylake-base", marks=pytest.mark.soak),
    pytest.param(LYNNFIELD, "auto", 1, 2000, id="lynnfield-ept", marks=pytest.mark.soak),
    pytest.param(LYNNFIELD, "vtlb", 1, 2000, id="lynnfield", marks=pytest.mark.soak),
    pytest.param(PENRYN, "auto", 1, 2000, id="penryn", marks=pytest.mark.soak),
]


def last_line(text):
    return text.strip().splitlines()[-1]


# The shell breaks what is typed at the end of its screen's line: each of these is shorter.


def pipelines(machine, count):
    """Pipelines of four processes each, whose answers are added up."""
    run(machine, "f() { seq 100 | grep -v x | sort -rn | head -n 1; }")
    run(machine, f"for i in $(seq {count}); do f; done >/tmp/p", timeout=3600)
    assert last_line(run(machine, "awk '{s += $1} END {print s}' /tmp/p")) == str(100 * count)


def forks(machine, count):
    """Processes that end with a status, ten of which run at a time; every status is looked at."""
    run(machine, "g() { for j in $(seq $1); do (exit 7); echo $?; done; }")
    run(machine, f"(for i in $(seq 10); do g {count // 10} >/tmp/f.$i & done; wait)", timeout=3600)
    assert last_line(run(machine, "cat /tmp/f.* | grep -c '^7$'")) == str(count)


def copies(machine, lines):
    """A file through a tmpfs by pieces of unequal sizes, and its checksum, which is known here."""
    digest = hashlib.sha256("".join(f"{i}\n" for i in range(1, lines + 1)).encode()).hexdigest()
    run(machine, "mkdir -p /tmp/t")
    run(machine, "mount -t tmpfs -o size=64m tmpfs /tmp/t")
    run(machine, f"seq {lines} >/tmp/t/a", timeout=3600)
    run(machine, "dd if=/tmp/t/a of=/tmp/t/b bs=5003", timeout=3600)
    run(machine, "dd if=/tmp/t/b of=/tmp/t/c bs=1M", timeout=3600)
    sums = re.findall(r"^([0-9a-f]{64}) ", run(machine, "sha256sum /tmp/t/*", timeout=3600), re.MULTILINE)
    assert sums == [digest] * 3
    run(machine, "umount /tmp/t")


@pytest.mark.parametrize("model, paging, vcpus, processes", CASES)
def test_linux(machine, tmp_path, model, paging, vcpus, processes):
    """
    Debian's kernel down to the shell, and storms of processes there. Fails when a translation is stale or given to the wrong
    process (wrong sums, statuses or checksums, a process that dies), when the kernel warns of more than on the bare processor of
    that model, or when one of two processors does not come up.
    """
    allowed = bare_linux.warnings(machine, tmp_path, model)
    keys = {"paging": paging, "on_stop": "poweroff"}
    if vcpus > 1:
        keys["cpus"] = f"1-{vcpus}"
    configuration = conf.write(tmp_path, linux=conf.shell(**keys))
    processors = vcpus + 1 if vcpus > 1 else 1
    machine.boot(configuration, "--on", "bochs", "--model", model, "--cpus", processors, timeout=7200)
    wait_ready(machine)
    assert last_line(run(machine, "nproc")) == str(vcpus)
    if processes > 0:
        pipelines(machine, processes // 20)
        forks(machine, processes)
        copies(machine, 100 * processes)
    log = run(machine, "dmesg -r")
    assert "stall" not in log
    assert [line for line in warnings(log) if line not in allowed and line not in REASONS] == []
    machine.send_line("poweroff -f")
    assert machine.wait_end(timeout=300) == 0


# ---- Other systems -----------------------------------------------------------------------------------------------


def boot_example(machine, tmp_path, name, model=SKYLAKE, **keys):
    """Boots examples/`name`.conf, whose one partition is given these keys."""
    text = (ROOT / "examples" / f"{name}.conf").read_text()
    for key, value in {"paging": "vtlb", **keys}.items():
        text = re.sub(rf"^{key} +=.*\n", "", text, flags=re.MULTILINE) + f"{key} = {value}\n"
    (tmp_path / f"{name}.conf").write_text(text)
    machine.boot(tmp_path / f"{name}.conf", "--on", "bochs", "--model", model, timeout=7200)


@pytest.mark.soak
@pytest.mark.parametrize("model", [SKYLAKE, LYNNFIELD, PENRYN])
def test_gnumach(machine, tmp_path, model):
    """
    A 32-bit kernel without PAE, which turns paging on by itself, to the end of its own console output. Fails when two-level
    tables, the way into them, or its clock do not work.
    """
    boot_example(machine, tmp_path, "gnumach", model)
    machine.expect("GNU Mach 1", timeout=BOOT)
    machine.expect(r"DMA32: pages: 12288 \(48M\)", timeout=BOOT)
    machine.expect("No bootstrap code loaded with the kernel!", timeout=BOOT)


@pytest.mark.soak
def test_memtest(machine, tmp_path):
    """Memtest86+ through one pass. Fails when what it writes by one address is not what it reads there."""
    boot_example(machine, tmp_path, "memtest", memory="16M")
    machine.expect(r"Memtest86\+", timeout=BOOT)
    machine.expect(r"Pass: +[1-9]\d* +Errors: +(\d+)", timeout=7000)
    assert machine.expect(r"Errors: +(\d+)", timeout=BOOT).group(1) == "0"
