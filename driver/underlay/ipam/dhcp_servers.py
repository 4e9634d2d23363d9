"""What DHCP servers are asked for a container, and what they answer.

Before the container has a device, they are asked on the parent of its network; later
on its own device, in its sandbox.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface
from typing import Literal, get_args

from underlay.dhcp import sockets
from underlay.dhcp.client import Client, decline, release
from underlay.dhcp.exchange import (
    MOST_SERVERS,
    OTHER_ADDRESS,
    Accept,
    Exchange,
    Kind,
)
from underlay.dhcp.frames import tagged
from underlay.dhcp.offers import Held, Leased, Offer, Refused
from underlay.ipam.segments import devices_of
from underlay.kernel import Kernel, inspection
from underlay.model import DhcpLease, Dhcpv6Lease, Endpoint, IpNetwork, Network
from underlay.model.lease_options import LeaseOptions
from underlay.model.objects import SharedOwner
from underlay.modes.dhcp_options import is_registered
from underlay.modes.host_access import PROBE_MARK

log = logging.getLogger(__name__)

# A server that knows the lease answers in a millisecond. One that does not answer in
# this time is asked on behind the start.
KNOWN_SECONDS = 0.15
RENEW_SECONDS = 2.0
# In place of a lease that ended; dnsmasq pings an address for three seconds.
REPLACE_SECONDS = 8.0
# Where no server answered, the next starts fail sooner for so long. But not before one
# that is back has looked, by a ping of three seconds, whether an address is taken.
QUIET_SECONDS, QUIET_TIMEOUT = 30.0, 4.0
# So many starts may wait at once: Docker's other calls find one of the 64 threads.
MOST_WAITING = 50
# Without carrier no server hears, but the link may be about to come up.
NO_CARRIER_SECONDS = 1.0
# A server counts as one of a parent's for so long after an answer.
ANSWERED_SECONDS = 3600.0
_VLANS = range(1, 4095)
# So many reasons why answers were not taken are told: some name an address.
HEARD_MOST = 4
# A renewal comes sooner than it must by up to this part of its time.
SPREAD = 0.1

# Returns why an address that a server offers cannot be used, "" if it can.
Refusal = Callable[[IPv4Address, IPv4Address], str]


def accept_any(_offered: IPv4Address, _server: IPv4Address) -> str:
    """Return that an address can be used."""
    return ""


# unsent: there is no device to ask by, or it is down.
Result = Literal["given", "refused", "silent", "unsent"]
RESULTS: tuple[Result, ...] = get_args(Result)


@dataclass(frozen=True, slots=True)
class Given:
    """What a server gave; times as in DhcpLease.

    `offered_after`: how many seconds a server took to offer it, of a new lease.
    """

    address: IPv4Interface
    server: IPv4Address
    server_mac: str
    router: IPv4Address | None
    options: bytes
    since: float
    renew: float
    rebind: float
    expires: float
    uptime: float
    offered_after: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking: what was `given`, or whether that was `refused`.

    `asked` and `heard` tell in words what was sent and what came instead; `seconds` is
    how long it took.
    """

    given: Given | None = None
    refused: bool = False
    asked: str = ""
    heard: str = ""
    seconds: float = 0.0


