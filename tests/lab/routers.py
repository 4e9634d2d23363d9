"""Routing daemons in a namespace of the lab: FRR, BIRD, and radvd.

They come from Debian and are kept like the engines; nothing is installed.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from tests.lab import debian, rootfs
from tests.lab.service import wait_until

# Its own view of the mounts, which ends with it: /run is the router's directory.
_VIEW = """
root=$1 run=$2
shift 2
for part in proc dev; do mount --rbind "/$part" "$root/$part"; done
mount --bind "$run" "$root/run"
exec chroot "$root" "$@"
"""

Process = subprocess.Popen[Any]


class Router(ABC):
    """What runs with one configuration, from start() or entering to close().

    `start` starts a command where the router is to be: Host.outer for a host,
    Namespace.start for any other namespace. `options` are those of its daemon.
    """

    CONFIG: ClassVar[str]
    """Where the configuration belongs, in the daemon's own /run."""

    def __init__(
        self, start: Callable[..., Process], config: str, *options: str
    ) -> None:
        self._where, self._options = start, options
        self.processes: list[Process] = []
        self.dir = Path(tempfile.mkdtemp(prefix="router-", dir=debian.cache()))
        self._log = self.dir / "log"
        self._log.touch()
        file = self.dir / self.CONFIG
        file.parent.mkdir(exist_ok=True)
        file.write_text(config)

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it has read its configuration."""

    def stop(self) -> None:
        """TERM to all of it, the last started first."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """KILL all of it."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stop and remove it; routes that its configuration keeps are still there."""
        try:
            self.stop()
        finally:
            self.kill()
            shutil.rmtree(self.dir)

    @property
    def log(self) -> str:
        """What its daemons have said since it was made."""
        return self._log.read_text(errors="replace")

    def ask(self, *command: str) -> str:
        """Run a command of the daemons' root beside them; return what it says."""
        target = f"--target={self.processes[0].pid}"
        done = subprocess.run(
            ["nsenter", target, "--mount", "--net", "--root", "--wd=/", *command],
            check=False, timeout=30, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}\n{self.log}")
        return done.stdout

    def _run(self, *command: str) -> None:
        view = ["unshare", "--mount", "sh", "-ec", _VIEW, "sh", str(rootfs.routing())]
        with self._log.open("ab") as log:
            process = self._where(
                *view, str(self.dir), *command, stdout=log, stderr=log
            )
        self.processes.append(process)

    def _wait_for(self, *sockets: str) -> None:
        def served() -> bool:
            return all((self.dir / name).is_socket() for name in sockets)

        wait_until(served, 10, lambda: self.log)

    def _end(self, how: signal.Signals) -> None:
        while self.processes:
            self.processes[-1].send_signal(how)
            self.processes[-1].wait(timeout=20)
            self.processes.pop()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Frr(Router):
    """zebra, with options, and bgpd, started as Debian's service starts them."""

    CONFIG = "frr/frr.conf"
    ZEBRA, BGPD = "/usr/lib/frr/zebra", "/usr/lib/frr/bgpd"

    def start(self) -> None:
        """Start both, and give them the one configuration file."""
        for old in (self.dir / "frr").glob("*.vty"):
            old.unlink()
        (self.dir / "frr/vtysh.conf").touch()
        log = ("--log", "stdout")
        self._run(self.ZEBRA, *log, *self._options)
        self._wait_for("frr/zserv.api", "frr/zebra.vty")
        self._run(self.BGPD, *log, "-A", "127.0.0.1")
        self._wait_for("frr/bgpd.vty")
        self.ask("vtysh", "--config_dir", "/run/frr", "-b")


class Bird(Router):
    """BIRD 2."""

    CONFIG = "bird.conf"

    def start(self) -> None:
        """Start it; with a mistake in its configuration it ends at once."""
        (self.dir / "bird.ctl").unlink(missing_ok=True)
        files = ("-c", "/run/bird.conf", "-s", "/run/bird.ctl")
        self._run("bird", "-d", *files, *self._options)
        self._wait_for("bird.ctl")


class Radvd(Router):
    """A router's advertisements."""

    CONFIG = "radvd.conf"

    def start(self) -> None:
        """Start it; it has said something when it has sent its first advertisement."""
        self._run(
            "radvd", "-n", "-m", "stderr", "-C", "/run/radvd.conf", "-p", "/run/pid"
        )
