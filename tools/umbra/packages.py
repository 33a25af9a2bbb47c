# SPDX-License-Identifier: BSD-2-Clause
"""
Debian packages by name: downloaded once into build/packages and kept, so that the next time needs no network.
Nothing of them is installed; single files are read out of them.
"""
import os
import posixpath
import re
import subprocess
import sys
import tarfile
import tempfile
import typing

from umbra.common import BUILD, Problem, run_tool, tool

STORE = BUILD / "packages"


class Kind(typing.NamedTuple):
    """Packages with a version in their names."""

    name: re.Pattern
    current: str  # the package that depends on the current one


# The signed stock kernel. The -rt and -cloud flavours and -unsigned have other words in their names.
KERNEL = Kind(re.compile(r"linux-image-[0-9][0-9.]*-[0-9]+-amd64"), "linux-image-amd64")
GNUMACH = Kind(re.compile(r"gnumach-image-[0-9]+\.[0-9.]+-486"), "gnumach-image-1-486")
XEN = Kind(re.compile(r"xen-hypervisor-[0-9.]+-amd64"), "xen-system-amd64")


def version_key(text):
    """Orders names by the numbers in them, so that 6.1.0-9 comes before 6.1.0-10."""
    return [int(number) for number in re.findall(r"[0-9]+", text)]


def newest_name(kind, depends):
    """The newest package of this kind that `apt-cache depends` names, or None."""
    names = re.findall(r"^\s*\|?Depends: (\S+)$", depends, re.MULTILINE)
    return max((name for name in names if kind.name.fullmatch(name)), key=version_key, default=None)


def kept(pattern, store=STORE):
    """The newest kept package whose name matches, or None."""
    files = [file for file in store.glob("*.deb") if re.fullmatch(pattern, file.name.split("_")[0])]
    return max(files, key=lambda file: version_key(file.name), default=None)


def newest(kind, store=STORE):
    """The newest package of this kind as a .deb file."""
    return kept(kind.name, store) or _download(lambda: _current_name(kind), store, kind.current)


def named(name, store=STORE):
    """The package called `name` as a .deb file."""
    return kept(re.escape(name), store) or _download(lambda: name, store, name)


def read_file(deb, path):
    """The bytes of the package's file `path` (a pattern, without leading ./); reads no further than that."""
    for name, content in _contents(deb, path):
        if isinstance(content, bytes):
            return content
    raise Problem(f"{deb} holds no {path}")


def read_files(deb, path):
    """
    All files of the package whose path matches `path` (a pattern, without leading ./): path to bytes. A symbolic
    link counts as the file that it names, if that is among them.
    """
    found = dict(_contents(deb, path))
    files = {name: _follow(found, name) for name in found}
    return {name: content for name, content in files.items() if content is not None}


def _follow(found, name):
    """The bytes of what `name` is, or is a link to, among what _contents() yielded; None if it is not there."""
    for _ in range(8):  # links to links; a circle has no end
        content = found.get(name)
        if not isinstance(content, str):
            return content
        name = posixpath.normpath(posixpath.join("/", posixpath.dirname(name), content))[1:]
    return None


def _contents(deb, path):
    """
    Yields the path of each file and symbolic link that matches, and its bytes or, as text, what the link names.
    """
    reader = subprocess.Popen(
        [tool("dpkg-deb"), "--fsys-tarfile", deb], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        with tarfile.open(fileobj=reader.stdout, mode="r|") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if member.isfile() and re.fullmatch(path, name):
                    yield name, archive.extractfile(member).read()
                elif member.issym() and re.fullmatch(path, name):
                    yield name, member.linkname
    except tarfile.TarError as error:
        raise Problem(f"{deb} is damaged ({error}): delete it and fetch again") from error
    finally:
        reader.stdout.close()
        reader.kill()
        reader.wait()


def depends(deb):
    """The names of the packages without which this one does not work; of alternatives, the first."""
    fields = run_tool("dpkg-deb", "-f", deb, "Pre-Depends", "Depends").decode()
    lists = re.sub(r"^[A-Za-z-]+:", ",", fields, flags=re.MULTILINE)
    return re.findall(r"(?:^|,)\s*([a-z0-9][a-z0-9.+-]*)", lists)


def _apt_cache(*words):
    done = subprocess.run(
        [tool("apt-cache"), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else ""


def _current_name(kind):
    return newest_name(kind, _apt_cache("depends", kind.current))


def _package_size(name):
    match = re.search(r"^Size: ([0-9]+)$", _apt_cache("show", "--no-all-versions", name), re.MULTILINE)
    return int(match.group(1)) if match else 0


def _update_lists():
    """Refreshes apt's lists, as only root can."""
    if os.geteuid() == 0:
        as_root = []
    elif subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0:
        as_root = ["sudo", "-n"]
    else:
        raise Problem("apt's package lists are missing or out of date; as root, please:\napt-get update", 2)
    print("umbra fetch: bringing apt's package lists up to date", file=sys.stderr)
    done = subprocess.run(
        [*as_root, "apt-get", "update", "-q"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Problem(f"apt-get update failed:\n{done.stderr.strip()}")


def _download(find_name, store, asked):
    """
    Downloads the package whose name `find_name` tells when apt is asked about `asked`; with fresh package lists
    if those at hand are no use.
    """
    store.mkdir(parents=True, exist_ok=True)
    trouble = ""
    for attempt in range(2):
        if attempt:
            _update_lists()
        name = find_name()
        if not name:
            trouble = f"apt does not know what {asked} depends on"
            continue
        with tempfile.TemporaryDirectory(prefix="partial-", dir=store) as partial:
            trouble = _apt_download(name, partial)
            files = [] if trouble else [file for file in os.listdir(partial) if file.endswith(".deb")]
            if files:
                os.utime(os.path.join(partial, files[0]))  # the server's date would say nothing about ours
                os.replace(os.path.join(partial, files[0]), store / files[0])
                return store / files[0]
    raise Problem(f"a package could not be fetched: {trouble}")


def _apt_download(name, folder):
    """Runs `apt-get download` with a progress line. Returns what went wrong, empty if nothing did."""
    size = _package_size(name)
    megabytes = f"{size / 1e6:.1f} MB" if size else "size unknown"
    live = sys.stderr.isatty()
    if not live:
        _progress(f"{name}, {megabytes}\n")
    command = [tool("apt-get"), "download", "-q", name]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    loader = subprocess.Popen(command, cwd=folder, text=True, **pipes)
    while True:
        try:
            said = loader.communicate(timeout=0.2)[1].strip()
            break
        except subprocess.TimeoutExpired:
            if live:
                have = sum(entry.stat().st_size for entry in os.scandir(folder))
                _progress(f"\r{name}: {have / 1e6:.1f} of {megabytes} ")
    if live:
        _progress(f"\r{name}, {megabytes}: {'failed' if loader.returncode else 'done'}\x1b[K\n")
    return "" if loader.returncode == 0 else said or f"apt-get download {name} failed"


def _progress(text):
    back = "\r" if text.startswith("\r") else ""
    print(f"{back}umbra fetch: {text.lstrip(back)}", end="", file=sys.stderr, flush=True)
