"""What the service's processes hold in memory, now and at the most."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection
from pathlib import Path

from tests.lab.service import Service

SAMPLE_SECONDS = 0.05


def pss(pids: Collection[int]) -> float:
    """Return megabytes, a page that several processes have counted once in all."""
    return sum(_megabytes(pid, "smaps_rollup", "Pss") for pid in pids)


def alone(pids: Collection[int]) -> float:
    """Return what PSS would be if no other program had the same Python files mapped."""
    anonymous = sum(_megabytes(pid, "smaps_rollup", "Pss_Anon") for pid in pids)
    return anonymous + max(_megabytes(pid, "status", "RssFile") for pid in pids)


def high_water(pids: Collection[int]) -> float:
    """Return the sum of each one's greatest RSS: an upper bound, shared pages twice."""
    return sum(_megabytes(pid, "status", "VmHWM") for pid in pids)


def _megabytes(pid: int, file: str, key: str) -> float:
    text = Path(f"/proc/{pid}/{file}").read_text()
    found = re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


class Peak:
    """Samples the PSS of a service while it is entered; `megabytes` is the greatest."""

    def __init__(self, service: Service) -> None:
        self._pids = service.pids()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.megabytes = 0.0

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.megabytes = max(self.megabytes, pss(self._pids))

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
