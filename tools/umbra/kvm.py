# SPDX-License-Identifier: BSD-2-Clause
"""
Debian Linux as a guest hypervisor: an initramfs with KVM's modules, QEMU, and a Linux for QEMU to run. In it are

    kvm [PARAMETER=VALUE]...      loads KVM's modules, anew if they are loaded, with these parameters of kvm_intel
    lv2 [QEMU OPTION]...          starts a Linux, whose console is this terminal until it powers itself off
    lv2 -d NAME [QEMU OPTION]...  starts one beside: /run/lv2/NAME is its console, for `microcom`, and NAME.log
                                  what that has shown

Parameters of kvm_intel on the kernel's command line (kvm_intel.ept=0) hold for the first loading.
"""
import re
import struct

from umbra import cpio, libraries
from umbra.common import Problem

READY = "Umbra guest hypervisor: ready"
PROMPT = "lv1# "

QEMU = "usr/bin/qemu-system-x86_64"
ROMS = r"usr/share/qemu/(?:bios-microvm\.bin|pvh\.bin|qboot\.rom)"  # the first is a link to the last
MODULES = r"lib/modules/[^/]+/kernel/(?:arch/x86/kvm|virt/lib)/[^/]+\.ko"
LV2_KERNEL, LV2_PACKED_KERNEL, LV2_INITRD = "lv2/vmlinux", "lv2/vmlinuz", "lv2/shell.cpio.gz"

INIT = f"""#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/bin HOME=/root TERM=linux PS1='{PROMPT}'
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /run/lv2 /var/lock
mount -t devpts devpts /dev/pts
hostname lv1
parameters=
for word in $(cat /proc/cmdline); do
    case $word in kvm_intel.*) parameters="$parameters ${{word#kvm_intel.}}" ;; esac
done
kvm $parameters
cd /root
echo '{READY}'
while :; do
    setsid cttyhack sh
done
"""

KVM = """#!/bin/sh
rmmod kvm_intel {needed} 2>/dev/null
for module in {needs}; do
    insmod /lib/kvm/$module.ko || exit
done
insmod /lib/kvm/kvm_intel.ko "$@"
"""

# The Linux starts at the entry of its ELF file (PVH), which leaves out its decompression, and finds few devices:
# each access to one costs thousands of instructions in QEMU. Its clock is KVM's.
LV2 = f"""#!/bin/sh
name=
if [ "$1" = -d ]; then
    name=$2
    shift 2
fi
set -- -M microvm -accel kvm -cpu host,-vmx,pmu=off -m 192M -no-user-config -nodefaults \\
    -display none -no-reboot -kernel /{LV2_KERNEL} -initrd /{LV2_INITRD} -append 'console=ttyS0 quiet' \\
    -serial chardev:console "$@"
[ -n "$name" ] || exec qemu-system-x86_64 -chardev stdio,id=console,signal=off "$@"
files=/run/lv2/$name
qemu-system-x86_64 -daemonize -pidfile $files.pid -chardev pty,id=console,logfile=$files.log "$@" \\
    >$files.said 2>&1 || {{ cat $files.said; exit 1; }}
ln -sf "$(sed -n 's/^char device redirected to \\([^ ]*\\) .*/\\1/p' $files.said)" $files
"""


def archive(busybox, modules, qemu, shared, roms, kernel, packed_kernel, initrd):
    """
    The initramfs, uncompressed. All are the contents of files: `modules` and `shared` (libraries) by their
    names, `roms` by their paths, `kernel` the ELF file and `packed_kernel` the bzImage of the Linux for QEMU to
    run, `initrd` its initramfs.
    """
    order = load_order(modules, "kvm_intel")
    files = cpio.Archive()
    for directory in (
        *("bin", "sbin", "dev", "etc", "proc", "sys", "root", "run", "lv2", "lib64", "lib", "lib/kvm"),
        *(libraries.FOLDER, "usr", "usr/bin", "usr/share", "usr/share/qemu"),
    ):
        files.directory(directory)
    files.directory("tmp", 0o1777)
    files.character_device("dev/console", 5, 1)  # init's standard streams, before devtmpfs is mounted
    files.character_device("dev/null", 1, 3, 0o666)
    files.file("bin/busybox", busybox, 0o755)
    files.file("init", INIT.encode(), 0o755)
    load = KVM.format(needs=" ".join(order[:-1]), needed=" ".join(reversed(order[:-1])))
    files.file("bin/kvm", load.encode(), 0o755)
    files.file("bin/lv2", LV2.encode(), 0o755)
    for name in order:
        files.file(f"lib/kvm/{name}.ko", modules[name])
    files.file(QEMU, qemu, 0o755)
    for name, image in sorted(shared.items()):
        files.file(f"{libraries.FOLDER}/{name}", image, 0o755)
    files.symlink(f"lib64/{libraries.LINKER}", f"/{libraries.FOLDER}/{libraries.LINKER}")
    for path, image in sorted(roms.items()):
        files.file(path, image)
    files.file(LV2_KERNEL, trimmed(kernel))
    files.file(LV2_PACKED_KERNEL, packed_kernel)
    files.file(LV2_INITRD, initrd)
    return files.finish()


def load_order(modules, name):
    """
    Of the modules (name to bytes) those that the module `name` needs, each after those that it needs itself; `name`
    is last.
    """
    if name not in modules:
        raise Problem(f"the kernel's package has no module {name}")
    wanted = re.search(rb"(?:^|\0)depends=([^\0]*)\0", modules[name])
    order = []
    for other in filter(None, wanted.group(1).decode().split(",") if wanted else ()):
        order += [module for module in load_order(modules, other) if module not in order]
    return [*order, name]


def trimmed(kernel):
    """
    The kernel's ELF file without what need not be in it: its section table, and the zeros at its segments' ends,
    which a loader makes as well.
    """
    image = bytearray(kernel)
    table, size, count = *struct.unpack_from("<Q", image, 32), *struct.unpack_from("<HH", image, 54)
    end = table + size * count
    for header in range(table, end, size):
        (offset,) = struct.unpack_from("<Q", image, header + 8)
        (length,) = struct.unpack_from("<Q", image, header + 32)
        used = len(kernel[offset : offset + length].rstrip(b"\0"))
        struct.pack_into("<Q", image, header + 32, used)
        end = max(end, offset + used)
    struct.pack_into("<Q", image, 40, 0)  # e_shoff
    struct.pack_into("<HHH", image, 58, 0, 0, 0)  # e_shentsize, e_shnum, e_shstrndx
    return bytes(image[:end])
