# SPDX-License-Identifier: BSD-2-Clause
"""What the benchmark boots: ISOs with Umbra, and without."""
import gzip
import shutil
import tempfile
from pathlib import Path

from umbra import cpio, guests, image
from umbra.common import ROOT, Problem, run_tool

# The program that is run where the shell would be. No other has code at its address.
END_ADDRESS = 0x600000001000
_END_SOURCE = Path(__file__).with_name("end.S")
_END_BASE = END_ADDRESS - 0x1000  # the file's headers come first


def make_archive(folder):
    """
    An initramfs: that of the stock shell guest, with end.S in the shell's place. Linux unpacks one archive
    behind the other, so the busybox and all it does before are the very same. Returns (its path, the first
    bytes of end.S's code).
    """
    program = folder / "end"
    base = f"-Wl,-z,noexecstack,--build-id=none,-Ttext-segment={_END_BASE:#x}"
    run_tool("gcc", "-nostdlib", "-static", "-no-pie", "-s", base, "-o", program, _END_SOURCE)
    init = guests.INIT.replace("cttyhack sh\n", "cttyhack /bin/bench-end\n")
    if init == guests.INIT:
        raise Problem("the benchmark does not find the shell in the stock guest's init")
    archive = cpio.Archive()
    archive.file("bin/bench-end", program.read_bytes(), 0o755)
    archive.file("init", init.encode(), 0o755)
    path = folder / "initrd"
    stock = (guests.GUESTS / "shell.cpio.gz").read_bytes()
    path.write_bytes(stock + gzip.compress(archive.finish(), mtime=0))
    return path, program.read_bytes()[END_ADDRESS - _END_BASE :][:16]


def umbra_iso(folder, name, **keys):
    """An ISO with Umbra and one partition `name` with these keys (paths as values may be Path)."""
    lines = ["[umbra]", "console = com1 115200", "escape = ^A", f"[partition {name}]"]
    lines += [f"{key.replace('_', '-')} = {_named(value)}" for key, value in keys.items()]
    conf = folder / f"{name}.conf"
    conf.write_text("\n".join(lines) + "\n")
    iso = folder / f"{name}.iso"
    image.make_iso(conf, iso)
    return iso


def bare_iso(folder, name, commands, **files):
    """An ISO whose GRUB runs `commands`, with these files (their names on it: the keywords)."""
    iso = folder / f"{name}.iso"
    with tempfile.TemporaryDirectory(dir=folder) as tree:
        (Path(tree) / "boot/grub").mkdir(parents=True)
        (Path(tree) / "boot/grub/grub.cfg").write_text("set timeout=0\n" + "\n".join(commands) + "\nboot\n")
        for place, source in files.items():
            shutil.copyfile(source, Path(tree) / place)
        run_tool("grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", iso, tree)
    return iso


def _named(value):
    """A value as the configuration has it: files as seen from the root, if they are below it."""
    return value.relative_to(ROOT) if isinstance(value, Path) and value.is_relative_to(ROOT) else value
