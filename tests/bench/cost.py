"""What a container costs beyond Docker's own driver, on a quiet host and a busy one.

The built-in driver has a host of its own, where the service does not run: the service
also works when containers start that are not on its networks.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

from tests.bench.calls import FEW, MANY, calls
from tests.bench.control import (
    BUILT_IN,
    OURS,
    PARALLEL,
    client,
    network,
    start_many,
    tell_machine,
    timed,
)
from tests.bench.lifecycle import crowd
from tests.bench.load import machine_spent
from tests.bench.processor import CountedService, busy_cores, process_spent
from tests.bench.shim import check_shim, load_since, note
from tests.bench.tables import (
    Aim,
    Series,
    alternated,
    compared,
    paired,
    spread,
    table,
    tell,
    verdicts,
)
from tests.docker.conftest import Site, make_site
from tests.lab.net import Lan

ROUNDS = 3
# By then the service is done with a container, and has nothing to do: see the period.
SETTLED_SECONDS = 1.0
PERIOD, GRACE = 3600, 60
# The only container of its parent, one beside another, one on Docker's own network.
ONLY, BESIDE, FOREIGN = "the only one of its parent", "beside another", "on `bridge`"
QUIET, LOADED = "quiet", "loaded"
STARTS, REMOVAL = f"{PARALLEL} starts at once", f"`docker rm -f` of {PARALLEL}"
AIM_CPU_MS = {BESIDE: 20, ONLY: 22, FOREIGN: 3}
AIM_RUN = {(ONLY, QUIET): 1.02, (BESIDE, QUIET): 1.00}
AIM_LOADED, AIM_REMOVAL = 1.10, 0.8
# The same network but for the questions to the segment, and a container that keeps its
# address by its name. On one host, in turn.
UNASKED, NAMED = "unasked", "--name web"
AIM_ASKED = 1.03
# The same network, where only published ports are reached.
GUARDED, AIM_GUARDED_MS = "-o policy=published, -p 80", 8

Sites = dict[str, Site]
# What was done, and whether the host was QUIET or LOADED.
Case = tuple[str, str]


class Found:
    """Milliseconds by case: walls and CPU time by driver, and the service's own."""

    def __init__(self) -> None:
        self.walls: dict[Case, dict[str, Series]] = defaultdict(_pair)
        self.own: dict[Case, Series] = defaultdict(list)
        self.removals: dict[str, dict[str, Series]] = defaultdict(_pair)
        self.asked: dict[str, Series] = defaultdict(list)
        self.loads: list[str] = []

    @property
    def note(self) -> str:
        """What every table was measured with."""
        return note("; ".join(self.loads))


def _pair() -> dict[str, Series]:
    return {OURS: [], BUILT_IN: []}


def cost(engine: str, runs: int) -> bool:
    """Measure everything and print it; tell whether every aim was met."""
    started, found = time.monotonic(), Found()
    with Lan() as lan:
        with ExitStack() as hosts:
            sites = {
                name: hosts.enter_context(_site(lan, name, engine, index))
                for index, name in enumerate((OURS, BUILT_IN), 1)
            }
            sites[BUILT_IN].service.stop()
            tell_machine(sites[OURS])
            for load in (QUIET, LOADED):
                _measure(sites, runs, load, found)
            _asked(sites[OURS], runs, found)
        aims = _tables(found)
        with crowd(lan, engine, FEW, 3) as few, crowd(lan, engine, MANY, 4) as many:
            aims += calls(few, many, runs)
    met = verdicts(aims)
    tell(f"{time.monotonic() - started:.0f} s in all")
    return met


@contextmanager
def _site(lan: Lan, name: str, engine: str, index: int) -> Iterator[Site]:
    site = make_site(
        lan, name, engine, index, CountedService, period=PERIOD, grace=GRACE
    )
    try:
        network(site, name)
        yield site
    finally:
        site.host.close()


def _measure(sites: Sites, runs: int, load: str, found: Found) -> None:
    """Do everything on a quiet host, or on one with every core busy."""
    before = os.getloadavg()[0]
    with busy_cores() if load == LOADED else nullcontext():
        _one_at_a_time(sites, runs, (ONLY, load), found)
        for name, site in sites.items():
            site.run("guest", name)
        check_shim(sites[OURS], 1)
        _one_at_a_time(sites, runs, (BESIDE, load), found)
        for site in sites.values():
            site.docker("rm", "-f", "guest")
        for turn in range(ROUNDS):
            for name in alternated(turn, OURS, BUILT_IN):
                tell(f"{PARALLEL} at once on {name}, {load}, {turn + 1} of {ROUNDS}")
                _at_once(sites[name], name, load, found)
    found.loads.append(f"{load}: {load_since(before)}")


def _one_at_a_time(sites: Sites, runs: int, case: Case, found: Found) -> None:
    where, load = case
    for turn in range(-1, runs):
        tell(f"{where}, {load}, {turn + 1} of {runs}")
        spent = {}
        for name in alternated(turn, OURS, BUILT_IN):
            spent[name] = _run(sites[name], name)
        foreign = _run(sites[OURS], "bridge")[1] if where == BESIDE else 0.0
        if turn < 0:  # it was to warm up
            continue
        for name, (wall, _) in spent.items():
            found.walls[case][name].append(wall)
        found.own[case].append(spent[OURS][1])
        if where == BESIDE:
            found.own[FOREIGN, load].append(foreign)


