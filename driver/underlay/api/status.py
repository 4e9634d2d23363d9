"""The status of the service: one set of facts for CLI, JSON and status socket.

The shapes are stable and documented in docs/cli.md. Times are seconds since 1970.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

from underlay import __version__
from underlay.api.facts import HealthReport
from underlay.api.httpd import Answer
from underlay.api.refusals import Refusal, described
from underlay.errors import UnderlayError
from underlay.ipam.subnets import usable
from underlay.model import MAC, Endpoint, Lease, Network, Pool, Repair
from underlay.model.owner import Owner
from underlay.model.text import as_json
from underlay.modes import gateway, mode_name
from underlay.modes.child_device import is_isolated
from underlay.records import Records

NEWEST_REPAIRS = 20
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
Facts = dict[str, Any]


def status(records: Records, refusals: Sequence[Facts] = ()) -> Facts:
    """Return all records, the failures, the newest repairs, and the refusals given."""
    failures = [(t.mark, t.text, t.since) for t in records.repairs.failures()]
    failures += [
        (Owner(o.network).mark, o.text, o.since) for o in records.host.obstacles()
    ]
    healths = _health_report(records)
    return {
        "version": __version__,
        "parents": parents(records, healths),
        "networks": networks(records, healths),
        "endpoints": endpoints(records, healths),
        "pools": pools(records),
        "troubles": [
            {"object": mark, "error": text, "since": since}
            for mark, text, since in failures
        ],
        "repairs": repairs(records, NEWEST_REPAIRS),
        "refusals": list(refusals),
    }


def parents(records: Records, healths: HealthReport | None = None) -> list[Facts]:
    """Return every parent with its networks and its health."""
    judge = healths or _health_report(records)
    count = Counter(e.network for e in records.endpoints.all())
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
    judge = healths or _health_report(records)
    count = Counter(e.network for e in records.endpoints.all())
    return [
        {**_network(n, count[n.id]), **asdict(judge.of_network(n))}
        for n in records.networks.all()
    ]


def endpoints(records: Records, healths: HealthReport | None = None) -> list[Facts]:
    """Return every endpoint, the state of its device and its health."""
    judge = healths or _health_report(records)
    known = {n.id: n for n in records.networks.all()}
    found = []
    for endpoint in records.endpoints.all():
        network = known.get(endpoint.network)
        if network is None:
            continue  # created after the networks were read
        health = judge.of_endpoint(network, endpoint)
        facts = {**_endpoint(endpoint, network), **asdict(health)}
        facts["state"] = "failing" if health.health == "failing" else facts["state"]
        found.append(facts)
    return found


def _health_report(records: Records) -> HealthReport:
    return HealthReport(records, time.time())


def pools(records: Records) -> list[Facts]:
    """Return every pool, its networks and its addresses in use."""
    return [_pool(records, pool) for pool in records.pools.all()]


def history(records: Records, word: str, limit: int = 1000) -> list[Facts]:
    """Return the leases of an address, a MAC or a container, newest first."""
    known = {n.id: n.label for n in records.networks.all()}
    found = records.leases.history(_canonical(word), limit)
    return [_lease(t, known.get(t.network, t.network[:12])) for t in found]


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
        "subnets": [str(s.subnet) for s in network.subnets],
        "gateways": [str(found) for found in gateway.of(network) if found],
        "options": dict(network.options),
        "endpoints": count,
        "created": network.created,
    }


def _endpoint(endpoint: Endpoint, network: Network) -> Facts:
    joined = "left" if endpoint.left else "joined"
    return {
        "id": endpoint.id,
        "container": endpoint.container,
        "network": network.label,
        "addresses": [str(a) for a in endpoint.addresses],
        "mac": endpoint.mac,
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
        "subnet": str(pool.subnet),
        "networks": list(pool.holders),
        "claims": [
            {"id": c.id, "first": str(c.first), "last": str(c.last)} for c in claims
        ],
        "live": sum(t.role == "endpoint" for t in live),
        "gateway": sorted({str(t.address) for t in live if t.role == "gateway"}),
        "aux": sorted({str(t.address) for t in live if t.role == "aux"}),
        "size": int(last) - int(first) + 1,
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


@dataclass(frozen=True, slots=True)
class Sources:
    """What the status sockets answer from; only the records may be slow."""

    records: Records
    health: Callable[[], Facts]
    metrics: Callable[[], bytes]
    refusals: Callable[[], list[Refusal]]
    # Called if a network has no name yet.
    missing: Callable[[], None]


def answering(sources: Sources) -> Callable[[str], Answer]:
    """Return the function that answers a path of the status sockets. It only reads."""

    def answer(path: str) -> Answer:
        match path:
            case "/healthz":
                facts = sources.health()
                code = HTTPStatus.OK if facts["ok"] else HTTPStatus.SERVICE_UNAVAILABLE
                return _json(code, facts)
            case "/status":
                return _read(sources, _status)
            case "/refusals":
                return _read(sources, lambda s: {"refusals": _refusals(s)})
            case "/metrics":
                return Answer(HTTPStatus.OK, PROMETHEUS, sources.metrics())
        known = {"error": "this socket has /healthz, /status, /refusals and /metrics"}
        return _json(HTTPStatus.NOT_FOUND, known)

    return answer


def _status(sources: Sources) -> Facts:
    facts = status(sources.records, _refusals(sources))
    if not all(network["name"] for network in facts["networks"]):
        sources.missing()
    return facts


def _refusals(sources: Sources) -> list[Facts]:
    return described(sources.records, sources.refusals())


def _read(sources: Sources, read: Callable[[Sources], Facts]) -> Answer:
    try:
        return _json(HTTPStatus.OK, read(sources))
    except UnderlayError as error:
        return _json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)})


def _json(status: HTTPStatus, facts: Facts) -> Answer:
    return Answer(status, "application/json", as_json(facts).encode() + b"\n")
