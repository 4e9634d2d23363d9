"""What people and machines are told: one set of facts for CLI, JSON and socket.

The shapes are stable and documented in docs/cli.md. Times are seconds since 1970.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from underlay import __version__
from underlay.model import MAC, Endpoint, Network, Pool, Tenure
from underlay.modes import gateway, mode_name
from underlay.modes.child import is_isolated
from underlay.objects import Owner
from underlay.pools import usable
from underlay.records import Records

Facts = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


def status(records: Records) -> Facts:
    """Return everything on record, and what is wrong since when."""
    troubles = records.notes.troubles()
    return {
        "version": __version__,
        "parents": parents(records),
        "networks": networks(records),
        "endpoints": endpoints(records),
        "pools": pools(records),
        "troubles": [
            {"object": t.mark, "error": t.text, "since": t.since} for t in troubles
        ],
    }


def parents(records: Records) -> list[Facts]:
    """Return every device that networks stand on, with who does."""
    found: dict[str, Facts] = {}
    count = Counter(e.network for e in records.networks.endpoints())
    for network in records.networks.all():
        if not network.parent:
            continue  # routed: by whichever device the host's routes say
        fresh = {
            "name": network.uplink,
            "device": network.parent,
            "networks": [],
            "endpoints": 0,
        }
        facts = found.setdefault(network.parent, fresh)
        facts["networks"].append(network.label)
        facts["endpoints"] += count[network.id]
    return list(found.values())


def networks(records: Records) -> list[Facts]:
    """Return every network, with the number of its endpoints."""
    count = Counter(e.network for e in records.networks.endpoints())
    return [_network(n, count[n.id]) for n in records.networks.all()]


def endpoints(records: Records) -> list[Facts]:
    """Return every endpoint, with the state of its device."""
    known = {n.id: n for n in records.networks.all()}
    wrong = {Owner.parse(t.mark).endpoint: t for t in records.notes.troubles()}
    found = []
    for endpoint in records.networks.endpoints():
        network = known.get(endpoint.network)
        if network is None:
            continue  # made while this was read
        trouble = wrong.get(endpoint.id)
        facts = _endpoint(endpoint, network)
        facts["state"] = "failing" if trouble else facts["state"]
        facts["error"] = trouble.text if trouble else ""
        facts["since"] = trouble.since if trouble else endpoint.created
        found.append(facts)
    return found


def pools(records: Records) -> list[Facts]:
    """Return every pool, with what of it is in use and by which networks."""
    return [_pool(records, pool) for pool in records.addresses.pools()]


def history(records: Records, word: str, limit: int = 1000) -> list[Facts]:
    """Return who had an address or MAC, or what a container had; newest first."""
    known = {n.id: n.label for n in records.networks.all()}
    found = records.addresses.history(_canonical(word), limit)
    return [_tenure(t, known.get(t.network, t.network[:12])) for t in found]


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
        "parent": "" if is_isolated(network.options) else network.uplink,
        "device": network.parent,
        "internal": network.internal,
        "subnets": [str(s.subnet) for s in network.segments],
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
    live = records.addresses.live_in(pool.id)
    claims = records.addresses.claims_on(pool.id)
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


def _tenure(tenure: Tenure, network: str) -> Facts:
    return {
        "address": str(tenure.address),
        "role": tenure.role,
        "container": tenure.container,
        "mac": tenure.mac,
        "network": network,
        "endpoint": tenure.endpoint,
        "since": tenure.since,
        "until": tenure.until or None,
    }


def create_app(
    records: Records, health: Callable[[], Facts], metrics: Callable[[], bytes]
) -> Callable[[Mapping[str, Any], StartResponse], Iterable[bytes]]:
    """Return the WSGI application of the status socket; it only ever reads."""

    def answer(path: str) -> tuple[str, str, bytes]:
        match path:
            case "/healthz":
                facts = health()
                state = "200 OK" if facts["ok"] else "503 Service Unavailable"
                return state, "application/json", _json(facts)
            case "/status":
                return "200 OK", "application/json", _json(status(records))
            case "/metrics":
                return "200 OK", "text/plain; version=0.0.4", metrics()
        known = {"error": "here are /healthz, /status and /metrics"}
        return "404 Not Found", "application/json", _json(known)

    def application(
        environ: Mapping[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Content-Length", "0")])
            return []
        state, kind, body = answer(environ["PATH_INFO"])
        length = str(len(body))
        start_response(state, [("Content-Type", kind), ("Content-Length", length)])
        return [body]

    return application


def _json(facts: Facts) -> bytes:
    return json.dumps(facts).encode() + b"\n"
