"""CPU time of the service with all that it starts, and cores that are kept busy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.service import Service

ENTER = 'mkdir -p "$0" && echo $$ >"$0/cgroup.procs" && exec "$@"'
# It ends with the bench, however that ends.
SPIN = ("setpriv", "--pdeathsig", "KILL", sys.executable, "-c", "while True: pass")


class CountedService(Service):
    """The service in a cgroup of its own: the kernel counts each process ever in it."""

    @property
    def cgroup(self) -> Path:
        """Its cgroup of version 2, in that of the host, which is removed with the host.

        With version 1 for the controllers it changes nothing but the counting.
        """
        mounts = map(str.split, Path("/proc/mounts").read_text().splitlines())
        [root] = {Path(words[1]) for words in mounts if words[2] == "cgroup2"}
        return root / self.host.netns / "service"

    @property
    def serving(self) -> list[str]:
        return ["sh", "-c", ENTER, str(self.cgroup), *super().serving]

    def spent(self) -> float:
        """Return milliseconds of CPU time so far, restarts included."""
        lines = (self.cgroup / "cpu.stat").read_text().splitlines()
        return int(dict(map(str.split, lines))["usage_usec"]) / 1000


def process_spent(pid: int) -> float:
    """Return milliseconds of CPU time of one process so far, in steps of 10."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return ticks * 1000 / os.sysconf("SC_CLK_TCK")


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core busy, with one endless loop of normal priority for each."""
    loops = [subprocess.Popen(SPIN) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
