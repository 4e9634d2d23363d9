"""`python -m tests.bench control`: the control path, measured."""

from __future__ import annotations

import argparse
import signal
import sys

from tests.bench.control import control
from tests.lab.roots import ENGINES


def main() -> None:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("what", choices=["control"])
    parser.add_argument("--engine", choices=ENGINES, default="28.5")
    parser.add_argument("--runs", type=int, default=15, help="at least 10")
    given = parser.parse_args()
    if given.runs < 10:
        parser.error("--runs: a median of fewer than 10 says little")
    # Both unwind, and what was made is removed on the way out. A shell lets what it
    # starts in the background ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        met = control(given.engine, given.runs)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
