"""What a pass costs beside much that is not ours, in a container or in the host."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

from tests.bench.idle import idle_with_memory
from tests.bench.service_host import Stage, isolate
from tests.bench.tables import Series, say, spread, table, tell

ENDPOINTS = 10
ROUTES, NEIGHBOURS, ADDRESSES, DEVICES = 100_000, 50_000, 10_000, 1_000
AIM_MS, AIM_EXTRA_MB = 100, 20.0
HOST, SANDBOX = "", "000000000000"

# A name, the namespace, and the lines for `ip -batch`.
Crowd = tuple[str, str, Iterator[str]]


def _routes(by: str, device: str = "eth0") -> Iterator[str]:
    for n in range(ROUTES):
        to = f"11.{n >> 16}.{n >> 8 & 255}.{n & 255}/32"
        yield f"route add {to} dev {device} proto {by}"


def _routes_of_ipv6() -> Iterator[str]:
    for n in range(ROUTES):
        yield f"route add fd11::{n >> 16:x}:{n & 65535:x} dev eth0 proto bird"


def _neighbours() -> Iterator[str]:
    for n in range(NEIGHBOURS):
        mac = f"02:00:01:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}"
        where = f"10.64.{n >> 8}.{n & 255} dev eth0"
        yield f"neigh add {where} lladdr {mac} nud permanent"


def _addresses() -> Iterator[str]:
    for n in range(ADDRESSES):
        yield f"addr add 11.1.{n >> 8}.{n & 255}/32 dev lo"


def _devices() -> Iterator[str]:
    for n in range(DEVICES):
        yield f"link add own{n} type bridge"


CROWDS: tuple[Crowd, ...] = (
    (f"{ROUTES:,} routes of BIRD in a container", SANDBOX, _routes("bird")),
    (f"{ROUTES:,} IPv6 routes of BIRD there", SANDBOX, _routes_of_ipv6()),
    (f"{ROUTES:,} routes of `ip route` there", SANDBOX, _routes("boot")),
    (f"{ADDRESSES:,} addresses on lo there", SANDBOX, _addresses()),
    (f"{DEVICES:,} bridges there", SANDBOX, _devices()),
    (f"{ROUTES:,} routes of BIRD in the host", HOST, _routes("bird")),
    (f"{NEIGHBOURS:,} neighbours in the host", HOST, _neighbours()),
)


def foreign() -> bool:
    """Measure and print it; tell whether a pass stays about as cheap as without."""
    found = [("nothing", *_apart(None))]
    found += [(crowd[0], *_apart(turn)) for turn, crowd in enumerate(CROWDS)]
    table(
        f"A pass with nothing to do over {ENDPOINTS} endpoints, beside others' things",
        ("beside", "CPU ms: median (min to max)", "the first", "RSS at most, MB"),
        [(what, spread(ms[1:]), f"{ms[0]:.1f}", f"{mb:.0f}") for what, ms, mb in found],
    )
    (*_, base), *crowded = found
    met = all(
        statistics.median(ms[1:]) < AIM_MS and mb < base + AIM_EXTRA_MB
        for _, ms, mb in crowded
    )
    say(f"Asked: below {AIM_MS} ms and {base + AIM_EXTRA_MB:.0f} MB;"
        f" {'met' if met else 'NOT met'}")  # fmt: skip
    return met


def _apart(turn: int | None) -> tuple[Series, float]:
    """Return what passes of a host in namespaces of its own take and hold."""
    with tempfile.TemporaryDirectory() as folder, get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (Path(folder), turn))


def _measured(folder: Path, turn: int | None) -> tuple[Series, float]:
    isolate()
    stage = Stage(folder, ENDPOINTS)
    stage.grow(ENDPOINTS)
    if turn is not None:
        what, where, lines = CROWDS[turn]
        tell(what)
        words = ["ip", *(["-n", where] if where else []), "-batch", "-"]
        subprocess.run(words, input="\n".join(lines), text=True, check=True)
    return idle_with_memory(folder, ENDPOINTS)
