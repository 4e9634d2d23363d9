"""What thousands of leases cost while they are kept: CPU, lateness, memory, frames.

The leases are those of a real Kea on a wire in this process's namespaces, asked for as
the service asks. Containers share sandboxes, and each of these has a veth on the wire:
frames for any MAC arrive there, and a renewal does what it does in a sandbox of its
own. Docker is not there, and the containers' devices are not repaired.
"""

from __future__ import annotations

import compileall
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

import underlay
from tests.bench.control import timed
from tests.bench.memory import pss
from tests.bench.processor import process_spent
from tests.bench.service_host import Served, apart
from tests.bench.tables import Aim, Series, say, spread, table, tell
from tests.fakes import engine_on
from tests.lab import net
from tests.lab.capture import Capture, Frame
from tests.lab.dhcp_servers import Kea, Scope
from underlay.dhcp.frames import SERVER_PORT
from underlay.dhcp.packets import client_id_of_mac
from underlay.ipam.dhcp_servers import DhcpServers, with_given
from underlay.kernel.clock import since_boot
from underlay.kernel.linux import LinuxKernel
from underlay.model import DhcpLease, Endpoint, LearnedState, Network, Subnet
from underlay.records import Records

ETH_P_IP, UDP = 0x0800, 17
NETWORK = "n1"
OPTIONS = {"parent": "eth0", "source": "dhcp", "host_access": "off", "repair": "off"}
WIRE = """
    ip link add br0 address 02:00:00:00:77:01 type bridge
    ip link set br0 up
    ip addr add 10.64.0.1/16 dev br0
"""
SANDBOXES = 100
HOUR, SHORT = 3600, 120
SCOPE = Scope("10.64.0.0/16", "10.64.1.0", "10.64.200.255", "10.64.0.1")
# So many clients ask at once, and so long each may wait.
AT_ONCE, ANSWER_SECONDS = 10, 20.0
# Within this time no lease is renewed twice.
LOOK_SECONDS, WATCHED_SECONDS, CALM_SECONDS = 10.0, 120.0, 15.0
STARTS = 5
AIM_HOUR, AIM_SHORT = 0.5, 10.0
AIM_LATE_SECONDS, AIM_MEGABYTES, AIM_START_SECONDS = 5.0, 15, 0.5
# When a lease is due, in seconds since 1970.
Due = Callable[[DhcpLease], float]


@dataclass(frozen=True)
class Rest:
    """A service with leases of which none is due, in the units of the tables."""

    starts: Series
    bare_starts: Series
    with_leases: float
    without: float
    frames: int
    processor: float


@dataclass(frozen=True)
class Kept:
    """Leases that were renewed: percent of a core, and seconds after they were due.

    `overdue`: how long the last of those that were not renewed has been due.
    """

    processor: float
    late: Series
    overdue: float


