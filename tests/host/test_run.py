# SPDX-License-Identifier: BSD-2-Clause
"""`umbra run` with a stand-in for Bochs: how runs end, and what goes to and fro."""
import os
import pathlib
import signal
import socket
import subprocess
import threading

import pexpect
import pytest

from umbra import console, ending

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Does what its environment tells: BEFORE it connects its serial port, and AFTER.
BOCHS = """\
#!/usr/bin/python3
import os, re, signal, socket, sys
with open(os.environ["PID_FILE"], "w") as file:
    file.write(str(os.getpid()))
exec(os.environ.get("BEFORE", ""))
port = int(re.search(r"dev=127.0.0.1:(\\d+)", open("bochsrc").read()).group(1))
serial = socket.create_connection(("127.0.0.1", port))
exec(os.environ["AFTER"])
"""


@pytest.fixture
def bochs(host, tmp_path):
    """Says what the stand-in does. Its process must be gone when the test is over."""
    pid_file = tmp_path / "pid"

    def behave(after, before=""):
        host.program("bochs", BOCHS)
        host.environment.update(AFTER=after, BEFORE=before, PID_FILE=str(pid_file))

    yield behave
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
    assert not list(host.build.glob("run-*"))


@pytest.mark.parametrize(
    "says, stays, status",
    [
        (r"hello\r\numbra: off\r\n", False, ending.OFF),
        (r"umbra: off", False, ending.OFF),
        (r"\x1b[0mumbra: off\r\n\r\n\x1b[J", False, ending.OFF),
        (r"umbra: panic lib/ring.h:10\r\n", True, ending.PANIC),
        (r"umbra: panic lib/ring.h:10\r\n", False, ending.PANIC),
        (r"hello\r\n", False, ending.DIED),
        (r"umbra: off\r\nand on it goes\r\n", False, ending.DIED),
        (r"umbra: panic? No.\r\n# \r\n", False, ending.DIED),
        (r"the guest says umbra: off\r\n", False, ending.DIED),
        (r"umbra: offended\r\n", False, ending.DIED),
        (r"", False, ending.DIED),
    ],
)
def test_exit_status(host, bochs, iso, says, stays, status):
    """Fails when the console's last line does not decide, or a panicked machine is not ended."""
    bochs(f"serial.sendall(b'{says}')\nif {stays}: signal.pause()")
    done = host.umbra("run", iso, "--on", "bochs")
    assert done.returncode == status
    assert done.stdout == says.encode().decode("unicode_escape").replace("\r\n", "\n")


def test_timeout(host, bochs, iso):
    """Fails when a silent machine is not ended at its time."""
    bochs("serial.sendall(b'busy'); signal.pause()")
    done = host.umbra("run", iso, "--on", "bochs", "--timeout", "1")
    assert (done.returncode, done.stdout) == (ending.TIMEOUT, "busy")
    assert "no end within 1 s" in done.stderr


def test_timeout_before_the_console(host, bochs, iso):
    """Fails when an emulator that never connects is waited for."""
    bochs("", before="signal.pause()")
    assert host.umbra("run", iso, "--on", "bochs", "--timeout", "1").returncode == ending.TIMEOUT


def test_died_at_once(host, bochs, iso):
    """Fails when an emulator that does not start leaves no reason."""
    bochs("", before="sys.exit('no such processor model')")
    done = host.umbra("run", iso, "--on", "bochs", "--timeout", "30")
    assert done.returncode == ending.DIED
    assert "no such processor model" in done.stderr


def test_input_and_its_end(host, bochs, iso):
    """Fails when piped input is lost or changed on its way, or its end ends the run."""
    text = "".join(f"line {number}\r\x03\x01c" for number in range(20))
    bochs(
        f"""
got = b""
while len(got) < {len(text)}: got += serial.recv(1)
serial.sendall(got + b"\\numbra: off\\n")"""
    )
    done = host.umbra("run", iso, "--on", "bochs", given=text)
    assert done.returncode == ending.OFF
    assert done.stdout == text.replace("\r", "\n") + "\numbra: off\n"


def test_no_standard_input(host, bochs, iso):
    """Fails when a closed standard input ends the run."""
    bochs("serial.sendall(b'umbra: off\\n')")
    command = f"exec {ROOT}/umbra run {iso} --on bochs <&-"
    assert (
        subprocess.run(command, shell=True, env=host.environment, capture_output=True, check=False).returncode
        == 0
    )


