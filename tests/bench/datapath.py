"""The data path: what a byte, and a byte's answer, cost on each way to the LAN."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

from tests.bench.load import (
    PING_PORT,
    STREAM_PORT,
    Command,
    on_host,
    on_lan,
    serve,
    stream,
    trips,
)
from tests.bench.network_paths import BRIDGED, HOST, OTHER_KERNEL_WAYS, WAYS, Way
from tests.bench.tables import Aim, Series, paired, say, spread, table, tell, verdicts
from tests.docker.conftest import GATEWAY4, Site, make_site
from tests.lab import uml
from tests.lab.net import Lan
from tests.lab.service import wait_until

OTHER_KERNEL = "7.2"
NICE = -20
# What rules that look at each packet may cost.
AIM_GUARDED = 0.98
# As a shell on the host would do it: eth0 becomes a port, its addresses are br0's.
TO_BRIDGE = f"""
    ip link add br0 address $(cat /sys/class/net/eth0/address) type bridge
    ip addr flush dev eth0
    ip link set eth0 master br0
    ip link set br0 up
    ip addr add $0/24 dev br0
    ip route add default via {GATEWAY4}
"""

# One figure of every round, by what it is; and that of each way, by its name.
Figures = dict[str, Series]
Found = dict[str, Figures]


@dataclass(frozen=True)
class Asked:
    """How to measure.

    `spread` leaves the choice of cores to the kernel, `single` sends each packet alone.
    """

    engine: str
    rounds: int
    seconds: int
    spread: bool
    single: bool

    @property
    def before(self) -> tuple[str, ...]:
        """The words before both ends: ahead of other work, and on the last core."""
        nice = ("nice", "-n", str(NICE))
        last = str(os.cpu_count() - 1)
        return nice if self.spread else (*nice, "taskset", "-c", last)

    def __str__(self) -> str:
        cores = "on any core" if self.spread else "on one core"
        packets = ", each packet alone on the wire" if self.single else ""
        return (
            f"{self.rounds} rounds, {self.seconds} s for each figure,"
            f" both ends {cores}{packets}"
        )


@dataclass(frozen=True)
class Place:
    """Where a way's servers run and its client is started, and how the LAN asks it."""

    way: Way
    start: Command
    address: str


def datapath(asked: Asked, other_kernel: bool) -> bool:
    """Measure everything and print it; tell whether every aim was met."""
    began = time.monotonic()
    load = os.getloadavg()[0]
    found, refused = measured(asked, WAYS)
    say(
        f"{os.cpu_count()} cores, Linux {platform.release()},"
        f" load average before {load:.2f}; {asked}"
    )
    tables("this machine's kernel", found)
    for name, why in refused.items():
        say(f"\nNot measured: {name}. {why}")
    aims = [*judged(WAYS, found, "")]
    if other_kernel:
        inside, where = in_other_kernel(asked), f"user-mode Linux {OTHER_KERNEL}"
        tables(where, inside)
        aims += judged(OTHER_KERNEL_WAYS, inside, f" ({where})")
    met = verdicts(aims, "asked of the median of paired ratios")
    tell(f"{time.monotonic() - began:.0f} s in all")
    return met and not refused


# --- measuring ---


def measured(asked: Asked, ways: Sequence[Way]) -> tuple[Found, dict[str, str]]:
    """Return the figures of each way, and why others have none."""
    with Lan() as lan, ExitStack() as until_then:
        peer = on_lan(lan, *asked.before)
        serve(peer)
        sites = {
            name: until_then.enter_context(_site(lan, name, asked, index))
            for index, name in enumerate(dict.fromkeys(way.on for way in ways), start=1)
        }
        places, refused = [], {}
        for number, way in enumerate(ways):
            try:
                places.append(_place(sites[way.on], way, f"way{number}", asked.before))
            except subprocess.CalledProcessError as error:
                refused[way.name] = str(error.stderr).strip()
            except AssertionError as silent:
                refused[way.name] = str(silent)
        return _rounds(peer, places, asked), refused


@contextmanager
def _site(lan: Lan, name: str, asked: Asked, index: int) -> Iterator[Site]:
    tell(f"host {name}")
    site = make_site(lan, name, asked.engine, index, period=30, grace=60)
    try:
        if name == BRIDGED:
            site.host.run("sh", "-ec", TO_BRIDGE, site.host.ipv4)
        if asked.single:
            site.host.outer_run("ethtool", "-K", "eth0", "tso", "off")
            lan.run("ethtool", "-K", f"p-{name}", "tso", "off")
        yield site
    finally:
        site.host.close()


def _place(site: Site, way: Way, name: str, before: tuple[str, ...]) -> Place:
    """Make the way's network and container, and start the servers in there.

    The programs are the machine's, in the container's network namespace: what a
    packet passes is what it passes for the container's own processes.
    """
    host, inside = site.host, ()
    if way.network:
        site.docker("network", "create", *way.network, name)
    if way.run:
        network = name if way.network else "bridge"
        site.run(name, network, *way.run)
        inside = ("nsenter", f"--net=/proc/{host.pid_of(name)}/ns/net")
    if way.routed:
        site.lan.run("ip", "route", "add", way.routed, "via", host.ipv4)
    place = Place(way, on_host(host, *before, *inside), way.address or host.ipv4)
    serve(place.start)
    _wait_for_servers(site.lan, place)
    return place


