# SPDX-License-Identifier: BSD-2-Clause
"""
Joins the user's terminal (or pipes), and programs that connect to a socket, to the machine's serial console
until one side has had enough.
"""
import contextlib
import errno
import os
import select
import termios
import time
import tty

from umbra import ending

# Bochs takes a byte from the socket whenever one is due at the line's speed and drops it when the emulated
# UART's sixteen bytes are full, so input is handed over no faster than a slow reader can follow.
INPUT_BYTES = 8
INPUT_INTERVAL = 0.02

OUTPUT_HELD = 1 << 16  # how much output may wait for a slow reader before the machine has to wait for it
SETTLED = 1.0  # silence after "umbra: panic" that makes it the last line
CLIENT_PATIENCE = 2.0  # how long a client that does not read may hold the machine up
LINGER = 10.0  # the same after "umbra: off", when the machine should go by itself


@contextlib.contextmanager
def raw_terminal(descriptor):
    """
    Puts a terminal into raw mode, and back however the block is left. Does nothing to what is no terminal.
    """
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        with contextlib.suppress(termios.error):  # it may have gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


class Relay:
    """
    One conversation. `serial` is the connected socket of the machine's COM1; `source` and `sink` are
    descriptors; `log` is a binary file that gets a copy of the output, or None; `deadline` is a
    time.monotonic() value or None. The end of `source` ends nothing, unless it is a terminal, which then has
    gone. `door` is a listening socket, or None: whoever is connected there, one at a time, gets the output
    from then on too, and has the say: what comes from `source` waits until that one goes.
    """

    def __init__(self, serial, source, sink, log=None, deadline=None, door=None):
        self._serial = serial
        self._serial.setblocking(False)
        self._source = source
        self._sink = sink
        self._log = log
        self._deadline = deadline
        self._door = door
        self._client = None
        self._to_client = b""
        self._client_until = 0.0  # when a client that takes none of it is dropped
        self._last = ending.LastLine()
        self._to_serial = b""
        self._to_sink = b""
        self._next_input = 0.0
        self._heard = time.monotonic()

    def run(self):
        """Runs until the machine hangs up, has said its last, or time is up. Returns a status of `ending`."""
        try:
            return self._run()
        finally:
            self._drop_client()

    def _run(self):
        while True:
            now = time.monotonic()
            status = self._last.status()
            if status is not None and now >= self._heard + self._patience(status):
                self._flush()
                return status
            if self._deadline is not None and now >= self._deadline:
                self._flush()
                return ending.TIMEOUT
            if not self._step(now, status):
                self._flush()
                status = self._last.status()
                return ending.DIED if status is None else status

    @staticmethod
    def _patience(status):
        return SETTLED if status == ending.PANIC else LINGER

    def _step(self, now, status):
        """Waits for the next thing to happen and does it. False when the machine has hung up."""
        readers = [self._serial] if max(len(self._to_sink), len(self._to_client)) < OUTPUT_HELD else []
        speaker = self._source if self._client is None else self._client
        if speaker is not None and not self._to_serial:
            readers.append(speaker)
        if self._door is not None and self._client is None:
            readers.append(self._door)
        writers = [self._sink] if self._to_sink else []
        times = [self._deadline] if self._deadline is not None else []
        if self._to_client:
            writers.append(self._client)
            times.append(self._client_until)
        if status is not None:
            times.append(self._heard + self._patience(status))
        if self._to_serial:
            if now >= self._next_input:
                writers.append(self._serial)
            else:
                times.append(self._next_input)
        wait = max(0.0, min(times) - now) if times else None

        readable, writable, _ = select.select(readers, writers, [], wait)
        if self._sink in writable:
            self._write_sink()
        if self._serial in writable:
            self._write_serial()
        if self._source in readable:
            self._read_source()
        if self._client in readable:
            self._read_client()
        if self._client in writable:
            self._write_client()
        elif self._to_client and time.monotonic() >= self._client_until:
            self._drop_client()
        if self._door in readable:
            self._client, _ = self._door.accept()
            self._client.setblocking(False)
        return self._read_serial() if self._serial in readable else True

    def _read_serial(self):
        try:
            data = self._serial.recv(OUTPUT_HELD)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if not data:
            return False
        self._heard = time.monotonic()
        self._last.feed(data)
        if self._log:
            self._log.write(data)
            self._log.flush()
        self._to_sink += data
        if self._client is not None:
            self._client_until = self._client_until if self._to_client else self._heard + CLIENT_PATIENCE
            self._to_client += data
        return True

    def _write_serial(self):
        try:
            sent = self._serial.send(self._to_serial[:INPUT_BYTES])
        except (BlockingIOError, ConnectionError):  # a lost connection shows when reading
            return
        self._to_serial = self._to_serial[sent:]
        self._next_input = time.monotonic() + INPUT_INTERVAL

    def _read_source(self):
        try:
            data = os.read(self._source, 4096)
        except OSError:
            data = b""
        if data:
            self._to_serial += data
        elif os.isatty(self._source):
            raise EOFError("the terminal has gone")
        else:
            self._source = None

    def _read_client(self):
        try:
            data = self._client.recv(4096)
        except OSError:
            data = b""
        if data:
            self._to_serial += data
        else:
            self._drop_client()

    def _write_client(self):
        if self._client is None:  # it has just gone
            return
        try:
            sent = self._client.send(self._to_client)
        except BlockingIOError:
            return
        except ConnectionError:
            self._drop_client()
            return
        self._to_client = self._to_client[sent:]
        self._client_until = time.monotonic() + CLIENT_PATIENCE

    def _drop_client(self):
        if self._client is not None:
            self._client.close()
            self._client = None
            self._to_client = b""

    def _write_sink(self):
        # No more than a pipe takes at once when it is writable at all, so this never blocks.
        try:
            written = os.write(self._sink, self._to_sink[: select.PIPE_BUF])
        except OSError as error:
            if error.errno == errno.EIO:
                raise EOFError("the terminal has gone") from None
            raise
        self._to_sink = self._to_sink[written:]

    def _flush(self):
        """Hands out what is left, to a reader that has stopped reading only for a second."""
        self._write_client()
        until = time.monotonic() + 1.0
        while self._to_sink:
            if not select.select([], [self._sink], [], max(0.0, until - time.monotonic()))[1]:
                return
            self._write_sink()
