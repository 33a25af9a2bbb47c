# SPDX-License-Identifier: BSD-2-Clause
"""A machine under test: an emulator started by `./umbra run`, and a hand on its serial console."""
import contextlib
import os
import re
import shutil
import signal
from pathlib import Path

import pexpect

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")

ESCAPE = "\x01"  # ^A, unless the configuration says otherwise
PROMPT = "umbra> "
WAIT = 120.0  # seconds for a text to appear: only a hung machine takes that long


class Machine:
    """
    One machine at a time: boot() ends the one before. `folder` gets the console's log and the emulator's.
    What the console shows is text with the control sequences in it; expect() takes regular expressions.
    """

    def __init__(self, folder):
        self._folder = Path(folder)
        self._child = None
        self._partitions = []

    def boot(self, target, *options, timeout=600):
        """
        Boots `target` (a configuration, an ISO or a stick image, from the root of the tree or absolute) with
        these options of `umbra run`; for example boot("examples/linux.conf", "--on", "bochs", "--memory",
        "512M").
        """
        self.end()
        self._partitions = _partitions(ROOT / target)
        words = ["run", str(target), "--log", str(self._folder / "console"), "--timeout", str(timeout)]
        self._child = pexpect.spawn(
            str(ROOT / "umbra"),
            [*words, *map(str, options)],
            cwd=str(ROOT),
            timeout=WAIT,
            encoding="utf-8",
            codec_errors="replace",
            env={**os.environ, "TERM": "dumb"},
        )
        self._child.delaybeforesend = None
        return self

    def expect(self, *patterns, timeout=WAIT):
        """
        Waits for the first of these patterns, and returns its match; the text before it is in `before`. The
        machine's end, or silence, fails the test.
        """
        try:
            self._child.expect(list(patterns), timeout=timeout)
        except (pexpect.EOF, pexpect.TIMEOUT) as error:
            what = (
                "ended" if isinstance(error, pexpect.EOF) else f"said nothing of the kind for {timeout:g} s"
            )
            seen = self._child.before or ""
            raise AssertionError(
                f"waiting for {patterns}: the machine {what}; last seen:\n{seen[-3000:]}"
            ) from None
        return self._child.match

    @property
    def before(self):
        """What came before the last match."""
        return self._child.before

    def send(self, text):
        """Types `text` as it is."""
        self._child.send(text)

    def send_line(self, text):
        """Types a line: Enter is a carriage return."""
        self.send(text + "\r")

    def command(self, line, timeout=WAIT):
        """
        Gives the monitor, whose prompt is showing, a command, and returns what it answers up to its next
        prompt.
        """
        self.send_line(line)
        self.expect(re.escape(line) + r"\r*\n", timeout=timeout)  # its echo
        self.expect(re.escape(PROMPT), timeout=timeout)
        return self.before.replace("\r", "")

    def monitor(self):
        """Turns the console to the monitor."""
        self.send(ESCAPE + "c")
        self.expect(re.escape(PROMPT))

    def until(self, line, pattern, times=200):
        """Gives the monitor's command `line` again and again until its answer has `pattern`; returns the match."""
        for _ in range(times):
            found = re.search(pattern, self.command(line))
            if found:
                return found
        raise AssertionError(f"{line}: never answered {pattern}; last:\n{self.before}")

    def wait_end(self, timeout=WAIT):
        """Waits for the run to end by itself, and returns the exit status of `umbra run`."""
        try:
            self._child.expect(pexpect.EOF, timeout=timeout)
        except pexpect.TIMEOUT:
            raise AssertionError(f"the machine goes on; last seen:\n{self._child.before[-3000:]}") from None
        self._child.close()
        return self._child.exitstatus

    def end(self):
        """Ends the machine, whatever it does: `umbra run` is told to, and ends its emulator."""
        if self._child is None:
            return
        if self._child.isalive():
            self._child.kill(signal.SIGTERM)
            self._drain(20)
        self._child.close(force=True)
        self._child = None

    def keep(self, folder):
        """
        Copies the logs to `folder`, after asking the monitor, if it still answers, for each partition's last
        exits.
        """
        if self._child is not None and self._child.isalive():
            self.send(ESCAPE + "c\r" + "".join(f"dump {name}\r" for name in self._partitions))
            self._drain(5)
        self.end()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._folder, folder, ignore=shutil.ignore_patterns("*.iso", "*.img"))

    def _drain(self, seconds):
        """Takes what the machine says until it ends, or for some seconds."""
        with contextlib.suppress(pexpect.TIMEOUT):
            self._child.expect(pexpect.EOF, timeout=seconds)


def _partitions(target):
    if target.suffix != ".conf" or not target.is_file():
        return []
    return re.findall(r"^\s*\[\s*partition\s+([^\s\]]+)", target.read_text(), re.MULTILINE)
