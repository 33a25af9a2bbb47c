# SPDX-License-Identifier: BSD-2-Clause
"""The command line of ./umbra: help, sizes, the checker's words passed through."""
import pytest

from umbra import common, medium


@pytest.mark.parametrize(
    "words, mentioned",
    [
        ([], ["check", "image", "run", "fetch"]),
        (["check"], ["FILE.conf", "--memory", "--processors"]),
        (["image"], ["-o OUT.iso", "--disk OUT.img", "--size"]),
        (["run"], ["--on {auto,kvm,bochs,qemu}", "--model", "--cpus", "--memory", "--log", "--timeout"]),
        (["fetch"], ["build/guests"]),
    ],
)
def test_help(host, words, mentioned):
    """Fails when an option is lost."""
    done = host.umbra(*words, "--help")
    assert done.returncode == 0
    for text in mentioned:
        assert text in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fly"],
        ["run"],
        ["run", "x", "--memory", "lots"],
        ["check", "x", "--processors", "0"],
        ["check", "x", "--processors", "two"],
        ["run", "x", "--timeout", "0"],
        ["image", "x.conf"],
        ["image", "x.conf", "-o", "y", "--size", "1G"],
        ["run", "{iso}", "--cpus", "0"],
        ["run", "{iso}", "--memory", "100K"],
        ["run", "{iso}", "--on", "bochs", "--firmware", "uefi"],
    ],
)
def test_wrong_command_line(host, iso, words):
    """Status 2 and a reason, before anything is started or written."""
    done = host.umbra(*(word.format(iso=iso) for word in words))
    assert done.returncode == 2
    assert done.stderr


@pytest.mark.parametrize("text, size", [("1", 1), ("4K", 4096), ("256M", 256 << 20), ("2g", 2 << 30)])
def test_sizes(text, size):
    """Fails when a unit means something else than in a configuration."""
    assert common.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "1T", "-1", "1.5G", "0x10"])
def test_no_sizes(text):
    """Fails when nonsense is taken for a size."""
    with pytest.raises(ValueError):
        common.parse_size(text)


def test_check_passes_through(host):
    """Fails when the checker's words, its status or what the machine has do not arrive."""
    conf = host.conf()
    assert host.umbra("check", conf).returncode == 0
    conf.write_text("BAD")
    done = host.umbra("check", conf, "--memory", "1G", "--processors", "4")
    assert done.returncode == 1
    assert done.stdout == f"{conf} --memory {1 << 30} --processors 4\n"
    assert done.stderr == ""
    done = host.umbra("run", conf, "--on", "bochs", "--memory", "512M", "--cpus", "3")
    assert done.returncode == 1
    assert done.stdout == f"{conf} --memory {512 << 20} --processors 3\n"


@pytest.mark.parametrize("words", [["image", "-o", "out.iso"], ["image", "--disk", "out.img"], ["run"]])
def test_bad_configuration_is_refused(host, words):
    """Fails when an image of a bad configuration is made, or booted."""
    host.program("bochs", "#!/bin/sh\ntouch started\n")
    conf = host.conf()
    conf.write_text("BAD")
    done = host.umbra(*words, conf)
    assert done.returncode == 1
    assert done.stdout.startswith(str(conf))
    assert not list(host.folder.glob("**/started")) + list(host.folder.glob("out.*"))


def test_not_built(host):
    """Fails when a missing build ends in anything but a hint."""
    (host.build / "umbra-check").unlink()
    done = host.umbra("check", host.conf())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("umbra-check is not there: run make\n")


@pytest.mark.parametrize(
    "path, name", [("build/vmlinuz", "build/vmlinuz"), ("./a", "a"), ("/tmp/a", "tmp/a"), ("a/./b", "a/./b")]
)
def test_module_names(path, name):
    """Fails when a file gets another name than the hypervisor looks for."""
    assert medium.module_name(path) == name
