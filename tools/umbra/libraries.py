# SPDX-License-Identifier: BSD-2-Clause
"""
The shared libraries of a program that comes as a Debian package: exactly those that its dynamic linker will
look for, out of the packages that its package depends on. Nothing is installed for it.
"""
import os
import struct

from umbra import packages
from umbra.common import Problem

FOLDER = "lib/x86_64-linux-gnu"  # where Debian's dynamic linker looks first
LINKER = "ld-linux-x86-64.so.2"

_FILES = rf"(?:usr/)?{FOLDER}/[^/]+\.so[^/]*"
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB = 1, 5


def needed(image):
    """The names of the libraries that the ELF file `image` (64-bit, little-endian; bytes) asks for itself."""
    if image[:6] != b"\x7fELF\x02\x01":
        raise Problem("not an ELF file of 64 bits")
    table, size, count = *struct.unpack_from("<Q", image, 32), *struct.unpack_from("<HH", image, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", image, table + size * i) for i in range(count)]
    entries = []
    for kind, _, offset, _, _, length, _, _ in headers:
        if kind == _PT_DYNAMIC:
            entries = list(struct.iter_unpack("<QQ", image[offset : offset + (length & ~15)]))
    strings = [address for tag, address in entries if tag == _DT_STRTAB]
    if not strings:
        return []  # linked statically
    start = next(
        offset + strings[0] - address
        for kind, _, offset, address, _, length, _, _ in headers
        if kind == _PT_LOAD and address <= strings[0] < address + length
    )
    names = [start + value for tag, value in entries if tag == _DT_NEEDED]
    return [image[at : image.index(b"\0", at)].decode() for at in names]


def collect(program, deb, store=packages.STORE):
    """
    The libraries that `program` (bytes), a file of the package `deb`, needs to start, and those that they need:
    name to bytes. Packages that are not kept yet are downloaded, as few as serve.
    """
    found = {}
    contents = {}  # package to its libraries
    waiting = [(name, deb) for name in needed(program)]
    while waiting:
        name, asker = waiting.pop()
        if name not in found:
            owner = _owner(name, asker, contents, store)
            found[name] = contents[owner][name]
            waiting += [(other, owner) for other in needed(found[name])]
    return found


def _owner(name, asker, contents, store):
    """The package with the library `name`: that which asks for it, or one that this depends on."""

    # A library's package is called much like it: those that look so first, the others need not be downloaded.
    def likeness(package):
        return -len(os.path.commonprefix((package, name)))

    for package in (None, *sorted(packages.depends(asker), key=likeness)):
        deb = asker if package is None else packages.named(package, store)
        if deb not in contents:
            files = packages.read_files(deb, _FILES)
            contents[deb] = {os.path.basename(path): image for path, image in files.items()}
        if name in contents[deb]:
            return deb
    raise Problem(f"{asker.name} needs {name}, and no package that it depends on has it")
