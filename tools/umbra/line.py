# SPDX-License-Identifier: BSD-2-Clause
"""A line to a machine's console: a serial device, a Unix socket, or a TCP port."""
import contextlib
import errno
import fcntl
import os
import re
import select
import socket
import stat
import termios
import time

from umbra.common import Problem
from umbra.console import INPUT_BYTES, INPUT_INTERVAL

DEAD = 5  # exit status: there is no such line, or its other end has gone

_LOCK_INTERVAL = 0.1  # how often to look whether another program is done with a serial device


class Line:
    """An open line. `until` is always a time.monotonic() value; what lasts longer is left."""

    def __init__(self, descriptor, name):
        self._descriptor = descriptor
        self._name = name
        os.set_blocking(descriptor, False)

    def read(self, until):
        """What has come, as soon as there is any; nothing if nothing does."""
        wait = max(0.0, until - time.monotonic())
        if not select.select([self._descriptor], [], [], wait)[0]:
            return b""
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._dead(error.strerror) from None
        if not data:
            raise self._dead("it was closed at the other end")
        return data

    def write(self, data, until):
        """Sends, no faster than the machine's UART can be emptied. False if time was up before the end."""
        while data:
            wait = max(0.0, until - time.monotonic())
            if not select.select([], [self._descriptor], [], wait)[1]:
                return False
            try:
                sent = os.write(self._descriptor, data[:INPUT_BYTES])
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._dead(error.strerror) from None
            data = data[sent:]
            time.sleep(INPUT_INTERVAL)
        return True

    def _dead(self, reason):
        return Problem(f"the line {self._name} is dead: {reason}", DEAD)


@contextlib.contextmanager
def open_line(name, baud, until):
    """
    Opens what `name` is: a serial device (8n1 at `baud`, raw; as it was again at the end), the path of a Unix
    socket, or HOST:PORT. A serial device that another of these programs has open is waited for.
    """
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(_opened(name, baud, until))
        except (OSError, OverflowError, termios.error) as error:
            raise Problem(f"{name} cannot be opened: {error}", DEAD) from None
        yield Line(descriptor, name)


def _opened(name, baud, until):
    """A context with the line's descriptor."""
    try:
        kind = os.stat(name).st_mode
    except OSError:
        kind = 0
    if stat.S_ISCHR(kind):
        return _serial(name, baud, until)
    if stat.S_ISSOCK(kind):
        return _unix(name, until)
    if kind:
        raise Problem(f"{name} is neither a serial device nor a socket", 2)
    if found := re.fullmatch(r"\[?([^/\[\]]+?)\]?:(\d+)", name):
        return _tcp(found[1], int(found[2]), until)
    raise Problem(f"{name}: no such serial device or socket", DEAD)


def _seconds(until):
    return max(0.001, until - time.monotonic())


@contextlib.contextmanager
def _unix(path, until):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_seconds(until))
        connection.connect(path)
        yield connection.fileno()


@contextlib.contextmanager
def _tcp(host, port, until):
    with socket.create_connection((host, port), _seconds(until)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection.fileno()


@contextlib.contextmanager
def _serial(path, baud, until):
    speed = getattr(termios, f"B{baud}", None)
    if speed is None:
        raise Problem(f"{baud} is no speed of a serial line", 2)
    # Not blocking: a line without a carrier would be waited for.
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        if not os.isatty(descriptor):
            raise Problem(f"{path} is no serial device", 2)
        _lock(descriptor, until)
        before = termios.tcgetattr(descriptor)
        controls = list(before[6])
        controls[termios.VMIN], controls[termios.VTIME] = 1, 0
        mode = termios.CS8 | termios.CREAD | termios.CLOCAL
        termios.tcsetattr(descriptor, termios.TCSANOW, [0, 0, mode, 0, speed, speed, controls])
        termios.tcflush(descriptor, termios.TCIFLUSH)
        try:
            yield descriptor
        finally:
            with contextlib.suppress(termios.error):  # it may have gone
                termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
    finally:
        os.close(descriptor)


def _lock(descriptor, until):
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise OSError(errno.EBUSY, "another program has it") from None
            time.sleep(_LOCK_INTERVAL)
