# SPDX-License-Identifier: BSD-2-Clause
"""What is on the media that `umbra image` makes. That they boot is seen in tests/boot."""
import struct
import subprocess

import pytest

from umbra import common, stick

MIB = 1 << 20


def iso_files(iso):
    done = subprocess.run(
        ["xorriso", "-indev", iso, "-find", "/", "-type", "f"], capture_output=True, text=True, check=True
    )
    return {line.strip("'") for line in done.stdout.splitlines()}


def iso_read(iso, path, folder):
    subprocess.run(
        ["xorriso", "-osirrox", "on", "-indev", iso, "-extract", path, folder / "extracted"],
        capture_output=True,
        check=True,
    )
    return (folder / "extracted").read_bytes()


def stick_files(image):
    done = subprocess.run(
        ["mdir", "-/", "-b", "-i", f"{image}@@{MIB}", "::"], capture_output=True, text=True, check=True
    )
    return {line[2:] for line in done.stdout.splitlines() if not line.endswith("/")}


def stick_read(image, path):
    return subprocess.run(
        ["mtype", "-i", f"{image}@@{MIB}", f"::{path}"], capture_output=True, check=True
    ).stdout


def test_iso(host):
    """Fails when a file is missing on the ISO, has other contents, or GRUB is not told of it."""
    conf = host.conf("build/vmlinuz", "deep/er/initrd")
    iso = host.folder / "out.iso"
    done = host.umbra("image", conf, "-o", iso)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {"/boot/umbra.elf", "/umbra/config", "/umbra/build/vmlinuz", "/umbra/deep/er/initrd"} <= iso_files(
        iso
    )
    assert iso_read(iso, "/umbra/config", host.folder) == conf.read_bytes()
    assert iso_read(iso, "/umbra/deep/er/initrd", host.folder) == b"contents of deep/er/initrd"
    lines = iso_read(iso, "/boot/grub/grub.cfg", host.folder).decode().splitlines()
    assert [line.strip() for line in lines if "multiboot2" in line or "module2" in line] == [
        "multiboot2 /boot/umbra.elf",
        "module2 --nounzip '/umbra/config' 'config'",
        "module2 --nounzip '/umbra/build/vmlinuz' 'build/vmlinuz'",
        "module2 --nounzip '/umbra/deep/er/initrd' 'deep/er/initrd'",
    ]
    assert "if serial --unit=0 --speed=115200; then" in lines


def test_iso_is_hybrid(host):
    """Fails when the ISO is not also a disk, or does not boot by BIOS and by UEFI."""
    iso = host.folder / "out.iso"
    host.umbra("image", host.conf(), "-o", iso)
    assert iso.read_bytes()[510:512] == b"\x55\xaa"
    report = subprocess.run(
        ["xorriso", "-indev", iso, "-report_el_torito", "plain"], capture_output=True, text=True, check=True
    ).stdout
    assert " BIOS " in report
    assert " UEFI " in report


def test_absolute_and_dotted_paths(host):
    """Fails when a path's beginning, which a module's name has not, is on the medium."""
    host.conf("absolute", "dotted")
    conf = host.folder / "other.conf"
    conf.write_text(f"kernel = {host.folder}/absolute\nkernel = ./dotted\n")
    assert host.umbra("image", conf, "-o", "out.iso").returncode == 0
    assert {f"/umbra{host.folder}/absolute", "/umbra/dotted"} <= iso_files(host.folder / "out.iso")


@pytest.mark.parametrize(
    "paths, reason",
    [
        (["../x"], "goes down only"),
        (["a/../b"], "goes down only"),
        (["a//b"], "goes down only"),
        (["config"], "another file has this name"),
        (["a b"], "cannot be given to GRUB"),
        (["a'b"], "cannot be given to GRUB"),
        (["a", "a/b"], "both a file and a folder"),
    ],
)
def test_paths_refused(host, paths, reason):
    """Fails when a path is taken that would end up elsewhere, or twice."""
    conf = host.folder / "x.conf"
    conf.write_text("".join(f"kernel = {path}\n" for path in paths))
    done = host.umbra("image", conf, "-o", "out.iso")
    assert done.returncode == 1
    assert reason in done.stderr
    assert not (host.folder / "out.iso").exists()


