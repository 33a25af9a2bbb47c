# SPDX-License-Identifier: BSD-2-Clause
"""
`umbra ctl` against Umbra's own monitor and console, compiled for the host (monitor_line.c), on a serial line
and behind the socket of `umbra run --serial`.
"""
import contextlib
import json
import os
import pathlib
import pty
import select
import signal
import socket
import subprocess
import termios
import threading
import time
import tty

import pytest

from umbra import console, ctl, ending

ROOT = pathlib.Path(__file__).resolve().parents[2]

LIST = """\
no. name             state    vcpus cpus      memory        exits  reason
  1 linux            running      2 2-3,5       256M       182311
  3 quiet            halted       1 1*         1500K 18446744073709551615
  4 dead             crashed      1 -             2T            7  triple fault at rip 0x100f2e
"""

# What may stand on the line before: letters of monitor_line.c, alone and together.
PASTS = ["", "t", "e", "p", "n", "c", "s", "T", "l", "ne", "pl", "cn", "pnle", "sl", "Tn"]


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The monitor on a line."""
    path = tmp_path_factory.mktemp("monitor") / "monitor_line"
    sources = [
        "tests/host/monitor_line.c",
        "core/console.c",
        "core/line_editor.c",
        "core/trace.c",
        "lib/printf.c",
    ]
    sources += sorted(str(file.relative_to(ROOT)) for file in (ROOT / "core").glob("monitor*.c"))
    command = ["gcc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-I.", "-o", path, *sources]
    subprocess.run(command, cwd=ROOT, check=True)
    return path


class Machine:
    """A monitor on a line. `line` is what `umbra ctl` is given; `shown` what the line has shown, if known."""

    def __init__(self, host, line, process, shown=None):
        self._host = host
        self.line = line
        self.process = process
        self._shown = shown

    def ctl(self, *words, given=None):
        return self._host.umbra("ctl", self.line, *words, given=given)

    @property
    def shown(self):
        return self._shown.read_bytes()


@pytest.fixture
def machines(host, program):
    """Makes machines; all is gone at the end."""
    with contextlib.ExitStack() as stack:

        def run(line, *words):
            process = stack.enter_context(subprocess.Popen([program, *words], stdin=line))
            stack.callback(process.kill)
            return process

        def on_tty(*words):
            master, slave = pty.openpty()
            stack.callback(os.close, slave)
            tty.setraw(slave)  # no echo of what comes before anybody is there
            stack.callback(os.close, master)  # not before: the hang-up would swallow what was said last
            process = run(master, *words)
            return Machine(host, os.ttyname(slave), process)

        def on_socket(*words):
            ours, theirs = socket.socketpair()
            process = run(theirs, *words)
            theirs.close()
            path, shown = host.folder / "socket", host.folder / "shown"
            door = stack.enter_context(socket.socket(socket.AF_UNIX))
            door.bind(str(path))
            door.listen()
            log = stack.enter_context(open(shown, "wb"))
            sink = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, sink)
            relay = threading.Thread(target=console.Relay(ours, None, sink, log, door=door).run)
            relay.start()
            stack.callback(ours.close)
            stack.callback(relay.join)
            stack.callback(process.kill)  # ends the relay
            return Machine(host, path, process, shown)

        yield {"tty": on_tty, "socket": on_socket}


@pytest.fixture(params=["tty", "socket"])
def machine(request, machines):
    """Makes a machine with a certain past, on either kind of line."""
    return machines[request.param]


# ---- What stands on the line before -----------------------------------------------------------------------


@pytest.mark.parametrize("past", PASTS)
def test_whatever_was_before(machine, past):
    """Fails when guest output, typed text, a command under way or the log gets into an answer."""
    on_line = machine(past) if past else machine()
    for _ in range(2):
        done = on_line.ctl("list")
        assert (done.returncode, done.stdout, done.stderr) == (0, LIST, "")


def test_leaves_no_plain(machines):
    """Fails when a person finds the monitor without echo and prompt after a command, a refusal or a timeout."""
    on_line = machines["socket"]()
    for command in ("list", "start linux", "plain on", "plain off", "stop linux"):
        on_line.ctl(command, "--timeout", "3")
        assert on_line.shown.endswith(b"umbra> \x1b[K")


@pytest.mark.parametrize("past", ["", "n", "e"])
def test_types_nothing_at_a_guest(machines, past):
    """Fails when a guest gets what is meant for the monitor. After a lone escape key its `c` is all it gets."""
    on_line = machines["socket"](past)
    assert on_line.ctl("list").returncode == 0
    typed = b"".join(on_line.shown.split(b"<")[1:])
    assert on_line.shown.count(b"<") == (2 if past == "e" else 0), typed


def test_other_escape_key(machines):
    """Fails when --escape is not what reaches the monitor."""
    on_line = machines["tty"]("", "\x14")
    assert on_line.ctl("--escape", "^t", "list").stdout == LIST
    assert on_line.ctl("--escape", "^q", "list", "--timeout", "2").returncode == 4


def test_long_answer(machine):
    """Fails when lines of an answer that takes many steps are lost."""
    lines = machine("nl").ctl("dump", "linux", "1").stdout.splitlines()
    assert len(lines) == 400
    assert all(line.startswith(f"line {number} of") for number, line in enumerate(lines))


# ---- How it ends -------------------------------------------------------------------------------------------


def test_refusal(machine):
    """Fails when an error is no error, or is told in other words."""
    on_line = machine()
    done = on_line.ctl("start", "linux")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "umbra ctl: cannot start linux: it runs already\n"
    assert on_line.ctl("frobnicate").stderr == "umbra ctl: no command named frobnicate (help lists them)\n"
    done = on_line.ctl("set linux weight a  lot", "--json")
    assert done.returncode == 1
    answer = {
        "ok": False,
        "error": "cannot set weight of linux: 'a lot' is no weight",
        "status": 1,
        "lines": [],
    }
    assert json.loads(done.stdout) == answer


def test_done_without_words(machine):
    """Fails when what is done is not told by the status alone."""
    on_line = machine()
    done = on_line.ctl("stop", "quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads(on_line.ctl("--json", "stop", "quiet").stdout) == {"ok": True, "lines": []}


def test_timeout(machine):
    """Fails when a command that does not end is waited for for ever, or is in the way of the next one."""
    on_line = machine("n")
    done = on_line.ctl("stop", "linux", "--timeout", "3")
    assert (done.returncode, done.stdout) == (4, "")
    assert on_line.ctl("list").stdout == LIST
    done = on_line.ctl("stop", "linux", "--timeout", "3", "--json")
    assert json.loads(done.stdout)["status"] == done.returncode == 4


def test_nobody_answers(host):
    """Fails when a silent line, or one that only echoes, does not end with the time."""
    master, slave = pty.openpty()
    assert host.umbra("ctl", os.ttyname(slave), "list", "--timeout", "2").returncode == 4
    # What it typed at whoever that is: no more than the escape key's `c`.
    typed = os.read(master, 1000)
    assert typed.replace(b"\x01c", b"") == b""
    os.close(master)
    os.close(slave)


def test_serial_device(host):
    """Fails when a serial device is not raw and of the speed asked for, or is not afterwards as it was."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    with host.start("ctl", os.ttyname(slave), "list", "--timeout", "1", "--baud", "9600") as process:
        assert os.read(master, 2) == b"\x01c"
        iflag, oflag, cflag, lflag, ispeed, ospeed, _ = termios.tcgetattr(slave)
        assert (iflag, oflag, lflag) == (0, 0, 0)
        assert cflag & (termios.CSIZE | termios.PARENB | termios.CSTOPB | termios.CRTSCTS) == termios.CS8
        assert (ispeed, ospeed) == (termios.B9600, termios.B9600)
        assert process.wait() == 4
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_closed_line(host):
    """Fails when a line that is closed in order at the other end is waited for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with host.start("ctl", f"127.0.0.1:{listener.getsockname()[1]}", "list") as process:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(2) == b"\x01c"
            assert process.wait() == 5
            assert b"it was closed at the other end" in process.stderr.read()


def test_dead_line(host, machines, tmp_path):
    """Fails when a line that is not there, or goes, is taken for another failure."""
    assert host.umbra("ctl", tmp_path / "nothing", "list").returncode == 5
    assert host.umbra("ctl", "127.0.0.1:1", "list").returncode == 5
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(tmp_path / "stale"))
    assert host.umbra("ctl", tmp_path / "stale", "list").returncode == 5
    on_line = machines["socket"]()
    with host.start("ctl", on_line.line, "stop", "linux") as process:
        while b"nobody-" not in on_line.shown:
            time.sleep(0.01)
        on_line.process.kill()
        assert process.wait() == 5
        assert b"is dead" in process.stderr.read()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["list"],
        ["no-line", "list", "--timeout", "never"],
        ["/dev/tty", "list", "--escape", "x"],
        ["SOCKET", "list", "caf\u00e9"],
        ["SOCKET", "list " + "x" * 250],
        ["SOCKET", ""],
        ["TTY", "list", "--baud", "12345"],
        ["/dev/null", "list"],
        ["FILE", "list"],
    ],
)
def test_usage(host, words, tmp_path):
    """Fails when a mistake on the command line is not told from a failure."""
    (tmp_path / "file").write_text("")
    master, slave = pty.openpty()
    named = {"FILE": str(tmp_path / "file"), "TTY": os.ttyname(slave), "SOCKET": "127.0.0.1:1"}
    assert host.umbra("ctl", *(named.get(word, word) for word in words)).returncode == 2
    os.close(master)
    os.close(slave)


def test_last_words(machine):
    """Fails when a command after which the machine is off does not end well."""
    on_line = machine()
    done = on_line.ctl("poweroff")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    on_line.process.wait()


def test_panic(host, machines):
    """Fails when the machine's panic during a command is waited out."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with host.start("ctl", f"127.0.0.1:{port}", "list") as process:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(2) == b"\x01c"
                connection.sendall(b"\r\n[monitor]\r\n")
                text = b""
                while b"\rnobody" not in text or not text.endswith(b"\r"):
                    text += connection.recv(1000)
                nobody = text.split(b"\r")[1]
                connection.sendall(b"ok\r\nerror: no command named " + nobody + b" (help lists them)\r\n")
                connection.sendall(b"some lines\r\numbra: panic lib/ring.h:10\r\n")
                assert process.wait() == 5
            assert b"'umbra: panic lib/ring.h:10'" in process.stderr.read()


