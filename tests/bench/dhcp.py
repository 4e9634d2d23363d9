"""What an address from a DHCP server costs: container starts, and leases that are kept.

Starts are on one real engine beside Kea, on networks of one parent: with addresses from
the server, from a static pool of this driver, and from Docker's own macvlan driver. See
leases.py for leases that are kept.
"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import docker
from docker.errors import APIError
from requests.exceptions import RequestException

from tests.bench.control import BUILT_IN, OURS, PARALLEL, client, tell_machine, timed
from tests.bench.leases import leases
from tests.bench.shim import load_since
from tests.bench.tables import (
    Aim,
    Series,
    alternated,
    paired,
    say,
    spread,
    table,
    tell,
    verdicts,
)
from tests.docker.conftest import GATEWAY4, IPAM, LAN4, Site, make_site
from tests.lab.dhcp_servers import Kea, Scope
from tests.lab.net import Lan

DHCP, MANY = "dhcp", "many"
# Each network has a part of the LAN's subnet: the server, the pool, Docker's driver.
SCOPE = Scope(first="10.77.0.128", last="10.77.0.254", lease_seconds=3600)
POOL, DOCKERS = "10.77.0.64/26", "10.77.0.32/28"
FIRST_FIXED = 65
KNOWN, NEW = "a known name", "a new name"
ROUNDS = 5
# By then the service is done with a container.
SETTLED_SECONDS = 1.0
AIM_KNOWN, AIM_NEW_MS, AIM_MANY = 1.02, 230, 1.05

Walls = dict[str, Series]


def dhcp(engine: str, runs: int, count: int) -> bool:
    """Measure everything and print it; tell whether every aim was met."""
    started = time.monotonic()
    with Lan() as lan:
        # With the times of a service as installed, not those the tests hurry it by.
        site = make_site(lan, "dhcp", engine, 1, period=30, grace=60)
        try:
            tell_machine(site)
            _networks(site)
            # It listens on devices only that are up: the LAN is with its first host.
            with Kea(lan.start, scope=SCOPE):
                aims = [*_one_at_a_time(site, runs), *_at_once(site)]
        finally:
            site.host.close()
    met = verdicts([*aims, *leases(count)])
    tell(f"{time.monotonic() - started:.0f} s in all")
    return met


def _networks(site: Site) -> None:
    create = ("network", "create", "-o", "parent=eth0")
    lan = ("--subnet", LAN4, "--gateway", GATEWAY4, "--ip-range")
    ours = ("-d", "underlay")
    site.docker(*create, "-d", "macvlan", *lan, DOCKERS, BUILT_IN)
    site.docker(*create, *ours, *IPAM, *lan, POOL, OURS)
    site.docker(*create, *ours, *IPAM, "--ipam-opt", "source=dhcp", DHCP)
    # Engines up to 28 tell no names: of containers that start at once, this tells one.
    null = ("--ipam-driver", "null", "-o", "source=dhcp")
    site.docker(*create, *ours, *null, MANY)


def _one_at_a_time(site: Site, runs: int) -> list[Aim]:
    """Time `docker run --rm` on each network, of one name and of one after another."""
    before = os.getloadavg()[0]
    found = {what: {n: [] for n in (DHCP, OURS, BUILT_IN)} for what in (KNOWN, NEW)}
    for turn in range(-1, runs):
        for what, name in ((KNOWN, "web"), (NEW, f"new{turn + 1}")):
            tell(f"{what}, {turn + 1} of {runs}")
            for network in list(found[what])[:: 1 if turn % 2 else -1]:
                wall = _run(site, network, f"{name}-{network}")
                if turn >= 0:  # the one before was to warm up
                    found[what][network].append(wall)
    table(
        "`docker run --rm` with addresses of a server, a static pool, Docker's macvlan",
        ("milliseconds: median (min to max)", DHCP, f"a pool of {OURS}", BUILT_IN,
         "dhcp to pool, turn by turn", "dhcp less pool, turn by turn"),
        [
            (what, *map(spread, walls.values()),
             f"{paired(walls[DHCP], walls[OURS]):.3f}", f"{_added(walls):.0f}")
            for what, walls in found.items()
        ],
        f"Load average {load_since(before)}",
    )  # fmt: skip
    times, added = paired(found[KNOWN][DHCP], found[KNOWN][OURS]), _added(found[NEW])
    return [
        (f"`docker run` of {KNOWN} at most {AIM_KNOWN} times that with a static pool",
         f"{times:.3f}", times <= AIM_KNOWN),
        (f"{NEW} takes at most {AIM_NEW_MS} ms more, with Kea", f"{added:.0f} ms",
         added <= AIM_NEW_MS),
    ]  # fmt: skip


def _added(walls: Walls) -> float:
    pairs = zip(walls[DHCP], walls[OURS], strict=True)
    return statistics.median(ours - theirs for ours, theirs in pairs)


def _run(site: Site, network: str, name: str) -> float:
    words = ("--rm", "--name", name, "--network", network, "bb", "true")
    wall = timed(site.docker, "run", *words)
    time.sleep(SETTLED_SECONDS)
    return wall


def _at_once(site: Site) -> list[Aim]:
    """Start many stopped containers at once, each known, as after a reboot."""
    before, walls, failed = os.getloadavg()[0], {MANY: [], OURS: []}, {MANY: 0, OURS: 0}
    with client(site) as api:
        made = {network: _created(api, network) for network in walls}
        for turn in range(ROUNDS):
            for network in alternated(turn, MANY, OURS):
                tell(f"{PARALLEL} at once on {network}, {turn + 1} of {ROUNDS}")
                wall, errors = _start(api, made[network])
                walls[network].append(wall)
                failed[network] += errors
                _stop(api, made[network])
                time.sleep(SETTLED_SECONDS)
    times = paired(walls[MANY], walls[OURS])
    table(
        f"{PARALLEL} stopped containers started at once",
        ("milliseconds: median (min to max)", "", "failed"),
        [
            ("known by `identity=`, addresses of the server", spread(walls[MANY], 0),
             failed[MANY]),
            ("known by `--ip`, a static pool", spread(walls[OURS], 0), failed[OURS]),
        ],
        f"Load average {load_since(before)}",
    )  # fmt: skip
    say(f"\nThe first to the second, turn by turn: {times:.3f}.")
    return [
        (f"{PARALLEL} starts at once at most {AIM_MANY} times those with a static pool",
         f"{times:.3f}", times <= AIM_MANY),
        ("no error in them", str(failed[MANY]), not failed[MANY]),
    ]  # fmt: skip


def _created(api: docker.APIClient, network: str) -> list[str]:
    """Create the containers, and start each once: from then on it is known."""
    config = api.create_host_config(network_mode=network)
    found = []
    for number in range(PARALLEL):
        fixed = f"10.77.0.{FIRST_FIXED + number}"
        known = {"driver_opt": {"identity": f"c{number}"}}
        place = api.create_endpoint_config(
            **(known if network == MANY else {"ipv4_address": fixed})
        )
        made = api.create_container(
            "bb",
            ["sleep", "9999"],
            host_config=config,
            networking_config=api.create_networking_config({network: place}),
        )
        api.start(made)
        api.kill(made)
        found.append(made["Id"])
    return found


def _start(api: docker.APIClient, containers: list[str]) -> tuple[float, int]:
    """Start containers at once; return the wall time, and how many failed."""

    def start(container: str) -> bool:
        try:
            api.start(container)
        except (APIError, RequestException) as error:
            tell(f"start: {error}")
            return False
        return True

    with ThreadPoolExecutor(PARALLEL) as threads:
        began = time.perf_counter()
        started = list(threads.map(start, containers))
        return (time.perf_counter() - began) * 1000, started.count(False)


def _stop(api: docker.APIClient, containers: list[str]) -> None:
    def stop(container: str) -> None:
        api.stop(container, timeout=0)

    with ThreadPoolExecutor(PARALLEL) as threads:
        list(threads.map(stop, containers))