def leases(count: int) -> list[Aim]:
    """Measure so many leases and print it; return the aims."""
    # As an installed one, the service need not be compiled at every start.
    compileall.compile_dir(str(Path(underlay.__file__).parent), quiet=1)
    rest = apart(_resting, count)
    kept = {seconds: apart(_renewing, count, seconds) for seconds in (HOUR, SHORT)}
    megabytes = rest.with_leases - rest.without
    table(
        f"{count:,} leases of Kea, none due",
        ("", ""),
        [
            ("start of the service to its first answer, ms", spread(rest.starts, 0)),
            ("of the same containers without leases, ms", spread(rest.bare_starts, 0)),
            ("memory (PSS), MB", f"{rest.with_leases:.1f}"),
            ("the same containers without leases, MB", f"{rest.without:.1f}"),
            (f"DHCP messages within {CALM_SECONDS:.0f} s of a start", rest.frames),
            ("CPU, percent of a core", f"{rest.processor:.2f}"),
        ],
    )
    table(
        f"{count:,} leases that are renewed, over {WATCHED_SECONDS:.0f} s",
        ("a lease lasts", "renewed", "CPU, percent of a core",
         "seconds late: median (min to max)", "longest overdue at the end"),
        [
            (f"{seconds} s", len(of.late), f"{of.processor:.2f}", spread(of.late, 2),
             f"{of.overdue:.2f}")
            for seconds, of in kept.items()
        ],
    )  # fmt: skip
    say(f"\nLoad average after: {os.getloadavg()[0]:.2f}")
    start = statistics.median(rest.starts) / 1000
    late = max(*kept[SHORT].late, kept[SHORT].overdue)
    found = {seconds: of.processor for seconds, of in kept.items()}
    return [
        (f"{count:,} leases of an hour: at most {AIM_HOUR} % of a core",
         f"{found[HOUR]:.2f} %", found[HOUR] <= AIM_HOUR),
        (f"{count:,} leases of 2 minutes: at most {AIM_SHORT:.0f} % of a core",
         f"{found[SHORT]:.1f} %", found[SHORT] <= AIM_SHORT),
        (f"none of these later than {AIM_LATE_SECONDS:.0f} s", f"{late:.1f} s",
         late <= AIM_LATE_SECONDS),
        (f"memory for {count:,} leases: at most {AIM_MEGABYTES} MB",
         f"{megabytes:.1f} MB", megabytes <= AIM_MEGABYTES),
        (f"start with {count:,} leases: no message before one is due",
         str(rest.frames), not rest.frames),
        (f"start with {count:,} leases in at most {AIM_START_SECONDS} s",
         f"{start:.2f} s", start <= AIM_START_SECONDS),
    ]  # fmt: skip


class LeaseHost:
    """A host in `folder` with so many containers, each with a lease of Kea."""

    def __init__(self, folder: Path, wire: net.Namespace, count: int) -> None:
        self.folder, self.count = folder, count
        (folder / "state").mkdir()
        _plug(wire, "")
        net.ip("addr add 10.64.255.9/16 dev eth0")
        for number in range(SANDBOXES):
            net.ip(f"netns add s{number}")
            _plug(wire, f"s{number}")
        with self.records() as records:
            engine = engine_on(records, LinuxKernel(), time.time, since_boot)
            subnet = Subnet(IPv4Network("0.0.0.0/0"), dhcp=True)
            engine.create_network(Network(NETWORK, OPTIONS, subnets=(subnet,)))
        self.leases: list[DhcpLease] = []

    @contextmanager
    def records(self) -> Iterator[Records]:
        found = Records(self.folder / "state" / "underlay.db")
        try:
            yield found
        finally:
            found.close()

    def ask(self) -> None:
        """Ask the server for all leases, on the parent."""
        servers = DhcpServers(LinuxKernel(), time.time, since_boot)
        with self.records() as records:
            network = records.networks.get(NETWORK)
        assert network

        def ask(number: int) -> DhcpLease:
            mac = f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"
            own = client_id_of_mac(mac)
            lease = DhcpLease(0, "eth0", "label", f"c{number}", mac, own, "", NETWORK)
            answer = servers.ask_new(network, lease, None, ANSWER_SECONDS, _any)
            if answer.given is None:
                raise RuntimeError(f"no lease for {mac}: {answer.heard}")
            given = with_given(lease, answer.given, servers.boot())
            return replace(given, endpoint=f"{number:064x}")

        with ThreadPoolExecutor(AT_ONCE) as threads:
            self.leases = list(threads.map(ask, range(self.count)))

    def record(self, due: Due) -> None:
        """Record the containers, and their leases as due."""
        folder = Path("/run/sandboxes")
        folder.mkdir()
        with self.records() as records, records.transaction():
            for number, lease in enumerate(self.leases):
                sandbox = folder / str(number)
                sandbox.symlink_to(f"/run/netns/s{number % SANDBOXES}")
                self._add(records, lease, str(sandbox))
                records.dhcp_leases.save(replace(lease, renew=due(lease)))

    @staticmethod
    def _add(records: Records, lease: DhcpLease, sandbox: str) -> None:
        endpoint = Endpoint(
            lease.endpoint, NETWORK, lease.address, mac=lease.mac, sandbox=sandbox,
            learned=LearnedState("eth0", 1500, (4,)), created=time.time() - 100,
        )  # fmt: skip
        records.endpoints.add(endpoint)
        records.endpoints.join(endpoint.id, sandbox)
        records.endpoints.save_learned(endpoint)

    @contextmanager
    def served(self) -> Iterator[Served]:
        """Run the service, from when it has looked at everything until it is left."""
        service = Served(self.folder)
        service.start()
        try:
            service.calm()
            yield service
        finally:
            service.stop()

    def forget_leases(self) -> None:
        """Record the containers without their leases."""
        with self.records() as records, records.transaction():
            for lease in records.dhcp_leases.all():
                records.dhcp_leases.remove(lease.id)

    def on_record(self) -> dict[int, DhcpLease]:
        """Return all leases as the service has them on record now."""
        with self.records() as records:
            return {lease.id: lease for lease in records.dhcp_leases.given()}


