"""What a container is to the DHCP servers of its segment: its MAC and its client id.

Both follow from the host, the parent and what the container is known by, and are
recorded with its lease. So a host with lost records is known to the servers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from underlay.dhcp.packets import (
    client_id_of_duid,
    client_id_of_mac,
    client_id_of_text,
)
from underlay.ipam.identity import name_of
from underlay.ipam.subnets import derive_mac
from underlay.model import ClientKind, DhcpLease, Endpoint, Network
from underlay.modes import mode_name, mode_of
from underlay.modes.dhcp_options import client_id, host_name_is_sent
from underlay.records import Records

# What a container is known by; None where nothing is known of it.
KnownAs = tuple[ClientKind, str] | None
# The first byte of a client id of these sorts.
_SORTS = {"mac": b"\x01", "duid": b"\xff"}


@dataclass(frozen=True, slots=True)
class DhcpClients:
    """Finds and makes the clients of a host, as leases with or without an address.

    `is_over` returns whether an endpoint is gone. `machine` identifies this host.
    """

    records: Records
    is_over: Callable[[str], bool]
    machine: str

    def of_start(
        self,
        network: Network,
        known_as: KnownAs,
        name: str,
        asked: Endpoint | None = None,
    ) -> DhcpLease:
        """Return the lease of the container that asks, a new one if it has none.

        `asked` has the MAC and the client id of the user's choice, if they are known
        before the address. They are on record before a server sees them.
        """
        asked = asked or Endpoint("", network.id)
        with self.records.transaction():
            lease = self._seat(network, known_as, name)
            if asked.mac and lease.mac != asked.mac:
                lease = with_mac(lease, asked.mac)
            lease = self._with_client_id(network, lease, asked.options)
            return self.records.dhcp_leases.save(lease)

    def _with_client_id(
        self, network: Network, lease: DhcpLease, options: Mapping[str, str]
    ) -> DhcpLease:
        """Return a lease with the client id that options ask for.

        One of the same sort stays: it may come from a place, or from another MAC.
        Otherwise the client is another one to its server, which has to be asked.
        """
        said = client_id({**network.options, **options})
        said = said or ("duid" if mode_name(network.options) == "ipvlan" else "mac")
        if lease.client_id[:1] == _SORTS.get(said):
            return lease
        if said == "mac":
            found = client_id_of_mac(lease.mac)
        elif said == "duid":
            host = self.records.host.identity(self.machine)
            found = client_id_by_name(host, lease.uplink, lease.value)
        else:
            found = client_id_of_text(said)
        if found == lease.client_id:
            return lease
        return replace(lease, client_id=found, server=None)

    def of_lost(self, network: Network, endpoint: Endpoint) -> DhcpLease:
        """Return what a live endpoint is to servers, as its container and MAC tell."""
        name, uplink = name_of(endpoint.container), network.parent_label
        kind: ClientKind = "name" if name else "place"
        seats = [name, f"{name}/{network.id[:12]}"] if name else []
        # A container with two networks of one parent is known by its MACs.
        seats.sort(key=lambda s: self._derived_mac(uplink, kind, s) != endpoint.mac)
        last = f"{name or network.id[:12]}/{endpoint.id[:12]}"
        free = (seat for seat in seats if self._is_free(uplink, kind, seat, endpoint))
        lease = self._new(network, kind, next(free, last), name, endpoint.mac)
        return self._with_client_id(network, lease, endpoint.options)

    def _is_free(
        self, uplink: str, kind: ClientKind, seat: str, endpoint: Endpoint
    ) -> bool:
        known = self.records.dhcp_leases.get(uplink, kind, seat)
        mine = ("", endpoint.id)
        return known is None or known.endpoint in mine or self.is_over(known.endpoint)

    def _seat(self, network: Network, known_as: KnownAs, name: str) -> DhcpLease:
        kind, value = known_as or ("place", self._free_place(network))
        for seat in (value, f"{value}/{network.id[:12]}"):
            known = self.records.dhcp_leases.get(network.parent_label, kind, seat)
            if known is None:
                return self._new(network, kind, seat, name)
            if not known.endpoint or self.is_over(known.endpoint):
                return replace(known, network=network.id, endpoint="", gone=0.0)
        # A third one on this parent at once is a container that Docker forgot.
        return self._new(network, "place", self._free_place(network), "")

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
        host = self.records.host.identity(self.machine)
        return derive_mac(host, f"dhcp {uplink}", f"{kind} {value}")

    def _new(
        self, network: Network, kind: ClientKind, value: str, name: str, mac: str = ""
    ) -> DhcpLease:
        """Return a client without a lease, the same on each try; `mac`: that it has.

        And without a client id.
        """
        uplink = network.parent_label
        own = mac or self._derived_mac(uplink, kind, value)
        mode, unborn = mode_of(network.options), Endpoint("", network.id)
        mac = mode.endpoint_mac(network, unborn, network.uplink.mac, own)
        return DhcpLease(
            id=0,
            uplink=uplink,
            kind=kind,
            value=value,
            mac=mac or network.uplink.mac,
            hostname=host_name_of(name) if host_name_is_sent(network.options) else "",
            network=network.id,
            container=name if kind != "place" else "",
        )


def with_mac(lease: DhcpLease, mac: str) -> DhcpLease:
    """Return a lease that is for another MAC; not yet asked for, if by that MAC."""
    if lease.client_id[:1] != _SORTS["mac"]:
        return replace(lease, mac=mac)
    return replace(lease, mac=mac, client_id=client_id_of_mac(mac), server=None)


def host_name_of(container: str) -> str:
    """Return a container's name as that of a host, "" if nothing of it can be one."""
    text = re.sub(r"[^a-z0-9-]", "-", container.lower().replace("_", "-"))
    return text[:63].strip("-")


def client_id_by_name(host: str, uplink: str, value: str) -> bytes:
    """Return a client id of a container that does not follow from a MAC (RFC 4361)."""
    digest = hashlib.sha256(f"{host}\0dhcp {uplink}\0{value}".encode()).digest()
    return client_id_of_duid(int.from_bytes(digest[:4]), UUID(bytes=digest[4:20]))
