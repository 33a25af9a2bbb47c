# SPDX-License-Identifier: BSD-2-Clause
"""`umbra run`: one boot in an emulator, from its start to an exit status that says how it ended."""
import contextlib
import ctypes
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

from umbra import check, console, emulators, ending, image
from umbra.common import BUILD, Problem, need_file, tool

CONNECT_SECONDS = 60.0  # for Bochs to come up as far as its serial port
STOP_SECONDS = 3.0  # for an emulator to heed SIGTERM
LEAVE_SECONDS = 10.0  # for an emulator that has hung up to be gone
LOG_TAIL = 12  # lines of a dead emulator's log that are shown

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def say(text):
    print(f"umbra run: {text}", file=sys.stderr, flush=True)


def run(
    target,
    on="auto",
    model=None,
    cpus=1,
    memory=1 << 30,
    log=None,
    timeout=None,
    firmware="bios",
    door=None,
):
    """
    Boots `target` (a configuration, an ISO or a stick image). `door` is the path of a socket that also offers
    the console, or None. Returns the exit status, one of `ending`.
    """
    target = pathlib.Path(target)
    need_file(target, "no such file")
    emulator = _pick(on)
    emulators.require_known(emulator, cpus, memory)
    if firmware == "uefi" and emulator == "bochs":
        raise Problem("Bochs has no UEFI firmware here: --on kvm or --on qemu", 2)

    BUILD.mkdir(parents=True, exist_ok=True)
    with (
        _signals_raise(),
        tempfile.TemporaryDirectory(prefix="run-", dir=BUILD) as folder,
        _open_door(door) as listener,
    ):
        folder = pathlib.Path(folder)
        kind = emulators.medium_kind(target)
        if kind is None:
            check.require_good(target, memory, cpus)
            medium, kind = folder / "umbra.iso", "iso"
            image.make_iso(target, medium)
        else:
            medium = target.resolve()
        logs = _Logs(folder, log)
        deadline = None if timeout is None else time.monotonic() + timeout
        with _Machine(folder, logs) as machine:
            serial = _start(machine, emulator, medium, kind, model, cpus, memory, firmware, deadline)
            status = _converse(serial, logs, deadline, listener)
            if status in (ending.OFF, ending.DIED):
                machine.leave()
        if status == ending.TIMEOUT:
            say(f"no end within {timeout:g} s")
        elif status == ending.DIED:
            say(f"{emulator} ended, and Umbra had not said that it was off; the end of the emulator's log:")
            print(logs.tail(), file=sys.stderr)
    return status


def _pick(on):
    if on == "auto":
        on, reason = emulators.choose()
        say(f"{'QEMU/KVM' if on == 'kvm' else 'Bochs'}: {reason}")
    elif on == "qemu":
        say("QEMU without KVM: it has no VMX, so Umbra will not start partitions")
    return on


@contextlib.contextmanager
def _open_door(path):
    """A socket that listens at `path`, for this user alone; None if there is no path."""
    if path is None:
        yield None
        return
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as probe:
        # What a run that was killed has left is in the way. Anything else stays.
        if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
        mask = os.umask(0o077)
        try:
            listener.bind(path)
        except OSError as error:
            raise Problem(f"{path}: {error.strerror or error}") from None
        finally:
            os.umask(mask)
        try:
            listener.listen()
            yield listener
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _start(machine, emulator, medium, kind, model, cpus, memory, firmware, deadline):
    """Starts the emulator. Returns its serial port; None if it dies or time is up first."""
    if emulator == "bochs":
        return machine.start_bochs(medium, kind, deadline, model=model, cpus=cpus, memory=memory)
    make = emulators.kvm_command if emulator == "kvm" else emulators.qemu_command
    return machine.start_qemu(make, medium, kind, firmware, model=model, cpus=cpus, memory=memory)


