"""The driver's own part of a container's life, with few and many endpoints."""

from __future__ import annotations

import os
import statistics
import time

from tests.bench.lifecycle import Crowd, Life
from tests.bench.memory import pss
from tests.bench.shim import load_since, note
from tests.bench.tables import (
    Aim,
    Series,
    alternated,
    paired,
    ratio,
    say,
    spread,
    table,
    tell,
)

FEW, MANY = 10, 5000
AIM_LIFE_MS, AIM_OWN_MS, AIM_RATIO = 10, 15, 1.2
# By then the service has looked at Docker and at the kernel after the last life.
SETTLED_SECONDS = 2.0
# What the kernel takes to delete a link differs by tens of milliseconds each time.
LIVES_PER_RUN = 2


def calls(few: Crowd, many: Crowd, runs: int) -> list[Aim]:
    """Post lives to both services by turns; print what they took."""
    count, before, load = runs * LIVES_PER_RUN, few.told(), os.getloadavg()[0]
    quiet, links = lives(few, many, count, SETTLED_SECONDS)
    inside = {m: (ms - before.get(m, 0)) / (count + 1) for m, ms in few.told().items()}
    own = _print_methods(quiet[FEW], inside, links, note(load_since(load)))
    busy, _ = lives(few, many, count, 0)
    compared = {"one at a time": _sums(quiet), "back to back": _sums(busy)}
    table(
        f"A container's life with {FEW} and with {MANY:,} endpoints on record",
        ("milliseconds: median (min to max)", f"{FEW}", f"{MANY:,}",
         "ratio of medians", "median of paired ratios"),
        [
            (what, spread(of[FEW]), spread(of[MANY]),
             f"{ratio(of[MANY], of[FEW]):.2f}", f"{paired(of[MANY], of[FEW]):.2f}")
            for what, of in compared.items()
        ],
        note(load_since(load)),
    )  # fmt: skip
    held = pss(many.site.service.pids())
    say(f"\nPSS of the service with {MANY:,} endpoints on record: {held:.1f} MB.")
    life = statistics.median(_sums(quiet)[FEW])
    aims = [
        (f"sum of our calls over a life at most {AIM_LIFE_MS} ms", f"{life:.1f} ms",
         life <= AIM_LIFE_MS),
        (f"driver's own time under {AIM_OWN_MS} ms a life", f"{own:.1f} ms",
         own < AIM_OWN_MS),
    ]  # fmt: skip
    for what, of in compared.items():
        times = ratio(of[MANY], of[FEW])
        asked = f"{MANY:,} endpoints at most {AIM_RATIO} times as slow as {FEW}, {what}"
        aims.append((asked, f"{times:.2f}", times <= AIM_RATIO))
    return aims


def lives(
    few: Crowd, many: Crowd, count: int, pause: float
) -> tuple[dict[int, list[Life]], Series]:
    """Return the lives by the size of their crowd, and bare links beside the few's."""
    found: dict[int, list[Life]] = {FEW: [], MANY: []}
    links: Series = []
    with few.bare_links() as link:
        for turn in range(-1, count):
            tell(f"lives {pause} s apart, {turn + 1} of {count}")
            for crowd in alternated(turn, few, many):
                found[crowd.size].append(crowd.live())
                if crowd is few:
                    links.append(link())
            time.sleep(pause)
    # The first of each was to warm up.
    return {size: measured[1:] for size, measured in found.items()}, links[1:]


def _print_methods(
    measured: list[Life], inside: Life, links: Series, header: str
) -> float:
    """Print the methods and their sum; return the median beyond the kernel's links."""
    sums = [sum(life.values()) for life in measured]
    own = [life - link for life, link in zip(sums, links, strict=True)]
    methods = list(measured[0])
    table(
        f"The driver's own time ({FEW} endpoints on record)",
        ("milliseconds", "as Docker waits: median (min to max)", "without HTTP: mean"),
        [
            *((method, spread([life[method] for life in measured], 2),
               f"{inside[method]:.2f}") for method in methods),
            ("sum of a life", spread(sums, 2), f"{sum(map(inside.get, methods)):.2f}"),
            ("the kernel's own: link add, alias, delete", spread(links, 2), ""),
            ("sum beyond the kernel's own link time", spread(own, 2), ""),
        ],
        header,
    )  # fmt: skip
    return statistics.median(own)


def _sums(measured: dict[int, list[Life]]) -> dict[int, Series]:
    return {n: [sum(life.values()) for life in of] for n, of in measured.items()}
