"""The control path: what containers cost here and with Docker's own driver."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import docker
from docker.errors import APIError
from requests.exceptions import RequestException

from tests.bench.calls import FEW, MANY, calls
from tests.bench.lifecycle import crowd
from tests.bench.memory import Peak, alone, high_water, pss
from tests.bench.shim import check_shim, load_since, note
from tests.bench.tables import (
    Aim,
    Series,
    alternated,
    compared,
    ratio,
    say,
    spread,
    table,
    tell,
    verdicts,
)
from tests.docker.conftest import GATEWAY4, IPAM, LAN4, Site, make_site
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
            tell_machine(site)
            aims = [starting(site), *containers(site, runs)]
        finally:
            site.host.close()
        with crowd(lan, engine, FEW, 2) as few, crowd(lan, engine, MANY, 3) as many:
            aims += calls(few, many, runs)
    met = verdicts(aims)
    tell(f"{time.monotonic() - started:.0f} s in all")
    return met


def tell_machine(site: Site) -> None:
    """Print what the bench runs on."""
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
        found.append(timed(site.service.start))
    asked = f"start to first answer under {AIM_START_MS} ms"
    return asked, f"{spread(found, 0)} ms", max(found) < AIM_START_MS


def containers(site: Site, runs: int) -> list[Aim]:
    """Compare whole containers with the built-in driver; watch the service's memory."""
    before = os.getloadavg()[0]
    for name in (OURS, BUILT_IN):
        network(site, name)
    with client(site) as api:
        found = one_at_a_time(site, api, runs)
        with Peak(site.service) as peak:
            walls, errors = at_once(api)
    found[f"{PARALLEL} starts at once (wall time)"] = walls
    loads = note(load_since(before))
    compared("Containers on underlay and on Docker's macvlan", found, loads)
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


def network(
    site: Site, driver: str, name: str = "", *words: str, part: str = ""
) -> None:
    """Create a network of ours or of the built-in driver, in the LAN's own subnet."""
    ipam, usual = (IPAM, "64") if driver == OURS else ((), "128")
    site.docker(
        "network", "create", "-d", driver, *ipam, "-o", "parent=eth0", "--subnet", LAN4,
        "--gateway", GATEWAY4, "--ip-range", f"10.77.0.{part or usual}/26", *words,
        name or driver,
    )  # fmt: skip


@contextmanager
def client(site: Site) -> Iterator[docker.APIClient]:
    """Return what asks Docker's API for many things at once."""
    url = f"unix://{site.host.docker_socket}"
    api = docker.APIClient(url, version="auto", timeout=120, max_pool_size=PARALLEL)
    try:
        yield api
    finally:
        api.close()


def one_at_a_time(site: Site, api: docker.APIClient, runs: int) -> dict[str, Compared]:
    """Time the client's `docker run`, and the API's connect and disconnect."""
    site.run("guest", "bridge")
    kinds = ("`docker run --rm`", "connect", "disconnect", "connect + disconnect")
    found: dict[str, Compared] = {kind: {OURS: [], BUILT_IN: []} for kind in kinds}
    for turn in range(-1, runs):
        tell(f"containers, {turn + 1} of {runs}")
        for name in alternated(turn, OURS, BUILT_IN):
            ran = timed(site.docker, "run", "--rm", "--network", name, "bb", "true")
            came = timed(api.connect_container_to_network, "guest", name)
            if name == OURS:
                check_shim(site, 1)
            went = timed(api.disconnect_container_from_network, "guest", name)
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

    for turn in range(ROUNDS):
        for name in alternated(turn, OURS, BUILT_IN):
            tell(f"{PARALLEL} at once on {name}, {turn + 1} of {ROUNDS}")
            wall, failed = start_many(api, name)
            walls[name].append(wall)
            errors[name] += failed
            ids = [c["Id"] for c in api.containers(all=True)]
            with ThreadPoolExecutor(PARALLEL) as threads:
                list(threads.map(lambda i: api.remove_container(i, force=True), ids))
    return walls, errors


def start_many(api: docker.APIClient, name: str) -> tuple[float, int]:
    """Start many containers at once; return the wall time, and how many failed."""

    def start(_: int) -> bool:
        networking = api.create_host_config(network_mode=name)
        try:
            made = api.create_container("bb", ["sleep", "9999"], host_config=networking)
            api.start(made)
        except (APIError, RequestException) as error:
            tell(f"start on {name}: {error}")
            return False
        return True

    with ThreadPoolExecutor(PARALLEL) as threads:
        began = time.perf_counter()
        started = list(threads.map(start, range(PARALLEL)))
        return (time.perf_counter() - began) * 1000, started.count(False)


def _memory(site: Site, peak: Peak) -> list[tuple[str, str]]:
    pids = site.service.pids()
    return [
        ("PSS, peak while containers start at once", f"{peak.megabytes:.1f}"),
        ("PSS, after it", f"{pss(pids):.1f}"),
        ("the same if nothing else ran Python from these files", f"{alone(pids):.1f}"),
        ("sum of VmHWM (shared pages counted twice)", f"{high_water(pids):.1f}"),
    ]


def timed(act: Callable[..., object], *args: object) -> float:
    """Return the milliseconds that a call takes."""
    began = time.perf_counter()
    act(*args)
    return (time.perf_counter() - began) * 1000
