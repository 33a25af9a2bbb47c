# SPDX-License-Identifier: BSD-2-Clause
"""Takes the kernel's own ELF file out of a bzImage (Linux, Documentation/x86/boot.rst, the setup header)."""
import bz2
import gzip
import lzma
import struct

from umbra.common import Problem

_SETUP_SECTORS = 0x1F1
_SIGNATURE = 0x202
_VERSION = 0x206
_PAYLOAD = 0x248  # offset from the protected-mode code, then length

# After xz, lzma and bzip2 data the kernel's build appends the unpacked size as four bytes, which is no part
# of them.
_FORMATS = (
    (b"\x1f\x8b", lambda data: gzip.decompress(data)),
    (b"\xfd7zXZ\0", lambda data: lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data)),
    (b"\x5d\0\0", lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data)),
)


def unpack_vmlinux(image):
    """The ELF file inside the bzImage `image` (bytes)."""
    if len(image) < _PAYLOAD + 8 or image[_SIGNATURE : _SIGNATURE + 4] != b"HdrS":
        raise Problem("not a Linux bzImage: no setup header")
    if struct.unpack_from("<H", image, _VERSION)[0] < 0x208:
        raise Problem("this bzImage is older than boot protocol 2.08 and does not say where its payload is")
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = ((image[_SETUP_SECTORS] or 4) + 1) * 512 + offset
    payload = image[start : start + length]
    for magic, unpack in _FORMATS:
        if payload.startswith(magic):
            kernel = unpack(payload)
            break
    else:
        raise Problem(f"the kernel is compressed in a format unknown here (it begins {payload[:6].hex()})")
    if not kernel.startswith(b"\x7fELF"):
        raise Problem("the bzImage's payload is no ELF file")
    return kernel
