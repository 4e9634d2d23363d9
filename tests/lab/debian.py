"""Debian packages of any suite, fetched and unpacked beside this machine's own.

What is made of them is kept in ``$UNDERLAY_LAB_CACHE``.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def cache() -> Path:
    """Where roots, the image and the disks of hosts are; on a real filesystem."""
    path = Path(os.environ.get("UNDERLAY_LAB_CACHE", "/var/cache/underlay-lab"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def built(name: str, build: Callable[[Path], Path]) -> Path:
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


def unpacked(suite: str, packages: list[str], work: Path) -> Path:
    """Packages and all they need, in a directory of `work`; no script of them ran."""
    dest = work / "root"
    _skeleton(dest)
    for deb in downloaded(suite, packages, work / "apt"):
        unpack(deb, dest)
    dest.chmod(0o755)
    return dest


def unpacked_alone(suite: str, package: str, work: Path) -> Path:
    """A package without what it needs, in a directory of `work`; no script ran."""
    dest = work / "root"
    _skeleton(dest)
    config = _configured(suite, work / "apt")
    _apt(config, "download", package, folder=work)
    (deb,) = work.glob("*.deb")
    unpack(deb, dest)
    dest.chmod(0o755)
    return dest


def downloaded(suite: str, packages: list[str], apt: Path) -> list[Path]:
    """Packages with everything they need, as if nothing were installed."""
    config = _configured(suite, apt)
    _apt(config, "install", "--yes", "--download-only", *packages)
    return sorted((apt / "cache/archives").glob("*.deb"))


def bootstrapped(suite: str, packages: list[str], work: Path) -> Path:
    """The smallest Debian of a suite with these packages, each of them set up."""
    dest = work / "root"
    words = (
        "--variant=minbase",
        f"--keyring={KEYRING}",
        "--include",
        ",".join(packages),
    )
    done = subprocess.run(
        ["debootstrap", *words, suite, dest, mirror()], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"debootstrap failed: {done.stdout[-2000:]}{done.stderr}")
    return dest


def _configured(suite: str, apt: Path) -> Path:
    """The configuration of an apt that knows the packages of one suite."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    (apt / "state/status").touch()
    (apt / "sources.list").write_text(
        f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n"
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
    return config


def _apt(config: Path, *argv: str, folder: Path | None = None) -> None:
    env = os.environ | {"APT_CONFIG": str(config)}
    done = subprocess.run(
        ["apt-get", "-qq", *argv], env=env, capture_output=True, text=True, cwd=folder
    )
    if done.returncode:
        raise RuntimeError(f"apt-get {argv[0]} failed: {done.stderr}")


def mirror() -> str:
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


def unpack(deb: Path, dest: Path, *options: str) -> None:
    """Unpack a package over what is there, unless tar's `options` say otherwise."""
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE
    ) as out:
        extract = ["tar", "-x", "-C", str(dest), "--keep-directory-symlink", *options]
        subprocess.run(extract, stdin=out.stdout, check=True)
    if out.returncode:
        raise RuntimeError(f"{deb.name} is damaged")
