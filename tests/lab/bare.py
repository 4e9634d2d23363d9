"""A bare Debian without systemd, Docker and network, for what is installed on one."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import rootfs
from tests.lab.debian import cache

# In namespaces of its own: all that is mounted and started ends with the command.
ENTER = """
mount -t overlay bare -o "lowerdir=$0,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /dev dev
mount --bind "$2" mnt
shift 2
exec chroot . "$@"
"""
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


class BareHost:
    """The root of a suite, with what is written in it until it is closed.

    `folder` of the machine is at /mnt.
    """

    def __init__(self, suite: str, folder: Path) -> None:
        self._root, self._folder = rootfs.bare(suite), folder
        self._own = Path(tempfile.mkdtemp(prefix="bare-host-", dir=cache()))
        for name in ("upper", "work", "root"):
            (self._own / name).mkdir()

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command there."""
        apart = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child")
        places = (self._root, self._own, self._folder)
        return subprocess.run(
            [*apart, "sh", "-ec", ENTER, *places, *argv],
            check=check, capture_output=True, text=True, timeout=240, env=ENVIRONMENT,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._own)
