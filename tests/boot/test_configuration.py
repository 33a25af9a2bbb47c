# SPDX-License-Identifier: BSD-2-Clause
"""Mistakes in the configuration, as the machine itself answers them."""
import re
import subprocess

from tests.boot import conf
from tests.boot.machine import BUILD


def image_without_check(folder, text, files=()):
    """An ISO as `umbra image` would not make it: with `text` as its configuration, however bad."""
    tree = folder / "tree"
    (tree / "boot" / "grub").mkdir(parents=True)
    (tree / "umbra.elf").write_bytes((BUILD / "umbra.elf").read_bytes())
    lines = ["multiboot2 /umbra.elf"]
    if text is not None:
        (tree / "config").write_text(text)
        lines.append("module2 /config config")
    for number, name in enumerate(files):
        (tree / f"file{number}").write_bytes((BUILD.parent / name).read_bytes())
        lines.append(f"module2 /file{number} {name}")
    (tree / "boot" / "grub" / "grub.cfg").write_text(
        "set timeout=0\nmenuentry test {\n" + "".join(f"    {line}\n" for line in lines) + "}\n")
    iso = folder / "test.iso"
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", str(iso), str(tree)], check=True,
                   capture_output=True)
    return iso


def test_no_configuration(machine, tmp_path):
    """Fails when the monitor does not start, or does not say why there is nothing else."""
    machine.boot(image_without_check(tmp_path, None), "--on", "bochs")
    machine.expect("no module named config")
    machine.expect(re.escape("umbra> "))
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def test_bad_partitions(machine, tmp_path):
    """Fails when a mistake is not told with its place, keeps the good partition from starting, or is not in the list."""
    good = conf.guest("hostile", cmdline="cli-loop")
    text = conf.HEADER + "".join(
        f"[partition {name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        for name, keys in {
            "missing": {**good, "kernel": "no/such/file"},
            "wrong": {**good, "boot": "linux"},
            "large": {**good, "memory": "64G"},
            "typo": {**good, "memroy": "1M"},
            "good": good,
        }.items())
    machine.boot(image_without_check(tmp_path, text, [good["kernel"]]), "--on", "bochs")
    for place in (r"config:\d+:\d+: .*memroy", r"config:\d+:\d+: .*no/such/file"):
        machine.expect(place)
    machine.expect("HOSTILE cli-loop")
    machine.monitor()
    rows = machine.command("list")
    for name, state, reason in (("missing", "refused", "no/such/file"), ("wrong", "refused", "linux|Linux"),
                                ("large", "refused", "needs 64G"), ("typo", "refused", "memroy"), ("good", "running", "")):
        assert re.search(rf"{name} +{state}.*(?:{reason})", rows), rows
    machine.send_line("poweroff")
    assert machine.wait_end() == 0
