"""A container keeps the address and the MAC that its name has on a pool.

Docker tells the name with the request for an address from engine 29 on. Up to 28 it is
known a moment after the start, when Docker's API has told it; see IdleContainers for
the start itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

from underlay.ipam.subnets import derive_mac
from underlay.model import Claim, Endpoint, Lease, Network, Origin, Reservation
from underlay.records import Records

# A Swarm task is `service.slot.id`, and the next one in its slot has another id.
_MOST_NAMED = 5
_TASK = re.compile(r"(?P<slot>.+\.\d+)\.[a-z0-9]{25}")


def name_of(container: str) -> str:
    """Return what a container is known by: its name, without the id of a task."""
    task = _TASK.fullmatch(container)
    return task["slot"] if task else container


def own_reservations(records: Records, claim: Claim, name: str) -> list[Reservation]:
    """Return what is kept for a container in a pool, the most fitting one first.

    That is what the administrator reserved, then its address in the claim's network. An
    address that it has in another network of the pool is left to that one.
    """
    found = [
        kept
        for kept in records.reservations.of_name(claim.pool.domain, name)
        if kept.address in claim.pool.subnet
        and not _is_of_another(records, kept, claim.network)
    ]
    here = claim.network
    return sorted(found, key=lambda k: (k.origin != "reserved", k.network != here))


def keep(records: Records, claim: Claim, lease: Lease, name: str) -> None:
    """Keep the address of a lease for the container that has it.

    What was kept for it in the same network before is free, unless the administrator
    reserved it: a container has one address there.
    """
    known = records.reservations.get(claim.pool.domain, lease.address)
    name = name_of(name)
    mine = known if known and known.name == name else None
    if known and known.origin == "reserved" and not mine:
        return
    mac = _own_mac(lease) or (mine.mac if mine else "")
    for other in own_reservations(records, claim, name):
        if other.address == lease.address or other.origin == "reserved":
            continue
        if not records.leases.live(claim.pool.id, other.address):
            mac = mac or other.mac
            records.reservations.drop(other)
    asked: Origin = "fixed" if lease.fixed else "drawn"
    records.reservations.hold(
        Reservation(
            domain=claim.pool.domain,
            address=lease.address,
            name=name,
            origin=mine.origin if mine and mine.origin != "drawn" else asked,
            network=lease.network or claim.network,
            mac=mac,
            since=mine.since if mine else lease.since,
        )
    )


def keep_for(records: Records, endpoint: str, container: str) -> None:
    """Keep the addresses of an endpoint for its container, whose name was learnt."""
    records.dhcp_leases.name(endpoint, name_of(container))
    for lease in records.leases.live_of_endpoint(endpoint):
        claim = records.pools.claim(lease.claim) if lease.pool else None
        if claim and claim.source == "pool":
            keep(records, claim, lease, container)


def owner_of(records: Records, endpoint: str) -> str:
    """Return the container that the addresses of an endpoint are kept for."""
    for lease in records.leases.live_of_endpoint(endpoint):
        if lease.pool and (claim := records.pools.claim(lease.claim)):
            kept = records.reservations.get(claim.pool.domain, lease.address)
            return lease.container or (kept.name if kept else "")
    return ""


def kept_in_words(kept: Reservation, reserve_days: float) -> str:
    """Return for which container an address is kept, since when and until when."""
    since = moment(kept.since)
    if kept.origin == "reserved":
        return f"it is reserved for container {kept.name} since {since}"
    if not kept.gone:
        return f"container {kept.name} has had it since {since}, and is stopped"
    until = moment(kept.gone + reserve_days * 86400)
    return (
        f"container {kept.name} had it since {since}, and Docker no longer lists that"
        f" container: it is kept for it until {until}"
    )


def or_give_up(kept: Reservation) -> str:
    """Return the command that gives a kept address up, as the end of a sentence."""
    domain = "" if kept.domain == "default" else f" --domain {kept.domain}"
    return f", or give this one up: underlay unreserve {kept.address}{domain}"


def kept_for_others(kept: Sequence[Reservation]) -> str:
    """Return how many addresses are kept, and for which containers; "" if none is."""
    if not kept:
        return ""
    named = [f"{k.name} since {moment(k.since)}" for k in kept[:_MOST_NAMED]]
    named += [f"{len(kept) - _MOST_NAMED} more"] * (len(kept) > _MOST_NAMED)
    return (
        f", {len(kept)} kept for containers that do not run ({', '.join(named)};"
        " underlay unreserve ADDRESS gives one up)"
    )


def moment(seconds: float) -> str:
    """Return a time (seconds since 1970) as the clock of this host shows it."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def macs(
    records: Records, host: str, network: Network, endpoint: Endpoint
) -> Iterator[str]:
    """Return the MACs for a new endpoint, the one to prefer first.

    The one on record for its container, or the one that follows from its pool and its
    name; without a name from its pool and its address. The others are for a second
    endpoint of the same container on one parent.
    """
    leased = endpoint.ipv4 and records.dhcp_leases.unassigned(network.id, endpoint.ipv4)
    if leased:  # for this MAC
        yield leased.mac
    for interface in endpoint.addresses[:1]:
        segment = network.subnet_of(interface.ip)
        lease = segment and records.leases.unassigned(
            interface.ip, segment.subnet, endpoint.id, network.id
        )
        claim = records.pools.claim(lease.claim) if lease else None
        domain = claim.pool.domain if claim else ""
        scope = f"{domain}/{segment.subnet if segment else interface.network}"
        name = name_of(lease.container) if lease else ""
        known = records.reservations.get(domain, interface.ip) if claim else None
        if known and known.mac and name in ("", known.name):
            yield known.mac
        if name:
            yield derive_mac(host, scope, f"container {name}")
        yield derive_mac(host, scope, str(interface.ip))
    yield derive_mac(host, network.id, endpoint.id)


def _own_mac(lease: Lease) -> str:
    """Return the MAC of a lease, "" if the user chose it for this one start."""
    return "" if lease.fixed_mac else lease.mac


def _is_of_another(records: Records, kept: Reservation, network: str) -> bool:
    """Return whether a reservation is for another network, which is still there."""
    elsewhere = kept.network not in ("", network)
    return elsewhere and records.networks.get(kept.network) is not None