@dataclass
class DhcpServers:
    """Asks the servers of a segment; used by many threads.

    `clock` returns seconds since 1970, `monotonic` seconds since the host booted.
    `options_of` returns the options of a network by its id, none of an unknown one.
    `refusal_of` returns what other addresses the container of a lease cannot have.
    `on_exchange` is called with what was asked (dhcp/exchange.py), how that ended
    (RESULTS), and how many seconds it took. `on_answer` is called with the label of a
    parent where a server has answered; it must not fail or wait. `spanning_tree_delay`
    returns that of a bridge in seconds, 0 without.
    """

    kernel: Kernel
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    options_of: Callable[[str], Mapping[str, str]] = lambda _network: {}
    refusal_of: Callable[[DhcpLease], Refusal] = lambda _lease: accept_any
    random: Callable[[], float] = random.random
    on_exchange: Callable[[Kind, Result, float], None] = lambda *_: None
    on_answer: Callable[[str], None] = lambda _uplink: None
    spanning_tree_delay: Callable[[str], float] = inspection.spanning_tree_delay
    # Until when starts on a device fail sooner, because no server answered there.
    _quiet_until: dict[str, float] = field(default_factory=dict)
    _waiting: threading.Semaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MOST_WAITING)
    )
    stopping: threading.Event = field(default_factory=threading.Event)
    _boot: str = ""
    # When a server answered last, by the parent as asked for and its address.
    _answered: dict[tuple[str, IPv4Address], float] = field(default_factory=dict)

    def boot(self) -> str:
        """Return the id of this boot of the host."""
        self._boot = self._boot or self.kernel.boot()
        return self._boot

    def stop(self) -> None:
        """Give up what is being asked, and what will be: the service ends."""
        self.stopping.set()

    def moment(self, lease: DhcpLease | Dhcpv6Lease, at: float) -> float:
        """Return a time of a lease in seconds since the boot.

        What was recorded in this boot does not depend on the clock on the wall.
        """
        if lease.boot == self.boot():
            return lease.uptime + at - lease.since
        return self.when(at)

    def when(self, at: float) -> float:
        """Return a time in seconds since 1970 in seconds since the boot."""
        return self.monotonic() + at - self.clock()

    def ask_again(self, network: Network, lease: DhcpLease) -> Answer:
        """Ask for the address that a client had before; at most for 0.15 seconds.

        A server that confirms another one refuses this.
        """
        assert lease.address  # noqa: S101 - it had one
        address, device = lease.address.ip, network.uplink.parent

        def accept(offer: Offer) -> str:
            return "" if offer.address.ip == address else OTHER_ADDRESS

        exchange = Exchange.reboot(self._client(lease), self.random, address, accept)
        return self._run(exchange, lease, device, KNOWN_SECONDS)

    def ask_new(
        self,
        network: Network,
        lease: DhcpLease,
        wish: IPv4Address | None,
        seconds: float,
        refusal: Refusal,
    ) -> Answer:
        """Ask for an address, if possible the one of the `wish`, for so long."""
        if not self._waiting.acquire(blocking=False):
            return Answer(asked="nothing", heard=f"{MOST_WAITING} starts wait already")
        try:
            return self._ask_new(network, lease, wish, seconds, refusal)
        finally:
            self._waiting.release()

    def _ask_new(
        self,
        network: Network,
        lease: DhcpLease,
        wish: IPv4Address | None,
        seconds: float,
        refusal: Refusal,
    ) -> Answer:
        device = network.uplink.parent
        if self.monotonic() < self._quiet_until.get(device, 0.0):
            seconds = min(seconds, QUIET_TIMEOUT)
        if self._lacks_carrier(device):
            seconds = min(seconds, NO_CARRIER_SECONDS)

        def accept(offer: Offer) -> str:
            return refusal(offer.address.ip, offer.server)

        exchange = Exchange.new(
            self._client(lease),
            self.random,
            accept,
            wish,
        )
        answer = self._run(exchange, lease, device, seconds, shim_of(network))
        if answer.given:
            self._quiet_until.pop(device, None)
        elif not self._lacks_carrier(device):
            self._quiet_until[device] = self.monotonic() + QUIET_SECONDS
        return answer

    def _lacks_carrier(self, device: str) -> bool:
        found = self.kernel.device(device)
        return found is not None and found.link_fault == "no carrier"

    def way_out(self, network: Network) -> str:
        """Return in words what to do where no server answers a network."""
        device = network.uplink.parent
        if self._lacks_carrier(device):
            return (
                f"{device} has no carrier: connect it, then start the container again."
            )
        found = self.kernel.device(device)
        is_bridge = found is not None and found.kind == "bridge"
        if delay := self.spanning_tree_delay(device) if is_bridge else 0.0:
            return (
                f"The bridge {device} has spanning tree on, with a delay of {delay:g}"
                f" s: its ports forward only {2 * delay:g} s after they came up. Start"
                " the container again then, or set its forward_delay to 0."
            )
        label = network.parent_label
        return (
            f"Check that a server serves the segment of {label}, and that the switch"
            " lets through frames of other MACs than the host's."
        )

    def renew(self, endpoint: Endpoint, lease: DhcpLease) -> Answer:
        """Ask the server of a lease for more time, from inside the sandbox."""
        client, accept = self._client(lease), self._acceptance(lease)
        exchange = Exchange.renew(client, self.random, _held(lease), accept)
        return self._run_inside(exchange, lease, endpoint)

    def rebind(self, endpoint: Endpoint, lease: DhcpLease) -> Answer:
        """Ask any server for more time, from inside the sandbox."""
        assert lease.address  # noqa: S101 - it has one
        client, accept = self._client(lease), self._acceptance(lease)
        exchange = Exchange.rebind(client, self.random, lease.address.ip, accept)
        return self._run_inside(exchange, lease, endpoint)

    def confirm(self, endpoint: Endpoint, lease: DhcpLease) -> Answer:
        """Ask any server, from inside the sandbox, whether a lease holds here still."""
        assert lease.address  # noqa: S101 - it has one
        client, accept = self._client(lease), self._acceptance(lease)
        exchange = Exchange.reboot(client, self.random, lease.address.ip, accept)
        return self._run_inside(exchange, lease, endpoint)

    def replace(
        self, endpoint: Endpoint, lease: DhcpLease, *, declined: bool = False
    ) -> Answer:
        """Ask any server, from inside the sandbox, for a lease in place of this one.

        `declined`: not one of the same address.
        """
        assert lease.address  # noqa: S101 - it has one
        client, usable = self._client(lease), self._acceptance(lease)
        last = lease.address.ip

        def accept(offer: Offer) -> str:
            if declined and offer.address.ip == last:
                return f"of {last}, which was declined"
            return usable(offer)

        exchange = Exchange.new(client, self.random, accept, None if declined else last)
        return self._run_inside(exchange, lease, endpoint, REPLACE_SECONDS)

    def release(self, device: str, lease: DhcpLease, later: ExitStack) -> None:
        """Give a lease back to its server; nothing answers that.

        May be part of a transaction: what takes time is done `later`.
        """
        frame = release(self._client(lease), self.random, _held(lease))
        self.send(device, frame, later)

    def decline(self, device: str, lease: DhcpLease) -> None:
        """Tell the server of a lease that another machine has the address."""
        held = _held(lease)
        client = self._client(lease)
        frame = decline(client, self.random, held.address, held.server)
        with ExitStack() as later:
            self.send(device, frame, later)

    def _acceptance(self, lease: DhcpLease) -> Accept:
        """Return what judges the address of a running container: its own is fine."""
        refusal, mine = self.refusal_of(lease), lease.address and lease.address.ip

        def accept(offer: Offer) -> str:
            offered = offer.address.ip
            return "" if offered == mine else refusal(offered, offer.server)

        return accept

    def _client(self, lease: DhcpLease) -> Client:
        register = is_registered(self.options_of(lease.network))
        return Client(lease.mac, lease.client_id, lease.hostname, register)

    def _run_inside(
        self,
        exchange: Exchange,
        lease: DhcpLease,
        endpoint: Endpoint,
        seconds: float = RENEW_SECONDS,
    ) -> Answer:
        assert endpoint.learned  # noqa: S101 - its device was seen there
        device = endpoint.learned.device
        return self.kernel.inside(
            endpoint.sandbox, lambda: self._run(exchange, lease, device, seconds)
        )

    def _run(
        self,
        exchange: Exchange,
        lease: DhcpLease,
        device: str,
        seconds: float,
        shim: str = "",
    ) -> Answer:
        """Run an exchange on a device; without the device nothing is heard."""
        began = self.monotonic()
        try:
            sockets.run(
                exchange, device, began + seconds,
                abandoned=self.stopping.is_set, shim=shim, mark=PROBE_MARK,
            )  # fmt: skip
        except OSError as error:
            self.on_exchange(exchange.kind, "unsent", 0.0)
            return Answer(asked="nothing", heard=f"{device}: {error.strerror}")
        took = self.monotonic() - began
        self._note(lease.uplink, exchange, took)
        asked = f"{exchange.sent} message{'s' if exchange.sent != 1 else ''}"
        match exchange.outcome:
            case Leased() as leased:
                return Answer(self._given(leased), seconds=took)
            case Refused():
                return Answer(refused=True, asked=asked, seconds=took)
        return Answer(asked=asked, heard=in_words(exchange.heard), seconds=took)

    def _note(self, uplink: str, exchange: Exchange, took: float) -> None:
        """Count an exchange, and note which servers answered on a parent."""
        match exchange.outcome:
            case Leased():
                self.on_exchange(exchange.kind, "given", took)
            case Refused():
                self.on_exchange(exchange.kind, "refused", took)
            case _:
                self.on_exchange(exchange.kind, "silent", took)
        if exchange.servers:
            self.on_answer(uplink)
        for server in exchange.servers:
            others = [a for at, a in list(self._answered) if at == uplink]
            if others and server not in others:
                known = ", ".join(map(str, others))
                told = {"device": uplink, "server": server, "others": known}
                log.warning("another DHCP server answers on the segment", extra=told)
            if len(others) >= MOST_SERVERS and server not in others:
                first = min(others, key=lambda a: self._answered.get((uplink, a), 0.0))
                self._answered.pop((uplink, first), None)
            self._answered[uplink, server] = self.monotonic()

    def answering(self) -> Mapping[str, int]:
        """Return how many servers have answered in the last hour, by parent.

        Of each parent on which one has answered since the service started.
        """
        found, now = Counter[str](), self.monotonic()
        for (uplink, _), at in list(self._answered.items()):
            found[uplink] += now - at < ANSWERED_SECONDS
        return found

    def _given(self, leased: Leased) -> Given:
        """Return what a server gave; its times count from the request on."""
        offer, now, uptime = leased.offer, self.clock(), self.monotonic()
        since = now - (uptime - leased.asked)

        def at(seconds: float | None) -> float:
            return 0.0 if seconds is None else since + seconds

        return Given(
            address=offer.address,
            server=offer.server,
            server_mac=leased.server_mac,
            router=offer.said.gateway(),
            options=offer.options,
            since=since,
            # Containers that start together need not ask together again.
            renew=at(offer.t1 and offer.t1 * (1 - SPREAD * self.random())),
            rebind=at(offer.t2),
            expires=at(offer.lease),
            uptime=leased.asked,
            offered_after=leased.offered_after,
        )

    @staticmethod
    def send(device: str, frame: bytes, later: ExitStack) -> None:
        """Send a frame by the shim of a parent, where there is one: all hear that."""
        with suppress(OSError):
            shim = SharedOwner("shim", device).owner.device
            sockets.send([frame], shim, later, mark=PROBE_MARK)
            return
        failed: OSError | None = None
        for way, told in _ways(device, frame):
            try:
                sockets.send([told], way, later)
            except OSError as error:
                failed = failed or error
            else:
                return
        # The lease ends by itself, if nothing leads to its server now.
        facts = {"device": device, "error": failed}
        log.info("message to the DHCP server not sent", extra=facts)


