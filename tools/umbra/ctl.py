# SPDX-License-Identifier: BSD-2-Clause
"""`umbra ctl`: gives the monitor of a machine a command over its console, and reads the answer."""
import contextlib
import json
import pathlib
import re
import secrets
import sys
import time

from umbra import answers
from umbra.common import Problem
from umbra.line import DEAD, open_line

REFUSED = 1  # exit statuses; DEAD is another
TIMEOUT = 4

INTERRUPT = "\x03"  # ^C: ends what the monitor does, or drops what was typed
LINE_MAX = 250  # characters of a line that the monitor takes
FIRST_PATIENCE = 1.0  # for the monitor to come up, seconds; twice as long at each further try
LEAVE_SECONDS = 3.0  # for the monitor to be left as it was

_LAST_WORDS = re.compile(r"umbra: (off|reboot|panic\b.*)")


class Refused(Problem):
    """The monitor answered `error: …`. `lines` is what it had printed before."""

    def __init__(self, text, lines):
        super().__init__(text, REFUSED)
        self.lines = lines


class Session:
    """
    A conversation with the monitor over a Line, up to `deadline`. As a context: begins with the monitor's
    attention, whatever the line showed before, and leaves the monitor in the way for people.
    """

    def __init__(self, line, escape, deadline):
        self._line = line
        self._escape = escape
        self._deadline = deadline
        self._text = b""  # what was read and not used
        self._reached = False  # what is typed goes to the monitor
        self._over = False  # it does not any more

    def __enter__(self):
        try:
            self._synchronise()
        except BaseException as error:
            if self._reached:
                self._leave(INTERRUPT)
            raise error
        return self

    def __exit__(self, kind, value, traceback):
        if self._over:
            return
        # After an answer nothing is under way, and a ^C would be one more line on the screen.
        self._leave("" if value is None or isinstance(value, Refused) else INTERRUPT)

    def ask(self, command, section=()):
        """
        Gives the monitor a command, and the lines that it then takes. Returns the lines of the answer.
        Refused: it does not do it.
        """
        self._type("".join(f"{line}\r" for line in [command, *section]))
        lines = []
        while True:
            line = self._read_line()
            if line == "ok":
                return lines
            if line.startswith("error: "):
                raise Refused(line.removeprefix("error: "), lines)
            if not line.startswith("log: "):  # what happened before the command
                lines.append(line)

    def end(self, command):
        """Gives a command after which there is no monitor: `poweroff`, `reboot`."""
        lines = self.ask(command)
        self._over = True
        return lines

    def console(self, command):
        """
        Gives the command `console NAME`, with which the line is no longer the monitor's: that it has been
        obeyed is told by the partition's name between brackets.
        """
        self.ask("--plain plain off")
        self._type(f"--plain {command}\r")
        partition = re.escape(command.split()[1].encode())
        found = self._await(
            rb"\n(?:error: ([^\r\n]*)|\[" + partition + rb"(?:, \d+ bytes lost)?\])\r\n", self._deadline
        )
        if found is None:
            raise self._timeout()
        if found[1] is not None:
            raise Refused(found[1].decode(errors="replace"), [])
        self._over = True
        return []

    def _synchronise(self):
        """
        Turns the console to the monitor, drops what is typed there or under way, and turns to the way for
        programs. The answer to a command that nobody else can have given tells where the past ends. A guest
        never gets more of it than the escape key's `c`, and that only if the escape key was typed before.
        """
        patience = FIRST_PATIENCE
        while True:
            until = min(self._deadline, time.monotonic() + patience)
            nobody = f"nobody-{secrets.token_hex(8)}"
            self._type(f"{self._escape}c")
            if self._await(rb"\[monitor(?:, \d+ bytes lost)?\]\r\n", until):
                self._reached = True
                # Twice: the first may end an escape sequence or a command.
                self._type(f"{INTERRUPT}{INTERRUPT}plain on\r{nobody}\r")
                # Side by side these can only come when nothing is echoed between them.
                answer = rb"ok\r\n(?:log: [^\n]*\n)*error: [^\n]*" + nobody.encode() + rb"[^\n]*\n"
                if self._await(answer, until):
                    return
            if time.monotonic() >= self._deadline:
                raise self._timeout()
            patience *= 2

    def _leave(self, first):
        """As far as that can be done in short time: whoever comes next does not rely on it."""
        self._deadline = time.monotonic() + LEAVE_SECONDS
        with contextlib.suppress(Problem):
            self._type(first + "--plain plain off\r")
            while self._read_line() != "ok":
                continue

    def _type(self, text):
        if not self._line.write(text.encode(), self._deadline):
            raise self._timeout()

    def _await(self, pattern, until):
        """Reads up to the end of `pattern`, whose match it returns; None if it has not come by `until`."""
        while (found := re.search(pattern, self._text)) is None:
            data = self._line.read(until)
            if not data and time.monotonic() >= until:
                return None
            self._text = self._text[-4096:] + data
        self._text = self._text[found.end() :]
        return found

    def _read_line(self):
        while b"\n" not in self._text:
            data = self._line.read(self._deadline)
            if not data and time.monotonic() >= self._deadline:
                raise self._timeout()
            self._text += data
        line, self._text = self._text.split(b"\n", 1)
        line = line.rstrip(b"\r").decode(errors="replace")
        if _LAST_WORDS.fullmatch(line):
            self._over = True
            raise Problem(f"the machine says '{line}'", DEAD)
        return line

    @staticmethod
    def _timeout():
        return Problem("the monitor did not answer in time", TIMEOUT)


