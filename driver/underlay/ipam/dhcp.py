"""Addresses from the DHCP servers of a segment, for the same container for ever.

Docker asks for an address before the container has a device. So the service asks the
servers on the parent of the network, for the MAC that the device will have. What they
give is recorded for the container, not for the endpoint: it outlives stop, removal and
the network, and the next start asks for the same address again.

No transaction is open while servers are asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Interface

from underlay.errors import (
    LeaseRefused,
    NoDhcpServer,
    NotWithDhcp,
    OtherAddressGiven,
    ServerGoesByMac,
    UnknownPool,
    UnusableOffer,
)
from underlay.ipam.dhcp_clients import DhcpClients, KnownAs, with_mac
from underlay.ipam.dhcp_servers import (
    DhcpServers,
    Given,
    Refusal,
    accept_any,
    with_given,
)
from underlay.ipam.identity import name_of
from underlay.ipam.idle_containers import LATE_SECONDS, IdleContainers
from underlay.ipam.leases import start_lease
from underlay.ipam.reconnecting import Reconnecting
from underlay.kernel import Kernel
from underlay.model import (
    Claim,
    ClientKind,
    DhcpLease,
    Endpoint,
    IpInterface,
    Lease,
    Network,
)
from underlay.modes import mode_name
from underlay.modes.dhcp_options import check_endpoint, client_text, lease_timeout
from underlay.modes.options import is_repaired
from underlay.records import Records

log = logging.getLogger(__name__)

# A lease that ends sooner is asked for like a new one.
LEAST_LEFT_SECONDS = 30.0
# A server that answers so soon has not looked whether a machine has the address.
UNTRIED_SECONDS = 0.5
MOST_DECLINED = 3
_AUX = (
    "the server keeps its own list of addresses that are taken. Leave --aux-address out"
)


class _Released(Exception):
    """An administrator gave a lease back while a start asked for it once more."""


@dataclass(frozen=True, slots=True)
class DhcpAddresses:
    """Leases addresses of DHCP servers to containers.

    `clock` returns seconds since 1970. `remove_dead_endpoint` removes an endpoint from
    the records if it is dead, and returns whether it was. `machine` identifies this
    host. `changed` is called with a lease after each change; it must not fail or wait.
    """

    records: Records
    kernel: Kernel
    servers: DhcpServers
    idle: IdleContainers
    remove_dead_endpoint: Callable[[str], bool]
    clock: Callable[[], float]
    machine: str
    changed: Callable[[DhcpLease], None] = field(default=lambda _lease: None)
    reconnecting: Reconnecting = field(default_factory=Reconnecting)

    def request_address(
        self, claim: Claim, address: str, container: str
    ) -> IpInterface:
        """Return the address that a server gives a container.

        `address`: the one asked for (--ip), "" for any. Raises NoDhcpServer,
        UnusableOffer, OtherAddressGiven, NotWithDhcp.
        """
        network = self.records.networks.get(claim.network)
        if network is None:
            if address:
                raise NotWithDhcp(why=_AUX)
            raise UnknownPool(pool=claim.id, path=self.records.path)
        wish = IPv4Address(address) if address else None
        name = name_of(container)
        again = None if wish else self.reconnecting.take(network.id, name)
        known_as: KnownAs = ("address", address) if address else None
        if again:
            known_as, name = (again.kind, again.value), again.container
        elif name := name or self._only_idle(network, is_likely=not address):
            known_as = "name", name
        lease = self._clients.of_start(network, known_as, name)
        try:
            return self._requested(claim, network, lease, wish)
        except _Released:
            lease = self._clients.of_start(network, known_as, name)
            return self._requested(claim, network, lease, wish)

    def _requested(
        self,
        claim: Claim,
        network: Network,
        lease: DhcpLease,
        wish: IPv4Address | None,
    ) -> IpInterface:
        given = self._asked(network, lease, wish)
        if wish and given.address.ip != wish:
            self._give_back(network, self._with(lease, given))
            raise OtherAddressGiven(
                asked=wish, address=given.address.ip, server=given.server, mac=lease.mac
            )
        return self._record(claim, self._with(lease, given))

    def take_ahead(self, network: Network, container: str) -> DhcpLease | None:
        """Return a new lease for a container that has not started, as it is recorded.

        None if it has one already, had one that its start asks for, or starts meanwhile
        and has what that was given. Raises as request_address does.
        """
        known = self.records.dhcp_leases.get(network.parent_label, "name", container)
        if known and (known.endpoint or self._is_held(known)):
            return None
        lease = self._clients.of_start(network, ("name", container), container)
        if self._is_held(lease):
            return None
        given = self._new_lease(network, lease, None)
        with self.records.transaction():
            now = self.records.dhcp_leases.by_id(lease.id)
            if now is None or now.endpoint or now.since != lease.since:
                return None
            return self._save(self._with(lease, given))

    def with_address(self, network: Network, asked: Endpoint) -> Endpoint:
        """Return a new endpoint with the address that a server gives it.

        With this IPAM driver it has one already. With the null one it gets it here, and
        is known by what only this call tells: identity=, client_id= or the user's MAC.
        Raises as request_address does, BadValue, and LeaseRefused.
        """
        segment = next((s for s in network.subnets if s.dhcp), None)
        if segment is None:
            return asked
        if segment.pooled or asked.ipv4:
            self._use_mac(network, asked)
            return asked
        if known := self.records.endpoints.get(asked.id):  # Docker asks once more
            return replace(asked, ipv4=known.ipv4)
        check_endpoint(network, asked.options, mode_name(network.options))
        known_as, name = self._known_as(network, asked)
        try:
            saved = self._leased(network, known_as, name, asked)
        except _Released:
            saved = self._leased(network, known_as, name, asked)
        self.changed(saved)
        return replace(asked, ipv4=saved.address)

    def _leased(
        self, network: Network, known_as: KnownAs, name: str, asked: Endpoint
    ) -> DhcpLease:
        lease = self._clients.of_start(network, known_as, name, asked)
        given = self._asked(network, lease, None)
        with self.records.transaction():
            return self._save(self._with(lease, given))

    def _known_as(self, network: Network, asked: Endpoint) -> tuple[KnownAs, str]:
        """Return what the container of a new endpoint is known by, and its name."""
        label = asked.options.get("identity") or client_text(asked.options)
        is_told = bool(label or asked.mac)
        again = None if is_told else self.reconnecting.take(network.id, "")
        if again:
            return (again.kind, again.value), again.container
        name = self._only_idle(network, is_likely=not is_told)
        ways: list[tuple[ClientKind, str]] = [
            ("label", label), ("mac", asked.mac), ("name", name)
        ]  # fmt: skip
        return next((way for way in ways if way[1]), None), name

    def _use_mac(self, network: Network, asked: Endpoint) -> None:
        """Have the lease of a new endpoint be one for the MAC that the user chose.

        Docker tells the MAC after the address. Raises LeaseRefused if the server has
        another address for it; the next start asks by that MAC.
        """
        if not (asked.mac and asked.ipv4):
            return
        lease = self.records.dhcp_leases.unassigned(network.id, asked.ipv4)
        if lease is None or lease.mac == asked.mac:
            return
        moved = replace(lease, mac=asked.mac)
        given = self.servers.ask_again(network, moved).given
        is_same = given is not None and given.address == asked.ipv4
        with ExitStack() as later, self.records.transaction():
            if given and is_same:
                saved = self._save(self._with(moved, given))
            else:
                unasked = replace(with_mac(lease, asked.mac), address=None, server=None)
                saved = self.records.dhcp_leases.save(unasked)
                # Before the end of the COMMIT: after a death it is done once more.
                self.servers.release(network.uplink.parent, lease, later)
        if not is_same:
            raise LeaseRefused(
                server=lease.server, address=asked.ipv4.ip, mac=asked.mac
            )
        self.changed(saved)

    def _record(self, claim: Claim, lease: DhcpLease) -> IpInterface:
        """Record what a server gave, and that an endpoint is about to have it."""
        assert lease.address  # noqa: S101 - it was given
        with self.records.transaction():
            saved = self._save(lease)
            for held in self.records.leases.live(claim.pool.id, lease.address.ip):
                if held.role == "conflict":
                    continue  # until the machine is silent
                if not held.endpoint or self.remove_dead_endpoint(held.endpoint):
                    self.records.leases.end(held, self.clock())
            name = lease.value if lease.kind == "name" else ""
            start_lease(
                self.records, claim, lease.address.ip, "endpoint", self.clock(), name
            )
        self.changed(saved)
        return lease.address

    def _save(self, lease: DhcpLease) -> DhcpLease:
        """Record what a server gave; no other container can have it held any more.

        Raises _Released if the lease went back while the server was asked.
        """
        known = self.records.dhcp_leases.get(lease.uplink, lease.kind, lease.value)
        if known is None:
            raise _Released
        saved = self.records.dhcp_leases.save(lease)
        self.records.dhcp_leases.take_over(saved)
        return saved

    # What was lost

    def adopt(
        self, network: Network, endpoint: Endpoint, address: IPv4Interface
    ) -> None:
        """Record the lease of a live endpoint that the records lack.

        Which server gave it, and until when, is not known unless an old copy tells; the
        keeper asks. Part of a transaction; call `note_adopted` after it.
        """
        lease = self._clients.of_lost(network, endpoint)
        held = self.records.dhcp_leases.of_endpoint(endpoint.id)
        if held:
            name = held.value.partition("/")[0] if held.kind == "name" else ""
            if held.mac == lease.mac and name in ("", lease.value.partition("/")[0]):
                return
            # An old copy has another client at the address.
            self.records.dhcp_leases.assign(held.id, "")
        known = self.records.dhcp_leases.get(lease.uplink, lease.kind, lease.value)
        if known and (known.mac, known.address) == (lease.mac, address):
            lease = replace(known, network=network.id, gone=0.0)
        self.records.dhcp_leases.save(
            replace(lease, address=address, endpoint=endpoint.id)
        )

    def note_adopted(self, endpoint: str) -> None:
        """Tell the keeper of the lease of an endpoint, if it has one."""
        if lease := self.records.dhcp_leases.of_endpoint(endpoint):
            self.changed(lease)

    def _with(self, lease: DhcpLease, given: Given) -> DhcpLease:
        return with_given(lease, given, self.servers.boot())

    @property
    def _clients(self) -> DhcpClients:
        return DhcpClients(self.records, self._is_over, self.machine)

    def _only_idle(self, network: Network, *, is_likely: bool) -> str:
        """Return the container that can be asking, "" if that is not known.

        `is_likely`: Docker has told of it, or will at once.
        """
        seconds = LATE_SECONDS if is_likely else 0.0
        return self.idle.only_one(network, seconds) if self.idle.is_known else ""

    def _is_over(self, endpoint: str) -> bool:
        """Return whether an endpoint is gone; a dead one is removed."""
        gone = self.records.endpoints.get(endpoint) is None
        return gone or self.remove_dead_endpoint(endpoint)

    # What servers are asked

    def _asked(
        self, network: Network, lease: DhcpLease, wish: IPv4Address | None
    ) -> Given:
        """Return what a server gives: the same as before, if it can."""
        if self._is_held(lease) and wish in (None, lease.address and lease.address.ip):
            answer = self.servers.ask_again(network, lease)
            if answer.given:
                return answer.given
            if not answer.refused:
                return _as_before(lease)  # it is asked on behind the start
        return self._new_lease(network, lease, wish)

    def _give_back(self, network: Network, lease: DhcpLease) -> None:
        with ExitStack() as later:
            self.servers.release(network.uplink.parent, lease, later)

    def _is_held(self, lease: DhcpLease) -> bool:
        if not (lease.address and lease.server):  # none, or its record was lost
            return False
        end = self.servers.moment(lease, lease.expires)
        left = end - self.servers.monotonic()
        return not lease.expires or left >= LEAST_LEFT_SECONDS

    def _new_lease(
        self, network: Network, lease: DhcpLease, wish: IPv4Address | None
    ) -> Given:
        seconds = lease_timeout(network.options)
        wish = wish or (lease.address.ip if lease.address else None)
        clashes: list[ServerGoesByMac] = []
        refusal = partial(self._refusal, network, lease, clashes)
        for _ in range(MOST_DECLINED):
            answer = self.servers.ask_new(network, lease, wish, seconds, refusal)
            if answer.given is None and clashes:
                raise clashes[0]
            if answer.given is None:
                raise NoDhcpServer(
                    device=network.parent_label,
                    asked=answer.asked,
                    seconds=answer.seconds,
                    heard=answer.heard,
                    way_out=self.servers.way_out(network),
                )
            mac = self._other_holder(network, lease, answer.given)
            if not mac:
                return answer.given
            given, device = answer.given, network.uplink.parent
            self.servers.decline(device, self._with(lease, given))
            log.warning(
                "offer declined: a machine has the address",
                extra={"address": given.address.ip, "mac": mac, "server": given.server},
            )
        why = f"the machine with the MAC {mac} has it"
        raise UnusableOffer(server=given.server, address=given.address.ip, why=why)

    def _refusal(
        self,
        network: Network,
        lease: DhcpLease,
        clashes: list[ServerGoesByMac],
        offered: IPv4Address,
        server: IPv4Address,
    ) -> str:
        """Return why an address that a server offers cannot be used, "" if it can.

        Add to `clashes` if it does not tell two clients of one MAC apart.
        """
        if self.kernel.is_own(offered):
            return f"of {offered}, this host's own"
        return self._clash(network, lease, clashes, offered, server)

    def refusal_inside(self, lease: DhcpLease) -> Refusal:
        """Return what tells why a running container cannot have another address.

        By the records alone: the thread that asks is in the sandbox.
        """
        network = self.records.networks.get(lease.network)
        if network is None:
            return accept_any
        endpoint = self.records.endpoints.get(lease.endpoint)
        if endpoint and not is_repaired(network, endpoint):
            return _left_alone
        return partial(self._clash, network, lease, [])

    def _clash(
        self,
        network: Network,
        lease: DhcpLease,
        clashes: list[ServerGoesByMac],
        offered: IPv4Address,
        server: IPv4Address,
    ) -> str:
        if network.subnet_of(offered) is None:
            return f"of {offered}, outside the network's --subnet"
        for held in self.records.leases.having(offered):
            other = self.records.networks.get(held.network)
            if held.endpoint in ("", lease.endpoint) or other is None:
                continue
            if other.uplink.parent == network.uplink.parent:
                other_name = held.container or held.endpoint[:12]
                if self._has_mac_of(held, lease):
                    clashes.append(
                        ServerGoesByMac(
                            server=server,
                            address=offered,
                            container=lease.container or lease.value,
                            other=other_name,
                            device=network.parent_label,
                        )
                    )
                return f"of {offered}, which container {other_name} has here"
        return ""

    def _has_mac_of(self, held: Lease, lease: DhcpLease) -> bool:
        """Return whether the holder of an address is another client of the same MAC."""
        other = self.records.dhcp_leases.of_endpoint(held.endpoint)
        if other is None or other.client_id == lease.client_id:
            return False
        return other.mac == lease.mac

    def _other_holder(self, network: Network, lease: DhcpLease, given: Given) -> str:
        """Return the MAC of a machine that has an address, "" if there is none.

        Most servers look before they offer an address. One that answers at once did
        not.
        """
        took = given.offered_after
        if took is None or took >= UNTRIED_SECONDS or lease.address == given.address:
            return ""
        device = network.uplink.parent
        verdict = self.kernel.ask((device,), (given.address.ip,), lease.mac.__eq__)
        return verdict.used.get(given.address.ip, "")


def _left_alone(offered: IPv4Address, _server: IPv4Address) -> str:
    """Return why a container whose sandbox is left alone has no other address."""
    return f"of {offered}, which repair=off keeps out of the running container"


def _as_before(lease: DhcpLease) -> Given:
    """Return what is on record of a lease as given once more."""
    assert lease.address  # noqa: S101 - it is held
    assert lease.server  # noqa: S101 - it is held
    return Given(
        address=lease.address,
        server=lease.server,
        server_mac=lease.server_mac,
        router=lease.router,
        options=lease.options,
        since=lease.since,
        renew=lease.renew,
        rebind=lease.rebind,
        expires=lease.expires,
        uptime=lease.uptime,
    )
