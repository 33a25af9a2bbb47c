# SPDX-License-Identifier: BSD-2-Clause
"""The command line of ./umbra."""
import argparse
import os
import signal
import sys

from bench import command as benchmark
from umbra import check, ctl, guests, image, run, stick, trace
from umbra.common import Problem, parse_size


def _size(text):
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _processors(text):
    if not text.isdecimal() or not 0 < int(text) < 1 << 32:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of processors")
    return int(text)


def _seconds(text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds")
    return value


def _key(text):
    """A control character, written as itself or as in a configuration: ^A."""
    if len(text) == 2 and text[0] == "^" and "A" <= text[1].upper() <= "Z":
        return chr(ord(text[1].upper()) - ord("@"))
    if len(text) == 1 and 1 <= ord(text) <= 26:
        return text
    raise argparse.ArgumentTypeError(f"'{text}' is no control character, such as ^A")


def _parser():
    parser = argparse.ArgumentParser(
        prog="umbra",
        description="Checks Umbra's configurations, makes boot media, and runs them in an emulator.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "check",
        help="check a configuration",
        description="Checks a configuration with the hypervisor's own parser. Every error is printed as "
        "file:line:column: message. Exit status: 0 good, 1 errors.",
    )
    command.add_argument("conf", metavar="FILE.conf")
    command.add_argument(
        "--memory",
        type=_size,
        metavar="M",
        help="the machine's memory, e.g. 1G; without it, whether the partitions fit is not checked",
    )
    command.add_argument(
        "--processors",
        type=_processors,
        metavar="N",
        help="how many processors the machine has; without it, whether it has those named is not checked",
    )
    command.set_defaults(function=_check)

    command = commands.add_parser(
        "image",
        help="make a boot medium",
        description="Makes a boot medium with Umbra, a configuration and every file that it names. The files "
        "are looked for from the current folder. A bad configuration is refused as by 'umbra check'.",
    )
    command.add_argument("conf", metavar="FILE.conf")
    command.add_argument(
        "-o",
        dest="iso",
        metavar="OUT.iso",
        help="a hybrid ISO: for a CD or, byte by byte, a stick; BIOS and UEFI",
    )
    command.add_argument(
        "--disk",
        metavar="OUT.img",
        help="a FAT32 stick image, BIOS and UEFI, which loads whatever is under /umbra/ on it: edit "
        "/umbra/config there, and put kernels beside it",
    )
    command.add_argument(
        "--size", type=_size, metavar="S", help="of the stick image, e.g. 1G (default: the files and 64 MiB)"
    )
    command.set_defaults(function=_image)

    command = commands.add_parser(
        "run",
        help="boot in an emulator, with the serial console on this terminal",
        description="Boots a configuration, an ISO or a stick image in an emulator. This terminal becomes "
        "Umbra's serial console; in raw mode, so every key goes there, ^C too: the monitor's 'poweroff' (by "
        "default behind ^A c) ends the run, and so does closing the terminal or sending this command "
        "SIGTERM. Standard input and output may be pipes or files; the end of the input ends nothing. "
        "Exit status: 0 Umbra is off, 1 a bad configuration or nothing to start, 2 a wrong command line, "
        "3 panic, 4 timeout, 5 the emulator died.",
    )
    command.add_argument("target", metavar="FILE.conf|ISO|IMAGE")
    command.add_argument(
        "--on",
        choices=("auto", "kvm", "bochs", "qemu"),
        default="auto",
        help="the emulator: QEMU with KVM and nested VMX; Bochs; QEMU alone, which has no VMX; auto: "
        "kvm where /dev/kvm offers nested VMX, else bochs (it says which, and why)",
    )
    command.add_argument(
        "--model", metavar="M", help="the processor, as the emulator calls it (Bochs: corei7_skylake_x)"
    )
    command.add_argument("--cpus", type=int, default=1, metavar="N", help="processors (1)")
    command.add_argument(
        "--memory", type=_size, default=parse_size("1G"), metavar="M", help="the machine's memory (1G)"
    )
    command.add_argument("--firmware", choices=("bios", "uefi"), default="bios", help="uefi: QEMU only")
    command.add_argument(
        "--log",
        metavar="FILE",
        help="a copy of the console; FILE.emulator and FILE.output are the emulator's log and output",
    )
    command.add_argument(
        "--timeout", type=_seconds, metavar="S", help="end the run after S seconds, with status 4"
    )
    command.add_argument(
        "--serial",
        metavar="SOCKET",
        help="also offer the console on a Unix socket of this path, for 'umbra ctl'",
    )
    command.set_defaults(function=_run)

    command = commands.add_parser(
        "ctl",
        help="give a machine's monitor a command",
        description="Gives the monitor of a machine a command over its serial console, and prints the answer. "
        "The console is turned to the monitor, whatever it shows. 'create FILE' takes the section from a file, "
        "'create' from standard input. Exit status: 0 done, 1 the monitor refuses, 2 a wrong command line, "
        "4 no answer in time, 5 the line is dead.",
    )
    command.add_argument(
        "line",
        metavar="SERIAL|SOCKET",
        help="a serial device, the path of a Unix socket ('umbra run --serial'), or HOST:PORT",
    )
    command.add_argument("words", nargs="+", metavar="COMMAND", help="as in the monitor; 'help' lists them")
    command.add_argument("--json", action="store_true", help="print the answer, or the error, as JSON")
    command.add_argument("-o", dest="out", metavar="FILE", help="write the answer to a file")
    command.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="S", help="wait no longer than S seconds (60)"
    )
    command.add_argument("--baud", type=int, default=115200, metavar="N", help="of a serial device (115200)")
    command.add_argument(
        "--escape", type=_key, default="\x01", metavar="KEY", help="the machine's escape key (^A)"
    )
    command.set_defaults(function=_ctl)

    command = commands.add_parser(
        "trace",
        help="decode a saved trace",
        description="Decodes what the monitor's 'trace NAME save' printed: a table of the exits by reason, and "
        "a picture of them over time. FILE may be all that a terminal has shown; its last trace counts. Exit "
        "status: 0 good, 1 no trace in it, 2 a wrong command line.",
    )
    command.add_argument("file", metavar="FILE", help="'-' is standard input")
    command.add_argument(
        "-o", dest="out", metavar="OUT.svg", help="the picture (FILE's name with .svg; of '-' none)"
    )
    command.add_argument("--json", action="store_true", help="print the table as JSON")
    command.set_defaults(function=_trace)

    command = commands.add_parser(
        "fetch",
        help="fetch the stock guests",
        description="Makes build/guests: vmlinuz (Debian's kernel), vmlinux (the ELF file inside it) and "
        "shell.cpio.gz (busybox, down to a shell), from Debian's packages, which are downloaded once and "
        "kept in build/packages. With 'kvm' also kvm.cpio.gz: KVM and QEMU, and a Linux for them.",
    )
    command.add_argument("also", nargs="?", choices=["kvm"], help="guests that are not made without being named")
    command.set_defaults(function=_fetch)

    command = commands.add_parser("bench", help="measure exits and boots", description=benchmark.DESCRIPTION)
    benchmark.add_arguments(command)
    command.set_defaults(function=benchmark.run)
    return parser


