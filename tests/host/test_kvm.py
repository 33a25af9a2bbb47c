# SPDX-License-Identifier: BSD-2-Clause
"""The guest hypervisor's archive: which libraries and modules go into it, and what of the kernel does not."""
import gzip
import os
import shutil
import struct
import subprocess

import pytest

from tests.host.test_guests import bz_image, entries, make_deb
from umbra import common, guests, kvm, libraries, packages

PT_LOAD, PT_DYNAMIC = 1, 2


def elf(*needed, name=b""):
    """The least library that needs these: one segment at 0x1000, with strings and a dynamic section."""
    strings = b"\0" + b"".join(other.encode() + b"\0" for other in needed) + name
    strings += b"\0" * (-len(strings) % 16)
    at, tags = 1, []
    for other in needed:
        tags.append((1, at))
        at += len(other) + 1
    tags += [(5, 0x1000 + 176), (0, 0)]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    length = 176 + len(strings) + len(dynamic)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", PT_LOAD, 5, 0, 0x1000, 0x1000, length, length, 4096)
    place = 176 + len(strings)
    tail = struct.pack(
        "<IIQQQQQQ", PT_DYNAMIC, 6, place, 0x1000 + place, 0x1000 + place, len(dynamic), len(dynamic), 8
    )
    return header + load + tail + strings + dynamic


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder for packages; what is not kept there cannot be had."""
    monkeypatch.setattr(packages, "_download", lambda *_: pytest.fail("asked the network"))
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


def package(store, name, depends, files, links=()):
    deb = make_deb(store, name, "1", files)
    tree = store / "tree"
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True, capture_output=True)
    with (tree / "DEBIAN" / "control").open("a") as control:
        control.write(f"Depends: {depends}\n" if depends else "")
    for path, target in links:
        (tree / path).symlink_to(target)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, deb], check=True, capture_output=True)
    shutil.rmtree(tree)
    return deb


def test_needed():
    """Fails when a name is lost, or the strings are looked for at their address, not their place in the file."""
    assert libraries.needed(elf("libone.so.1", "libtwo.so.2")) == ["libone.so.1", "libtwo.so.2"]
    assert libraries.needed(elf()) == []
    with pytest.raises(common.Problem, match="64 bits"):
        libraries.needed(b"\x7fELF\x01\x01" + bytes(100))


def test_collect(store):
    """
    Fails when a library that only another needs is forgotten, when a link is not followed, when a library's own
    package is not looked through, or when a package is wanted that need not be there: `absent` is not kept.
    """
    folder = libraries.FOLDER
    program = package(store, "program", "libone1 (>= 1.0), absent | other", {"usr/bin/program": b"x"})
    one = elf("libtwo.so.2", "libhelp.so.0")
    library = package(
        store,
        "libone1",
        "libtwo2:amd64 | other (= 2), absent",
        {
            f"usr/{folder}/libone.so.1.5": one,
            f"{folder}/libhelp.so.0": elf(),
            f"usr/{folder}/libother.so.1": elf(),
        },
        [(f"usr/{folder}/libone.so.1", "libone.so.1.5")],
    )
    assert packages.depends(library) == ["libtwo2", "absent"]
    two = elf(name=b"two")
    package(store, "libtwo2", "", {f"{folder}/libtwo.so.2": two})
    found = libraries.collect(elf("libone.so.1"), program, store)
    assert found == {"libone.so.1": one, "libtwo.so.2": two, "libhelp.so.0": elf()}


def test_missing_library(store):
    """Fails when a library that no package has is passed over."""
    program = package(store, "program", "libone1", {"usr/bin/program": b"x"})
    package(store, "libone1", "", {f"{libraries.FOLDER}/libone.so.1": elf()})
    with pytest.raises(common.Problem, match="needs libnone.so.1"):
        libraries.collect(elf("libnone.so.1"), program, store)


def test_load_order():
    """Fails when a module comes before one that it needs, or twice."""
    modules = {
        "kvm_intel": b"\x7fELF\0license=GPL\0depends=kvm,irqbypass\0",
        "kvm": b"\x7fELF\0depends=irqbypass\0name=kvm\0",
        "irqbypass": b"\x7fELF\0depends=\0name=irqbypass\0",
        "kvm_amd": b"\x7fELF\0depends=kvm,ccp\0",
    }
    assert kvm.load_order(modules, "kvm_intel") == ["irqbypass", "kvm", "kvm_intel"]
    with pytest.raises(common.Problem, match="no module ccp"):
        kvm.load_order(modules, "kvm_amd")


def test_trimmed():
    """Fails when something that is loaded is lost, or what is not stays."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0x5000, 0, 64, 56, 2, 64, 9, 8)
    first = struct.pack("<IIQQQQQQ", PT_LOAD, 5, 0x200, 0x1000, 0x1000, 0x100, 0x100, 512)
    second = struct.pack("<IIQQQQQQ", PT_LOAD, 6, 0x400, 0x2000, 0x2000, 0x800, 0x900, 512)
    image = bytearray(0x6000)
    image[: len(header + first + second)] = header + first + second
    image[0x200:0x300] = b"\x11" * 0xFF + b"\0"
    image[0x400:0x480] = b"\x22" * 0x80
    image[0x5000:] = b"\x33" * 0x1000
    short = kvm.trimmed(bytes(image))
    assert len(short) == 0x480
    assert short[0x200:] == bytes(image[0x200:0x480])
    assert struct.unpack_from("<Q", short, 40) == (0,)
    assert struct.unpack_from("<HHH", short, 58) == (0, 0, 0)
    assert struct.unpack_from("<QQ", short, 64 + 56 + 32) == (0x80, 0x900)
    assert struct.unpack_from("<Q", short, 64 + 40) == (0x100,)


