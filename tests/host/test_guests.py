# SPDX-License-Identifier: BSD-2-Clause
"""Fetching packages and making the stock guests of them."""
import gzip
import lzma
import os
import stat
import struct
import subprocess

import pytest

from umbra import bzimage, common, cpio, guests, packages

DEPENDS = """\
linux-image-amd64
  Depends: linux-image-6.1.0-9-amd64
 |Depends: linux-image-6.1.0-13-amd64
  Depends: linux-image-6.1.0-14-amd64-unsigned
  Depends: linux-image-6.1.0-15-cloud-amd64
  Depends: linux-image-6.1.0-16-rt-amd64
  Depends: <linux-image>
  Conflicts: linux-image-6.1.0-99-amd64
"""

VMLINUX = b"\x7fELF" + bytes(range(256)) * 40


def bz_image(payload, setup_sectors=3):
    """The least that looks like a bzImage around `payload`."""
    image = bytearray((setup_sectors + 1) * 512) + b"\xcc" * 100 + payload
    image[0x1F1] = setup_sectors
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, 0x20F)
    struct.pack_into("<II", image, 0x248, 100, len(payload))
    return bytes(image) + b"\xdd" * 64


XZ = lzma.compress(
    VMLINUX,
    lzma.FORMAT_XZ,
    lzma.CHECK_CRC32,
    filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}],
)
XZ += struct.pack("<I", len(VMLINUX))


def make_deb(store, name, version, files):
    """A Debian package with these files."""
    tree = store / "tree"
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: x <x@x>\nDescription: x\n"
    )
    for path, data in {"DEBIAN/control": control.encode(), **files}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(data)
    deb = store / f"{name}_{version}_amd64.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, deb], capture_output=True, check=True)
    subprocess.run(["rm", "-r", tree], check=True)
    return deb


@pytest.fixture
def store(tmp_path):
    """Kept packages: two kernels, and one of each other."""
    folder = tmp_path / "packages"
    folder.mkdir()
    make_deb(folder, "linux-image-6.1.0-9-amd64", "6.1.90-1", {"boot/vmlinuz-6.1.0-9-amd64": b"old"})
    make_deb(
        folder,
        "linux-image-6.1.0-13-amd64",
        "6.1.130-1",
        {"boot/vmlinuz-6.1.0-13-amd64": bz_image(XZ), "boot/config-6.1.0-13-amd64": b"config"},
    )
    make_deb(folder, "busybox-static", "1.35", {"bin/busybox": b"busybox itself"})
    make_deb(folder, "gnumach-image-1.8-486", "1.8", {"boot/gnumach-1.8-486.gz": gzip.compress(b"Mach itself")})
    make_deb(
        folder,
        "xen-hypervisor-4.17-amd64",
        "4.17.7",
        {"boot/xen-4.17-amd64.efi": b"for EFI", "boot/xen-4.17-amd64.gz": gzip.compress(b"Xen itself")},
    )
    make_deb(
        folder,
        "memtest86+",
        "6.10",
        {"boot/memtest86+ia32.bin": b"for 32 bits", "boot/memtest86+x64.bin": b"memtest itself"},
    )
    return folder


def test_newest_name():
    """Fails when versions are compared as text, or another flavour is taken."""
    assert packages.newest_name(packages.KERNEL, DEPENDS) == "linux-image-6.1.0-13-amd64"
    assert packages.newest_name(packages.KERNEL, "") is None
    xen = "  Depends: xen-hypervisor-4.9-amd64\n  Depends: xen-hypervisor-4.17-amd64\n  Depends: xen-hypervisor-common\n"
    assert packages.newest_name(packages.XEN, xen) == "xen-hypervisor-4.17-amd64"
    mach = "  Depends: gnumach-image-1.8-486\n  Depends: gnumach-image-1.8-486-dbg\n  Depends: gnumach-image-1-486\n"
    assert packages.newest_name(packages.GNUMACH, mach) == "gnumach-image-1.8-486"


def test_kept(store):
    """Fails when a kept package is not found, or not the newest."""
    assert packages.newest(packages.KERNEL, store).name == "linux-image-6.1.0-13-amd64_6.1.130-1_amd64.deb"
    assert packages.named("busybox-static", store).name == "busybox-static_1.35_amd64.deb"
    assert packages.kept("busybox", store) is None


def test_read_file(store):
    """Fails when another file is read, or a missing one is not missed."""
    deb = packages.newest(packages.KERNEL, store)
    assert packages.read_file(deb, "boot/config-.*") == b"config"
    with pytest.raises(common.Problem, match="holds no"):
        packages.read_file(deb, "boot/nothing")


def test_damaged_package(store):
    """Fails when half a package gives half a kernel, or a traceback."""
    deb = packages.newest(packages.KERNEL, store)
    deb.write_bytes(deb.read_bytes()[:300])
    with pytest.raises(common.Problem):
        packages.read_file(deb, "boot/vmlinuz-.*")


@pytest.mark.parametrize(
    "payload",
    [XZ, gzip.compress(VMLINUX), lzma.compress(VMLINUX, lzma.FORMAT_ALONE)],
    ids=["xz", "gzip", "lzma"],
)
def test_vmlinux(payload):
    """Fails when the payload is looked for in the wrong place, or a format is not understood."""
    assert bzimage.unpack_vmlinux(bz_image(payload)) == VMLINUX


