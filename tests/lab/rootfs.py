"""Unpacked Debian roots: one for each Docker engine, one of these with a systemd that
can be PID 1, one with routing daemons, one with DHCP servers, and one with a browser.
And Prometheus' checker.

``python -m tests.lab.rootfs`` fetches all of them beforehand, and the kernels of
uml.py, so that no test waits for a download. They are kept in ``$UNDERLAY_LAB_CACHE``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab import uml
from tests.lab.debian import (
    bootstrapped,
    built,
    downloaded,
    unpack,
    unpacked,
    unpacked_alone,
)

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
ROUTING_PACKAGES = ["frr", "bird2", "radvd"]
# The static busybox has udhcpc too, which runs wherever this machine's programs do.
SERVING_PACKAGES = [
    "dnsmasq-base", "kea-dhcp4-server", "kea-dhcp6-server", "isc-dhcp-server", "udhcpd",
    "busybox-static",
]  # fmt: skip
SERVING_SUITE = "bookworm"
# The oldest Debian whose networkd tells the host names of its clients.
NETWORKD_SUITE = "trixie"
NETWORKD_PACKAGES = ["systemd", "dbus-daemon", "busybox-static"]
BROWSER = ["chromium-headless-shell", "fonts-dejavu-core"]
NEWEST = "28.5"
BARE_SUITES = ["bookworm", "trixie"]
IMAGE_SUITE = "trixie"
# The last Debian whose systemd takes cgroup v1 as well as v2 without being told.
SYSTEMD_SUITE = "bookworm"
SYSTEMD_DEBS = ("systemd_", "libsystemd-shared_")
UNITS = Path("usr/lib/systemd/system")
STARTED = {"sysinit": "systemd-journald.service", "multi-user": "docker.service"}
# What the packages of the operated root would have made.
USERS = {
    "passwd": "messagebus:x:997:997::/:/bin/false\n"
    "systemd-network:x:998:998::/:/bin/false",
    "group": "messagebus:x:997:\nsystemd-network:x:998:",
}


def root(engine: str) -> Path:
    """The unpacked root with this Docker engine, fetched if it is not there yet."""
    suite = ENGINES[engine]
    return built(f"root-{suite}", lambda work: _fetch(suite, work))


def routing() -> Path:
    """The unpacked root with FRR, BIRD and radvd, fetched if it is not there yet."""
    return built("root-routing", _fetch_routing)


def serving() -> Path:
    """The unpacked root with DHCP servers and udhcpc, fetched if it is not there yet.

    They are dnsmasq, Kea, ISC dhcpd and udhcpd.
    """
    return built("root-serving-both", _fetch_serving)


def networkd() -> Path:
    """A root with systemd-networkd, fetched if it is not there yet."""
    return built("root-networkd", _fetch_networkd)


def booting() -> Path:
    """The newest engine's root with systemd and its units, fetched if it is missing."""
    return built("root-systemd", _fetch_booting)


def operated() -> Path:
    """The same with what is on a whole machine too, fetched if it is missing.

    That are nft, and the programs that may touch a new device: NetworkManager, udev.
    """
    return built("root-operated-with-udev", _fetch_operated)


def browser() -> Path:
    """A root with a headless Chromium and a font, fetched if it is missing."""
    return built("root-browser", _fetch_browser)


def bare(suite: str) -> Path:
    """The smallest Debian of a suite with Python, as debootstrap makes it."""
    return built(f"bare-{suite}", lambda work: bootstrapped(suite, ["python3"], work))


def promtool() -> Path:
    """Prometheus' own checker of rules and metrics, fetched if it is missing.

    Of the oldest suite: it runs with the C library of any newer one.
    """
    package = built(
        "prometheus-bookworm",
        lambda work: unpacked_alone("bookworm", "prometheus", work),
    )
    return package / "usr/bin/promtool"


def image_base() -> Path:
    """A tar for `docker import`: what the image of underlay is built on."""
    return built("image-base.tar", _fetch_image_base)


def image() -> Path:
    """A tar for `docker import`: a static busybox and its applets, nothing else."""
    busybox = root("26.1") / "usr/bin/busybox"
    return built("busybox.tar", lambda work: _pack(busybox, work))


def _fetch(suite: str, work: Path) -> Path:
    packages = PACKAGES if suite == "bookworm" else PACKAGES + NEWER_PACKAGES
    dest = unpacked(suite, packages, work)
    _finish(dest)
    return dest


def _fetch_browser(work: Path) -> Path:
    dest = unpacked("trixie", BROWSER, work)
    for name in ("proc", "dev", "run", "tmp"):
        (dest / name).mkdir(exist_ok=True)
    return dest


def _fetch_image_base(work: Path) -> Path:
    packages = ["python3", "nftables", "iptables"]
    dest = bootstrapped(IMAGE_SUITE, packages, work)
    target = work / "image-base.tar"
    subprocess.run(["tar", "-c", "-C", dest, "-f", target, "."], check=True)
    return target