def _any(_address: object) -> str:
    return ""


def _plug(wire: net.Namespace, netns: str) -> None:
    """Put a veth on the wire: its end eth0 into a named namespace, or "" for this."""
    port = f"p-{netns or 'host'}"
    there, into = (f" netns {netns}", ["-n", netns]) if netns else ("", [])
    net.ip(f"link add {port} netns {wire.netns} type veth peer name eth0{there}")
    wire.run("ip", "link", "set", port, "master", "br0", "up")
    subprocess.run(["ip", *into, "link", "set", "eth0", "up"], check=True)


@contextmanager
def _lease_host(folder: Path, count: int, seconds: int) -> Iterator[LeaseHost]:
    scope = replace(SCOPE, lease_seconds=seconds)
    with net.Namespace("wire", WIRE) as wire:
        host = LeaseHost(folder, wire, count)
        # It listens on devices only that are up, as a bridge is with its first port.
        with Kea(wire.start, scope=scope):
            tell(f"{count} leases of {seconds} s")
            host.ask()
            yield host


def _spent(service: Served) -> float:
    """Return seconds of CPU time of the service so far."""
    return sum(map(process_spent, service.pids())) / 1000


def _resting(folder: Path, count: int) -> Rest:
    with _lease_host(folder, count, HOUR) as host:
        host.record(lambda lease: lease.since + HOUR)
        service = Served(folder)
        starts = _starts(service)
        with Capture("wire", "br0") as seen:
            service.start()
            service.calm()
            before = _spent(service)
            time.sleep(CALM_SECONDS)
            processor = 100 * (_spent(service) - before) / CALM_SECONDS
        with_leases = pss(service.pids())
        service.stop()
        host.forget_leases()
        bare_starts = _starts(service)
        with host.served() as bare:
            without = pss(bare.pids())
    frames = sum(map(_is_dhcp, seen.frames))
    return Rest(starts, bare_starts, with_leases, without, frames, processor)


def _starts(service: Served) -> Series:
    """Return the milliseconds of starts of the service to its first answer."""
    found: Series = []
    for _ in range(STARTS):
        found.append(timed(service.start))
        service.stop()
    return found


def _is_dhcp(frame: Frame) -> bool:
    is_udp = frame.kind == ETH_P_IP and frame.payload[9] == UDP
    return is_udp and int.from_bytes(frame.payload[22:24]) == SERVER_PORT


def _renewing(folder: Path, count: int, seconds: int) -> Kept:
    """Watch leases that are due one after another, as of containers that run long."""
    with _lease_host(folder, count, seconds) as host:
        now = time.time()
        host.record(lambda lease: now + random.random() * (lease.renew - lease.since))
        with host.served() as service:
            late: Series = []
            known, began, spent = host.on_record(), time.monotonic(), _spent(service)
            while time.monotonic() - began < WATCHED_SECONDS:
                time.sleep(LOOK_SECONDS)
                seen = host.on_record()
                late += [
                    lease.since - known[identity].renew
                    for identity, lease in seen.items()
                    if lease.since != known[identity].since
                ]
                known = seen
            passed = time.monotonic() - began
            processor = 100 * (_spent(service) - spent) / passed
            overdue = time.time() - min(lease.renew for lease in known.values())
    return Kept(processor, late, max(overdue, 0.0))