def test_log(host, bochs, iso):
    """Fails when the console's copy or the emulator's words are not in the files."""
    bochs(
        "open('bochs.log', 'w').write('a log'); print('port e9'); serial.sendall(b'one\\r\\numbra: off\\n')"
    )
    log = host.folder / "some log"
    assert host.umbra("run", iso, "--on", "bochs", "--log", log).returncode == ending.OFF
    assert log.read_bytes() == b"one\r\numbra: off\n"
    assert (host.folder / "some log.emulator").read_text() == "a log"
    assert (host.folder / "some log.output").read_text() == "port e9\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_the_emulator(host, bochs, iso, number):
    """Fails when the emulator outlives the command (the fixture looks), or the folder of the run does."""
    bochs("serial.sendall(b'x'); signal.pause()")
    with host.start("run", iso, "--on", "bochs") as process:
        process.stdout.read(1)
        process.send_signal(number)
        assert process.wait() == 128 + number


def test_reader_goes_away(host, bochs, iso):
    """Fails when a run whose output nobody reads goes on."""
    bochs("serial.sendall(b'x')\nwhile True: serial.sendall(b'y' * 1000)")
    with host.start("run", iso, "--on", "bochs") as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait() == 128 + signal.SIGPIPE


# ---- On a terminal -----------------------------------------------------------------------------------------


def terminal(host, *words):
    """
    A shell on a terminal of its own that runs `umbra run` and then tells its status and the terminal's state.
    """
    command = f"{ROOT}/umbra run --on bochs {' '.join(map(str, words))}; echo status=$?; stty -a"
    return pexpect.spawn("/bin/sh", ["-c", command], env=host.environment, timeout=60)


def assert_terminal_restored(child, status):
    child.expect(rb"status=(\d+)")
    assert int(child.match.group(1)) == status
    child.expect(pexpect.EOF)
    flags = child.before.split()
    assert {b"icanon", b"isig", b"echo", b"icrnl", b"opost"} <= set(flags)


def test_terminal_is_raw(host, bochs, iso):
    """Fails when a key is eaten by the terminal (^C, ^Z, ^S, Enter), or the terminal stays raw."""
    keys = rb"\x03\x1a\x13\x11\r\x01c"
    bochs(
        f"""
serial.sendall(b"ready\\n")
got = b""
while len(got) < 7: got += serial.recv(7)
serial.sendall(b"good\\n" if got == b"{keys.decode()}" else repr(got).encode())
serial.sendall(b"umbra: off\\n")"""
    )
    child = terminal(host, iso)
    child.expect("ready")
    child.send(keys.decode("unicode_escape").encode())
    child.expect("good")
    assert_terminal_restored(child, 0)


@pytest.mark.parametrize(
    "after, options, status",
    [
        ("serial.sendall(b'umbra: panic x\\n'); signal.pause()", [], ending.PANIC),
        ("signal.pause()", ["--timeout", "1"], ending.TIMEOUT),
        ("pass", [], ending.DIED),
        ("import time; os.kill(os.getppid(), signal.SIGTERM); signal.pause()", [], 128 + signal.SIGTERM),
    ],
)
def test_terminal_is_restored(host, bochs, iso, after, options, status):
    """Fails when some way out leaves the terminal raw."""
    bochs(after)
    assert_terminal_restored(terminal(host, iso, *options), status)


def test_terminal_closes(host, bochs, iso, tmp_path):
    """Fails when the emulator goes on without its terminal (the fixture looks)."""
    bochs("serial.sendall(b'ready'); signal.pause()")
    child = pexpect.spawn(
        f"{ROOT}/umbra", ["run", str(iso), "--on", "bochs"], env=host.environment, timeout=60
    )
    child.expect("ready")
    process = child.pid
    os.close(child.child_fd)  # the terminal hangs up
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 128 + signal.SIGHUP
    child.closed, child.child_fd, child.terminated = True, -1, True


# ---- The relay by itself -----------------------------------------------------------------------------------


def test_input_is_paced():
    """Fails when more bytes go to the serial port at once than a UART takes."""
    ours, machine = socket.socketpair(
        socket.AF_UNIX, socket.SOCK_SEQPACKET
    )  # keeps what is sent at once together
    source, typed = os.pipe()
    os.write(typed, bytes(range(50)))
    sink = os.open(os.devnull, os.O_WRONLY)
    pieces = []

    def uart():
        while sum(map(len, pieces)) < 50:
            pieces.append(machine.recv(100))
        machine.close()

    reader = threading.Thread(target=uart)
    reader.start()
    assert console.Relay(ours, source, sink).run() == ending.DIED
    reader.join()
    assert b"".join(pieces) == bytes(range(50))
    assert max(map(len, pieces)) <= 16
    for descriptor in (source, typed, sink):
        os.close(descriptor)
    ours.close()


def test_last_line_over_any_cut():
    """Fails when where the pieces are cut changes what is read."""
    text = b"umbra: off\r\nno\r\n\x1b[1;1Humbra: panic at x\r\n"
    for size in range(1, len(text) + 1):
        last = ending.LastLine()
        for start in range(0, len(text), size):
            last.feed(text[start : start + size])
        assert last.status() == ending.PANIC
