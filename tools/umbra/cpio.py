# SPDX-License-Identifier: BSD-2-Clause
"""
Writes the archive format that Linux takes as initramfs ("newc"; Documentation/driver-api/early-userspace/
buffer-format.rst in Linux). The same contents give the same bytes: no time, no owner but root.
"""
import stat


class Archive:
    """An archive under construction; entries appear in the order in which they are added."""

    def __init__(self):
        self._parts = []
        self._entries = 0

    def directory(self, name, permissions=0o755):
        self._add(name, stat.S_IFDIR | permissions, links=2)

    def file(self, name, data, permissions=0o644):
        self._add(name, stat.S_IFREG | permissions, data)

    def symlink(self, name, target):
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, name, major, minor, permissions=0o600):
        self._add(name, stat.S_IFCHR | permissions, device=(major, minor))

    def finish(self):
        """The whole archive as bytes."""
        self._add("TRAILER!!!", 0)
        return b"".join(self._parts)

    def _add(self, name, mode, data=b"", links=1, device=(0, 0)):
        self._entries += 1
        path = name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device of the file system (2), device (2), name size,
        # checksum
        fields = (self._entries, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(path), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        self._parts += [_padded(header + path), _padded(data)]


def _padded(data):
    return data + b"\0" * (-len(data) % 4)