# ---- The console ------------------------------------------------------------------------------------------


def test_console(machines):
    """Fails when the console does not go to the partition, or is waited for where it does not."""
    on_line = machines["socket"]("n")
    done = on_line.ctl("console", "quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert on_line.shown.endswith(b"\r\n[quiet]\r\n")
    done = on_line.ctl("console", "dead")
    assert (done.returncode, done.stderr) == (
        1,
        "umbra ctl: cannot show the console of dead: it has no console\n",
    )
    assert on_line.ctl("console").returncode == 1
    assert on_line.ctl("list").stdout == LIST


# ---- create ------------------------------------------------------------------------------------------------

SECTION = "\ufeff# caf\u00e9\r\n[partition new]\r\n  # more\n\tmemory = 64M # room\n\nend\nlist\n"
SECTION_ARRIVES = ["1:1: <>", "2:1: <[partition new]>", "3:1: <>", "4:1: < memory = 64M # room>", "5:1: <>"]


@pytest.mark.parametrize("from_file", [True, False])
def test_create(machine, host, from_file):
    """Fails when a line of the section does not arrive as it is, at its place, or an error's lines are lost."""
    (host.folder / "new.conf").write_text(SECTION)
    on_line = machine("l")
    words = ["create", "new.conf"] if from_file else ["create"]
    done = on_line.ctl(*words, given=None if from_file else SECTION)
    assert (done.returncode, done.stdout.splitlines()) == (1, SECTION_ARRIVES)
    assert done.stderr == "umbra ctl: cannot create it: 5 errors\n"
    done = on_line.ctl("--json", *words, given=None if from_file else SECTION)
    assert json.loads(done.stdout)["lines"] == SECTION_ARRIVES
    assert on_line.ctl("create", given="[partition ok]\nmemory = 1M").returncode == 0


@pytest.mark.parametrize("end", ["end", " . "])
def test_section_ends(end, tmp_path):
    """Fails when what follows the section's end is sent, too: the monitor would take it for commands."""
    file = tmp_path / "file"
    file.write_text(f"[partition ok]\n{end}\npoweroff\n")
    assert ctl.read_section(str(file)) == ["[partition ok]"]


@pytest.mark.parametrize("text", ["[partition a]\nx = \x01c", "[partition a]\nx = caf\u00e9", "x" * 251])
def test_create_what_cannot_be_typed(host, text):
    """Fails when the monitor would get another section than the file has."""
    done = host.umbra("ctl", "127.0.0.1:1", "create", given=text)
    assert done.returncode == 2
    assert done.stderr.startswith(f"umbra ctl: standard input:{text.count(chr(10)) + 1}: ")


# ---- Values ------------------------------------------------------------------------------------------------

MEMORY = {
    "memory": [
        {"owner": "free", "bytes": 740112 << 10},
        {"owner": "being cleared", "bytes": 0},
        {"owner": "umbra", "bytes": 1876 << 10},
        {"owner": "modules", "bytes": 21044 << 10},
        {"owner": "linux", "bytes": 262144 << 10},
        {"owner": "free-and-with-a-long-name", "bytes": 123456789012 << 10},
    ],
    "together": 1025176 << 10,
    "largest_free": 737280 << 10,
}


def partition(number, name, state, vcpus, cpus, shared, memory, exits, reason):
    return {
        "number": number,
        "name": name,
        "state": state,
        "vcpus": vcpus,
        "cpus": cpus,
        "shared": shared,
        "memory": memory,
        "exits": exits,
        "reason": reason,
    }


VALUES = {
    "list": {
        "partitions": [
            partition(1, "linux", "running", 2, [2, 3, 5], False, 256 << 20, 182311, None),
            partition(3, "quiet", "halted", 1, [1], True, 1500 << 10, (1 << 64) - 1, None),
            partition(4, "dead", "crashed", 1, [], False, 2 << 40, 7, "triple fault at rip 0x100f2e"),
        ]
    },
    "stats linux": {
        "stats": {
            "starts": 1,
            "exits": 182311,
            "exits_I_O_instruction": (1 << 64) - 1,
            "vcpu1_exits_CPUID": 61,
        }
    },
    "memory": MEMORY,
    "cpu": {
        "processors": [
            {"number": 0, "apic_id": 0, "busy": 0.9, "idle": 99.1, "serves": "housekeeper"},
            {"number": 1, "apic_id": 0x1F, "busy": 100.0, "idle": 0.0, "serves": "linux, quiet"},
            {"number": 2, "apic_id": 0x20, "busy": 0.0, "idle": 100.0, "serves": ""},
        ],
        "tsc_hz": 2893412000,
        "capabilities": {"TRUE controls": True, "virtual-interrupt delivery": False},
    },
    "help start": {"lines": ["start    NAME               start a partition"]},
}


@pytest.mark.parametrize("command", VALUES)
def test_values(machine, command):
    """Fails when a value of the answer is missing, of the wrong type or wrong."""
    done = machine("l").ctl("--json", *command.split())
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"ok": True, **VALUES[command]}