def _ways(device: str, frame: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a device to send a frame by; then those under its VLANs, and it tagged.

    A VLAN is removed with its last network, and the leases go back later.
    """
    yield device, frame
    while (vlan := device.rpartition(".")[2]).isdecimal() and int(vlan) in _VLANS:
        device, frame = device.removesuffix(f".{vlan}"), tagged(frame, int(vlan))
        yield device, frame


def shim_of(network: Network) -> str:
    """Return the device by which a parent's children are asked, "" if there is none."""
    return next(iter(devices_of(network)[1:]), "")


def _held(lease: DhcpLease) -> Held:
    assert lease.address  # noqa: S101 - a lease that was given
    assert lease.server  # noqa: S101 - a lease that was given
    return Held(lease.address.ip, lease.server, lease.server_mac)


def in_words(heard: Mapping[str, int]) -> str:
    """Return what was heard and not taken, in words."""
    most = sorted(heard.items(), key=lambda found: -found[1])
    found = [f"{count} times {why}" for why, count in most[:HEARD_MOST]]
    if rest := sum(count for _, count in most[HEARD_MOST:]):
        found.append(f"{rest} times others")
    return f"heard: {', '.join(found)}" if found else "no answer"


def with_given(
    lease: DhcpLease,
    given: Given,
    boot: str,
    *,
    routes: Collection[IpNetwork] = (),
) -> DhcpLease:
    """Return a lease with what a server gave in this boot.

    An address that the endpoint had until now is a former one, and so are those of its
    `routes` that are by the classless routes of the lease, to where there are none now.
    """
    last, now = lease.address, LeaseOptions.of_area(given.options).destinations
    here = {given.address, *now}
    by_lease = LeaseOptions.of_area(lease.options).destinations
    gone = by_lease.intersection(routes) - now
    left = [*lease.former, *([last] if last else []), *sorted(gone)]
    former = tuple(a for a in dict.fromkeys(left) if a not in here)
    return replace(
        lease,
        former=former if lease.endpoint else (),
        address=given.address,
        server=given.server,
        server_mac=given.server_mac,
        router=given.router,
        options=given.options,
        since=given.since,
        renew=given.renew,
        rebind=given.rebind,
        expires=given.expires,
        uptime=given.uptime,
        boot=boot,
    )
