# SPDX-License-Identifier: BSD-2-Clause
"""
The stick image: one FAT32 partition that any computer can open, bootable by BIOS and UEFI. Its GRUB loads
whatever is under /umbra/ at that time, so a configuration can be edited and a kernel swapped on the stick
itself. Made without root and without a mount: this file writes the boot sector and the partition table,
mtools writes the file system.

    sector 0        GRUB's boot.img and the partition table
    sector 1…       GRUB's core.img, with all modules that the menu needs
    sector 2048…    the partition
"""
import os
import pathlib
import re
import struct
import tempfile

from umbra import medium
from umbra.common import Problem, need_file, run_tool

SECTOR = 512
PARTITION_START = 2048  # sectors; where every tool puts it, and more room than core.img needs
FOLDER_DEPTH = 8  # how deep under /umbra/ the menu looks for files
SMALLEST = 64 << 20  # FAT32 has at least 65525 clusters
SPARE = 64 << 20  # room left for the user's own files

GRUB_FOLDER = pathlib.Path("/usr/lib/grub")
MODULES = (
    "part_msdos fat normal configfile multiboot2 regexp serial terminal test echo ls cat reboot halt".split()
)
BIOS_MODULES = ["biosdisk", "vbe"]
UEFI_MODULES = ["efi_gop", "efi_uga"]

# Offsets in boot.img (GRUB, include/grub/i386/pc/boot.h).
_DRIVE_CHECK = 0x66  # two bytes, made no-ops for a hard disk: then a BIOS's wrong drive number is mended
_CODE_END = 0x1B8
_PARTITIONS = 0x1BE


def grub_config():
    """The stick's grub.cfg."""
    patterns = " ".join("/umbra" + "/*" * depth for depth in range(1, FOLDER_DEPTH + 1))
    return (
        medium.GRUB_CONSOLE
        + f"""\
menuentry Umbra {{
    multiboot2 /{medium.HYPERVISOR_PLACE}
    for file in {patterns}; do
        if [ -f "$file" ]; then
            module2 --nounzip "$file" "$file"
        fi
    done
}}
"""
    )


def boot_sector(boot_image, sectors):
    """Sector 0: GRUB's boot.img, which loads sector 1, and an active FAT32 partition of `sectors` sectors."""
    sector = bytearray(SECTOR)
    sector[:_CODE_END] = boot_image[:_CODE_END]
    sector[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"
    # Active; cylinder, head and sector out of range (so the LBA counts); type 0C: FAT32 by LBA.
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x0C, b"\xfe\xff\xff", PARTITION_START, sectors)
    sector[_PARTITIONS : _PARTITIONS + len(entry)] = entry
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)


def require_fat_names(conf, places):
    """Refuses what FAT or the menu's loop could not carry."""
    seen = {}
    for place in places:
        if place.count("/") > FOLDER_DEPTH:
            raise Problem(f"{conf}: {place}: the stick's menu looks {FOLDER_DEPTH} levels deep, not further")
        if re.search(r'[:*?"<>|\\]', place) or re.search(r"[. ](/|$)", place):
            raise Problem(f"{conf}: {place}: FAT cannot hold this name")
        if any(_loses_case(part) for part in place.split("/")):
            raise Problem(f"{conf}: {place}: GRUB would read this short name in lower case: write it so")
        other = seen.setdefault(place.lower(), place)
        if other != place:
            raise Problem(f"{conf}: {place} and {other} are one name on a stick")


def _loses_case(name):
    """
    Whether FAT keeps this file name as a short one, where capitals are the rule and a flag that GRUB does not
    look at says otherwise. A name with both in one half, or too long, is kept as it is.
    """
    base, _, extension = name.partition(".")
    if len(base) > 8 or len(extension) > 3:
        return False
    if not re.fullmatch(r"[!#$%&'()@^_`{}~A-Za-z0-9-]*", base + extension):
        return False
    return name != name.lower() and all(half in (half.lower(), half.upper()) for half in (base, extension))


def make_stick(conf, out, size=None):
    """Writes the stick image for the good configuration `conf`; `size` in bytes, None for one that fits."""
    out = pathlib.Path(out)
    places = medium.contents(conf)
    require_fat_names(conf, places)
    needed = sum(source.stat().st_size for source in places.values()) + (8 << 20)
    if size is None:
        size = (max(SMALLEST, needed + SPARE) + (1 << 20) - 1) >> 20 << 20
    if size < max(SMALLEST, needed):
        raise Problem(f"{out}: the image needs at least {(max(SMALLEST, needed) + (1 << 20) - 1) >> 20}M")

    with tempfile.TemporaryDirectory(prefix=".umbra-", dir=out.absolute().parent) as folder:
        folder = pathlib.Path(folder)
        config = folder / "grub.cfg"
        config.write_text(grub_config(), encoding="ascii")
        loader = _uefi_loader(folder)
        files = {**places, "boot/grub/grub.cfg": config, "EFI/BOOT/BOOTX64.EFI": loader}
        image = folder / "image"
        _write_boot_area(image, _bios_core(folder), size)
        _write_files(image, files, size)
        os.replace(image, out)


def _bios_core(folder):
    core = folder / "core.img"
    _require_grub("i386-pc", "grub-pc-bin")
    prefix = "(,msdos1)/boot/grub"  # of the disk that it was booted from
    run_tool("grub-mkimage", "-O", "i386-pc", "-p", prefix, "-o", core, *MODULES, *BIOS_MODULES)
    data = core.read_bytes()
    if len(data) > (PARTITION_START - 1) * SECTOR:
        raise Problem("GRUB's core.img does not fit in front of the partition")
    return data


def _uefi_loader(folder):
    loader = folder / "BOOTX64.EFI"
    _require_grub("x86_64-efi", "grub-efi-amd64-bin")
    run_tool("grub-mkimage", "-O", "x86_64-efi", "-p", "/boot/grub", "-o", loader, *MODULES, *UEFI_MODULES)
    return loader


def _require_grub(platform, package):
    need_file(GRUB_FOLDER / platform / "multiboot2.mod", f"tools/setup.sh installs {package}")


def _write_boot_area(image, core, size):
    boot_image = (GRUB_FOLDER / "i386-pc/boot.img").read_bytes()
    with open(image, "wb") as out:
        out.write(boot_sector(boot_image, size // SECTOR - PARTITION_START))
        out.write(core)  # it comes ready for this place: its first sector loads the rest from sector 2 on
        out.truncate(size)


def _write_files(image, files, size):
    partition = f"{image}@@{PARTITION_START * SECTOR}"
    sectors = size // SECTOR - PARTITION_START
    cluster = 1 if size < 512 << 20 else 8 if size < 16 << 30 else 32  # in sectors
    geometry = ["-H", PARTITION_START, "-h", 255, "-s", 63, "-T", sectors]
    run_tool("mformat", "-i", partition, "-F", "-c", cluster, "-v", "UMBRA", *geometry, "::")
    folders = {str(parent) for place in files for parent in pathlib.PurePosixPath(place).parents} - {"."}
    for folder in sorted(folders):
        run_tool("mmd", "-i", partition, f"::/{folder}")
    for place, source in files.items():
        run_tool("mcopy", "-i", partition, source, f"::/{place}")
