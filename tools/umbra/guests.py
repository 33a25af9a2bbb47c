# SPDX-License-Identifier: BSD-2-Clause
"""
The stock guests, made from Debian's packages under build/guests:

    vmlinuz         Debian's kernel as it comes
    vmlinux         the ELF file inside it
    shell.cpio.gz   an initramfs with busybox that ends in a shell on the console
    gnumach         GNU Mach (Multiboot 1)
    xen             the Xen hypervisor (Multiboot 1 and 2)
    memtest         Memtest86+ (boots as Linux does)

and, of 25 MB more to download, only when asked for:

    kvm.cpio.gz     an initramfs with KVM and QEMU, and a Linux for them (umbra.kvm)
"""
import contextlib
import fcntl
import gzip
import os
import pathlib
import sys

from umbra import bzimage, cpio, kvm, libraries, packages
from umbra.common import BUILD

GUESTS = BUILD / "guests"

READY = "Umbra guest: shell ready"

# Process 1 stays: when the shell ends, another takes its place. cttyhack opens the terminal that really is
# the console, which gives the shell job control.
INIT = f"""#!/bin/busybox sh
export PATH=/bin:/sbin HOME=/root TERM=linux
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
hostname guest
cd /root
echo '{READY}'
while :; do
    setsid cttyhack sh
done
"""


def shell_archive(busybox):
    """The initramfs, uncompressed, around the program `busybox` (bytes)."""
    archive = cpio.Archive()
    for directory in ("bin", "sbin", "dev", "etc", "proc", "sys", "root"):
        archive.directory(directory)
    archive.directory("tmp", 0o1777)
    archive.character_device("dev/console", 5, 1)  # init's standard streams, before devtmpfs is mounted
    archive.character_device("dev/null", 1, 3, 0o666)
    archive.file("bin/busybox", busybox, 0o755)
    archive.file("init", INIT.encode(), 0o755)
    return archive.finish()


def fetch(guests=GUESTS, store=packages.STORE):
    """Makes every guest that is not there yet, or is older than what it is made from."""
    guests.mkdir(parents=True, exist_ok=True)
    vmlinuz, vmlinux, shell = (guests / name for name in ("vmlinuz", "vmlinux", "shell.cpio.gz"))

    kernel_package = packages.newest(packages.KERNEL, store)
    if _stale(vmlinuz, kernel_package):
        _say(vmlinuz, kernel_package)
        _write(vmlinuz, packages.read_file(kernel_package, r"boot/vmlinuz-.*"))
    if _stale(vmlinux, vmlinuz, bzimage.__file__):
        _say(vmlinux, vmlinuz)
        _write(vmlinux, bzimage.unpack_vmlinux(vmlinuz.read_bytes()))

    busybox_package = packages.named("busybox-static", store)
    if _stale(shell, busybox_package, cpio.__file__, __file__):
        _say(shell, busybox_package)
        busybox = packages.read_file(busybox_package, r"(usr/)?bin/busybox")
        _write(shell, gzip.compress(shell_archive(busybox), mtime=0))

    for name, package, path in (
        ("gnumach", packages.newest(packages.GNUMACH, store), r"boot/gnumach-.*\.gz"),
        ("xen", packages.newest(packages.XEN, store), r"boot/xen-.*\.gz"),
        ("memtest", packages.named("memtest86+", store), r"boot/memtest86\+x64\.bin"),
    ):
        if _stale(guests / name, package):
            _say(guests / name, package)
            _write(guests / name, _unpacked(packages.read_file(package, path)))


def fetch_kvm(guests=GUESTS, store=packages.STORE):
    """Makes kvm.cpio.gz, and all that it is made of, if it is not there yet or is older than that."""
    guests.mkdir(parents=True, exist_ok=True)
    with _alone(guests / "kvm.lock"):
        fetch(guests, store)
        product, kernel, packed, shell = (
            guests / name for name in ("kvm.cpio.gz", "vmlinux", "vmlinuz", "shell.cpio.gz")
        )
        busybox_package = packages.named("busybox-static", store)
        kernel_package = packages.newest(packages.KERNEL, store)
        qemu_package = packages.named("qemu-system-x86", store)
        roms_package = packages.named("qemu-system-data", store)
        made_from = (kernel, packed, shell, busybox_package, kernel_package, qemu_package, roms_package)
        if not _stale(product, *made_from, kvm.__file__, cpio.__file__, libraries.__file__):
            return
        _say(product, qemu_package)
        modules = packages.read_files(kernel_package, kvm.MODULES)
        qemu = packages.read_file(qemu_package, kvm.QEMU)
        archive = kvm.archive(
            busybox=packages.read_file(busybox_package, r"(usr/)?bin/busybox"),
            modules={pathlib.Path(path).stem.replace("-", "_"): image for path, image in modules.items()},
            qemu=qemu,
            shared=libraries.collect(qemu, qemu_package, store),
            roms=packages.read_files(roms_package, kvm.ROMS),
            kernel=kernel.read_bytes(),
            packed_kernel=packed.read_bytes(),
            initrd=shell.read_bytes(),
        )
        _write(product, gzip.compress(archive, mtime=0))


@contextlib.contextmanager
def _alone(path):
    """While this lasts, no other process is at what this file stands for."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpacked(data):
    """Kernels are packed for boot loaders that unpack; nobody here does."""
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def _stale(product, *sources):
    if not product.is_file():
        return True
    made = product.stat().st_mtime
    return any(pathlib.Path(source).stat().st_mtime > made for source in sources)


def _say(product, source):
    print(f"umbra fetch: {product.name} from {source.name}", file=sys.stderr, flush=True)


def _write(path, data):
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