def _asked(site: Site, runs: int, found: Found) -> None:
    """Compare starts on networks that ask the segment and that do not."""
    network(site, OURS, UNASKED, "--ipam-opt", "probe=off", part="192")
    network(site, OURS, "guarded", "-o", "policy=published", part="128")
    site.run("guest", OURS)
    ways = {
        OURS: (OURS,),
        UNASKED: (UNASKED,),
        NAMED: (OURS, *NAMED.split()),
        GUARDED: ("guarded", "-p", "80"),
    }
    for turn in range(-1, 2 * runs):
        tell(f"with and without questions, {turn + 1} of {2 * runs}")
        for what in list(ways)[:: 1 if turn % 2 else -1]:
            wall, own = _run(site, *ways[what])
            if turn >= 0:
                found.asked[what].append(wall)
                found.own[f"on {OURS}, {what}", QUIET].append(own)
    site.docker("rm", "-f", "guest")


def _run(site: Site, name: str, *words: str) -> tuple[float, float]:
    """Return the wall time of `docker run --rm`, and what the service spent on it."""
    before = site.service.spent()
    wall = timed(site.docker, "run", "--rm", *words, "--network", name, "bb", "true")
    time.sleep(SETTLED_SECONDS)
    return wall, site.service.spent() - before


def _at_once(site: Site, name: str, load: str, found: Found) -> None:
    """Start many containers at once, and remove them with one command."""
    own, dockerd = site.service.spent, site.host._dockerd
    before = own()
    with client(site) as api:
        wall, failed = start_many(api, name)
    if failed:
        raise RuntimeError(f"{failed} of {PARALLEL} starts failed on {name}")
    if name == OURS:
        check_shim(site, PARALLEL)
    time.sleep(SETTLED_SECONDS)
    found.walls[STARTS, load][name].append(wall)
    ids = site.docker("ps", "-aq").stdout.split()
    half, daemon, machine = own(), process_spent(dockerd.pid), machine_spent()
    found.walls[REMOVAL, load][name].append(timed(site.docker, "rm", "-f", *ids))
    time.sleep(SETTLED_SECONDS)
    if name == OURS:
        found.own[STARTS, load].append((half - before) / PARALLEL)
        found.own[REMOVAL, load].append((own() - half) / PARALLEL)
    if load == QUIET:
        spent = process_spent(dockerd.pid) - daemon + own() - half
        found.removals["dockerd and the service"][name].append(spent)
        whole = (machine_spent() - machine) * 1000
        found.removals["the whole machine"][name].append(whole)


def _tables(found: Found) -> list[Aim]:
    table(
        "CPU time of the service and all that it starts, per container",
        ("milliseconds", "mean", "median (min to max)"),
        [
            (f"{what}, {load}", f"{statistics.mean(spent):.1f}", spread(spent))
            for (what, load), spent in found.own.items()
        ],
        found.note,
    )
    walls = {f"{what}, {load}": of for (what, load), of in found.walls.items()}
    compared("Wall time on underlay and on Docker's macvlan", walls, found.note)
    title = f"CPU time of {REMOVAL}, quiet"
    compared(title, found.removals, found.note)
    table(
        "Wall time with and without questions to the segment, on one host",
        ("milliseconds: median (min to max)", "", "to probe=off, turn by turn"),
        [
            (what, spread(walls), f"{paired(walls, found.asked[UNASKED]):.3f}")
            for what, walls in found.asked.items()
        ],
        found.note,
    )
    own = (*_processor_aims(found), _guarded_aim(found))
    return [*own, *_wall_aims(found), _asked_aim(found)]


def _asked_aim(found: Found) -> Aim:
    times = paired(found.asked[OURS], found.asked[UNASKED])
    title = f"`docker run --rm`: at most {AIM_ASKED:.2f} times that with probe=off"
    return title, f"{times:.3f}", times <= AIM_ASKED


def _guarded_aim(found: Found) -> Aim:
    """Return what a gate costs the service, beside the same start without one."""
    ways = (found.own[f"on {OURS}, {what}", QUIET] for what in (GUARDED, OURS))
    with_gate, without = map(statistics.median, ways)
    title = f"CPU time of a policy per `docker run --rm`: at most {AIM_GUARDED_MS} ms"
    more = with_gate - without
    return title, f"{more:.1f} ms", more <= AIM_GUARDED_MS


def _processor_aims(found: Found) -> Iterator[Aim]:
    for where, limit in AIM_CPU_MS.items():
        spent = statistics.median(found.own[where, QUIET])
        asked = f"CPU time per `docker run --rm`, {where}, at most {limit} ms"
        yield asked, f"{spent:.1f} ms", spent <= limit


def _wall_aims(found: Found) -> Iterator[Aim]:
    limits = {**AIM_RUN, (ONLY, LOADED): AIM_LOADED, (BESIDE, LOADED): AIM_LOADED}
    asked = {f"`docker run --rm`, {w}, {load}": (w, load) for w, load in limits}
    asked[f"{REMOVAL}, {QUIET}"] = REMOVAL, QUIET
    for what, case in asked.items():
        limit = limits.get(case, AIM_REMOVAL)
        times = paired(found.walls[case][OURS], found.walls[case][BUILT_IN])
        title = f"{what}: at most {limit:.2f} times the built-in driver's"
        yield title, f"{times:.3f}", times <= limit