def test_archive():
    """Fails when a program is missing or is no shell program, or a library is where nobody looks."""
    found = entries(
        kvm.archive(
            busybox=b"busybox itself",
            modules={"kvm_intel": b"\0depends=kvm\0", "kvm": b"\0depends=\0", "other": b""},
            qemu=b"QEMU itself",
            shared={"libone.so.1": b"one"},
            roms={"usr/share/qemu/bios-microvm.bin": b"firmware"},
            kernel=elf(),
            packed_kernel=b"bzImage",
            initrd=b"initrd",
        )
    )
    assert found["usr/bin/qemu-system-x86_64"][1] == b"QEMU itself"
    assert found["lib/x86_64-linux-gnu/libone.so.1"][1] == b"one"
    assert found["lib64/ld-linux-x86-64.so.2"][1] == b"/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    assert found["usr/share/qemu/bios-microvm.bin"][1] == b"firmware"
    assert "lib/kvm/kvm_intel.ko" in found and "lib/kvm/other.ko" not in found
    for name in ("init", "bin/kvm", "bin/lv2"):
        mode, text, _ = found[name]
        assert mode & 0o111
        assert subprocess.run(["sh", "-n"], input=text, check=False).returncode == 0
    for name in found:  # each in a folder that is there before it
        parent = name.rpartition("/")[0]
        assert not parent or list(found).index(parent) < list(found).index(name)


def test_fetch(store, tmp_path, capsys):
    """
    Fails when kept packages are not enough, when it is made twice from the same, or not anew from a newer one, or
    when it is made for those who ask for the other guests only.
    """
    modules = {
        "arch/x86/kvm/kvm-intel.ko": b"\0depends=kvm\0",
        "arch/x86/kvm/kvm.ko": b"\0depends=irqbypass\0",
        "virt/lib/irqbypass.ko": b"\0depends=\0",
    }
    kernel = {f"lib/modules/6.1.0-9-amd64/kernel/{path}": image for path, image in modules.items()}
    kernel["boot/vmlinuz-6.1.0-9-amd64"] = bz_image(gzip.compress(elf()))
    package(store, "linux-image-6.1.0-9-amd64", "", kernel)
    package(store, "busybox-static", "", {"bin/busybox": b"busybox itself"})
    package(store, "gnumach-image-1.8-486", "", {"boot/gnumach-1.8-486.gz": b"Mach"})
    package(store, "xen-hypervisor-4.17-amd64", "", {"boot/xen-4.17-amd64.gz": b"Xen"})
    package(store, "memtest86+", "", {"boot/memtest86+x64.bin": b"memtest"})
    qemu = package(store, "qemu-system-x86", "libone1", {kvm.QEMU: elf("libone.so.1")})
    package(store, "libone1", "", {f"{libraries.FOLDER}/libone.so.1": elf()})
    rom, link = "usr/share/qemu/qboot.rom", "usr/share/qemu/bios-microvm.bin"
    package(store, "qemu-system-data", "", {rom: b"firmware"}, [(link, "qboot.rom")])

    made = tmp_path / "guests"
    guests.fetch(made, store)
    assert not (made / "kvm.cpio.gz").exists()
    guests.fetch_kvm(made, store)
    found = entries(gzip.decompress((made / "kvm.cpio.gz").read_bytes()))
    assert found[kvm.QEMU][1] == elf("libone.so.1")
    assert found[f"{libraries.FOLDER}/libone.so.1"][1] == elf()
    assert found[link][1] == b"firmware"
    assert found["lib/kvm/kvm_intel.ko"][1] == b"\0depends=kvm\0"
    assert found[kvm.LV2_PACKED_KERNEL][1] == (made / "vmlinuz").read_bytes()
    assert found[kvm.LV2_INITRD][1] == (made / "shell.cpio.gz").read_bytes()

    capsys.readouterr()
    guests.fetch_kvm(made, store)
    assert capsys.readouterr().err == ""
    later = (made / "kvm.cpio.gz").stat().st_mtime + 10
    os.utime(qemu, (later, later))
    guests.fetch_kvm(made, store)
    assert "kvm.cpio.gz from qemu-system-x86" in capsys.readouterr().err
