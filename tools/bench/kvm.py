# SPDX-License-Identifier: BSD-2-Clause
"""
The peer: Debian's kernel with KVM and Debian's QEMU, in the same emulator and without Umbra. It runs the guests
that measure as a partition does; what it counts is read from its debugfs statistics while a guest halts between
phases.
"""
import gzip
import re

from bench import exits, media, phases, profile
from bench.bochs import MIB, Bochs
from umbra import cpio, guests, kvm, packages
from umbra.common import Problem

MEMORY = 1024  # MiB, of the machine
GUEST_MEMORY = 128  # MiB, of a guest

# Without the mitigations of processors' defects: the best that this peer can do. The last word is as for every
# bare Linux here: the emulator's processor says another frequency than the emulator's clock has.
COMMAND_LINE = "console=ttyS0 quiet nokaslr mitigations=off tsc_early_khz=100000"

# System → parameters of kvm_intel.
SYSTEMS = {"kvm-ept": "ept=1", "kvm-shadow": "ept=0"}

# Of KVM's statistics: all exits, and those that may not be the operation's.
_COUNTERS = ("exits", "irq_exits", "io_exits", "halt_exits")

# bench PARAMETER GUEST...: loads KVM with this parameter, and runs these guests. COUNTERS is what KVM has counted
# when the guest has halted: then KVM says that its processor is blocking.
_SCRIPT = f"""#!/bin/sh
[ -d /sys/kernel/debug/kvm ] || mount -t debugfs debugfs /sys/kernel/debug
kvm "$1"
shift
cd /sys/kernel/debug/kvm
counters() {{
    until read -r blocking <blocking && [ "$blocking" = 1 ]; do :; done
    all=
    for name in {' '.join(_COUNTERS)}; do
        read -r value <$name
        all="$all $name=$value"
    done
    echo "COUNTERS$all"
}}
for guest; do
    echo "GUEST $guest"
    rm -f /tmp/to /tmp/from
    mkfifo /tmp/to /tmp/from
    qemu-system-x86_64 -M microvm,pic=on,pit=on -accel kvm,kernel-irqchip=on -cpu host,pmu=off \\
        -m {GUEST_MEMORY}M -no-user-config -nodefaults -display none -no-reboot \\
        -kernel /bench/$guest -append wait -serial stdio </tmp/to >/tmp/from &
    exec 3>/tmp/to 4</tmp/from
    while read -r line <&4; do
        echo "$line"
        case $line in
            "PHASE end "*) ;;
            PHASE*|END*) counters; printf x >&3 ;;
            DONE*) break ;;
        esac
    done
    kill $!
    wait
    exec 3>&- 4<&-
done
echo "PEER done"
"""

_LOADER = "usr/share/qemu/multiboot_dma.bin"  # with which QEMU starts a Multiboot kernel

_DONE = rf"^PEER done\n.*?{re.escape(kvm.PROMPT)}"
_GUEST = re.compile(r"^GUEST (\S+)$", re.MULTILINE)
_LINE = re.compile(
    r"^(?:(PHASE|END|OWN) (\S+)(?: (\d+))?(?: (\d+))?|COUNTERS(.*)|DONE \d+ (\d+))$", re.MULTILINE
)


class Phase(phases.Phase):
    """A phase by KVM's counters."""

    def exits(self, timed=False):
        """
        Exits for one operation: all but those for interrupts of the machine, and those of the guest's talking. A
        timer of KVM's guest is the guest's: there is no turn that ends by one.
        """
        counted = {name: self.counted.get(name, 0) for name in _COUNTERS}
        if counted["io_exits"] < self.ports or counted["halt_exits"] < self.halts:
            raise Problem(f"{self.name}: KVM counted fewer exits than there were: {counted}")
        count = counted["exits"] - counted["irq_exits"] - self.ports - self.halts
        return phases.per_operation(count, self.operations)


def made_of():
    """The packages, as .deb files, that the peer is."""
    return [packages.newest(packages.KERNEL)] + [
        packages.named(name) for name in ("busybox-static", "qemu-system-x86", "qemu-system-data")
    ]


def run(folder, names):
    """
    Runs the guests `names` on the peer. Returns (system → guest → (figures, phases),
    system → operation → trace).
    """
    guests.fetch_kvm()
    iso = _iso(folder, names)
    found, traces = {}, {}
    with Bochs(iso, folder, MEMORY * MIB, limit=3600.0) as bochs:
        bochs.run_on()
        bochs.wait_console(f"{re.escape(kvm.READY)}.*{re.escape(kvm.PROMPT)}")
        for system, parameter in SYSTEMS.items():
            said = len(bochs.console)
            bochs.type(f"bench {parameter} {' '.join(names)}\r")
            bochs.wait_console(_DONE, said)
            found[system] = read(bochs.console[said:])
            traces[system] = _profile(bochs, parameter)
    return found, traces


def _profile(bochs, parameter):
    """Runs bench_exits once more, and looks at single operations."""
    said = len(bochs.console)
    bochs.interrupt()
    number = bochs.stop_at(profile.first_address())
    bochs.run_on()
    bochs.type(f"bench {parameter} {exits.GUEST}\r")
    bochs.wait_stop()
    bochs.ignore(number)
    found = profile.take(bochs)
    bochs.run_on()
    bochs.wait_console(_DONE, said)
    return found


def read(text):
    """What the script said: guest → (figures, phases)."""
    parts = _GUEST.split(text)
    return {name: (phases.figures(said), _phases(said)) for name, said in zip(parts[1::2], parts[2::2])}


def _phases(text):
    found = []
    last, before = "", {}
    for what, name, first, second, said, failed in _LINE.findall(text):
        if failed not in ("", "0"):
            raise Problem(f"a guest failed on KVM:\n{text[-1000:]}")
        if what == "OWN":
            found[-1].ports, found[-1].halts = int(first), int(second)
        elif what:
            last, ended = what, name
            operations = int(first) if first else operations
        elif said:
            now = {counter: int(value) for counter, value in re.findall(r"(\w+)=(\d+)", said)}
            if last == "END":
                found.append(Phase(ended, operations, phases.difference(before, now)))
            before = now
    return found


def _iso(folder, names):
    archive = cpio.Archive()
    archive.directory("bench")
    for name in names:
        archive.file(f"bench/{name}", phases.image(name).read_bytes())
    archive.file("bin/bench", _SCRIPT.encode(), 0o755)
    archive.file(_LOADER, packages.read_file(packages.named("qemu-system-data"), re.escape(_LOADER)))
    initrd = folder / "initrd"
    initrd.write_bytes(
        (guests.GUESTS / "kvm.cpio.gz").read_bytes() + gzip.compress(archive.finish(), mtime=0)
    )
    commands = [f"linux /vmlinuz {COMMAND_LINE}", "initrd /initrd"]
    return media.bare_iso(folder, "kvm", commands, vmlinuz=guests.GUESTS / "vmlinuz", initrd=initrd)
