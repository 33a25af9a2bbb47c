# SPDX-License-Identifier: BSD-2-Clause
"""Configurations, read by the one parser there is: the hypervisor's, compiled into build/umbra-check."""
import os
import subprocess
import sys

from umbra.common import CHECKER, Problem, need_file


def command(conf, memory=None, processors=None, files=False):
    """
    The command line that checks `conf`; `memory` in bytes and the number of `processors`, None if not known;
    `files` lists what it names.
    """
    words = [str(need_file(CHECKER, "run make")), str(conf)]
    if memory is not None:
        words += ["--memory", str(memory)]
    if processors is not None:
        words += ["--processors", str(processors)]
    if files:
        words += ["--files"]
    return words


def check(conf, memory=None, processors=None):
    """Checks a configuration; its errors go to this process's own streams. Returns the exit status."""
    sys.stdout.flush()
    return subprocess.run(
        command(conf, memory, processors), stdin=subprocess.DEVNULL, check=False
    ).returncode


def require_good(conf, memory=None, processors=None):
    """Refuses a configuration with errors, which have then been printed."""
    if not os.path.isfile(conf):
        raise Problem(f"{conf}: no such file")
    status = check(conf, memory, processors)
    if status != 0:
        raise Problem("", status)


def named_files(conf):
    """The files that a good configuration names, as it names them, each once."""
    done = subprocess.run(
        command(conf, files=True), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Problem(f"{conf}: {(done.stderr or done.stdout).strip()}")
    return list(dict.fromkeys(done.stdout.splitlines()))