@pytest.mark.parametrize("command", ["top", "top once"])
def test_values_of_top(machines, command):
    """The same, of the table over a second, whose rates depend on the clock."""
    answer = json.loads(machines["tty"]("n").ctl("--json", command).stdout)
    seconds = answer.pop("seconds")
    rows = answer.pop("rows")
    assert answer == {"ok": True, "processors": 2, **MEMORY}
    assert isinstance(seconds, float) and seconds >= 1.0
    none = {kind: 0 for kind in ("all", "irq", "io", "mem", "msr", "cpuid", "halt", "other")}
    some = rows[1]["exits_per_second"]
    assert some["all"] == some["io"] and 4_900_000_000 < some["io"] < 5_100_000_000
    assert rows == [
        {"cpu": 0, "partition": None, "vcpu": None, "share": 100.0},
        {
            "cpu": 1,
            "partition": "linux",
            "vcpu": 3,
            "share": 100.0,
            "exits_per_second": {**none, "all": some["io"], "io": some["io"]},
        },
        {"cpu": 1, "partition": "idle", "vcpu": 0, "share": 0.0, "exits_per_second": none},
        {"cpu": 1, "partition": None, "vcpu": None, "share": 0.0},
    ]


def test_trace(machine, host):
    """Fails when a saved trace is not what `umbra trace` takes, or its values are wrong."""
    on_line = machine("n")
    assert on_line.ctl("trace", "linux", "on").returncode == 0
    done = on_line.ctl("trace", "linux", "save", "-o", "saved")
    assert (done.returncode, done.stdout) == (0, "")
    answer = json.loads(on_line.ctl("--json", "trace", "linux", "save").stdout)
    records = answer.pop("records")
    assert answer == {
        "ok": True,
        "partition": "linux",
        "vcpus": 2,
        "tsc_hz": 1000000000,
        "lost": 0,
        "complete": True,
    }
    assert len(records) == 510 and records[-1] == {
        "vcpu": 1,
        "tsc": 0x2A51F00C3 + 299_000 + 1,
        "reason": 10,
        "name": "CPUID",
        "rip": 0xFFFFFFFF8188D7FF,
        "qualification": 0,
        "detail": 299,
        "ticks": 0,
    }
    decoded = json.loads(host.umbra("trace", "saved", "--json").stdout)
    assert (decoded["records"], decoded["complete"]) == (510, True)


