# SPDX-License-Identifier: BSD-2-Clause
"""
Every boot medium boots Umbra by every firmware, and brings its modules along. In QEMU, where there is no VMX:
Umbra says so, and the monitor starts all the same.
"""
import shutil
import subprocess

import pytest

from tests.boot.machine import BUILD

NO_VTX = "this processor has no VT-x"

CONF = """\
[umbra]
console = com1 115200

[partition one]
memory  = 128M
boot    = linux
kernel  = build/guests/vmlinuz
initrd  = build/guests/shell.cpio.gz
"""


@pytest.fixture(scope="module")
def media(tmp_path_factory, umbra):
    folder = tmp_path_factory.mktemp("media")
    conf = folder / "one.conf"
    conf.write_text(CONF)
    umbra("image", conf, "-o", folder / "umbra.iso", "--disk", folder / "umbra.img")
    return folder


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
@pytest.mark.parametrize("medium", ["umbra.iso", "umbra.img"])
def test_boots(machine, media, medium, firmware):
    """Fails when a boot sector, GRUB's configuration or a module's name is wrong: no partition then."""
    machine.boot(media / medium, "--on", "qemu", "--firmware", firmware)
    machine.expect(NO_VTX)
    machine.monitor()
    assert "one" in machine.command("list")
    machine.send_line("poweroff")
    assert machine.wait_end() == 0


def test_edited_stick(machine, media, tmp_path):
    """Fails when the stick's menu loads a fixed list: the new kernel, four folders deep, is not found then."""
    image = shutil.copy(media / "umbra.img", tmp_path / "edited.img")
    conf = tmp_path / "config"
    conf.write_text(
        CONF.replace("partition one", "partition two").replace("build/guests", "kernels/a/b/New-one")
    )
    partition = f"{image}@@1M"
    for folder in ("kernels", "kernels/a", "kernels/a/b", "kernels/a/b/New-one"):
        subprocess.run(["mmd", "-i", partition, f"::/umbra/{folder}"], check=True)
    for name in ("vmlinuz", "shell.cpio.gz"):
        source = BUILD / "guests" / name
        subprocess.run(["mcopy", "-i", partition, source, f"::/umbra/kernels/a/b/New-one/{name}"], check=True)
    subprocess.run(["mcopy", "-o", "-i", partition, conf, "::/umbra/config"], check=True)
    machine.boot(image, "--on", "qemu")
    machine.expect(NO_VTX)
    machine.monitor()
    listed = machine.command("list")
    assert "two" in listed
    assert "no such file" not in listed
    machine.send_line("poweroff")
    assert machine.wait_end() == 0