def _wait_for_servers(lan: Lan, place: Place) -> None:
    """Wait until both servers answer the LAN: from then on it is only traffic."""
    for port in (STREAM_PORT, PING_PORT):
        code = f"import socket; socket.create_connection(('{place.address}', "
        code += f"{port + place.way.published}), 1)"
        command = (sys.executable, "-c", code)
        wait_until(
            lambda: lan.run(*command, check=False).returncode == 0,
            10,
            lambda: f"{place.way.name}: no answer on {place.address}",
        )


def _rounds(peer: Command, places: Sequence[Place], asked: Asked) -> Found:
    """Measure each place once in every round; each comes first in turn."""
    found: Found = {place.way.name: {} for place in places}
    for turn in range(asked.rounds):
        first = turn % len(places)
        for place in (*places[first:], *places[:first]):
            tell(f"{place.way.name}, {turn + 1} of {asked.rounds}")
            for what, figure in _figures(peer, place, asked.seconds):
                found[place.way.name].setdefault(what, []).append(figure)
    return found


def _figures(peer: Command, place: Place, seconds: int) -> Iterator[tuple[str, float]]:
    """Yield what one round measures of a way, by what it is."""
    out = stream(place.start, GATEWAY4, STREAM_PORT, seconds)
    port = place.way.published
    into = stream(peer, place.address, STREAM_PORT + port, seconds)
    back = trips(peer, place.address, PING_PORT + port, seconds)
    for prefix, values in (("out", out), ("in", into), ("trips", back)):
        for what, value in asdict(values).items():
            yield f"{prefix} {what}", value


def in_other_kernel(asked: Asked) -> Found:
    """Measure what this machine's kernel may lack, in one that has it."""
    tell(f"kernel {OTHER_KERNEL}")
    with _on_one_core():
        done = uml.run(
            OTHER_KERNEL,
            (sys.executable, "-m", "tests.bench.datapath", json.dumps(asdict(asked))),
            memory="3G",
            timeout=200 + 30 * asked.rounds * asked.seconds,
            env={"PYTHONDONTWRITEBYTECODE": "1"},
        )
    if done.returncode:
        raise RuntimeError(f"kernel {OTHER_KERNEL}: {done.stdout[-4000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def _on_one_core() -> Iterator[None]:
    """Keep what is started meanwhile on the last core, ahead of other work.

    A user-mode kernel has one core, but is a tree of processes: on several cores each
    of its system calls may wait for one of them to wake up.
    """
    cores, nice = os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)
    os.sched_setaffinity(0, {max(cores)})
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        os.sched_setaffinity(0, cores)


# --- telling ---


def tables(where: str, found: Found) -> None:
    """Print the figures of one kernel."""
    base = found[HOST.name]
    for title, prefix in (("from the way to the LAN", "out"), ("from the LAN", "in")):
        table(
            f"One TCP stream {title} ({where})",
            ("", "Gbit/s: median (min to max)", "of the host's",
             "CPU s per GB, its own", "of the host's", "CPU s per GB, whole machine"),
            _stream_rows(prefix, base, found),
        )  # fmt: skip
    table(
        f"One byte there and back ({where})",
        ("", "round trips per s: median (min to max)", "of the host's",
         "p50 µs", "of the host's", "p99 µs"),
        [
            (name, spread(of["trips rate"], 0), share(of, base, "trips rate"),
             spread(of["trips p50"]), share(of, base, "trips p50"),
             spread(of["trips p99"]))
            for name, of in found.items()
        ],
    )  # fmt: skip


def _stream_rows(prefix: str, base: Figures, found: Found) -> Iterable[tuple[str, ...]]:
    rate, own, machine = f"{prefix} rate", f"{prefix} own", f"{prefix} machine"
    for name, of in found.items():
        yield (
            name, spread(of[rate]), share(of, base, rate),
            spread(of[own], 3), share(of, base, own), spread(of[machine], 3),
        )  # fmt: skip


def share(of: Figures, base: Figures, what: str) -> str:
    """Return the median of the ratios to the host namespace in the same round."""
    return f"{paired(of[what], base[what]):.2f}"


def judged(ways: Iterable[Way], found: Found, where: str) -> Iterator[Aim]:
    """Yield how each way with an aim compares with it, by what other work cannot spoil.

    On a core of its own a stream is as fast as the CPU time of its bytes lets it be;
    and an interruption hits few round trips, so the middle one stays.
    """
    named = {
        "out own": "throughput to the LAN, by CPU time,",
        "in own": "throughput from the LAN, by CPU time,",
        "trips p50": "round trips, by p50,",
    }
    asked = [(way.name, way.aim, HOST.name) for way in ways if way.aim]
    asked += [(w.name, AIM_GUARDED, w.unguarded) for w in ways if w.unguarded]
    for name, aim, other in asked:
        if name not in found:
            continue
        for what, words in named.items():
            times = paired(found[other][what], found[name][what])
            of_other = f"{name}: {words} at least {aim} of {other}'s{where}"
            yield of_other, f"{times:.3f}", times >= aim


if __name__ == "__main__":
    told = Asked(**json.loads(sys.argv[1]))
    inside, without = measured(told, OTHER_KERNEL_WAYS)
    if without:
        raise SystemExit(str(without))
    sys.stdout.write(f"\n{json.dumps(inside)}\n")
