# SPDX-License-Identifier: BSD-2-Clause
"""
What the stock kernel warns of on the bare emulator: the measure of what it may warn of in a partition. Kept in
tests/boot/stored, keyed by the kernel and the emulator; for others it is found out by a bare boot, once.
"""
import hashlib
import json
import subprocess

from tests.boot import bare, guest_shell
from tests.boot.machine import BUILD, ROOT

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


def key(model=bare.MODEL):
    """What the warnings depend on."""
    digest = hashlib.sha256()
    parts = [(BUILD / "guests" / "vmlinuz").read_bytes(), bare.emulator(), GRUB_CFG.encode()]
    if model != bare.MODEL:
        parts.append(model.encode())
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]


def warnings(machine, folder, model=bare.MODEL):
    """The warnings of a bare boot on this model; `machine` is used (and `folder`) only if nobody has looked yet."""
    name = f"linux-{key(model)}.json"
    for place in (STORED / name, BUILD / "bare-cache" / name):
        if place.is_file():
            return json.loads(place.read_text())
    machine.boot(_iso(folder), "--on", "bochs", "--memory", "1024M", "--model", model)
    guest_shell.wait_ready(machine)
    found = guest_shell.warnings(guest_shell.run(machine, "dmesg -r"))
    machine.end()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(found, indent=1) + "\n")
    return found


def _iso(folder):
    tree = folder / "bare"
    (tree / "boot" / "grub").mkdir(parents=True)
    (tree / "vmlinuz").write_bytes((BUILD / "guests" / "vmlinuz").read_bytes())
    (tree / "initrd").write_bytes((BUILD / "guests" / "shell.cpio.gz").read_bytes())
    (tree / "boot" / "grub" / "grub.cfg").write_text(GRUB_CFG)
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", str(folder / "bare.iso"), str(tree)],
                   check=True, capture_output=True)
    return folder / "bare.iso"
