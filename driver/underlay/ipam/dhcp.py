"""Addresses from the DHCP servers of a segment, for the same container for ever.

Docker asks for an address before the container has a device. So the service asks the
servers on the parent of the network, for the MAC that the device will have. What they
give is recorded for the container, not for the endpoint: it outlives stop, removal and
the network, and the next start asks for the same address again.

No transaction is open while servers are asked.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Interface
from uuid import UUID

from underlay.dhcp.packets import client_id_of_duid, client_id_of_mac
from underlay.errors import (
    LeaseRefused,
    NoDhcpServer,
    NotWithDhcp,
    OtherAddressGiven,
    UnknownPool,
    UnusableOffer,
)
from underlay.ipam.dhcp_servers import DhcpServers, Given, with_given
from underlay.ipam.identity import name_of
from underlay.ipam.idle_containers import IdleContainers
from underlay.ipam.leases import start_lease
from underlay.ipam.subnets import derive_mac
from underlay.kernel import Kernel
from underlay.model import (
    Claim,
    ClientKind,
    DhcpLease,
    Endpoint,
    IpInterface,
    Network,
)
from underlay.modes import mode_of
from underlay.modes.dhcp_options import host_name_is_sent, lease_timeout
from underlay.records import Records

log = logging.getLogger(__name__)

# A lease that ends sooner is asked for like a new one.
LEAST_LEFT_SECONDS = 30.0
# A server that answers so soon has not looked whether a machine has the address.
UNTRIED_SECONDS = 0.5
MOST_DECLINED = 3
# What a container is known by; None where nothing is known of it.
_KnownAs = tuple[ClientKind, str] | None
_AUX = (
    "the server keeps its own list of addresses that are taken. Leave --aux-address out"
)


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
        name = name_of(container) or self._only_idle(network)
        known_as: _KnownAs = ("address", address) if address else None
        lease = self._client(network, ("name", name) if name else known_as, name)
        given = self._asked(network, lease, wish)
        if wish and given.address.ip != wish:
            self.servers.release(network.uplink.parent, self._with(lease, given))
            raise OtherAddressGiven(
                asked=wish, address=given.address.ip, server=given.server, mac=lease.mac
            )
        return self._record(claim, self._with(lease, given))

    def take_ahead(self, network: Network, container: str) -> DhcpLease | None:
        """Return a new lease for a container that has not started, as it is recorded.

        None if it has one already, or had one that its start asks for. Raises as
        request_address does.
        """
        known = self.records.dhcp_leases.get(network.parent_label, "name", container)
        if known and (known.endpoint or self._is_held(known)):
            return None
        lease = self._client(network, ("name", container), container)
        given = self._new_lease(network, lease, None)
        with self.records.transaction():
            return self.records.dhcp_leases.save(self._with(lease, given))

    def with_address(self, network: Network, asked: Endpoint) -> Endpoint:
        """Return a new endpoint with the address that a server gives it.

        With this IPAM driver it has one already. With the null one it gets it here, and
        is known by what only this call tells: identity=, or the user's MAC. Raises as
        request_address does, and LeaseRefused.
        """
        segment = next((s for s in network.subnets if s.dhcp), None)
        if segment is None:
            return asked
        if segment.pooled or asked.ipv4:
            self._use_mac(network, asked)
            return asked
        if known := self.records.endpoints.get(asked.id):  # Docker asks once more
            return replace(asked, ipv4=known.ipv4)
        name = self._only_idle(network)
        label = asked.options.get("identity", "")
        ways: list[tuple[ClientKind, str]] = [
            ("label", label), ("mac", asked.mac), ("name", name)
        ]  # fmt: skip
        known_as = next((way for way in ways if way[1]), None)
        lease = self._client(network, known_as, name, asked.mac)
        given = self._asked(network, lease, None)
        with self.records.transaction():
            saved = self.records.dhcp_leases.save(self._with(lease, given))
        self.changed(saved)
        return replace(asked, ipv4=given.address)

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
        with self.records.transaction():
            if given and is_same:
                saved = self.records.dhcp_leases.save(self._with(moved, given))
            else:
                own = client_id_of_mac(asked.mac)
                unasked = replace(moved, client_id=own, address=None, server=None)
                saved = self.records.dhcp_leases.save(unasked)
        if not is_same:
            self.servers.release(network.uplink.parent, lease)
            raise LeaseRefused(
                server=lease.server, address=asked.ipv4.ip, mac=asked.mac
            )
        self.changed(saved)

    def _record(self, claim: Claim, lease: DhcpLease) -> IpInterface:
        """Record what a server gave, and that an endpoint is about to have it."""
        assert lease.address  # noqa: S101 - it was given
        with self.records.transaction():
            saved = self.records.dhcp_leases.save(lease)
            for held in self.records.leases.live(claim.pool.id, lease.address.ip):
                if not held.endpoint or self.remove_dead_endpoint(held.endpoint):
                    self.records.leases.end(held, self.clock())
            name = lease.value if lease.kind == "name" else ""
            start_lease(
                self.records, claim, lease.address.ip, "endpoint", self.clock(), name
            )
        self.changed(saved)
        return lease.address

    # What was lost

    def adopt(
        self, network: Network, endpoint: Endpoint, address: IPv4Interface
    ) -> None:
        """Record the lease of a live endpoint that the records lack.

        Which server gave it, and until when, is not known unless an old copy tells; the
        keeper asks. Part of a transaction; call `note_adopted` after it.
        """
        lease = self._lost(network, endpoint)
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

    def _lost(self, network: Network, endpoint: Endpoint) -> DhcpLease:
        """Return what a live endpoint is to servers, as its container and MAC tell."""
        name, uplink = name_of(endpoint.container), network.parent_label
        kind: ClientKind = "name" if name else "place"
        seats = [name, f"{name}/{network.id[:12]}"] if name else []
        # A container with two networks of one parent is known by its MACs.
        seats.sort(key=lambda s: self._derived_mac(uplink, kind, s) != endpoint.mac)
        last = f"{name or network.id[:12]}/{endpoint.id[:12]}"
        free = (seat for seat in seats if self._is_free(uplink, kind, seat, endpoint))
        return self._new(network, kind, next(free, last), name, endpoint.mac)

    def _is_free(
        self, uplink: str, kind: ClientKind, seat: str, endpoint: Endpoint
    ) -> bool:
        known = self.records.dhcp_leases.get(uplink, kind, seat)
        mine = ("", endpoint.id)
        return known is None or known.endpoint in mine or self._is_over(known.endpoint)

    def _with(self, lease: DhcpLease, given: Given) -> DhcpLease:
        return with_given(lease, given, self.servers.boot())

    # What a container is known by

    def _client(
        self, network: Network, known_as: _KnownAs, name: str, mac: str = ""
    ) -> DhcpLease:
        """Return the lease of the container that asks, a new one if it has none.

        `mac` is the one of the user's choice. It is on record before a server sees it.
        """
        with self.records.transaction():
            lease = self._seat(network, known_as, name)
            if mac and lease.mac != mac:
                lease = replace(lease, mac=mac, client_id=client_id_of_mac(mac))
            return self.records.dhcp_leases.save(lease)

    def _seat(self, network: Network, known_as: _KnownAs, name: str) -> DhcpLease:
        kind, value = known_as or ("place", self._free_place(network))
        for seat in (value, f"{value}/{network.id[:12]}"):
            known = self.records.dhcp_leases.get(network.parent_label, kind, seat)
            if known is None:
                return self._new(network, kind, seat, name)
            if not known.endpoint or self._is_over(known.endpoint):
                return replace(known, network=network.id, endpoint="", gone=0.0)
        # A third one on this parent at once is a container that Docker forgot.
        return self._new(network, "place", self._free_place(network), "")

    def _only_idle(self, network: Network) -> str:
        return self.idle.only_one(network) if self.idle.is_known else ""

    def _is_over(self, endpoint: str) -> bool:
        """Return whether an endpoint is gone; a dead one is removed."""
        gone = self.records.endpoints.get(endpoint) is None
        return gone or self.remove_dead_endpoint(endpoint)

    def _free_place(self, network: Network) -> str:
        """Return the first place of a network that no container has.

        Nor had, before Docker told its name: it keeps the MAC of the place.
        """
        uplink, number = network.parent_label, 1
        taken = self.records.dhcp_leases.places(uplink, network.id)
        while True:
            value = f"{network.id[:12]}/{number}"
            mac = self._derived_mac(uplink, "place", value)
            if value not in taken and not self.records.dhcp_leases.has_mac(
                uplink, mac, besides=value
            ):
                return value
            number += 1

    def _derived_mac(self, uplink: str, kind: ClientKind, value: str) -> str:
        """Return a MAC that follows from host, parent and what the client is known by.

        A host with lost records is known to the servers by it.
        """
        host = self.records.host.identity(self.machine)
        return derive_mac(host, f"dhcp {uplink}", f"{kind} {value}")

    def _new(
        self, network: Network, kind: ClientKind, value: str, name: str, mac: str = ""
    ) -> DhcpLease:
        """Return a client without a lease, the same on each try; `mac`: that it has."""
        host, uplink = self.records.host.identity(self.machine), network.parent_label
        own = mac or self._derived_mac(uplink, kind, value)
        mode, unborn = mode_of(network.options), Endpoint("", network.id)
        mac = mode.endpoint_mac(network, unborn, network.uplink.mac, own)
        return DhcpLease(
            id=0,
            uplink=uplink,
            kind=kind,
            value=value,
            mac=mac or network.uplink.mac,
            client_id=client_id_of_mac(mac) if mac else _duid(host, uplink, value),
            hostname=host_name_of(name) if host_name_is_sent(network.options) else "",
            network=network.id,
            container=name if kind != "place" else "",
        )

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
        for _ in range(MOST_DECLINED):
            answer = self.servers.ask_new(
                network, lease, wish, seconds, partial(self._refusal, network)
            )
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

    def _refusal(self, network: Network, offered: IPv4Address) -> str:
        """Return why an address that a server offers cannot be used, "" if it can."""
        if self.kernel.is_own(offered):
            return f"of {offered}, this host's own"
        if network.subnet_of(offered) is None:
            return f"of {offered}, outside the network's --subnet"
        for held in self.records.leases.having(offered):
            other = self.records.networks.get(held.network)
            if held.endpoint == "" or other is None:
                continue
            if other.uplink.parent == network.uplink.parent:
                return f"of {offered}, which container {held.container} has here"
        return ""

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


def host_name_of(container: str) -> str:
    """Return a container's name as that of a host, "" if nothing of it can be one."""
    text = re.sub(r"[^a-z0-9-]", "-", container.lower().replace("_", "-"))
    return text[:63].strip("-")


def _duid(host: str, uplink: str, value: str) -> bytes:
    """Return the client id of a container that has no MAC of its own (RFC 4361)."""
    digest = hashlib.sha256(f"{host}\0dhcp {uplink}\0{value}".encode()).digest()
    return client_id_of_duid(int.from_bytes(digest[:4]), UUID(bytes=digest[4:20]))


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