def _check(arguments):
    return check.check(arguments.conf, arguments.memory, arguments.processors)


def _image(arguments):
    if not arguments.iso and not arguments.disk:
        raise Problem("image: -o OUT.iso, --disk OUT.img, or both", 2)
    if arguments.size is not None and not arguments.disk:
        raise Problem("image: --size is the stick image's: it goes with --disk", 2)
    check.require_good(arguments.conf)
    if arguments.iso:
        image.make_iso(arguments.conf, arguments.iso)
    if arguments.disk:
        stick.make_stick(arguments.conf, arguments.disk, arguments.size)
    return 0


def _run(arguments):
    return run.run(
        arguments.target,
        arguments.on,
        arguments.model,
        arguments.cpus,
        arguments.memory,
        arguments.log,
        arguments.timeout,
        arguments.firmware,
        arguments.serial,
    )


def _ctl(arguments):
    return ctl.run(
        arguments.line,
        arguments.words,
        arguments.escape,
        arguments.baud,
        arguments.timeout,
        arguments.json,
        arguments.out,
    )


def _trace(arguments):
    return trace.run(arguments.file, arguments.out, arguments.json)


def _fetch(arguments):
    (guests.fetch_kvm if arguments.also == "kvm" else guests.fetch)()
    return 0


def _fill_standard_streams():
    """
    Gives a process that was started without standard streams empty ones, so that nothing else takes their
    place.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def main(words=None):
    _fill_standard_streams()
    arguments = _parser().parse_args(words)
    try:
        return arguments.function(arguments)
    except Problem as problem:
        if str(problem):
            print(f"umbra {arguments.command}: {problem}", file=sys.stderr)
        return problem.status
    except OSError as error:
        print(f"umbra {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
