"""Series of milliseconds, and the markdown tables they are told in."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

Series = list[float]
# What was asked, what was measured, and whether that meets it.
Aim = tuple[str, str, bool]
T = TypeVar("T")


def alternated(turn: int, one: T, other: T) -> tuple[T, T]:
    """Return the two in the order of this turn: neither is always the first."""
    return (one, other) if turn % 2 else (other, one)


def table(
    title: str, head: Sequence[str], rows: Iterable[Sequence[object]], note: str = ""
) -> None:
    """Print a table under a heading, and under what it was measured with."""
    say(f"\n### {title}\n")
    if note:
        say(f"{note}.\n")
    for row in (head, ["---"] * len(head), *rows):
        say(f"| {' | '.join(map(str, row))} |")


def compared(
    title: str,
    found: Mapping[str, Mapping[str, Series]],
    note: str = "",
    unit: str = "milliseconds",
    digits: int = 0,
) -> None:
    """Print series of two drivers each, and how they compare."""
    [ours, theirs] = next(iter(found.values()))
    table(
        title,
        (f"{unit}: median (min to max)", ours, theirs,
         "ratio of medians", "median of paired ratios"),
        [
            (what, spread(of[ours], digits), spread(of[theirs], digits),
             f"{ratio(of[ours], of[theirs]):.3f}",
             f"{paired(of[ours], of[theirs]):.3f}")
            for what, of in found.items()
        ],
        note,
    )  # fmt: skip


def verdicts(aims: Iterable[Aim], asked: str = "asked") -> bool:
    """Print which aims were met; return whether all were."""
    told = list(aims)
    rows = [(what, found, "met" if met else "NOT met") for what, found, met in told]
    table("Aims", (asked, "measured", ""), rows)
    return all(met for *_, met in told)


def spread(series: Series, digits: int = 1) -> str:
    """Return the median with the least and the greatest."""
    return (
        f"{statistics.median(series):.{digits}f}"
        f" ({min(series):.{digits}f} to {max(series):.{digits}f})"
    )


def ratio(ours: Series, theirs: Series) -> float:
    """Return how the medians compare."""
    return statistics.median(ours) / statistics.median(theirs)


def paired(ours: Series, theirs: Series) -> float:
    """Return the median of the ratios turn by turn: what drifts, drifts for both."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def say(text: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Say how far it is, beside the tables."""
    sys.stderr.write(f"bench: {text}\n")
