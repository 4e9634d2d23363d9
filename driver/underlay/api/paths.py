"""What each path of the status sockets answers. It only reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from underlay.api import status
from underlay.api.httpd import Answer
from underlay.api.page.page import page
from underlay.api.refusals import Refusal, described
from underlay.errors import UnderlayError
from underlay.model.text import as_json
from underlay.records import Records

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
KNOWN = "/, /healthz, /status, /refusals and /metrics"
Facts = dict[str, Any]


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
    """Return the function that answers a path of the status sockets."""
    known: dict[str, Callable[[Sources], Answer]] = {
        "/": _page,
        "/healthz": _healthz,
        "/status": _status,
        "/refusals": lambda s: _json(HTTPStatus.OK, {"refusals": _refusals(s)}),
        "/metrics": lambda s: Answer(HTTPStatus.OK, PROMETHEUS, s.metrics()),
    }

    def answer(path: str) -> Answer:
        if path not in known:
            return _json(HTTPStatus.NOT_FOUND, {"error": f"this socket has {KNOWN}"})
        try:
            return known[path](sources)
        except UnderlayError as error:
            return _json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)})

    return answer


def answering_without_records(
    health: Callable[[], Facts], metrics: Callable[[], bytes]
) -> Callable[[str], Answer]:
    """Return the same for a service that could not open its records."""

    def answer(path: str) -> Answer:
        facts = health()
        match path:
            case "/healthz":
                return _json(HTTPStatus.SERVICE_UNAVAILABLE, facts)
            case "/metrics":
                return Answer(HTTPStatus.OK, PROMETHEUS, metrics())
        return _json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": facts["error"]})

    return answer


def _page(sources: Sources) -> Answer:
    _ask_for_names(sources)
    return page(sources.records, sources.health(), _refusals(sources))


def _healthz(sources: Sources) -> Answer:
    facts = sources.health()
    code = HTTPStatus.OK if facts["ok"] else HTTPStatus.SERVICE_UNAVAILABLE
    return _json(code, facts)


def _status(sources: Sources) -> Answer:
    _ask_for_names(sources)
    return _json(HTTPStatus.OK, status.status(sources.records, _refusals(sources)))


def _ask_for_names(sources: Sources) -> None:
    if not all(network.name for network in sources.records.networks.all()):
        sources.missing()


def _refusals(sources: Sources) -> list[Facts]:
    return described(sources.records, sources.refusals())


def _json(status: HTTPStatus, facts: Facts) -> Answer:
    return Answer(status, "application/json", as_json(facts).encode() + b"\n")
