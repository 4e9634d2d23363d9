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
from underlay.reconcile.reconciler import Passes


def wire_up(file: Path) -> None:
    """Have every pass of the service noted in a file."""
    go_round = Passes.go_round

    def note() -> None:
        with file.open("a") as noted:
            noted.write(f"{time.monotonic()} {time.process_time()}\n")

    def noted(self: Passes, *about: Any) -> float | None:
        note()
        try:
            return go_round(self, *about)
        finally:
            note()

    Passes.go_round = noted  # type: ignore[method-assign]


if __name__ == "__main__":
    wire_up(Path(os.environ["BENCH_PASSES"]))
    main(["serve"], prog_name="underlay")
