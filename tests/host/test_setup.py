# SPDX-License-Identifier: BSD-2-Clause
"""tools/setup.sh, with a dpkg, an apt and a sudo that only pretend."""
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "tools/packages.txt"


def names():
    return [
        line.split("#")[0].strip() for line in LIST.read_text().splitlines() if line.split("#")[0].strip()
    ]


class Pretence:
    """A PATH with nothing real on it but what the script needs."""

    def __init__(self, folder):
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.log = folder / "log"
        self.log.write_text("")
        for name in ("sed", "dirname", "env", "true"):
            os.symlink(f"/usr/bin/{name}", self.programs / name)
        self.program("apt-get", f'echo "$DEBIAN_FRONTEND apt-get $*" >> {self.log}')
        self.sudo(False)

    def program(self, name, text):
        (self.programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.programs / name).chmod(0o755)

    def user(self, number):
        self.program("id", f"echo {number}")

    def sudo(self, works):
        self.program(
            "sudo",
            f'[ {int(works)} = 1 ] && shift && echo "sudo" >> {self.log} && exec env -i "PATH=$PATH" "$@"',
        )

    def missing(self, *packages):
        self.program(
            "dpkg-query",
            f'for name; do :; done; case " {" ".join(packages)} " in *" $name "*) exit 1;; '
            "*) echo installed;; esac",
        )

    def run(self):
        return subprocess.run(
            ["/bin/sh", ROOT / "tools/setup.sh"],
            env={"PATH": str(self.programs)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path):
    return Pretence(tmp_path)


def test_nothing_missing(machine):
    """Fails when apt is called (the network asked) with everything in place."""
    machine.missing()
    machine.user(0)
    done = machine.run()
    assert (done.returncode, done.stdout, done.stderr, machine.log.read_text()) == (0, "", "", "")


def test_no_way_to_install(machine):
    """Fails when somebody who cannot install is not told the exact line, with status 2."""
    machine.missing("xorriso", "bochs")
    machine.user(1000)
    done = machine.run()
    assert (done.returncode, done.stdout, machine.log.read_text()) == (2, "", "")
    assert done.stderr.splitlines()[-1] == "apt-get install -y --no-install-recommends xorriso bochs"


def test_root(machine):
    """Fails when not just what is missing is installed, or from old lists, or with questions."""
    machine.missing("bochs")
    machine.user(0)
    assert machine.run().returncode == 0
    assert machine.log.read_text().splitlines() == [
        "noninteractive apt-get update -q",
        "noninteractive apt-get install -y --no-install-recommends bochs",
    ]


def test_sudo(machine):
    """Fails when passwordless sudo is not used."""
    machine.missing("bochs")
    machine.user(1000)
    machine.sudo(True)
    assert machine.run().returncode == 0
    assert machine.log.read_text().splitlines() == [
        "sudo",
        "sudo",
        "noninteractive apt-get update -q",
        "sudo",
        "noninteractive apt-get install -y --no-install-recommends bochs",
    ]


def test_removed_but_not_purged(machine):
    """Fails when a package whose settings alone are left counts as installed."""
    machine.program("dpkg-query", "echo config-files")
    machine.user(1000)
    assert machine.run().stderr.splitlines()[-1].split()[4:] == names()


def test_list():
    """
    Fails when a package is listed twice or without its reason (make's and the like speak for themselves).
    """
    assert len(names()) == len(set(names()))
    assert {"gcc", "bochs", "qemu-system-x86", "xorriso", "python3-pytest", "clang"} <= set(names())
