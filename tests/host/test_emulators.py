# SPDX-License-Identifier: BSD-2-Clause
"""Which emulator is taken, why, and how it is started."""
import pytest

from umbra import emulators

MIB = 1 << 20


@pytest.fixture
def machine(tmp_path):
    """The paths that emulators.choose looks at, on a machine with nested VMX."""
    paths = {"kvm_device": tmp_path / "kvm", "cpuinfo": tmp_path / "cpuinfo", "nested": tmp_path / "nested"}
    paths["kvm_device"].write_bytes(b"")
    paths["cpuinfo"].write_text("processor\t: 0\nflags\t\t: fpu vme vmx ssse3\nbugs\t\t: spectre_v1\n")
    paths["nested"].write_text("Y\n")
    return paths


@pytest.mark.parametrize("setting", ["Y\n", "1\n"])
def test_kvm(machine, setting):
    """Fails when KVM is passed over where it would do."""
    machine["nested"].write_text(setting)
    name, reason = emulators.choose(**machine)
    assert name == "kvm"
    assert "nested VMX" in reason


@pytest.mark.parametrize("flags", ["fpu vme svm", "fpu vmxnet vmx_x", ""])
def test_no_vmx_flag(machine, flags):
    """Fails when /dev/kvm is taken as proof, or a part of another word for the flag."""
    machine["cpuinfo"].write_text(f"flags\t\t: {flags}\n")
    name, reason = emulators.choose(**machine)
    assert name == "bochs"
    assert "no vmx flag" in reason


def test_no_kvm(machine):
    """Fails when KVM is taken without its device."""
    machine["kvm_device"].unlink()
    assert emulators.choose(**machine) == (
        "bochs",
        f"{machine['kvm_device']} cannot be opened (No such file or directory)",
    )


def test_nested_off(machine):
    """Fails when kvm_intel's parameter is not looked at."""
    machine["nested"].write_text("N\n")
    name, reason = emulators.choose(**machine)
    assert (name, "nested is N" in reason) == ("bochs", True)


def test_no_kvm_intel(machine):
    """Fails when the parameter's absence (another vendor's KVM) is taken for a yes."""
    machine["nested"].unlink()
    name, reason = emulators.choose(**machine)
    assert (name, "kvm_intel is not loaded" in reason) == ("bochs", True)


def test_kvm_command():
    """The command line that `umbra run --on kvm` starts. Fails when any word of it changes."""
    command = emulators.kvm_command("a,b.iso", "iso", 5, cpus=2, memory=768 * MIB)
    assert " ".join(command) == (
        "qemu-system-x86_64 -name umbra -nodefaults -no-user-config "
        "-machine q35,accel=kvm -cpu host,+vmx -smp 2 -m 768M -display none -vga std "
        "-chardev socket,id=com1,fd=5 -serial chardev:com1 "
        "-drive file=a,,b.iso,format=raw,if=none,id=medium,readonly=on "
        "-device ide-cd,drive=medium,bootindex=0"
    )


def test_kvm_command_for_a_stick_with_uefi():
    """Fails when a stick is not booted as a USB device, or UEFI's variables are not a copy."""
    command = emulators.kvm_command("s.img", "disk", 5, model="Skylake-Client", uefi_vars="vars")
    assert command[command.index("-cpu") + 1] == "Skylake-Client"
    assert " ".join(command).endswith(
        " -drive file=s.img,format=raw,if=none,id=medium,snapshot=on"
        " -device qemu-xhci -device usb-storage,drive=medium,bootindex=0"
        " -drive if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"
        " -drive if=pflash,unit=1,format=raw,file=vars"
    )


def test_qemu_has_no_kvm():
    """Fails when --on qemu would need KVM."""
    assert "q35,accel=tcg" in emulators.qemu_command("x", "iso", 3)


def test_kvm_is_what_runs(host, iso):
    """
    Fails when `umbra run --on kvm` starts anything but kvm_command, or its console is not COM1's socket.
    """
    host.program(
        "qemu-system-x86_64",
        """#!/usr/bin/python3
import os, re, socket, sys
fd = re.search(r"fd=(\\d+)", " ".join(sys.argv)).group(1)
socket.socket(fileno=int(fd)).sendall((repr(sys.argv[1:]) + "\\numbra: off\\n").encode())
""",
    )
    done = host.umbra("run", iso, "--on", "kvm", "--memory", "512M")
    assert done.returncode == 0
    words = eval(done.stdout.splitlines()[0])  # pylint: disable=eval-used
    fd = int(words[words.index("-chardev") + 1].partition("fd=")[2])
    assert words == emulators.kvm_command(iso, "iso", fd, memory=512 * MIB)[1:]


def test_bochs():
    """Fails when Bochs' processor, memory, medium or console are not the ones asked for."""
    lines = emulators.bochsrc("medium", "iso", 1234, cpus=3, memory=512 * MIB).splitlines()
    assert "cpu: model=corei7_skylake_x, count=3, ips=100000000, reset_on_triple_fault=0" in lines
    assert "clock: sync=none" in lines
    assert "memory: guest=512, host=512" in lines
    assert "com1: enabled=1, mode=socket-client, dev=127.0.0.1:1234" in lines
    assert 'ata0-master: type=cdrom, path="medium", status=inserted' in lines
    assert "boot: cdrom" in lines


def test_bochs_large_memory_and_disk():
    """Fails when more than 2 GiB of RAM is asked of Bochs in one piece, or a stick would be written to."""
    lines = emulators.bochsrc("medium", "disk", 1, model="tigerlake", memory=4096 * MIB).splitlines()
    assert "memory: guest=4096, host=2048" in lines
    assert 'ata0-master: type=disk, path="medium", mode=volatile, journal="journal"' in lines
    assert "boot: disk" in lines
    assert any("model=tigerlake," in line for line in lines)


@pytest.mark.parametrize(
    "contents, kind",
    [
        (bytes(0x8001) + b"CD001", "iso"),
        (bytes(510) + b"\x55\xaa", "disk"),
        (b"[umbra]\n", None),
        (b"", None),
    ],
)
def test_medium_kind(tmp_path, contents, kind):
    """Fails when a medium is taken for a configuration, or the other way round."""
    (tmp_path / "medium").write_bytes(contents)
    assert emulators.medium_kind(tmp_path / "medium") == kind


def test_it_says_which(host, iso):
    """Fails when `umbra run` does not say which emulator it took and why."""
    for name in ("bochs", "qemu-system-x86_64"):
        host.program(name, "#!/bin/sh\nexit 1\n")
    name, reason = emulators.choose()
    done = host.umbra("run", iso)
    assert f"umbra run: {'QEMU/KVM' if name == 'kvm' else 'Bochs'}: {reason}" in done.stderr.splitlines()
