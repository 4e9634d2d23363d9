"""The status of the service: one set of facts for CLI, JSON and status socket.

The shapes are stable and documented in docs/cli.md. Times are seconds since 1970.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from ipaddress import ip_address
from typing import Any

from underlay import __version__
from underlay.api import leases, ports
from underlay.api.facts import HealthReport
from underlay.ipam import conflicts, lease_states
from underlay.ipam.subnets import usable
from underlay.model import (
    MAC,
    Endpoint,
    Lease,
    Network,
    Pool,
    Repair,
    Reservation,
)
from underlay.model.owner import Owner
from underlay.modes import gateway, mode_name
from underlay.modes.child_device import is_isolated
from underlay.modes.ignored_options import without_effect
from underlay.records import Records

NEWEST_REPAIRS = 20
Facts = dict[str, Any]
Leases = tuple[Facts | None, Facts | None]  # of IPv4, of IPv6


def status(records: Records, refusals: Sequence[Facts] = ()) -> Facts:
    """Return all records, the failures, the newest repairs, and the refusals given."""
    healths = health_report(records)
    return {
        "version": __version__,
        "parents": parents(records, healths),
        "networks": networks(records, healths),
        "endpoints": endpoints(records, healths),
        "pools": pools(records),
        "troubles": failures(records),
        "notices": notices(records),
        "repairs": repairs(records, NEWEST_REPAIRS),
        "refusals": list(refusals),
    }


def parents(records: Records, healths: HealthReport | None = None) -> list[Facts]:
    """Return every parent with its networks and its health."""
    judge = healths or health_report(records)
    count = _endpoint_counts(records)
    by_device: dict[str, list[Network]] = {}
    for network in records.networks.all():
        if network.uplink.parent:  # a routed network has none
            by_device.setdefault(network.uplink.parent, []).append(network)
    return [
        {
            "name": those[0].parent_label,
            "device": device,
            "networks": [n.label for n in those],
            "endpoints": sum(count[n.id] for n in those),
            **asdict(judge.of_parent(those)),
        }
        for device, those in by_device.items()
    ]


def networks(records: Records, healths: HealthReport | None = None) -> list[Facts]:
    """Return every network, the number of its endpoints and its health."""
    judge = healths or health_report(records)
    count = _endpoint_counts(records)
    return [
        {**_network(n, count[n.id]), **asdict(judge.of_network(n))}
        for n in records.networks.all()
    ]


def endpoints(records: Records, healths: HealthReport | None = None) -> list[Facts]:
    """Return every endpoint, the state of its device and its health."""
    judge = healths or health_report(records)
    known = {n.id: n for n in records.networks.all()}
    given = {
        endpoint: leases.granted(lease)
        for endpoint, lease in records.dhcp_leases.granted().items()
    }
    six = {lease.endpoint: lease for lease in records.dhcpv6_leases.given()}
    # One may have been created after the networks were read.
    return [
        _judged(
            known[endpoint.network],
            endpoint,
            (given.get(endpoint.id), leases.of_endpoint6(six.get(endpoint.id))),
            judge,
        )
        for endpoint in records.endpoints.all()
        if endpoint.network in known
    ]


def some_endpoints(
    records: Records, network: str, most: int, judge: HealthReport
) -> list[Facts]:
    """Return some endpoints of a network, those that fail first."""
    found = records.networks.get(network)
    failing = judge.failing_endpoints(network)[:most]
    mine = [e for e in map(records.endpoints.get, failing) if e]
    others = records.endpoints.some_of(network, most)
    mine += [e for e in others if e.id not in failing]
    if found is None:
        return []
    return [_judged(found, e, _leases_of(records, e), judge) for e in mine[:most]]


def _leases_of(records: Records, endpoint: Endpoint) -> Leases:
    """Return what one endpoint has by DHCP, of IPv4 and of IPv6."""
    six = records.dhcpv6_leases.of_endpoint(endpoint.id)
    return leases.of_endpoint(records, endpoint.id), leases.of_endpoint6(six)


def _judged(
    network: Network, endpoint: Endpoint, found: Leases, judge: HealthReport
) -> Facts:
    health = judge.of_endpoint(network, endpoint)
    given = {"lease": found[0], "lease6": found[1]}
    facts = {**_endpoint(endpoint, network), **given, **asdict(health)}
    facts["state"] = "failing" if health.health == "failing" else facts["state"]
    return facts


def _endpoint_counts(records: Records) -> Counter[str]:
    count: Counter[str] = Counter()
    for network, _, number in records.counts.endpoints():
        count[network] += number
    return count


def failures(records: Records) -> list[Facts]:
    """Return what cannot be repaired, oldest first."""
    failing = [
        *records.repairs.failures(),
        *conflicts.failures(records),
        *lease_states.failures(records, _now()),
    ]
    found = [(t.mark, t.text, t.since) for t in failing]
    found += [
        (Owner(o.network).mark, o.text, o.since) for o in records.host.obstacles()
    ]
    found.sort(key=lambda failure: failure[2])
    return [{"object": o, "error": text, "since": at} for o, text, at in found]


def health_report(records: Records) -> HealthReport:
    """Return the health of everything now."""
    return HealthReport(records, _now())


def _now() -> float:
    return time.time()


def pools(records: Records) -> list[Facts]:
    """Return every pool, its networks and its addresses in use."""
    return [_pool(records, pool) for pool in records.pools.all()]


def reservations(records: Records) -> list[Facts]:
    """Return every address that is kept for a container, by domain and address."""
    return [
        {"domain": kept.domain, **_kept(kept)} for kept in records.reservations.all()
    ]


def notices(records: Records) -> list[Facts]:
    """Return what quick checks of the host found."""
    return [asdict(notice) for notice in records.host.notices()]


def pool_use(records: Records) -> list[Facts]:
    """Return the ranges that networks draw from, the fullest first.

    `share` of the addresses is in use, from 0 to 1.
    """
    found = [
        {
            "range": r.span,
            "domain": r.domain,
            "size": r.size,
            "free": r.free,
            "share": (r.size - r.free) / r.size,
        }
        for r in records.counts.ranges()
    ]
    return sorted(found, key=lambda facts: -facts["share"])


def conflicts_of(records: Records) -> list[Facts]:
    """Return the addresses that other machines have, the oldest conflict first."""
    known = {n.id: n.label for n in records.networks.all()}
    found = records.leases.conflicts()
    return [_lease(t, known.get(t.network, t.network[:12])) for t in found]


def history(records: Records, word: str, limit: int = 1000) -> list[Facts]:
    """Return the leases of an address, a MAC or a container, newest first.

    The name of a network that was removed is in the repair log, if it was ever there.
    """
    known = {n.id: n.label for n in records.networks.all()}
    found = records.leases.history(_canonical(word), limit)
    for gone in {t.network for t in found} - known.keys() - {""}:
        known[gone] = records.repairs.name_of_network(gone) or gone[:12]
    return [_lease(t, known.get(t.network, "")) for t in found]


def repairs(records: Records, limit: int = 1000) -> list[Facts]:
    """Return the repair log, newest first."""
    return [_repair(r) for r in records.repairs.latest(limit)]


def repairs_about(records: Records, word: str, limit: int = 1000) -> list[Facts]:
    """Return the repairs of a container or network by name or id, newest first.

    A repair has the short id if it was logged before the name was known.
    """
    names = {word}
    for identity, name in (
        *((n.id, n.name) for n in records.networks.all()),
        *records.endpoints.containers().items(),
    ):
        if word == name or (len(word) > 3 and identity.startswith(word)):
            names |= {identity[:12], name} - {""}
    return [_repair(r) for r in records.repairs.about(names, limit)]


def _canonical(word: str) -> str:
    try:
        return str(ip_address(word))
    except ValueError:
        mac = word.lower().replace("-", ":")
        return mac if MAC.fullmatch(mac) else word


def _network(network: Network, count: int) -> Facts:
    return {
        "id": network.id,
        "name": network.name,
        "mode": mode_name(network.options),
        "parent": "" if is_isolated(network.options) else network.parent_label,
        "device": network.uplink.parent or network.proxy,
        "internal": network.internal,
        "subnets": [s.label for s in network.subnets],
        "gateways": [str(found) for found in gateway.of(network) if found],
        "options": dict(network.options),
        "ignored_options": without_effect(network),
        "endpoints": count,
        "created": network.created,
    }


def _endpoint(endpoint: Endpoint, network: Network) -> Facts:
    joined, known = "left" if endpoint.left else "joined", endpoint.learned
    return {
        "id": endpoint.id,
        "container": endpoint.container,
        "network": network.label,
        "addresses": [str(a) for a in endpoint.all_addresses],
        "router_addresses": [str(a) for a in known.from_routers] if known else [],
        "mac": endpoint.mac,
        **ports.of_endpoint(network, endpoint),
        "ignored_options": without_effect(endpoint),
        "sandbox": endpoint.sandbox,
        "state": joined if endpoint.sandbox else "created",
        "created": endpoint.created,
    }


def _pool(records: Records, pool: Pool) -> Facts:
    live = records.leases.live_in(pool.id)
    claims = records.pools.claims_on(pool.id)
    first, last = usable(pool.subnet)
    return {
        "id": f"{pool.domain}/{pool.subnet}",
        "domain": pool.domain,
        "subnet": pool.label,
        "networks": list(pool.holders),
        "claims": [
            {"id": c.id, "first": str(c.first), "last": str(c.last)}
            if c.source == "pool"
            else {"id": c.id, "first": "", "last": ""}
            for c in claims
        ],
        "live": sum(t.role == "endpoint" for t in live),
        "gateway": sorted({str(t.address) for t in live if t.role == "gateway"}),
        "aux": sorted({str(t.address) for t in live if t.role == "aux"}),
        "kept": [
            _kept(kept)
            for kept in records.reservations.inside(pool.domain, pool.subnet)
        ],
        "size": None if pool.is_dhcp else int(last) - int(first) + 1,
    }


def _kept(kept: Reservation) -> Facts:
    return {
        "address": str(kept.address),
        "container": kept.name,
        "origin": kept.origin,
        "mac": kept.mac,
        "since": kept.since,
        "gone": kept.gone or None,
    }


def _lease(lease: Lease, network: str) -> Facts:
    return {
        "address": str(lease.address),
        "role": lease.role,
        "container": lease.container,
        "mac": lease.mac,
        "network": network,
        "endpoint": lease.endpoint,
        "since": lease.since,
        "until": lease.until or None,
    }


def _repair(repair: Repair) -> Facts:
    facts = asdict(repair)
    return {"object": facts.pop("mark"), **facts}
