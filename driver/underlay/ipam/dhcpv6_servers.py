"""What DHCPv6 servers are asked for a container, and what they answer.

On the container's own device, in its sandbox, by frames: its firewall drops none, and
its port is not taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Interface

from underlay.dhcp import dhcpv6_exchange, sockets
from underlay.dhcp.dhcpv6 import Client
from underlay.dhcp.dhcpv6_exchange import Accept, Exchange, Held, Leased, accept_all
from underlay.dhcp.dhcpv6_frames import link_local_of
from underlay.dhcp.exchange import Kind
from underlay.dhcp.offers import Refused
from underlay.dhcp.packets import iaid_and_duid
from underlay.ipam.dhcp_servers import (
    RENEW_SECONDS,
    REPLACE_SECONDS,
    SPREAD,
    DhcpServers,
    Result,
)
from underlay.model import Dhcpv6Lease, Endpoint
from underlay.modes.dhcp_options import is_registered

# Three questions: a container that starts, or whose cable is back, may be heard late.
REBIND_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Given:
    """What a server gave; times as in Dhcpv6Lease."""

    address: IPv6Interface
    server: IPv6Address
    duid: bytes
    since: float
    renew: float
    rebind: float
    preferred: float
    expires: float
    uptime: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking: what was `given`, or whether that was `refused`.

    `unready`: nothing could be asked, because the device cannot speak yet.
    """

    given: Given | None = None
    refused: bool = False
    unready: bool = False


UNREADY = Answer(unready=True)