def _converse(serial, logs, deadline, listener):
    """Joins the machine's console to ours. Returns a status of `ending`."""
    if serial is None:
        return ending.TIMEOUT if deadline is not None and time.monotonic() >= deadline else ending.DIED
    with serial, logs.serial() as log, console.raw_terminal(0):
        try:
            return console.Relay(serial, 0, 1, log, deadline, listener).run()
        except EOFError:
            raise SystemExit(128 + signal.SIGHUP) from None
        except BrokenPipeError:
            # Nobody reads the console any more. Python's own last flush must not stumble over that again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise SystemExit(128 + signal.SIGPIPE) from None


@contextlib.contextmanager
def _signals_raise():
    """Lets the signals that end a program run its clean-up first: they unwind it like any exit."""

    def leave(number, _frame):
        for other in endings:  # one is enough
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)

    endings = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.signal(number, leave) for number in endings}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Logs:
    """
    Where a run is written down: the console to FILE, the emulator's own log to FILE.emulator, its standard
    output (for Bochs: what is written to port 0xe9, and the debugger's words) to FILE.output; without FILE,
    all in the run's folder.
    """

    def __init__(self, folder, log):
        self._console = log
        base = pathlib.Path(log).absolute() if log else folder / "console"
        self.emulator = base.with_name(base.name + ".emulator")
        self.output = base.with_name(base.name + ".output")
        for stale in (self.emulator, self.output):
            with contextlib.suppress(FileNotFoundError):
                stale.unlink()

    def serial(self):
        """The console's log, open for writing; None (as a context) if there is to be none."""
        return open(self._console, "wb") if self._console else contextlib.nullcontext()

    def tail(self):
        lines = []
        for file in (self.emulator, self.output):
            if file.exists():
                lines += file.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL:]
        return "\n".join(line for line in lines if line.strip())


class _Machine:
    """An emulator process. It never outlives the block that it is used in."""

    def __init__(self, folder, logs):
        self._folder = folder
        self._logs = logs
        self._process = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if self._process is None:
            return
        for tell in (self._process.terminate, self._process.kill):
            if self._process.poll() is not None:
                break
            tell()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)

    def leave(self):
        """Gives an emulator that has hung up the time to write its log and go."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVE_SECONDS)

    def start_qemu(self, make_command, medium, kind, firmware, **settings):
        """Starts QEMU; COM1 is one end of a socket pair, the other end is returned."""
        uefi_vars = None
        if firmware == "uefi":
            need_file(emulators.OVMF_CODE, "run tools/setup.sh")
            uefi_vars = self._folder / "uefi-vars"
            shutil.copyfile(emulators.OVMF_VARS, uefi_vars)
        ours, theirs = socket.socketpair()
        with theirs:
            command = make_command(medium, kind, theirs.fileno(), uefi_vars=uefi_vars, **settings)
            self._start(command, self._logs.emulator, pass_fds=[theirs.fileno()])
        return ours

    def start_bochs(self, medium, kind, deadline, **settings):
        """
        Starts Bochs, which connects its COM1 to us. Returns the socket; None if it dies or time is up first.
        """
        (self._folder / "medium").symlink_to(medium)
        (self._folder / "bochs.log").symlink_to(self._logs.emulator)
        (self._folder / "commands").write_text(emulators.BOCHS_COMMANDS)
        with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
            text = emulators.bochsrc("medium", kind, listener.getsockname()[1], **settings)
            (self._folder / "bochsrc").write_text(text)
            self._start(emulators.bochs_command(), self._logs.output)
            until = time.monotonic() + CONNECT_SECONDS
            if deadline is not None:
                until = min(until, deadline)
            listener.settimeout(0.1)  # how often to look whether Bochs is still there
            while True:
                gone = self._process.poll() is not None or time.monotonic() >= until
                with contextlib.suppress(socket.timeout):
                    serial, _ = listener.accept()
                    serial.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return serial
                if gone:  # already before the last look: one that is quick to end may have connected
                    return None

    def _start(self, command, output, **options):
        words = [tool(command[0]), *command[1:]]
        with open(output, "ab") as out:
            # Its own session: what the terminal's keys signal is not for the emulator.
            self._process = subprocess.Popen(
                words,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
                **options,
            )


def _die_with_parent():
    """In the child: the kernel ends it when this process is killed too hard to clean up."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
