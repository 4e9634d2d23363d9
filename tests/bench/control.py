"""The control path: what containers cost here and with Docker's own driver."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import docker
from docker.errors import APIError
from requests.exceptions import RequestException

from tests.bench.calls import FEW, MANY, calls
from tests.bench.lifecycle import crowd
from tests.bench.memory import Peak, alone, high_water, pss
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
from tests.docker.conftest import Site, make_site
from tests.lab.net import Lan

OURS, BUILT_IN = "underlay", "macvlan"
PARALLEL, ROUNDS = 50, 4
STARTS = 10
AIM_START_MS, AIM_RUN, AIM_MEGABYTES = 1000, 1.02, 80

Compared = dict[str, Series]


def control(engine: str, runs: int) -> bool:
    """Measure everything and print it; tell whether every aim was met."""
    started = time.monotonic()
    with Lan() as lan:
        # With the times of a service as installed, not those the tests hurry it by.
        site = make_site(lan, "bench", engine, 1, period=30, grace=60)
        try:
            _tell_machine(site)
            aims = [starting(site), *containers(site, runs)]
        finally:
            site.host.close()
        with crowd(lan, engine, FEW, 2) as few, crowd(lan, engine, MANY, 3) as many:
            aims += calls(few, many, runs)
    verdicts = [(what, found, "met" if met else "NOT met") for what, found, met in aims]
    table("Aims", ("asked", "measured", ""), verdicts)
    tell(f"{time.monotonic() - started:.0f} s in all")
    return all(met for *_, met in aims)


def _tell_machine(site: Site) -> None:
    version = site.docker("version", "-f", "{{.Server.Version}}").stdout.strip()
    say(
        f"{os.cpu_count()} cores, Linux {platform.release()},"
        f" Python {platform.python_version()}, Docker {version},"
        f" load average before {os.getloadavg()[0]:.2f}"
    )


def starting(site: Site) -> Aim:
    """Time the service from its start to its first answer, asked every 50 ms."""
    found: Series = []
    for turn in range(STARTS):
        tell(f"start {turn + 1} of {STARTS}")
        site.service.stop()
        found.append(_timed(site.service.start))
    asked = f"start to first answer under {AIM_START_MS} ms"
    return asked, f"{spread(found, 0)} ms", max(found) < AIM_START_MS


def containers(site: Site, runs: int) -> list[Aim]:
    """Compare whole containers with the built-in driver; watch the service's memory."""
    site.network(OURS, subnet="10.79.0.0/24", gateway="10.79.0.1")
    site.docker(
        "network", "create", "-d", "macvlan", "-o", "parent=eth0",
        "--subnet", "10.78.0.0/24", "--gateway", "10.78.0.1", BUILT_IN,
    )  # fmt: skip
    url = f"unix://{site.host.docker_socket}"
    api = docker.APIClient(url, version="auto", timeout=120, max_pool_size=PARALLEL)
    try:
        found = one_at_a_time(site, api, runs)
        with Peak(site.service) as peak:
            walls, errors = at_once(api)
    finally:
        api.close()
    found[f"{PARALLEL} starts at once (wall time)"] = walls
    table(
        "Containers on underlay and on Docker's macvlan",
        ("milliseconds: median (min to max)", OURS, BUILT_IN,
         "ratio of medians", "median of paired ratios"),
        [
            (what, spread(of[OURS], 0), spread(of[BUILT_IN], 0),
             f"{ratio(of[OURS], of[BUILT_IN]):.3f}",
             f"{paired(of[OURS], of[BUILT_IN]):.3f}")
            for what, of in found.items()
        ],
    )  # fmt: skip
    failed = ", ".join(f"{count} on {name}" for name, count in errors.items())
    say(f"\nFailed of the {PARALLEL * ROUNDS} parallel starts each: {failed}.")
    table("Memory of the service", ("MB", "all its processes"), _memory(site, peak))
    run = ratio(found["`docker run --rm`"][OURS], found["`docker run --rm`"][BUILT_IN])
    return [
        (f"`docker run` at most {AIM_RUN} times the built-in driver's", f"{run:.3f}",
         run <= AIM_RUN),
        (f"no error in {PARALLEL} parallel starts", failed, not errors[OURS]),
        (f"peak memory under {AIM_MEGABYTES} MB", f"{peak.megabytes:.1f} MB (PSS)",
         peak.megabytes < AIM_MEGABYTES),
    ]  # fmt: skip


def one_at_a_time(site: Site, api: docker.APIClient, runs: int) -> dict[str, Compared]:
    """Time the client's `docker run`, and the API's connect and disconnect."""
    site.run("guest", "bridge")
    kinds = ("`docker run --rm`", "connect", "disconnect", "connect + disconnect")
    found: dict[str, Compared] = {kind: {OURS: [], BUILT_IN: []} for kind in kinds}
    for turn in range(-1, runs):
        tell(f"containers, {turn + 1} of {runs}")
        for name in alternated(turn, OURS, BUILT_IN):
            ran = _timed(site.docker, "run", "--rm", "--network", name, "bb", "true")
            came = _timed(api.connect_container_to_network, "guest", name)
            went = _timed(api.disconnect_container_from_network, "guest", name)
            if turn >= 0:  # the one before was to warm up
                for kind, spent in zip(
                    kinds, (ran, came, went, came + went), strict=True
                ):
                    found[kind][name].append(spent)
    site.docker("rm", "-f", "guest")
    return found


def at_once(api: docker.APIClient) -> tuple[Compared, dict[str, int]]:
    """Start many containers at once; return wall times, and how many starts failed."""
    walls: Compared = {OURS: [], BUILT_IN: []}
    errors = {OURS: 0, BUILT_IN: 0}

    def start(name: str) -> bool:
        networking = api.create_host_config(network_mode=name)
        try:
            made = api.create_container("bb", ["sleep", "9999"], host_config=networking)
            api.start(made)
        except (APIError, RequestException) as error:
            tell(f"start on {name}: {error}")
            return False
        return True

    for turn in range(ROUNDS):
        for name in alternated(turn, OURS, BUILT_IN):
            tell(f"{PARALLEL} at once on {name}, {turn + 1} of {ROUNDS}")
            with ThreadPoolExecutor(PARALLEL) as threads:
                began = time.perf_counter()
                started = list(threads.map(start, [name] * PARALLEL))
                walls[name].append((time.perf_counter() - began) * 1000)
                errors[name] += started.count(False)
                ids = [c["Id"] for c in api.containers(all=True)]
                list(threads.map(lambda i: api.remove_container(i, force=True), ids))
    return walls, errors


def _memory(site: Site, peak: Peak) -> list[tuple[str, str]]:
    pids = site.service.pids()
    return [
        ("PSS, peak while containers start at once", f"{peak.megabytes:.1f}"),
        ("PSS, after it", f"{pss(pids):.1f}"),
        ("the same if nothing else ran Python from these files", f"{alone(pids):.1f}"),
        ("sum of VmHWM (shared pages counted twice)", f"{high_water(pids):.1f}"),
    ]


def _timed(act: Callable[..., object], *args: object) -> float:
    began = time.perf_counter()
    act(*args)
    return (time.perf_counter() - began) * 1000
