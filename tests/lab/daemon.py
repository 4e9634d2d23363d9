"""Programs of an unpacked Debian root that run in a namespace of the lab.

They are kept like the engines; nothing is installed.
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

from tests.lab import debian
from tests.lab.service import wait_until

# Its own view of the mounts, which ends with it: /run is the daemon's directory.
_VIEW = """
root=$1 run=$2
shift 2
for part in proc dev; do mount --rbind "/$part" "$root/$part"; done
mount --bind "$run" "$root/run"
exec chroot "$root" "$@"
"""

Process = subprocess.Popen[Any]


class Daemon(ABC):
    """What runs from start() or entering to close().

    `start` starts a command where it is to be: Host.outer for a host, Namespace.start
    for any other namespace. `options` are those of its program.
    """

    ROOT: ClassVar[Callable[[], Path]]
    """Which of rootfs.py's roots it is in."""
    VIEW: ClassVar[str] = _VIEW

    def __init__(self, start: Callable[..., Process], *options: str) -> None:
        self._where, self._options = start, options
        self.processes: list[Process] = []
        self.dir = Path(tempfile.mkdtemp(prefix="daemon-", dir=debian.cache()))
        self._log = self.dir / "log"
        self._log.touch()

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
        view = [
            "unshare",
            "--mount",
            "sh",
            "-ec",
            self.VIEW,
            "sh",
            str(type(self).ROOT()),
        ]
        with self._log.open("ab") as log:
            process = self._where(
                *view, str(self.dir), *command, stdout=log, stderr=log
            )
        self.processes.append(process)

    def _wait_until(self, true: Callable[[], bool]) -> None:
        """Wait for what shows that it is at work; fail if it ends without."""

        def has_ended() -> bool:
            return any(process.poll() is not None for process in self.processes)

        wait_until(lambda: true() or has_ended(), 10, lambda: self.log)
        if not true():
            raise RuntimeError(f"ended at its start: {self.log}")

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
