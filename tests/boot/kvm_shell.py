# SPDX-License-Identifier: BSD-2-Clause
"""
A hand on Debian Linux as a guest hypervisor (Lv1: build/guests/kvm.cpio.gz) and on the Linux systems that it runs (Lv2), whose
consoles take turns on the one console that a Machine shows. guest_shell.run() works in whichever shell is in front.

What the kernels warn of on the bare emulator, Lv1 and Lv2, is the measure of what they may warn of in a partition; it is kept as
bare_linux keeps it.
"""
import contextlib
import hashlib
import json
import re
import subprocess

from tests.boot import bare, guest_shell
from tests.boot.machine import BUILD, ROOT
from umbra import kvm, packages

MODEL = "corei7_skylake_x"
BOOT = 1500.0  # seconds: Lv1 unpacks a hundred megabytes; Lv2's every exit is some of Lv1's work
LEAVE = "\x18"  # ^X ends microcom

STORED = ROOT / "tests" / "boot" / "stored"
GRUB_CFG = """\
serial --unit=0 --speed=115200
terminal_output serial
set timeout=0
menuentry bare {
    linux /vmlinuz console=ttyS0 nokaslr tsc_early_khz=100000
    initrd /initrd
}
"""


def wait_ready(machine):
    """Waits until Lv1 has booted to its shell, with KVM loaded."""
    machine.expect(kvm.READY, timeout=BOOT)
    machine.expect(kvm.PROMPT)


def load(machine, *parameters):
    """Has Lv1 load KVM anew with these parameters, such as "ept=0"; no Lv2 may run."""
    guest_shell.run(machine, " ".join(["kvm", *parameters]), timeout=300)


def start(machine, *options):
    """Starts an Lv2 with its console in front, with these options of QEMU added, and waits for its shell."""
    machine.send_line(" ".join(["lv2", *options]))
    machine.expect(guest_shell.READY, timeout=BOOT)
    machine.expect(guest_shell.PROMPT)


def stop(machine):
    """Powers off the Lv2 in front, and waits for Lv1's shell: its console ends with it."""
    machine.send_line("poweroff -f")
    machine.expect(kvm.PROMPT, timeout=BOOT)


def start_beside(machine, name, *options):
    """Starts an Lv2 behind Lv1's shell, and does not wait for it."""
    guest_shell.run(machine, " ".join(["lv2 -d", name, *options]), timeout=BOOT)


def wait_beside(machine, name):
    """Waits until the Lv2 `name` has booted to its shell, however long that takes: nothing but its log tells."""
    guest_shell.run(machine, f"l=/run/lv2/{name}.log")
    guest_shell.run(machine, "until grep -q 'shell ready' $l; do sleep 1; done", timeout=BOOT)


def enter(machine, name):
    """Brings the console of the Lv2 `name` to the front."""
    machine.send_line(f"microcom /run/lv2/{name}")
    machine.expect(r"microcom[^\n]*\n")
    for _ in range(100):  # what is typed before microcom has set its terminal is lost
        machine.send("\r")
        with contextlib.suppress(AssertionError):
            machine.expect(guest_shell.PROMPT, timeout=5)
            return
    raise AssertionError(f"{name} does not answer")


def leave(machine):
    """Goes back from the console of an Lv2 to Lv1's shell."""
    machine.send(LEAVE)
    machine.expect(kvm.PROMPT, timeout=BOOT)


def warnings(machine):
    """The warnings of the kernel whose shell is in front."""
    return guest_shell.warnings(guest_shell.run(machine, "dmesg -r", timeout=BOOT))


def clock(machine):
    """Seconds of the clock of the kernel whose shell is in front."""
    return float(re.search(r"(\d+\.\d+) \d", guest_shell.run(machine, "cat /proc/uptime")).group(1))


# ---- Bare ---------------------------------------------------------------------------------------------------------------


def boot_bare(machine, folder, model=MODEL):
    """Boots Lv1 without Umbra, to its shell."""
    tree = folder / "bare"
    (tree / "boot" / "grub").mkdir(parents=True)
    (tree / "vmlinuz").write_bytes((BUILD / "guests" / "vmlinuz").read_bytes())
    (tree / "initrd").write_bytes((BUILD / "guests" / "kvm.cpio.gz").read_bytes())
    (tree / "boot" / "grub" / "grub.cfg").write_text(GRUB_CFG)
    iso = folder / "bare.iso"
    command = ["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", str(iso), str(tree)]
    subprocess.run(command, check=True, capture_output=True)
    machine.boot(iso, "--on", "bochs", "--memory", "1024M", "--model", model, timeout=7200)
    wait_ready(machine)


def stored(model=MODEL):
    """
    Where the warnings of the bare emulator are kept, a dictionary with `lv1` and `lv2`: the committed file, or the one of
    this machine, which may not be there.
    """
    digest = hashlib.sha256()
    parts = (
        (BUILD / "guests" / "vmlinuz").read_bytes(),
        packages.named("qemu-system-x86").name.encode(),
        bare.emulator(),
        *(text.encode() for text in (GRUB_CFG, kvm.LV2, model)),
    )
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    name = f"nested-{digest.hexdigest()[:16]}.json"
    return STORED / name if (STORED / name).is_file() else BUILD / "bare-cache" / name


def keep(seen, model=MODEL):
    """Keeps the warnings `seen` on the bare emulator, if nobody has them yet."""
    place = stored(model)
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(seen, indent=1) + "\n")


def allowed(machine, folder, model=MODEL):
    """What Lv1 and Lv2 warn of on the bare emulator; `machine` is used (and `folder`) only if nobody has looked yet."""
    place = stored(model)
    if not place.is_file():
        boot_bare(machine, folder, model)
        keep(look(machine), model)
        machine.end()
    return json.loads(place.read_text())


def look(machine):
    """The warnings of Lv1, whose shell is in front, and of an Lv2 that it starts and stops."""
    start(machine)
    lv2 = warnings(machine)
    stop(machine)
    return {"lv1": warnings(machine), "lv2": lv2}
