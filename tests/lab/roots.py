"""Unpacked Debian roots, one for each Docker engine the tests run against.

``python -m tests.lab.roots`` fetches all of them beforehand, so that no test
waits for a download. They are kept in ``$UNDERLAY_LAB_CACHE``.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ENGINES = {"20.10": "bookworm", "26.1": "trixie", "28.5": "sid"}

# fmt: off
PACKAGES = [
    "docker.io", "iptables", "iproute2", "bash", "coreutils", "util-linux", "mount",
    "procps", "grep", "sed", "gawk", "findutils", "tar", "gzip", "python3",
    "python3-minimal", "busybox-static", "tini", "kmod", "libc-bin", "curl",
    "iputils-ping",
]
# fmt: on
# The client is a package of its own since trixie, and so is compose as a plugin of it.
NEWER_PACKAGES = ["docker-cli", "docker-compose"]
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def cache() -> Path:
    """Where roots, the image and the disks of hosts are; on a real filesystem."""
    path = Path(os.environ.get("UNDERLAY_LAB_CACHE", "/var/cache/underlay-lab"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def root(engine: str) -> Path:
    """The unpacked root with this Docker engine, fetched if it is not there yet."""
    suite = ENGINES[engine]
    return _built(f"root-{suite}", lambda work: _fetch(suite, work))


def image() -> Path:
    """A tar for `docker import`: a static busybox and its applets, nothing else."""
    busybox = root("26.1") / "usr/bin/busybox"
    return _built("busybox.tar", lambda work: _pack(busybox, work))


def _built(name: str, build: Callable[[Path], Path]) -> Path:
    """Keep what `build` makes in a scratch directory; one process makes it."""
    target = cache() / name
    if not target.exists():
        with (
            _lock(cache() / f"{name}.lock"),
            tempfile.TemporaryDirectory(dir=cache()) as work,
        ):
            if not target.exists():
                build(Path(work)).rename(target)
    return target


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(suite: str, work: Path) -> Path:
    packages = PACKAGES if suite == "bookworm" else PACKAGES + NEWER_PACKAGES
    dest = work / "root"
    _skeleton(dest)
    for deb in _download(suite, packages, work / "apt"):
        _unpack(deb, dest)
    _finish(dest)
    dest.chmod(0o755)
    return dest


def _download(suite: str, packages: list[str], apt: Path) -> list[Path]:
    """Download the packages with everything they need, as if nothing were installed."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    (apt / "state/status").touch()
    (apt / "sources.list").write_text(
        f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n"
    )
    config = apt / "apt.conf"
    config.write_text(
        f'Dir::State "{apt}/state"; Dir::State::status "{apt}/state/status";\n'
        f'Dir::Cache "{apt}/cache"; Dir::Cache::archives "{apt}/cache/archives";\n'
        f'Dir::Etc::sourcelist "{apt}/sources.list";\n'
        'Dir::Etc::sourceparts "/dev/null";\n'
        'Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";\n'
        'APT::Sandbox::User "root"; APT::Install-Recommends "0";\n'
        'Acquire::Languages "none";\n'
    )
    _apt(config, "update")
    _apt(config, "install", "--yes", "--download-only", *packages)
    return sorted((apt / "cache/archives").glob("*.deb"))


def _apt(config: Path, *argv: str) -> None:
    env = os.environ | {"APT_CONFIG": str(config)}
    done = subprocess.run(
        ["apt-get", "-qq", *argv], env=env, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"apt-get {argv[0]} failed: {done.stderr}")


def _mirror() -> str:
    """The Debian mirror this machine itself uses, or $UNDERLAY_LAB_MIRROR."""
    if override := os.environ.get("UNDERLAY_LAB_MIRROR"):
        return override
    etc = Path("/etc/apt")
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    text = "\n".join(
        f.read_text()
        for f in files
        if f.suffix in (".list", ".sources") and f.is_file()
    )
    uris = re.findall(r"^(?:deb (?:\[[^]]*\] )?|URIs: *)(\S+)", text, re.MULTILINE)
    for uri in uris:
        if "debian" in uri and "security" not in uri:
            return str(uri)
    raise RuntimeError("no Debian mirror in the apt sources; set UNDERLAY_LAB_MIRROR")


def _skeleton(dest: Path) -> None:
    """The merged-/usr links must be there first: newer packages ship usr/ only."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (dest / "usr" / name).mkdir(parents=True)
        (dest / name).symlink_to(f"usr/{name}")


def _unpack(deb: Path, dest: Path) -> None:
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE
    ) as out:
        extract = ["tar", "-x", "-C", str(dest), "--keep-directory-symlink"]
        subprocess.run(extract, stdin=out.stdout, check=True)
    if out.returncode:
        raise RuntimeError(f"{deb.name} is damaged")


def _finish(dest: Path) -> None:
    """Do what the maintainer scripts, which never ran, would have done."""
    for name in (
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "root",
        "etc",
        "outer",
        "var/lib/docker",
    ):
        (dest / name).mkdir(parents=True, exist_ok=True)
    # A real /var/run would make docker.sock appear elsewhere than in /run.
    if (dest / "var/run").is_dir() and not (dest / "var/run").is_symlink():
        shutil.rmtree(dest / "var/run")
    links = {"var/run": "/run", "usr/bin/sh": "bash", "usr/bin/awk": "gawk"}
    for family in ("iptables", "ip6tables"):
        for verb in ("", "-save", "-restore"):
            links[f"usr/sbin/{family}{verb}"] = f"{family}-nft{verb}"
    for name, target in links.items():
        if not (dest / name).is_symlink() and not (dest / name).exists():
            (dest / name).symlink_to(target)
    etc = dest / "etc"
    (etc / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n"
    )
    (etc / "group").write_text("root:x:0:\ndocker:x:999:\nnogroup:x:65534:\n")
    (etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    # Nothing answers there: a look for a registry fails at once, not after 20 s.
    (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")


def _pack(busybox: Path, work: Path) -> Path:
    applets = subprocess.run(
        [busybox, "--list"], check=True, capture_output=True, text=True
    )
    target = work / "busybox.tar"
    with tarfile.open(target, "w") as tar:
        for name in ("bin", "etc", "tmp"):
            _add(tar, name, tarfile.DIRTYPE, mode=0o1777 if name == "tmp" else 0o755)
        tar.add(busybox, "bin/busybox")
        for applet in applets.stdout.split():
            if applet != "busybox":
                _add(tar, f"bin/{applet}", tarfile.SYMTYPE, link="busybox")
    return target


def _add(
    tar: tarfile.TarFile, name: str, kind: bytes, mode: int = 0o777, link: str = ""
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname = kind, mode, link
    tar.addfile(entry)


def fetch_all() -> None:
    """Fetch every root and the image."""
    with ThreadPoolExecutor() as pool:
        paths = [*pool.map(root, ENGINES)]
    sys.stdout.writelines(f"{path}\n" for path in [*paths, image()])


if __name__ == "__main__":
    fetch_all()
