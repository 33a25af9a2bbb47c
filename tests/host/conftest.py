# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures for the tests of the host command: a build folder and programs that stand in for the real ones."""
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Finds nothing wrong, unless the configuration says BAD, and the file names as plainly as they are written
# here.
CHECKER = """\
#!/bin/sh
case " $* " in *" --files "*) sed -n 's/^kernel = //p' "$1"; exit 0;; esac
grep -q BAD "$1" || exit 0
echo "$*"
exit 1
"""


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


class Host:
    """Runs ./umbra in a folder of its own, with its own build folder and a folder first on PATH."""

    def __init__(self, folder):
        self.folder = folder
        self.build = folder / "build"
        self.build.mkdir()
        (self.build / "umbra.elf").write_bytes(b"\x7fELF the hypervisor")
        script(self.build / "umbra-check", CHECKER)
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.environment = {**os.environ, "BUILD": str(self.build), "PATH": f"{self.programs}:/usr/bin:/bin"}

    def program(self, name, text):
        """Puts a program first on PATH."""
        return script(self.programs / name, text)

    def conf(self, *kernels, name="one.conf"):
        """A configuration that names these files; they are made."""
        for kernel in kernels:
            file = self.folder / kernel
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"contents of " + kernel.encode())
        path = self.folder / name
        path.write_text("".join(f"kernel = {kernel}\n" for kernel in kernels))
        return path

    def start(self, *words, **options):
        return subprocess.Popen(
            [str(ROOT / "umbra"), *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def umbra(self, *words, given=None):
        """The finished `./umbra WORDS`, with text in stdout and stderr."""
        return subprocess.run(
            [str(ROOT / "umbra"), *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            input=given or "",
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.fixture
def iso(tmp_path):
    """What boot firmware would take for an ISO."""
    path = tmp_path / "some.iso"
    path.write_bytes(bytes(0x8001) + b"CD001" + bytes(2048))
    return path
