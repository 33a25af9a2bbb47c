# SPDX-License-Identifier: BSD-2-Clause
"""Debian Linux with its own KVM and QEMU as Lv1, which runs Debian Linux as Lv2, down to shells in which one can work."""
import pytest

from tests.boot import conf, kvm_shell
from tests.boot.guest_shell import run
from tests.boot.test_linux import REASONS
from tests.boot.test_vtlb_linux import copies, forks, last_line, pipelines

pytestmark = pytest.mark.soak

SKYLAKE = "corei7_skylake_x"
NAME = "beside"

# model, paging, vCPUs of Lv1, parameters of its kvm_intel
CASES = [
    pytest.param(SKYLAKE, "ept", 1, [], id="ept"),
    pytest.param(SKYLAKE, "ept", 1, ["ept=0"], id="ept-shadow"),
    pytest.param(SKYLAKE, "ept", 2, [], id="ept-2"),
]


@pytest.fixture(autouse=True)
def guest_hypervisor(umbra):
    """Makes build/guests/kvm.cpio.gz, for which more is downloaded than all other tests need."""
    umbra("fetch", "kvm")


def parameter(machine, name):
    """A parameter of the loaded kvm_intel, as Lv1 shows it."""
    return last_line(run(machine, f"cat /sys/module/kvm_intel/parameters/{name}"))


def flags(machine):
    """The processor's flags, as the kernel in front sees them."""
    return run(machine, "grep -m 1 ^flags /proc/cpuinfo").split()


def is_lv2(machine):
    """The shell in front is that of a Linux on KVM, whose processor has no VT-x."""
    assert last_line(run(machine, "hostname")) == "guest"
    found = flags(machine)
    assert "hypervisor" in found and "vmx" not in found
    clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    assert last_line(run(machine, f"cat {clock}")) in ("kvm-clock", "tsc")


def more(lines, allowed):
    """The warnings among `lines` that neither `allowed` nor REASONS has."""
    return [line for line in lines if line not in allowed and line not in REASONS]


def work(machine, processes):
    """What an Lv2 can do: storms of processes, and files; wrong if a translation is stale or an event lost."""
    pipelines(machine, processes // 20)
    forks(machine, processes)
    copies(machine, 100 * processes)


def two_at_once(machine, processes):
    """One Lv2 boots while another does, and each works while the other is there."""
    kvm_shell.start_beside(machine, NAME)
    kvm_shell.start(machine)
    is_lv2(machine)
    work(machine, processes)
    kvm_shell.stop(machine)
    kvm_shell.wait_beside(machine, NAME)
    kvm_shell.enter(machine, NAME)
    is_lv2(machine)
    kvm_shell.leave(machine)
    kvm_shell.enter(machine, NAME)
    work(machine, processes)
    kvm_shell.stop(machine)


def test_bare(machine, tmp_path):
    """
    Without Umbra: what a partition is compared with. Fails when the archive lacks something, when KVM does not load, when an Lv2
    does not come up, work and power off, with EPT and without, alone and beside another, or when the kernels warn of something
    else than is kept.
    """
    kvm_shell.boot_bare(machine, tmp_path)
    assert "vmx" in flags(machine)
    assert parameter(machine, "ept") == "Y"
    seen = kvm_shell.look(machine)
    kvm_shell.keep(seen)
    allowed = kvm_shell.allowed(machine, tmp_path)
    assert more(seen["lv1"], allowed["lv1"]) == []
    assert more(seen["lv2"], allowed["lv2"]) == []

    kvm_shell.load(machine, "ept=0")
    assert parameter(machine, "ept") == "N"
    kvm_shell.start(machine)
    is_lv2(machine)
    assert more(kvm_shell.warnings(machine), allowed["lv2"]) == []
    kvm_shell.stop(machine)

    kvm_shell.load(machine)
    two_at_once(machine, 20)
    assert more(kvm_shell.warnings(machine), allowed["lv1"]) == []


@pytest.mark.parametrize("model, paging, vcpus, parameters", CASES)
def test_partition(machine, tmp_path, model, paging, vcpus, parameters):
    """
    In a partition. Fails when the virtual VT-x is not as KVM needs it, when memory or an event of Lv2 goes to the wrong place
    (wrong sums, statuses or checksums, a process that dies), or when a kernel, Lv1's or Lv2's, warns of more than on the
    bare emulator.
    """
    allowed = kvm_shell.allowed(machine, tmp_path, model)
    words = " ".join(["console=ttyS0", *(f"kvm_intel.{parameter}" for parameter in parameters)])
    keys = {"memory": "768M", "paging": paging, "nested": "yes", "initrd": "build/guests/kvm.cpio.gz"}
    if vcpus > 1:
        keys["cpus"] = f"1-{vcpus}"
    configuration = conf.write(tmp_path, lv1=conf.shell(**keys, cmdline=words, on_stop="poweroff"))
    processors = vcpus + 1 if vcpus > 1 else 1
    machine.boot(configuration, "--on", "bochs", "--model", model, "--cpus", processors, timeout=7200)
    kvm_shell.wait_ready(machine)
    assert last_line(run(machine, "nproc")) == str(vcpus)

    kvm_shell.start(machine)
    is_lv2(machine)
    work(machine, 200)
    lv2 = kvm_shell.warnings(machine)
    kvm_shell.stop(machine)
    two_at_once(machine, 200)
    lv1 = kvm_shell.warnings(machine)
    assert more(lv1, allowed["lv1"]) == []
    assert more(lv2, allowed["lv2"]) == []
    machine.send_line("poweroff -f")
    assert machine.wait_end(timeout=300) == 0
