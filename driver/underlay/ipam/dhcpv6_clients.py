"""What a running container is to the DHCPv6 servers of its segment: its DUID and IAID.

They follow from the host, the parent and what the container is known by, as its client
id of IPv4 does, and are recorded with its lease.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from underlay.ipam.dhcp_clients import client_id_by_name, host_name_of
from underlay.ipam.identity import name_of
from underlay.model import ClientKind, Dhcpv6Lease, Endpoint, Network
from underlay.modes.dhcp_options import host_name_is_sent
from underlay.records import Records

_BY_NAME = b"\xff"  # the first byte of a client id by RFC 4361


@dataclass(frozen=True, slots=True)
class Dhcpv6Clients:
    """Finds and makes the clients of a host. `machine` identifies it."""

    records: Records
    machine: str

    def of_running(self, network: Network, endpoint: Endpoint) -> Dhcpv6Lease:
        """Return the lease of a container, a new one if it has none; not recorded.

        With the endpoint, and with what it is told now. Part of a transaction.
        """
        kind, value, client_id = self._known_as(endpoint)
        uplink = network.parent_label
        lease = self._seat(uplink, kind, value, network, endpoint)
        if not lease.client_id:
            host = self.records.host.identity(self.machine)
            derived = client_id_by_name(host, uplink, lease.value)
            lease = replace(lease, client_id=client_id or derived)
        name = name_of(endpoint.container)
        is_sent = host_name_is_sent(network.options)
        return replace(
            lease,
            mac=endpoint.mac or network.uplink.mac,
            hostname=host_name_of(name) if is_sent else "",
            network=network.id,
            endpoint=endpoint.id,
            container=name,
            gone=0.0,
        )

    def _known_as(self, endpoint: Endpoint) -> tuple[ClientKind, str, bytes]:
        """Return what a container is known by, and the client id that it has, or b"".

        The same as for its lease of IPv4, where that is not by its place.
        """
        four = self.records.dhcp_leases.of_endpoint(endpoint.id)
        if four and four.kind != "place":
            is_shared = four.client_id[:1] == _BY_NAME
            return four.kind, four.value, four.client_id if is_shared else b""
        if label := endpoint.options.get("identity"):
            return "label", label, b""
        return "name", name_of(endpoint.container), b""

    def _seat(
        self,
        uplink: str,
        kind: ClientKind,
        value: str,
        network: Network,
        endpoint: Endpoint,
    ) -> Dhcpv6Lease:
        """Return the client that a container is: on a parent, it has one for each."""
        seats = value, f"{value}/{network.id[:12]}", f"{value}/{endpoint.id[:12]}"
        for seat in seats:
            known = self.records.dhcpv6_leases.get(uplink, kind, seat)
            if known is None:
                return Dhcpv6Lease(0, uplink, kind, seat, endpoint.mac)
            if known.endpoint in ("", endpoint.id) or self._is_over(known.endpoint):
                return known
        raise AssertionError("two endpoints have one id")

    def _is_over(self, endpoint: str) -> bool:
        return self.records.endpoints.get(endpoint) is None