def _fetch_routing(work: Path) -> Path:
    dest = unpacked("trixie", ROUTING_PACKAGES, work)
    _make_mountable(dest)
    # FRR runs as its own user, which its maintainer script would have made.
    (dest / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nfrr:x:0:0::/:/bin/sh\n")
    (dest / "etc/group").write_text("root:x:0:\nfrr:x:0:\nfrrvty:x:0:\n")
    # vtysh asks PAM; the configuration of a whole machine is not there.
    permit = "auth required pam_permit.so\naccount required pam_permit.so\n"
    (dest / "etc/pam.d/frr").write_text(permit)
    (dest / "etc/pam.d/other").write_text(permit)
    return dest


def _make_mountable(dest: Path) -> None:
    """Make what tests/lab/daemon.py mounts, and have one /run."""
    for name in ("proc", "dev", "run"):
        (dest / name).mkdir(exist_ok=True)
    shutil.rmtree(dest / "var/run", ignore_errors=True)
    (dest / "var/run").symlink_to("/run")


def _fetch_serving(work: Path) -> Path:
    dest = unpacked(SERVING_SUITE, SERVING_PACKAGES, work)
    _make_mountable(dest)
    (dest / "etc/passwd").write_text("root:x:0:0::/:/bin/false\n")
    (dest / "etc/group").write_text("root:x:0:\n")
    return dest


def _fetch_networkd(work: Path) -> Path:
    dest = unpacked(NETWORKD_SUITE, NETWORKD_PACKAGES, work)
    _make_mountable(dest)
    (dest / "sys").mkdir()
    # It is to manage no device that it has not been told of.
    shutil.rmtree(dest / UNITS.parent / "network")
    (dest / "var/lib/systemd").mkdir(parents=True, exist_ok=True)
    (dest / "var/lib/systemd/network").symlink_to("/run/kept")
    # The user that it wants to become.
    for file, rest in ("passwd", "0::/:/bin/false"), ("group", ""):
        names = ("root", "systemd-network")
        lines = (f"{name}:x:0:{rest}\n" for name in names)
        (dest / "etc" / file).write_text("".join(lines))
    return dest


def _fetch_booting(work: Path) -> Path:
    """Lay an older systemd into the newest engine's root, whose own wants cgroup v2."""
    newest, dest = root(NEWEST), work / "root"
    # Links, not copies: no file of a root is ever written to.
    shutil.copytree(newest, dest, symlinks=True, copy_function=os.link)
    dest.chmod(0o755)
    shutil.rmtree(dest / UNITS.parent)
    shutil.rmtree(dest / "etc/systemd")
    for deb in downloaded(SYSTEMD_SUITE, ["systemd"], work / "apt"):
        # Of what it needs, only the libraries that are not there in a newer version.
        own = deb.name.startswith(SYSTEMD_DEBS)
        unpack(deb, dest, *(() if own else ("--skip-old-files",)))
    for unit in ("docker.service", "docker.socket", "containerd.service"):
        os.link(newest / UNITS / unit, dest / UNITS / unit)
    _enable(dest)
    return dest


def _fetch_operated(work: Path) -> Path:
    dest = work / "root"
    shutil.copytree(booting(), dest, symlinks=True, copy_function=os.link)
    dest.chmod(0o755)
    newest = ["nftables", "network-manager", "dbus"]
    for deb in downloaded(ENGINES[NEWEST], newest, work / "apt"):
        if not deb.name.startswith(SYSTEMD_DEBS):
            unpack(deb, dest, "--skip-old-files")
    # udev goes with the systemd that is there.
    for deb in downloaded(SYSTEMD_SUITE, ["udev"], work / "older"):
        if deb.name.startswith("udev_"):
            unpack(deb, dest, "--skip-old-files")
    # Tests start them, and boots stay as they are.
    for wanted in (dest / UNITS).glob("*.wants/*"):
        if wanted.name not in STARTED.values():
            wanted.unlink()
    for file, line in USERS.items():
        users = dest / "etc" / file
        text = users.read_text()
        users.unlink()  # a link: the other roots have it too
        users.write_text(f"{text}{line}\n")
    return dest


def _enable(dest: Path) -> None:
    """Let Docker start at boot and a journal, nothing that is a whole machine's.

    The rest would set the kernel's own switches, or fail for what a lab host lacks.
    """
    for wants in (dest / UNITS).glob("*.wants"):
        shutil.rmtree(wants)
    shutil.rmtree(dest / UNITS.parent / "system-generators")
    for target, unit in STARTED.items():
        wants = dest / UNITS / f"{target}.target.wants"
        wants.mkdir()
        (wants / unit).symlink_to(f"../{unit}")
    default = dest / UNITS / "default.target"
    default.unlink()
    default.symlink_to("multi-user.target")
    # Without one it would be this machine's first boot, at which systemd sets more up.
    (dest / "etc/machine-id").write_text(f"{0xB007:032x}\n")


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
    """Fetch every root, the image, the daemons, and the kernels that tests boot."""
    with ThreadPoolExecutor() as pool:
        daemons = [pool.submit(routing), pool.submit(serving), pool.submit(networkd)]
        paths = [*pool.map(root, ENGINES), *pool.map(uml.kernel, uml.KERNELS)]
        paths += [daemon.result() for daemon in daemons]
        paths += [booting(), operated(), promtool(), browser()]
        paths += [*pool.map(bare, BARE_SUITES), image_base()]
    sys.stdout.writelines(f"{path}\n" for path in [*paths, image()])


if __name__ == "__main__":
    fetch_all()
