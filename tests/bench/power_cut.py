"""A power cut: how long dockerd takes to start with many containers to bring back."""

from __future__ import annotations

import compileall
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import docker

import underlay
from tests.bench.processor import process_spent
from tests.bench.tables import (
    Series,
    alternated,
    compared,
    ratio,
    say,
    spread,
    tell,
    verdicts,
)
from tests.docker.conftest import Site
from tests.lab.net import Lan
from tests.lab.service import wait_until
from tests.lab.systemd import SystemdHost, Unit

OURS, BUILT_IN = "underlay", "macvlan"
# A period as installed. A host runs longer than the grace time between two power cuts;
# with the usual minute the bench would do nothing but wait for it.
SETTINGS = {"period": 30, "grace": 20}
AIM = 1.04

Compared = dict[str, Series]
STARTED = "start of docker.service"
BOOTED = "PID 1 to Docker's API"
SPENT = "CPU time of the whole host until then"


def power(rounds: int, count: int) -> bool:
    """Measure and print it; tell whether the aim was met."""
    # As an installed one, the service need not be compiled at every start.
    compileall.compile_dir(str(Path(underlay.__file__).parent), quiet=1)
    with Lan() as lan, ExitStack() as hosts:
        sites = {
            name: hosts.enter_context(_site(lan, name, index, count))
            for index, name in enumerate((OURS, BUILT_IN), 1)
        }
        found, own = _measure(sites, rounds, count)
    title = f"A boot that brings {count} containers back"
    compared(title, found, unit="seconds", digits=2)
    say(f"\nCPU time of the service until then: {spread(own, 2)} s.")
    measured = ratio(found[STARTED][OURS], found[STARTED][BUILT_IN])
    asked = f"dockerd's start at most {AIM:.2f} times as long as with the built-in"
    return verdicts([(f"{asked} driver", f"{measured:.3f}", measured <= AIM)])


@contextmanager
def _site(lan: Lan, driver: str, index: int, count: int) -> Iterator[Site]:
    """Make a host with the containers on its disk and the power off."""
    with SystemdHost(lan, driver, index) as host:
        site = Site(host, Unit(host, **SETTINGS))
        host.load_image()
        if driver == OURS:
            site.service.start()
        ipam = ("--ipam-driver", OURS) if driver == OURS else ()
        site.docker(
            "network", "create", "-d", driver, *ipam, "-o", "parent=eth0",
            "--subnet", "10.78.0.0/16", "--gateway", "10.78.0.1", "lan",
        )  # fmt: skip
        _start_all(site, count)
        if driver == OURS:
            _tell_machine(site)
        host.power_cut()
        yield site


def _start_all(site: Site, count: int) -> None:
    api = _api(site)
    try:
        config = api.create_host_config(
            network_mode="lan", restart_policy={"Name": "always"}
        )
        for _ in range(count):
            api.start(api.create_container("bb", ["sleep", "9999"], host_config=config))
    finally:
        api.close()


def _api(site: Site) -> docker.APIClient:
    return docker.APIClient(f"unix://{site.host.docker_socket}", version="auto")


def _tell_machine(site: Site) -> None:
    version = site.docker("version", "-f", "{{.Server.Version}}").stdout.strip()
    systemd = site.host.run("systemctl", "--version").stdout.split()[1]
    say(
        f"{os.cpu_count()} cores, Linux {platform.release()},"
        f" Python {platform.python_version()}, Docker {version}, systemd {systemd},"
        f" load average before {os.getloadavg()[0]:.2f}"
    )


def _measure(
    sites: dict[str, Site], rounds: int, count: int
) -> tuple[dict[str, Compared], Series]:
    """Return what boots took on each host, and the service's own CPU time."""
    found: dict[str, Compared] = {
        what: {OURS: [], BUILT_IN: []} for what in (STARTED, BOOTED, SPENT)
    }
    own: Series = []
    for turn in range(-1, rounds):
        for driver in alternated(turn, OURS, BUILT_IN):
            tell(f"boot with {driver}, {turn + 1} of {rounds}")
            host = sites[driver].host
            before = host.processor()
            host.start()
            spent = host.processor() - before
            if turn >= 0:  # the one before was to warm up
                found[STARTED][driver].append(host.took("docker.service"))
                found[BOOTED][driver].append(host.booted())
                found[SPENT][driver].append(spent)
                own += [_processor(sites[driver])] if driver == OURS else []
            _check(sites[driver], driver, count)
            host.power_cut()
    return found, own


def _processor(site: Site) -> float:
    """Return the seconds of CPU time that the service has taken since the boot."""
    return sum(map(process_spent, site.service.pids())) / 1000


def _check(site: Site, driver: str, count: int) -> None:
    """Count what is back, and wait until the dead of the power cut are forgotten."""
    back = len(site.docker("ps", "-q").stdout.split())
    if back != count:
        raise RuntimeError(f"{back} of {count} containers are back on {driver}")
    if driver == OURS:
        wait_until(
            lambda: [len(site.live()[1]), site.live()[2]] == [count] * 2,
            4 * SETTINGS["grace"],
            site.live,
        )