def test_answer_in_a_file(machine, host):
    """Fails when -o loses something, or a refusal leaves a file."""
    on_line = machine()
    assert on_line.ctl("list", "-o", "list").stdout == ""
    assert (host.folder / "list").read_text() == LIST
    assert on_line.ctl("start", "linux", "-o", "start").returncode == 1
    assert not (host.folder / "start").exists()


# ---- The socket of `umbra run` --------------------------------------------------------------------------


BOCHS = """\
#!/usr/bin/python3
import os, re, socket
port = int(re.search(r"dev=127.0.0.1:(\\d+)", open("bochsrc").read()).group(1))
serial = socket.create_connection(("127.0.0.1", port))
os.dup2(serial.fileno(), 0)
os.execv(os.environ["MONITOR"], ["monitor", "n"])
"""


def test_run_offers_the_console(host, iso, program):
    """Fails when a command does not get through while the terminal shows the console, or the socket stays."""
    host.program("bochs", BOCHS)
    host.environment["MONITOR"] = str(program)
    path = host.folder / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with (
        host.start("run", iso, "--on", "bochs", "--serial", path, stdout=subprocess.DEVNULL) as process,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(process.kill)
        while process.poll() is None and host.umbra("ctl", path, "list").returncode == 5:
            time.sleep(0.1)
        assert path.stat().st_mode & 0o077 == 0
        assert host.umbra("ctl", path, "list").stdout == LIST
        again = host.umbra("run", iso, "--on", "bochs", "--serial", path)
        assert again.returncode == 1 and "in use" in again.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert not path.exists()
    path.write_text("precious")
    assert host.umbra("run", iso, "--on", "bochs", "--serial", path).returncode == 1
    assert path.read_text() == "precious"


@pytest.fixture
def relay(tmp_path):
    """A relay: the machine's end, the path of its door, and the writing end of its source."""
    ours, machine = socket.socketpair()
    source, typed = os.pipe()
    sink = os.open(os.devnull, os.O_WRONLY)
    path = str(tmp_path / "door")
    with socket.socket(socket.AF_UNIX) as door, ours, machine:
        door.bind(path)
        door.listen()
        statuses = []
        run = console.Relay(ours, source, sink, door=door).run
        thread = threading.Thread(target=lambda: statuses.append(run()))
        thread.start()
        yield machine, path, typed
        machine.close()
        thread.join()
        assert statuses == [ending.DIED]
    for descriptor in (source, typed, sink):
        os.close(descriptor)


def test_one_speaks_at_a_time(relay):
    """Fails when what is typed at the terminal gets between what a client says, or is lost."""
    machine, path, typed = relay
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"1")
        assert machine.recv(100) == b"1"
        os.write(typed, b"terminal")
        client.sendall(b"2345")
        got = b""
        while len(got) < 4:
            got += machine.recv(100)
        assert got == b"2345"
        machine.sendall(b"hello")
        assert client.recv(100) == b"hello"
        assert not select.select([machine], [], [], 0.1)[0]
    assert machine.recv(100) == b"terminal"


def test_client_that_does_not_read(relay):
    """Fails when a client that has stopped reading holds the machine up for ever."""
    machine, path, typed = relay
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"1")
        assert machine.recv(100) == b"1"
        os.write(typed, b"terminal")
        for _ in range(100):
            machine.sendall(bytes(65536))
        assert machine.recv(100) == b"terminal"
