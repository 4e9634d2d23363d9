"""Leases from DHCP servers as JSON, and how their addresses are reserved there."""

from __future__ import annotations

from typing import Any

from underlay.dhcp.packets import client_id_of_mac
from underlay.ipam.lease_states import goes_back, state_of
from underlay.model import DhcpLease, Network
from underlay.model.lease_options import LeaseOptions
from underlay.modes.leased import router
from underlay.records import Records
from underlay.records.dhcp_leases import Granted

Facts = dict[str, Any]


def leases(records: Records, now: float) -> list[Facts]:
    """Return every lease by parent and name; `now` in seconds since 1970."""
    known = {n.id: n for n in records.networks.all()}
    return [_lease(one, known, now) for one in records.dhcp_leases.all()]


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


def _lease(lease: DhcpLease, known: dict[str, Network], now: float) -> Facts:
    network, state = known.get(lease.network), state_of(lease, now)
    said, options = (
        LeaseOptions.of_area(lease.options),
        network.options if network else {},
    )
    return {
        "name": lease.value,
        "kind": lease.kind,
        "container": lease.container,
        "parent": lease.uplink,
        "network": network.label if network else lease.network[:12],
        "endpoint": lease.endpoint,
        "address": _text(lease.address),
        "mac": lease.mac,
        "client_id": lease.client_id.hex(":"),
        "hostname": lease.hostname,
        "server": _text(lease.server),
        "router": _text(router(options, lease.router, said)),
        "state": state,
        "since": lease.since or None,
        "renew": lease.renew or None,
        "rebind": lease.rebind or None,
        "expires": lease.expires or None,
        "goes_back": goes_back(lease, network) if state == "removed" else None,
        "reservation": _reservation(lease) if lease.address else None,
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
