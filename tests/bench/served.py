"""`underlay serve`, which also notes when its passes began and ended.

A line in the file $BENCH_PASSES for each: the monotonic clock, and the CPU time of the
process until then, both in seconds. While a pass is under way their number is odd.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from underlay.cli.commands import main
from underlay.reconcile.reconciler import Reconciler


def wire_up(file: Path) -> None:
    """Have every pass of the service noted in a file."""
    run_pass = Reconciler.run_pass

    def note() -> None:
        with file.open("a") as noted:
            noted.write(f"{time.monotonic()} {time.process_time()}\n")

    def noted(self: Reconciler, *about: Any) -> float | None:
        note()
        try:
            return run_pass(self, *about)
        finally:
            note()

    Reconciler.run_pass = noted  # type: ignore[method-assign]


if __name__ == "__main__":
    wire_up(Path(os.environ["BENCH_PASSES"]))
    main(["serve"], prog_name="underlay")