def test_stick_files(host):
    """Fails when a file is missing on the stick, has other contents, or the file system is not in order."""
    conf = host.conf("build/vmlinuz", "Mixed.Case/A Long".replace(" ", "-"))
    image = host.folder / "out.img"
    done = host.umbra("image", conf, "--disk", image)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stick_files(image) == {
        "/boot/umbra.elf",
        "/boot/grub/grub.cfg",
        "/EFI/BOOT/BOOTX64.EFI",
        "/umbra/config",
        "/umbra/build/vmlinuz",
        "/umbra/Mixed.Case/A-Long",
    }
    assert stick_read(image, "/umbra/config") == conf.read_bytes()
    assert stick_read(image, "/umbra/build/vmlinuz") == b"contents of build/vmlinuz"
    assert stick_read(image, "/boot/umbra.elf") == (host.build / "umbra.elf").read_bytes()
    partition = host.folder / "partition"
    partition.write_bytes(image.read_bytes()[MIB:])
    checked = subprocess.run(["fsck.fat", "-n", "-v", partition], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    assert "32 bit entries" in checked.stdout


def test_stick_menu():
    """
    Fails when the menu names a file instead of looking for what is there, or a level of folders is left out.
    """
    text = stick.grub_config()
    patterns = [word.rstrip(";") for word in text.split() if word.startswith("/umbra/")]
    assert patterns == [
        "/umbra/*",
        "/umbra/*/*",
        "/umbra/*/*/*",
        "/umbra/*/*/*/*",
        "/umbra/*/*/*/*/*",
        "/umbra/*/*/*/*/*/*",
        "/umbra/*/*/*/*/*/*/*",
        "/umbra/*/*/*/*/*/*/*/*",
    ]
    assert 'module2 --nounzip "$file" "$file"' in text


def test_stick_boot_sector():
    """Fails when the partition table or GRUB's boot code is not where a BIOS looks."""
    sector = stick.boot_sector(bytes(range(256)) * 2, 100000)
    assert len(sector) == 512
    assert sector[:0x66] == bytes(range(0x66))
    assert sector[0x66:0x68] == b"\x90\x90"
    active, kind, start, count = struct.unpack_from("<B3xB3xII", sector, 0x1BE)
    assert (active, kind, start, count) == (0x80, 0x0C, 2048, 100000)
    assert sector[0x1CE:0x1FE] == bytes(48)
    assert sector[510:] == b"\x55\xaa"


@pytest.mark.parametrize("megabytes, cluster", [(64, 1), (512, 8)])
def test_stick_size(host, megabytes, cluster):
    """Fails when --size is not the image's size, or the clusters are so large that it would not be FAT32."""
    assert host.umbra("image", host.conf("a"), "--disk", "out.img", "--size", f"{megabytes}M").returncode == 0
    image = host.folder / "out.img"
    assert image.stat().st_size == megabytes * MIB
    with open(image, "rb") as disk:
        assert struct.unpack_from("<I", disk.read(512), 0x1BE + 12)[0] == megabytes * 2048 - 2048
        disk.seek(MIB)
        boot_record = disk.read(512)
    assert boot_record[13] == cluster
    reserved, fats, sectors, fat_size = struct.unpack_from("<HB15xII", boot_record, 14)[:4]
    assert sectors == megabytes * 2048 - 2048
    assert (sectors - reserved - fats * fat_size) // cluster >= 65525


def test_stick_too_small(host):
    """Fails when an image is made that is no FAT32, or does not hold its files."""
    done = host.umbra("image", host.conf("a"), "--disk", "out.img", "--size", "32M")
    assert (done.returncode, (host.folder / "out.img").exists()) == (1, False)
    assert "at least 64M" in done.stderr


def test_both_at_once(host):
    """Fails when one of -o and --disk wins over the other, or something else is left beside them."""
    conf = host.conf("a")
    before = set(host.folder.iterdir())
    assert host.umbra("image", conf, "-o", "out.iso", "--disk", "out.img").returncode == 0
    assert set(host.folder.iterdir()) - before == {host.folder / "out.iso", host.folder / "out.img"}


@pytest.mark.parametrize(
    "places, reason",
    [
        (["umbra/a:b"], "FAT cannot"),
        (["umbra/a."], "FAT cannot"),
        (["umbra/a./b"], "FAT cannot"),
        (["umbra/UPPER/x"], "lower case"),
        (["umbra/old.OLD"], "lower case"),
        (["umbra/V1-2.elf"], "lower case"),
        (["umbra/Kernel", "umbra/kernel"], "one name"),
        (["umbra/1/2/3/4/5/6/7/8/9"], "levels deep"),
    ],
)
def test_stick_names_refused(places, reason):
    """Fails when a name is taken that would not come back from the stick."""
    with pytest.raises(common.Problem, match=reason):
        stick.require_fat_names("x.conf", places)


def test_stick_names_taken():
    """Fails when a good name is refused."""
    stick.require_fat_names(
        "x.conf",
        [
            "umbra/1/2/3/4/5/6/7/8",
            "umbra/a.b.c",
            "umbra/config",
            "umbra/Kernel",
            "umbra/LONGERTHAN8",
            "umbra/X.Y.Z",
            "umbra/A+B",
            "umbra/.config",
        ],
    )


def test_missing_hypervisor(host):
    """Fails when a medium without a hypervisor is made."""
    (host.build / "umbra.elf").unlink()
    done = host.umbra("image", host.conf(), "-o", "out.iso")
    assert done.returncode == 1
    assert done.stderr.endswith("umbra.elf is not there: run make\n")
