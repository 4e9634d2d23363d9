"""Passes with nothing to do: `python -m tests.bench.idle <folder> <size>`.

Over the records in a folder. Prints in JSON the CPU milliseconds of each, first the one
of a process that has seen nothing yet, and the most megabytes that the process held: it
is one of its own for these reasons.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.memory import high_water
from tests.bench.tables import Series
from tests.fakes import engine_on
from underlay.kernel.clock import since_boot
from underlay.kernel.linux import LinuxKernel
from underlay.reconcile.scheduling import MANY
from underlay.records import Records

PASSES = 7


def idle(folder: Path, size: int) -> Series:
    """Return what a pass took, first of all the first, with `size` on record."""
    return idle_with_memory(folder, size)[0]


def idle_with_memory(folder: Path, size: int) -> tuple[Series, float]:
    """Return the same, and the most megabytes (RSS) that the process held."""
    words = (sys.executable, "-m", "tests.bench.idle", str(folder), str(size))
    told = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    milliseconds, megabytes = json.loads(told.stdout)
    return list(milliseconds), float(megabytes)


def _measure(folder: Path, size: int) -> Series:
    records = Records(folder / "state" / "underlay.db")
    engine = engine_on(records, LinuxKernel(), time.time, since_boot)

    def spent() -> float:
        began = time.process_time()
        engine.reconciler.run_pass({""}, time.time(), lambda _: None)
        return (time.process_time() - began) * 1000

    found = [spent()]
    for _ in range(size // MANY + 1):  # it is in a hurry until all were looked at
        spent()
    found += [spent() for _ in range(PASSES)]
    if steps := engine.preview():
        raise RuntimeError(f"there is something to do after all: {steps[0]}")
    records.close()
    return found


if __name__ == "__main__":
    told = _measure(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write(json.dumps([told, high_water([os.getpid()])]))
