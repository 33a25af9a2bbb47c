# SPDX-License-Identifier: BSD-2-Clause
"""
What is on every boot medium: the hypervisor at /boot/umbra.elf; under /umbra/ the configuration, called
`config`, and each file that it names, under its path. Everything under /umbra/ reaches the hypervisor as a
Multiboot2 module.
"""
import pathlib
import re

from umbra import check
from umbra.common import HYPERVISOR, Problem, need_file

HYPERVISOR_PLACE = "boot/umbra.elf"
CONFIG_PLACE = "umbra/config"

GRUB_CONSOLE = """\
if serial --unit=0 --speed=115200; then
    terminal_input serial console
    terminal_output serial console
fi
set timeout=1
"""


def module_name(path):
    """The name under which the hypervisor looks for the configuration's file `path`."""
    for prefix in ("./", "/"):
        if path.startswith(prefix):
            return path[len(prefix) :]
    return path


def contents(conf):
    """
    The files of a medium for a good configuration: place on the medium → file here. `umbra/config` comes
    first.
    """
    places = {CONFIG_PLACE: pathlib.Path(conf)}
    for path in check.named_files(conf):
        name = module_name(path)
        parts = name.split("/")
        if "" in parts or "." in parts or ".." in parts:
            raise Problem(f"{conf}: {path}: on a medium a path goes down only, without '.', '..' or '//'")
        if not re.fullmatch(r"[!#%&()+,./:=@A-Z^_`a-z{}~0-9-]+", name):
            raise Problem(f"{conf}: {path}: a character in this name cannot be given to GRUB")
        place = f"umbra/{name}"
        if place in places:
            raise Problem(f"{conf}: {path}: another file has this name on the medium")
        places[place] = pathlib.Path(path)
    for place in places:
        for other in places:
            if other.startswith(place + "/"):
                raise Problem(f"{conf}: {place} would be both a file and a folder on the medium")
    places[HYPERVISOR_PLACE] = need_file(HYPERVISOR, "run make")
    return places
