# SPDX-License-Identifier: BSD-2-Clause
"""Runs a guest of tests/guests without Umbra, in Bochs, from a GRUB ISO: the oracle of all partitions.

    python3 -m tests.boot.bare build/tests/guests/exceptions.elf [--model M] [--memory M] [words]

The emulator's clock is its instruction count, so an image always prints the same; outputs are kept in
build/bare-cache, keyed by everything that they depend on.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "bare-cache"
STORED = ROOT / "tests" / "boot" / "stored"  # outputs that are committed, so that a fresh clone need not make them
GUESTS = ROOT / "tests" / "guests"
# Guests that are no comparison: they never end, need somebody who talks to them, or want several machines.
APART = {"hostile", "bench_exits", "bench_smp", "spin", "sweep", "state", "ivshmem", "matrix", "bench_vtlb",
         "hostile_paging", "hostile_nested", "bench_nested"}
# Guest hypervisors: they need VT-x (tests/boot/test_nested_guests.py).
NESTED = {"lv1_basic", "lv1_exits", "lv1_registers", "lv1_events", "lv1_entry", "lv1_ept", "lv1_refused"}
PROCESSORS = {"smp": 2}  # that a guest wants, if it is not one
MODEL = "corei7_skylake_x"
FIRMWARE = ("/usr/share/bochs/BIOS-bochs-latest", "/usr/share/bochs/VGABIOS-lgpl-latest")

BOCHSRC = """\
display_library: rfb, options="timeout=0"
cpu: model={model}, count={count}, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=0
clock: sync=none
memory: guest={memory}, host={memory}
romimage: file={bios}
vgaromimage: file={vga}
com1: enabled=1, mode=file, dev={directory}/com1
ata0-master: type=cdrom, path={directory}/guest.iso, status=inserted
boot: cdrom
log: {directory}/log
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
sound: waveoutdrv=dummy
"""

GRUB_CFG = """\
set timeout=0
terminal_output console
menuentry guest {{
    multiboot /guest.elf {words}
    boot
}}
"""


@dataclass
class Bare:
    """What a guest printed, and how long the machine ran."""

    text: str
    ticks: int  # from power-on: firmware and GRUB included
    status: int  # exit status of the emulator
    log: str  # the emulator's last words

    @property
    def lines(self):
        return self.text.replace("\r", "").split("\n")


class BareTimeout(Exception):
    """The guest did not end: what it had printed, and the emulator's log."""


def compared():
    """The names of the guests that say the same bare and in a partition."""
    return sorted(path.stem for path in GUESTS.glob("*.c") if path.stem not in APART | NESTED)


def emulator():
    """The bytes that are the emulator's version."""
    return Path(shutil.which("bochs")).read_bytes()


def key(image, words, model, memory, count=1):
    digest = hashlib.sha256()
    parts = (image.read_bytes(), words.encode(), model.encode(), str(memory).encode(),
             emulator(), BOCHSRC.replace("{count}", str(count)).encode(), GRUB_CFG.encode(),
             *(Path(rom).read_bytes() for rom in FIRMWARE))
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:32]


def make_iso(image, words, directory):
    tree = directory / "tree"
    (tree / "boot" / "grub").mkdir(parents=True)
    (tree / "guest.elf").write_bytes(image.read_bytes())
    (tree / "boot" / "grub" / "grub.cfg").write_text(GRUB_CFG.format(words=words))
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "--compress=no", "-o",
                    str(directory / "guest.iso"), str(tree)], check=True, capture_output=True)


def run_emulator(directory, model, memory, count, timeout):
    (directory / "bochsrc").write_text(BOCHSRC.format(
        model=model, memory=memory, count=count, bios=FIRMWARE[0], vga=FIRMWARE[1], directory=directory))
    (directory / "commands").write_text("c\n")
    with open(directory / "output", "wb") as output, subprocess.Popen(
            ["bochs", "-q", "-f", "bochsrc", "-rc", "commands", "-unlock"], cwd=directory,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT) as emulator:
        try:
            status = emulator.wait(timeout)
        except subprocess.TimeoutExpired:
            emulator.kill()
            status = None
    log = (directory / "log").read_text(errors="replace") if (directory / "log").exists() else ""
    stamps = re.findall(r"^(\d{11,})[a-z]\[", log, re.M)
    com1 = directory / "com1"
    text = com1.read_text(encoding="latin-1") if com1.exists() else ""
    if status is None:
        raise BareTimeout(f"no end after {timeout} s\n{text}\n{log[-2000:]}")
    return Bare(text=text, ticks=int(stamps[-1]) if stamps else 0, status=status, log=log[-2000:])


def run(image, words="", model=MODEL, memory=64, count=1, timeout=120, cache=True):
    """
    The result of running `image` (a path) bare on `count` processors; from the cache if the same was run
    before.
    """
    image = Path(image)
    name = f"{key(image, words, model, memory, count)}.json"
    kept = CACHE / name
    for place in (STORED / name, kept):
        if cache and place.exists():
            return Bare(**json.loads(place.read_text()))
    with tempfile.TemporaryDirectory(prefix="umbra-bare-") as name:
        directory = Path(name)
        make_iso(image, words, directory)
        result = run_emulator(directory, model, memory, count, timeout)
    if not result.text:
        return result  # an emulator that did not start: nothing to remember
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(asdict(result)))
    partial.replace(kept)
    return result


def main():
    parser = argparse.ArgumentParser(description="Runs a guest bare in Bochs.")
    parser.add_argument("image")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--memory", type=int, default=64, help="MiB")
    parser.add_argument("--count", type=int, default=1, help="processors")
    parser.add_argument("--timeout", type=float, default=120, help="seconds")
    parser.add_argument("--no-cache", action="store_true")
    arguments = parser.parse_args()
    try:
        result = run(arguments.image, " ".join(arguments.words), arguments.model, arguments.memory,
                     arguments.count, arguments.timeout, not arguments.no_cache)
    except BareTimeout as error:
        sys.exit(str(error))
    print(result.text.replace("\r", ""), end="")
    print(f"[{result.ticks:,} ticks, status {result.status}]")


if __name__ == "__main__":
    main()