@dataclass
class Dhcpv6Servers:
    """Asks the servers of a segment; used by many threads.

    `servers` are those of IPv4: their clocks count here, and a frame goes by their way
    to a segment if its answer is not awaited (RELEASE, DECLINE). `options_of` returns
    the options of a network by its id. `on_exchange` is called with what was asked, how
    that ended, and how many seconds it took.
    """

    servers: DhcpServers
    options_of: Callable[[str], Mapping[str, str]]
    on_exchange: Callable[[Kind, Result, float], None] = lambda *_: None

    def renew(self, endpoint: Endpoint, lease: Dhcpv6Lease, accept: Accept) -> Answer:
        """Ask the server of a lease for more time."""

        def exchange(client: Client) -> Exchange:
            return Exchange.renew(client, self.servers.random, _held(lease), accept)

        return self._run(exchange, lease, endpoint, RENEW_SECONDS)

    def rebind(self, endpoint: Endpoint, lease: Dhcpv6Lease, accept: Accept) -> Answer:
        """Ask any server for more time, also whether the lease holds here still."""

        def exchange(client: Client) -> Exchange:
            return Exchange.rebind(client, self.servers.random, _held(lease), accept)

        return self._run(exchange, lease, endpoint, REBIND_SECONDS)

    def new(
        self, endpoint: Endpoint, lease: Dhcpv6Lease, accept: Accept = accept_all
    ) -> Answer:
        """Ask any server for an address, if possible the one that the client had."""
        wish = lease.address.ip if lease.address else None

        def exchange(client: Client) -> Exchange:
            wished = wish if wish and not accept(wish) else None
            return Exchange.new(client, self.servers.random, accept, wished)

        return self._run(exchange, lease, endpoint, REPLACE_SECONDS)

    def decline(self, endpoint: Endpoint, lease: Dhcpv6Lease) -> None:
        """Tell the server of a lease that another machine has the address."""
        assert endpoint.learned  # noqa: S101 - its device was seen there
        device = endpoint.learned.device

        def tell() -> None:
            if spoken := sockets.speaker(device):
                random = self.servers.random
                client = self._client(lease, *spoken)
                frame = dhcpv6_exchange.decline(client, random, _held(lease))
                with ExitStack() as later:
                    sockets.send([frame], device, later)

        self.servers.kernel.inside(endpoint.sandbox, tell)

    def release(self, device: str, lease: Dhcpv6Lease, later: ExitStack) -> None:
        """Give a lease back on the parent, where no container is any more.

        Part of a transaction: what takes time is done `later`. Nothing waits for the
        answer, which goes to an address that no machine has.
        """
        client = self._client(lease, lease.mac, link_local_of(lease.mac))
        frame = dhcpv6_exchange.release(client, self.servers.random, _held(lease))
        self.servers.send(device, frame, later)

    def _client(self, lease: Dhcpv6Lease, mac: str, address: IPv6Address) -> Client:
        iaid, duid = iaid_and_duid(lease.client_id)
        register = is_registered(self.options_of(lease.network))
        return Client(duid, iaid, mac, address, lease.hostname, register)

    def _run(
        self,
        make: Callable[[Client], Exchange],
        lease: Dhcpv6Lease,
        endpoint: Endpoint,
        seconds: float,
    ) -> Answer:
        """Run an exchange on the device of an endpoint, in its sandbox."""
        assert endpoint.learned  # noqa: S101 - its device was seen there
        device, servers = endpoint.learned.device, self.servers

        def ask() -> tuple[Exchange | None, float]:
            spoken = sockets.speaker(device)
            if spoken is None:
                return None, 0.0
            exchange, began = make(self._client(lease, *spoken)), servers.monotonic()
            stopping = servers.stopping.is_set
            sockets.run(exchange, device, began + seconds, abandoned=stopping)
            return exchange, servers.monotonic() - began

        try:
            exchange, took = servers.kernel.inside(endpoint.sandbox, ask)
        except OSError:
            return UNREADY
        if exchange is None:
            return UNREADY
        match exchange.outcome:
            case Leased() as leased:
                self.on_exchange(exchange.kind, "given", took)
                return Answer(self._given(leased))
            case Refused():
                self.on_exchange(exchange.kind, "refused", took)
                return Answer(refused=True)
        self.on_exchange(exchange.kind, "silent", took)
        return Answer()

    def _given(self, leased: Leased) -> Given:
        """Return what a server gave; its times count from the request on."""
        grant, uptime = leased.grant, leased.asked
        since = self.servers.clock() - (self.servers.monotonic() - uptime)

        def at(seconds: float | None) -> float:
            return 0.0 if seconds is None else since + seconds

        early = 1 - SPREAD * self.servers.random()
        return Given(
            address=IPv6Interface(grant.address),
            server=leased.server_address,
            duid=leased.server,
            since=since,
            renew=at(grant.renew and grant.renew * early),
            rebind=at(grant.rebind),
            preferred=at(grant.preferred),
            expires=at(grant.valid),
            uptime=uptime,
        )


def _held(lease: Dhcpv6Lease) -> Held:
    assert lease.address  # noqa: S101 - a lease that was given
    return Held(lease.address.ip, lease.duid)


def with_given(lease: Dhcpv6Lease, given: Given, boot: str) -> Dhcpv6Lease:
    """Return a lease with what a server gave in this boot.

    An address that the endpoint had until now is a former one.
    """
    last = [lease.address] if lease.address else []
    former = [a for a in dict.fromkeys([*lease.former, *last]) if a != given.address]
    return replace(
        lease,
        former=tuple(former),
        address=given.address,
        server=given.server,
        duid=given.duid,
        since=given.since,
        renew=given.renew,
        rebind=given.rebind,
        preferred=given.preferred,
        expires=given.expires,
        uptime=given.uptime,
        silent=0.0,
        boot=boot,
    )


def without_address(lease: Dhcpv6Lease) -> Dhcpv6Lease:
    """Return a lease whose address was declined; the endpoint is not to have it."""
    last = [lease.address] if lease.address else []
    return replace(
        lease,
        former=tuple(dict.fromkeys([*lease.former, *last])),
        address=None,
        server=None,
        duid=b"",
        renew=0.0,
        rebind=0.0,
        preferred=0.0,
        expires=0.0,
    )
