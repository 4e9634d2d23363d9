"""A host in this process's namespaces: a parent, sandboxes, and many on record.

Every device, route and neighbour of the host is real; so are the first sandboxes, as
many as asked for. The rest are endpoints whose sandboxes are gone.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv6Interface, ip_network
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.fakes import Engine, engine_on
from tests.lab import net
from tests.lab.service import Service, wait_until
from underlay.kernel import ip
from underlay.kernel.clock import since_boot
from underlay.kernel.linux import LinuxKernel
from underlay.model import Endpoint, LearnedState, Network, Subnet
from underlay.model.objects import Link
from underlay.planning.desired import endpoint_objects
from underlay.records import Records

NEWNET, NEWNS = 0x40000000, 0x20000
NETWORK = "n1"
FOUR, SIX = ip_network("10.64.0.0/16"), ip_network("fd64::/64")
FIRST = 256  # of the addresses in either subnet that endpoints have
OLD_SECONDS = 100.0  # Docker is done with them
CALM_SECONDS, LONGEST_SECONDS = 0.3, 90.0
PARENT = (
    "link add eth0 address 02:00:00:00:ff:01 type veth peer name wire0",
    "link set eth0 up",
    "link set wire0 up",
    "addr add 10.64.255.9/16 dev eth0",
    "addr add fd64::ffff/64 dev eth0 nodad",
)


def isolate() -> None:
    """Put this process into namespaces of its own; what is made there goes with it."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEWNET | NEWNS):
        raise OSError(ctypes.get_errno(), "no namespaces of its own")
    for words in ("--make-rprivate /", "-t tmpfs none /run"):
        subprocess.run(["mount", *words.split()], check=True)
    net.ip("link set lo up")


def apart(job, *about):  # type: ignore[no-untyped-def]
    """Return what a function finds in a process and namespaces of its own.

    It is called with a folder of its own, and what it is about.
    """
    with tempfile.TemporaryDirectory() as folder, get_context("spawn").Pool(1) as pool:
        return pool.apply(_isolated, (job, Path(folder), *about))


def _isolated(job, *about):  # type: ignore[no-untyped-def]
    isolate()
    return job(*about)


class Stage:
    """The host in `folder`, with `real` sandboxes at the most."""

    def __init__(self, folder: Path, real: int) -> None:
        self.folder, self.real = folder, real
        self.size = 0
        (folder / "state").mkdir()
        net.ip(*PARENT)
        segments = tuple(Subnet(pool, pool.network_address + 1) for pool in (FOUR, SIX))
        with self._engine() as (engine, _):
            engine.create_network(
                Network(NETWORK, {"parent": "eth0"}, subnets=segments)
            )

    @contextmanager
    def _engine(self) -> Iterator[tuple[Engine, Records]]:
        records = Records(self.folder / "state" / "underlay.db")
        try:
            yield engine_on(records, LinuxKernel(), time.time, since_boot), records
        finally:
            records.close()

    def endpoint(self, number: int) -> Endpoint:
        """Return an endpoint as it is on record; as asked for, if it is not yet."""
        four, six = (pool[FIRST + number] for pool in (FOUR, SIX))
        return Endpoint(
            f"{number:064x}",
            NETWORK,
            IPv4Interface((four, FOUR.prefixlen)),
            IPv6Interface((six, SIX.prefixlen)),
            mac=f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
            sandbox=f"/run/netns/{number:012x}",
            learned=LearnedState("eth0", 1500, (4, 6)),
            created=time.time() - OLD_SECONDS,
        )

    @property
    def sandboxes(self) -> list[Endpoint]:
        """Return the endpoints that have one."""
        return [self.endpoint(n) for n in range(min(self.size, self.real))]

    def grow(self, size: int) -> None:
        """Have so many endpoints, all joined and settled, with all that they need."""
        new = [self.endpoint(number) for number in range(self.size, size)]
        for endpoint in new[: max(0, self.real - self.size)]:
            name = Path(endpoint.sandbox).name
            net.ip(f"netns add {name}")
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        self.size = size
        with self._engine() as (engine, records):
            with records.transaction():
                for endpoint in new:
                    records.endpoints.add(endpoint)
                    records.endpoints.join(endpoint.id, endpoint.sandbox)
                    records.endpoints.save_learned(endpoint)
            self._build(engine, records, new)

    def _build(self, engine: Engine, records: Records, new: list[Endpoint]) -> None:
        network = records.networks.get(NETWORK)
        if network and network.uplink.host_addresses:  # what they share is there
            for endpoint in new:
                for o in endpoint_objects(network, endpoint).objects:
                    if o.owner and o.owner.endpoint and not isinstance(o, Link):
                        ip.create(o)  # type: ignore[arg-type]
        engine.reconcile()
        if left := engine.preview():
            raise RuntimeError(f"not built: {', '.join(map(str, left[:5]))}")

    def lose_parent(self) -> None:
        """Take the parent away, with all that stood on it."""
        net.ip("link del eth0")

    def give_parent(self) -> None:
        """Make it again as it was."""
        net.ip(*PARENT)

    @contextmanager
    def served(self) -> Iterator[Served]:
        """Run the service, from when it has looked at everything until it is left."""
        service = Served(self.folder)
        service.start()
        try:
            service.calm(1.0)
            yield service
        finally:
            service.stop()


class _Here:
    """This process's namespaces, as the host of a service."""

    def __init__(self, folder: Path) -> None:
        self.dir, self.pid = folder, os.getpid()

    def outer(self, *argv: str, env: dict[str, str], **options: Any) -> Any:
        mortal = ["setpriv", "--pdeathsig", "TERM", *argv]
        return subprocess.Popen(mortal, env={**os.environ, **env}, **options)


class Served(Service):
    """The service, woken by events alone; Docker is never there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(_Here(folder), period=3600, grace=100_000)  # type: ignore[arg-type]
        self._noted = folder / "passes"
        self._noted.write_text("")
        self.env["BENCH_PASSES"] = str(self._noted)
        self.env["PYTHONPATH"] = str(Path(__file__).parents[2])

    @property
    def serving(self) -> list[str]:
        return [sys.executable, "-m", "tests.bench.served"]

    def ends(self) -> list[tuple[float, float]]:
        """Return when passes began and ended by turns, and the CPU seconds until then.

        By the monotonic clock.
        """
        lines = self._noted.read_text().splitlines()
        return [(float(at), float(cpu)) for at, cpu in map(str.split, lines)]

    def calm(self, seconds: float = CALM_SECONDS) -> None:
        """Wait until there was no pass for so long."""

        def is_calm() -> bool:
            ends = self.ends()
            rested = bool(ends) and time.monotonic() - ends[-1][0] > seconds
            return rested and len(ends) % 2 == 0

        wait_until(is_calm, LONGEST_SECONDS, lambda: self.log[-3000:])
