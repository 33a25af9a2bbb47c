# SPDX-License-Identifier: BSD-2-Clause
"""
Drives one Bochs by its debugger. The machine stops before the instruction that was asked for, at an exact
tick of its clock, and what runs in it neither sees that nor pays for it.

A tick is a retired instruction, but for halts, where ticks go by with nothing retired.
"""
import os
import re
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

from umbra import emulators
from umbra.common import Problem, run_tool

MODEL = emulators.MODELS["bochs"]
MIB = emulators.MIB

# One start of the machine is like another: neither calendar nor display goes by the host's clock, and its
# random numbers are the same.
_SEED_SOURCE = Path(__file__).with_name("seed.c")
_FIXED_TIME = """\
clock: sync=none, time0=1700000000
vga: extension=vbe, update_freq=5, realtime=0
"""

_PROMPT = re.compile(r"<bochs:\d+> ?\Z")
_TICKS = re.compile(r"Next at t=(\d+)")
_INSTRUCTION = re.compile(r"\(\d+\) \[0x\w+\] \w+:(\w+) \([^)]*\): ([^;\n]*?) *; ([0-9a-f]+)")
_INPUT_INTERVAL = 0.02  # between two bytes to the serial line, which has no flow control


class Stop:
    """
    Where the machine stands: the clock, and the instruction that comes next. `code` is empty where that is
    not in memory yet: it is about to fault.
    """

    def __init__(self, said):
        self.ticks = int(_TICKS.search(said)[1])
        instruction = _INSTRUCTION.search(said)
        address, self.text, code = instruction.groups() if instruction else ("0", "", "")
        self.address = int(address, 16)
        self.code = bytes.fromhex(code)


class Bochs:
    """
    One processor of MODEL that boots the ISO `medium`; `folder` is for the emulator's files. Use it as a
    context: the emulator ends with the block. `console` is what the machine wrote to COM1.
    """

    def __init__(self, medium, folder, memory, limit=900.0):
        self._folder = folder
        self._medium = medium
        self._memory = memory
        self._deadline = time.monotonic() + limit
        self._said = ""
        self._breakpoints = 0
        self.console = ""

    def __enter__(self):
        medium = self._folder / "medium"
        medium.unlink(missing_ok=True)
        medium.symlink_to(self._medium.resolve())
        (self._folder / "commands").write_text("")
        seed = self._folder / "seed.so"
        run_tool("gcc", "-shared", "-fPIC", "-o", seed, _SEED_SOURCE)
        with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
            text = emulators.bochsrc("medium", "iso", listener.getsockname()[1], memory=self._memory)
            (self._folder / "bochsrc").write_text(text + _FIXED_TIME)
            self._process = subprocess.Popen(
                emulators.bochs_command(),
                cwd=self._folder,
                env={**os.environ, "LD_PRELOAD": str(seed.resolve())},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                listener.settimeout(60)
                self._serial, _ = listener.accept()
                self._wait(lambda: _PROMPT.search(self._said))
            except OSError as error:
                self._end()
                raise Problem(f"Bochs did not start ({error}); see {self._folder}") from None
            except BaseException:
                self._end()
                raise
        return self

    def __exit__(self, *_exception):
        self._serial.close()
        self._end()

    def _end(self):
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    # ---- The debugger ------------------------------------------------------------------------------------

    def stop_at(self, address):
        """Sets a breakpoint at a linear address. Returns its number, for ignore()."""
        self._command(f"lb {address:#x}")
        self._breakpoints += 1
        return self._breakpoints

    def ignore(self, number):
        """Takes a breakpoint away."""
        self._command(f"d {number}")

    def go(self):
        """Runs to the next breakpoint."""
        return self._stop(self._command("c"))

    def go_to(self, address, code):
        """
        Runs to the linear address `address` with an instruction there that is the beginning of `code`: others
        may have run at that address before.
        """
        number = self.stop_at(address)
        while True:
            stop = self.go()
            if stop.address == address and stop.code and code.startswith(stop.code):
                self.ignore(number)
                return stop

    def step(self):
        """Executes one instruction; a halted processor first waits for what wakes it."""
        return self._stop(self._command("s"))

    def trace_to(self, address):
        """Runs to the linear address `address`. Returns the debugger's lines of all instructions on the way."""
        number = self.stop_at(address)
        self._command("trace on")
        said = self._command("c")
        self._command("trace off")
        self.ignore(number)
        return said

    def run_on(self):
        """Lets the machine run, until interrupt() or wait_stop()."""
        self._send("c")

    def interrupt(self):
        """Stops a machine that runs, wherever it is."""
        self._process.send_signal(signal.SIGINT)
        return self.wait_stop()

    def wait_stop(self):
        """Waits until a machine that runs comes to a breakpoint."""
        self._wait(lambda: _PROMPT.search(self._said))
        return self._stop(self._said)

    def wait_console(self, pattern, start=0):
        """Waits for `pattern` in what a running machine says, from position `start` of `console` on."""
        return self._wait(lambda: re.search(pattern, self.console[start:], re.MULTILINE | re.DOTALL))

    def type(self, text):
        """Sends `text` to COM1 of the running machine."""
        for byte in text.encode():
            self._serial.sendall(bytes([byte]))
            time.sleep(_INPUT_INTERVAL)

    def _stop(self, said):
        if not _TICKS.search(said):
            raise Problem(f"Bochs stopped in an unexpected way:\n{said[-2000:]}\n{self.console[-1000:]}")
        return Stop(said)

    def _command(self, line):
        self._send(line)
        self._wait(lambda: _PROMPT.search(self._said))
        return self._said

    def _send(self, line):
        self._said = ""
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _wait(self, condition):
        """Takes what emulator and serial line say until `condition` holds; returns what that returned."""
        output = self._process.stdout.fileno()
        while not (result := condition()):
            left = self._deadline - time.monotonic()
            ready = select.select([output, self._serial], [], [], max(left, 0))[0]
            if not ready:
                raise Problem(f"Bochs took too long; last on the console:\n{self.console[-1000:]}")
            if self._serial in ready:
                self.console += self._serial.recv(65536).decode(errors="replace").replace("\r", "")
            if output in ready:
                data = os.read(output, 65536)
                if not data:
                    last = f"{self._said[-1000:]}\n{self.console[-1000:]}"
                    raise Problem(f"Bochs ended; its last words:\n{last}")
                self._said += data.decode(errors="replace")
        return result
