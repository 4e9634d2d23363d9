"""Leases from DHCP servers as JSON, and how their addresses are reserved there."""

from __future__ import annotations

from typing import Any

from underlay.dhcp.packets import client_id_of_mac, iaid_and_duid
from underlay.ipam.lease_states import AnyLease, goes_back, state_of
from underlay.model import DhcpLease, Dhcpv6Lease, Network
from underlay.model.lease_options import LeaseOptions
from underlay.modes.leased import router
from underlay.records import Records
from underlay.records.dhcp_leases import Granted

Facts = dict[str, Any]


def leases(records: Records, now: float) -> list[Facts]:
    """Return every lease by parent and name; `now` in seconds since 1970."""
    known = {n.id: n for n in records.networks.all()}
    found = [_lease(one, known, now) for one in records.dhcp_leases.all()]
    found += [_lease6(one, known, now) for one in records.dhcpv6_leases.all()]
    # In the order of the records; of one container, that of IPv4 comes first.
    return sorted(found, key=lambda f: (f["parent"], f["kind"], f["name"]))


def granted(lease: Granted) -> Facts:
    """Return which server gave an endpoint its lease, and until when.

    `told` is the address that Docker believes, None if it has that, and `changed` since
    when it has another one.
    """
    return {
        "server": lease.server,
        "until": lease.expires or None,
        "told": lease.answered or None,
        "changed": lease.changed,
    }


def of_endpoint(records: Records, endpoint: str) -> Facts | None:
    """Return the same for one endpoint, None if it has no lease."""
    lease = records.dhcp_leases.granted(endpoint).get(endpoint)
    return granted(lease) if lease else None


def of_endpoint6(lease: Dhcpv6Lease | None) -> Facts | None:
    """Return which DHCPv6 server gave an endpoint its address, and until when."""
    if lease is None or lease.address is None:
        return None
    return {
        "address": str(lease.address),
        "server": _text(lease.server),
        "until": lease.expires or None,
    }


def _lease(lease: DhcpLease, known: dict[str, Network], now: float) -> Facts:
    network = known.get(lease.network)
    said = LeaseOptions.of_area(lease.options)
    options = network.options if network else {}
    return {
        **_common(lease, network, now),
        "family": 4,
        "client_id": lease.client_id.hex(":"),
        "iaid": None,
        "router": _text(router(options, lease.router, said)),
        "reservation": _reservation(lease) if lease.address else None,
    }


def _lease6(lease: Dhcpv6Lease, known: dict[str, Network], now: float) -> Facts:
    iaid, duid = iaid_and_duid(lease.client_id)
    return {
        **_common(lease, known.get(lease.network), now),
        "family": 6,
        "client_id": duid.hex(":"),
        "iaid": iaid,
        "router": "",
        "reservation": _reservation6(lease, duid) if lease.address else None,
    }


def _common(lease: AnyLease, network: Network | None, now: float) -> Facts:
    state = state_of(lease, now)
    return {
        "name": lease.value,
        "kind": lease.kind,
        "container": lease.container,
        "parent": lease.uplink,
        "network": network.label if network else lease.network[:12],
        "endpoint": lease.endpoint,
        "address": _text(lease.address),
        "mac": lease.mac,
        "hostname": lease.hostname,
        "server": _text(lease.server),
        "state": state,
        "since": lease.since or None,
        "renew": lease.renew or None,
        "rebind": lease.rebind or None,
        "expires": lease.expires or None,
        "goes_back": goes_back(lease, network) if state == "removed" else None,
    }


def _reservation6(lease: Dhcpv6Lease, duid: bytes) -> Facts:
    """Return the lines that reserve the address for a DUID, by the server's program."""
    assert lease.address  # noqa: S101 - there is nothing to reserve without
    address, host, client = lease.address.ip, lease.hostname, duid.hex(":")
    name = f', "hostname": "{host}"' if host else ""
    block = f"{host or 'container'}-{duid.hex()[-6:]}-ipv6"
    known_by = f"host-identifier option dhcp6.client-id {client}"
    return {
        "dnsmasq": f"dhcp-host=id:{client},[{address}]{f',{host}' if host else ''}",
        "kea": f'{{ "duid": "{client}", "ip-addresses": ["{address}"]{name} }}',
        "dhcpd": f"host {block} {{ {known_by}; fixed-address6 {address}; }}",
    }


def _reservation(lease: DhcpLease) -> Facts:
    """Return the lines that reserve the address, by the program of the server.

    A client that has its MAC for itself is known by that, another by its client id.
    """
    assert lease.address  # noqa: S101 - there is nothing to reserve without
    address, host = lease.address.ip, lease.hostname
    has_mac = lease.client_id == client_id_of_mac(lease.mac)
    identity = lease.client_id.hex(":")
    dnsmasq = [lease.mac if has_mac else f"id:{identity}", str(address), host]
    kea = {
        "hw-address" if has_mac else "client-id": lease.mac if has_mac else identity,
        "ip-address": address,
        "hostname": host,
    }
    known_by = (
        f"hardware ethernet {lease.mac}"
        if has_mac
        else f"option dhcp-client-identifier {identity}"
    )
    named = f' option host-name "{host}";' if host else ""
    # The name of the block is only for people, and there once in the file.
    block = f"{host or 'container'}-{lease.client_id.hex()[-6:]}"
    members = ", ".join(f'"{key}": "{value}"' for key, value in kea.items() if value)
    return {
        "dnsmasq": f"dhcp-host={','.join(filter(None, dnsmasq))}",
        "kea": f"{{ {members} }}",
        "dhcpd": f"host {block} {{ {known_by}; fixed-address {address};{named} }}",
    }


def _text(value: object) -> str:
    return "" if value is None else str(value)