def read_section(file):
    """
    The lines of the section in `file` (`-`: standard input), as `create` takes them. Comments on lines of
    their own become empty lines, so that places in error messages stay true.
    """
    data = sys.stdin.buffer.read() if file == "-" else pathlib.Path(file).read_bytes()
    name = "standard input" if file == "-" else file
    lines = []
    for number, line in enumerate(data.decode(errors="replace").removeprefix("\ufeff").splitlines(), 1):
        if line.strip() in ("end", "."):
            break
        line = "" if line.lstrip().startswith("#") else line.rstrip()
        _require_typable(line, f"{name}:{number}")
        lines.append(line)
    return lines


def _require_typable(line, what):
    """Refuses what the monitor's line editor would not take as it is."""
    if len(line) > LINE_MAX:
        raise Problem(f"{what}: longer than {LINE_MAX} characters", 2)
    if not re.fullmatch(r"[\t -~]*", line):
        raise Problem(f"{what}: only printable ASCII can be typed at the monitor", 2)


def _converse(name, words, section, escape, baud, deadline):
    command = " ".join(words)
    with open_line(name, baud, deadline) as line, Session(line, escape, deadline) as session:
        if words[0] in ("poweroff", "reboot"):
            return session.end(command)
        if words[0] == "console" and len(words) == 2:
            return session.console(command)
        return session.ask(command, section)


def run(name, words, escape="\x01", baud=115200, timeout=60.0, as_json=False, out=None):
    """
    Gives the monitor at the other end of `name` the command of `words`. Its answer goes to the file `out`, or
    to standard output. Returns the exit status.
    """
    words = " ".join(words).split()
    if not words:
        raise Problem("which command?", 2)
    section = []
    if words[0] == "create":
        if len(words) > 2:
            raise Problem("create takes one file", 2)
        section = [*read_section(words[1] if len(words) == 2 else "-"), "end"]
        words = words[:1]
    _require_typable(" ".join(words), "the command")

    try:
        lines = _converse(name, words, section, escape, baud, time.monotonic() + timeout)
        answer = {"ok": True, **answers.parse(words, lines)} if as_json else None
    except Problem as problem:
        lines = getattr(problem, "lines", [])
        if not as_json:
            _print(lines)
            raise
        answer = {"ok": False, "error": str(problem), "status": problem.status, "lines": lines}
        _print([json.dumps(answer, indent=2)])
        return problem.status
    _print([json.dumps(answer, indent=2)] if as_json else lines, out)
    return 0


def _print(lines, out=None):
    text = "".join(f"{line}\n" for line in lines)
    if out is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        pathlib.Path(out).write_text(text, encoding="utf-8")
