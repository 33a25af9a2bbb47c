# SPDX-License-Identifier: BSD-2-Clause
"""
The emulators that Umbra runs in: which one to take, and how each is started. The functions that make a
command line or a configuration are pure, so that tests can look at what would be started.
"""
import os
import pathlib

from umbra.common import Problem

# The processor that each emulator shows when none is asked for.
MODELS = {"kvm": "host,+vmx", "qemu": "max", "bochs": "corei7_skylake_x"}

OVMF_CODE = pathlib.Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = pathlib.Path("/usr/share/OVMF/OVMF_VARS_4M.fd")

MIB = 1 << 20


def choose(kvm_device="/dev/kvm", cpuinfo="/proc/cpuinfo", nested="/sys/module/kvm_intel/parameters/nested"):
    """
    Decides between "kvm" and "bochs" and says why: (name, reason). /dev/kvm alone proves nothing: it is also
    there where the processor gives its guests no VMX.
    """
    try:
        os.close(os.open(kvm_device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return "bochs", f"{kvm_device} cannot be opened ({error.strerror})"
    if "vmx" not in _processor_flags(cpuinfo):
        return "bochs", f"{kvm_device} is there, but the processor has no vmx flag"
    try:
        setting = pathlib.Path(nested).read_text(encoding="ascii").strip()
    except OSError:
        return "bochs", f"{kvm_device} is there, but kvm_intel is not loaded"
    if setting not in ("Y", "1"):
        return "bochs", f"{kvm_device} is there, but kvm_intel's parameter nested is {setting}"
    return "kvm", f"{kvm_device} offers nested VMX"


def _processor_flags(cpuinfo):
    try:
        with open(cpuinfo, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("flags"):
                    return line.partition(":")[2].split()
    except OSError:
        pass
    return []


def medium_kind(path):
    """What `path` is to the boot firmware: "iso", "disk", or None when it is neither."""
    with open(path, "rb") as medium:
        boot_sector = medium.read(512)
        medium.seek(0x8001)
        volume = medium.read(5)
    if volume == b"CD001":
        return "iso"
    if boot_sector[510:512] == b"\x55\xaa":
        return "disk"
    return None


# ---- QEMU --------------------------------------------------------------------------------------------------


def _option(path):
    """A path inside a QEMU option, where a comma is written twice."""
    return str(path).replace(",", ",,")


def _qemu_command(accelerator, model, cpus, memory, medium, kind, serial, uefi_vars):
    command = ["qemu-system-x86_64", "-name", "umbra", "-nodefaults", "-no-user-config"]
    command += ["-machine", f"q35,accel={accelerator}", "-cpu", model, "-smp", str(cpus)]
    command += ["-m", f"{memory // MIB}M", "-display", "none", "-vga", "std"]
    command += ["-chardev", f"socket,id=com1,fd={serial}", "-serial", "chardev:com1"]
    if kind == "iso":
        command += ["-drive", f"file={_option(medium)},format=raw,if=none,id=medium,readonly=on"]
        command += ["-device", "ide-cd,drive=medium,bootindex=0"]
    else:
        # What a guest writes to the stick is dropped at the end.
        command += ["-drive", f"file={_option(medium)},format=raw,if=none,id=medium,snapshot=on"]
        command += ["-device", "qemu-xhci", "-device", "usb-storage,drive=medium,bootindex=0"]
    if uefi_vars is not None:
        command += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}"]
        command += ["-drive", f"if=pflash,unit=1,format=raw,file={_option(uefi_vars)}"]
    return command


def kvm_command(medium, kind, serial, model=None, cpus=1, memory=1024 * MIB, uefi_vars=None):
    """
    QEMU with KVM and nested VMX. `serial` is the descriptor of a connected socket that becomes COM1, `kind`
    what medium_kind says, `uefi_vars` a scratch copy of OVMF's variables, or None for BIOS.
    """
    return _qemu_command("kvm", model or MODELS["kvm"], cpus, memory, medium, kind, serial, uefi_vars)


def qemu_command(medium, kind, serial, model=None, cpus=1, memory=1024 * MIB, uefi_vars=None):
    """QEMU that interprets everything: no VMX. Arguments as for kvm_command."""
    return _qemu_command("tcg", model or MODELS["qemu"], cpus, memory, medium, kind, serial, uefi_vars)


# ---- Bochs -------------------------------------------------------------------------------------------------


def bochsrc(medium, kind, port, model=None, cpus=1, memory=1024 * MIB):
    """
    Bochs' configuration. COM1 connects to the TCP port `port` of this machine. File names are relative to the
    folder that Bochs is started in, and `medium` should be one without commas or quotes.

    No time is kept (sync=none): the emulated clock counts instructions, a hundred million to the second. The
    display is rfb (VNC) because it waits for nobody; Debian's others need a screen, or stop the machine once
    the terminal that nobody reads is full.
    """
    megabytes = memory // MIB
    if kind == "iso":
        drive = f'ata0-master: type=cdrom, path="{medium}", status=inserted'
        boot = "cdrom"
    else:
        drive = f'ata0-master: type=disk, path="{medium}", mode=volatile, journal="journal"'
        boot = "disk"
    lines = [
        "plugin_ctrl: speaker=0, parallel=0, gameport=0, iodebug=0",
        "config_interface: textconfig",
        'display_library: rfb, options="timeout=0"',
        'romimage: file="/usr/share/bochs/BIOS-bochs-latest"',
        'vgaromimage: file="/usr/share/bochs/VGABIOS-lgpl-latest"',
        f"memory: guest={megabytes}, host={min(megabytes, 2048)}",
        f'cpu: model={model or MODELS["bochs"]}, count={cpus}, ips=100000000, reset_on_triple_fault=0',
        "clock: sync=none",
        "pci: enabled=1, chipset=i440fx",
        "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
        drive,
        f"boot: {boot}",
        f"com1: enabled=1, mode=socket-client, dev=127.0.0.1:{port}",
        "port_e9_hack: enabled=1",
        "log: bochs.log",
        "panic: action=fatal",
        "error: action=report",
        "info: action=report",
        "debug: action=ignore",
    ]
    return "\n".join(lines) + "\n"


def bochs_command():
    """
    Starts Bochs on the file `bochsrc` of the current folder. Debian's build has the debugger in: the file
    `commands` tells it to continue, and with no standard input it ends where it would otherwise ask.
    """
    return ["bochs", "-q", "-f", "bochsrc", "-rc", "commands", "-unlock"]


BOCHS_COMMANDS = "c\n"


def require_known(emulator, cpus, memory):
    """Refuses numbers that the emulator would stumble over later, with less to say."""
    if cpus < 1:
        raise Problem("at least one processor, please", 2)
    if memory < 16 * MIB or memory % MIB:
        raise Problem("the machine's memory is a whole number of megabytes, at least 16M", 2)
    if emulator == "bochs" and cpus > 255:
        raise Problem("Bochs has at most 255 processors", 2)
