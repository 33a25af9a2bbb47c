# SPDX-License-Identifier: BSD-2-Clause
"""Configurations of the boot tests, made from their parts."""

HEADER = """\
[umbra]
console = com1 115200
escape  = ^A
"""

SHELL = {
    "memory": "256M",
    "boot": "linux",
    "kernel": "build/guests/vmlinux",
    "initrd": "build/guests/shell.cpio.gz",
    "cmdline": "console=ttyS0",
}


def guest(name, **keys):
    """The keys of a partition that runs tests/guests/`name`."""
    return {"memory": "32M", "boot": "multiboot", "kernel": f"build/tests/guests/{name}.elf", **_spelled(keys)}


def shell(**keys):
    """The keys of a partition that runs Debian's kernel (the ELF inside it) down to the shell."""
    return {**SHELL, **_spelled(keys)}


def write(folder, **partitions):
    """Writes a configuration with these partitions (name to keys) into `folder`, and returns its path."""
    text = HEADER
    for name, keys in partitions.items():
        text += f"\n[partition {name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
    path = folder / "test.conf"
    path.write_text(text)
    return path


def _spelled(keys):
    return {key.replace("_", "-"): value for key, value in keys.items()}
