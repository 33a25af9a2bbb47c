# SPDX-License-Identifier: BSD-2-Clause
"""
The bootable ISO: hybrid, for CD and stick, BIOS and UEFI, with a GRUB that loads just what the configuration
names.
"""
import os
import pathlib
import shutil
import tempfile

from umbra import medium
from umbra.common import run_tool


def grub_config(places):
    """The ISO's grub.cfg for the files at `places` (see medium.contents)."""
    lines = [f"    multiboot2 /{medium.HYPERVISOR_PLACE}"]
    for place in places:
        if place != medium.HYPERVISOR_PLACE:
            # As they are: GRUB would unpack compressed ones, and the sizes would not be those that were
            # checked.
            lines.append(f"    module2 --nounzip '/{place}' '{place[len('umbra/'):]}'")
    return medium.GRUB_CONSOLE + "insmod all_video\nmenuentry Umbra {\n" + "\n".join(lines) + "\n}\n"


def make_iso(conf, out):
    """Writes the ISO for the good configuration `conf` to `out`."""
    out = pathlib.Path(out)
    places = medium.contents(conf)
    with tempfile.TemporaryDirectory(prefix=".umbra-", dir=out.absolute().parent) as folder:
        tree = pathlib.Path(folder) / "tree"
        for place, source in places.items():
            (tree / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, tree / place)
        (tree / "boot/grub").mkdir(parents=True, exist_ok=True)
        (tree / "boot/grub/grub.cfg").write_text(grub_config(places), encoding="ascii")
        iso = pathlib.Path(folder) / "iso"
        run_tool(
            "grub-mkrescue", "--fonts=", "--themes=", "--locales=", "-o", iso, tree, "--", "-volid", "UMBRA"
        )
        os.replace(iso, out)