@pytest.mark.parametrize(
    "image, reason",
    [
        (b"", "no setup header"),
        (bytes(4096), "no setup header"),
        (bz_image(b"\x28\xb5\x2f\xfd1234"), "28b52ffd"),
        (bz_image(gzip.compress(b"no ELF")), "no ELF file"),
    ],
    ids=["empty", "zeros", "zstd", "no ELF"],
)
def test_no_vmlinux(image, reason):
    """Fails when what is no kernel gives a file."""
    with pytest.raises(common.Problem, match=reason):
        bzimage.unpack_vmlinux(image)


def entries(archive):
    """Reads a newc archive: name → (mode, data, device)."""
    found, at = {}, 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, owner, group, mtime, size, name_size = *fields[1:4], *fields[5:7], fields[11]
        name = archive[at + 110 : at + 110 + name_size]
        assert (owner, group, mtime, name[-1]) == (0, 0, 0, 0)
        at = (at + 110 + name_size + 3) & ~3
        if name == b"TRAILER!!!\0":
            return found
        found[name[:-1].decode()] = (mode, archive[at : at + size], tuple(fields[9:11]))
        at = (at + size + 3) & ~3


def test_cpio():
    """Fails when an entry's kind, contents, padding or device is wrong."""
    archive = cpio.Archive()
    archive.directory("d")
    archive.file("d/odd", b"12345", 0o755)
    archive.symlink("d/link", "odd")
    archive.character_device("dev", 5, 1)
    assert entries(archive.finish()) == {
        "d": (stat.S_IFDIR | 0o755, b"", (0, 0)),
        "d/odd": (stat.S_IFREG | 0o755, b"12345", (0, 0)),
        "d/link": (stat.S_IFLNK | 0o777, b"odd", (0, 0)),
        "dev": (stat.S_IFCHR | 0o600, b"", (5, 1)),
    }


def test_shell_archive():
    """Fails when the shell's archive lacks what process 1 needs before anything is mounted."""
    found = entries(guests.shell_archive(b"busybox itself"))
    assert found["bin/busybox"] == (stat.S_IFREG | 0o755, b"busybox itself", (0, 0))
    assert found["dev/console"][2] == (5, 1)
    init = found["init"][1].decode()
    assert init.startswith("#!/bin/busybox sh\n")
    assert guests.READY in init
    assert subprocess.run(["sh", "-n"], input=init, text=True, check=False).returncode == 0


def test_fetch_offline(store, tmp_path, monkeypatch, capsys):
    """Fails when kept packages are not enough, or something is made twice, or a change is not made good."""
    monkeypatch.setattr(packages, "_download", lambda *_: pytest.fail("asked the network"))
    made = tmp_path / "guests"
    guests.fetch(made, store)
    assert (made / "vmlinuz").read_bytes() == bz_image(XZ)
    assert (made / "vmlinux").read_bytes() == VMLINUX
    shell = (made / "shell.cpio.gz").read_bytes()
    assert gzip.decompress(shell) == guests.shell_archive(b"busybox itself")
    for name in ("Mach", "Xen", "memtest"):
        file = {"Mach": "gnumach"}.get(name, name.lower())
        assert (made / file).read_bytes() == f"{name} itself".encode()
    assert "vmlinuz from linux-image-6.1.0-13-amd64" in capsys.readouterr().err

    guests.fetch(made, store)
    assert capsys.readouterr().err == ""

    (made / "shell.cpio.gz").unlink()
    guests.fetch(made, store)
    assert (made / "shell.cpio.gz").read_bytes() == shell


APT_GET = """\
#!/bin/sh
echo "$*" >> {log}
case "$1" in
download)
    test -e {lists} || {{ echo 'E: Unable to locate' >&2; exit 100; }}
    cp {deb} .;;
update)
    touch {lists};;
esac
"""


@pytest.fixture
def apt(store, tmp_path, monkeypatch):
    """An apt whose lists are missing until they are brought up to date. Returns its log."""
    programs = tmp_path / "programs"
    programs.mkdir()
    log = tmp_path / "log"
    for name, text in {
        "apt-get": APT_GET.format(log=log, lists=tmp_path / "lists", deb=packages.newest(packages.KERNEL, store)),
        "apt-cache": "#!/bin/sh\n[ $1 = show ] && echo Size: 1500000; :\n",
    }.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return log


def test_download(apt, tmp_path, capsys):
    """
    Fails when a package is not kept, or the lists are not brought up to date once when they are of no use.
    """
    kept = tmp_path / "kept"
    deb = packages.named("linux-image-6.1.0-13-amd64", kept)
    assert deb.parent == kept
    assert [file.name for file in kept.iterdir()] == [deb.name]
    assert apt.read_text().splitlines() == [
        "download -q linux-image-6.1.0-13-amd64",
        "update -q",
        "download -q linux-image-6.1.0-13-amd64",
    ]
    assert "umbra fetch: linux-image-6.1.0-13-amd64, 1.5 MB\n" in capsys.readouterr().err
    assert packages.named("linux-image-6.1.0-13-amd64", kept) == deb
    assert len(apt.read_text().splitlines()) == 3


def test_download_fails(apt, tmp_path, monkeypatch):
    """Fails when apt's own words are lost, or the lists are brought up to date for ever."""
    monkeypatch.setattr(packages, "_update_lists", lambda: None)
    with pytest.raises(common.Problem, match="E: Unable to locate"):
        packages.named("nothing", tmp_path / "kept")
    assert len(apt.read_text().splitlines()) == 2
