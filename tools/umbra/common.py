# SPDX-License-Identifier: BSD-2-Clause
"""Where things are, how sizes are written, and the one exception that a user gets to see."""
import os
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]

# The Makefile's variable of this name; a relative one counts from the root, as it does there.
BUILD = ROOT / os.environ.get("BUILD", "build")

HYPERVISOR = BUILD / "umbra.elf"
CHECKER = BUILD / "umbra-check"

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Problem(Exception):
    """
    Something the user can act on. Its text is the whole message; `status` is what the command exits with.
    """

    def __init__(self, message, status=1):
        super().__init__(message)
        self.status = status


def parse_size(text):
    """The bytes that a size such as 512M means: a number and K, M or G, as in a configuration."""
    match = re.fullmatch(r"([0-9]+)([KMG]?)", text.strip().upper())
    if not match:
        raise ValueError(f"'{text}' is no size: a number and K, M or G")
    return int(match.group(1)) * _UNITS[match.group(2)]


def tool(name):
    """The path of a program of tools/packages.txt."""
    path = shutil.which(name)
    if not path:
        raise Problem(f"{name} is not installed: run tools/setup.sh")
    return path


def run_tool(*command, **options):
    """
    Runs a program to its end and returns its standard output; if it fails, its own words are the message.
    """
    words = [tool(command[0]), *map(str, command[1:])]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False, **options)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise Problem(f"{command[0]} failed (status {done.returncode}):\n{said}")
    return done.stdout


def need_file(path, hint):
    """Refuses to go on without a file."""
    if not path.is_file():
        raise Problem(f"{path} is not there: {hint}")
    return path
