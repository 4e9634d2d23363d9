"""The page itself: the facts it shows, bounded, and the headers it is sent with."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from underlay import __version__
from underlay.api import ports, status
from underlay.api.httpd import Answer
from underlay.api.page.picture import MOST_ENDPOINTS, MOST_NETWORKS, draw
from underlay.model.text import printable
from underlay.records import Records

Facts = dict[str, Any]

# Of each table, so many rows; a number tells of the rest.
MOST_ROWS = 60
# A name may have a megabyte.
MOST_CHARACTERS = 400
_ORDER = {"failing": 0, "pending": 1, "repaired": 2, "ok": 3}


def page(
    records: Records, health: Mapping[str, Any] | None, refusals: Sequence[Facts]
) -> Answer:
    """Return the page; `health` is what /healthz says, None if nothing answers."""
    template = _environment().get_template("page.html")
    text = template.render(_facts(records, health, refusals))
    return Answer(
        HTTPStatus.OK,
        "text/html; charset=utf-8",
        text.encode("utf-8", "backslashreplace"),
        {"Content-Security-Policy": _policy()},
    )


def _facts(
    records: Records, health: Mapping[str, Any] | None, refusals: Sequence[Facts]
) -> Facts:
    judge = status.health_report(records)
    parents = _worst_first(status.parents(records, judge))
    networks = _worst_first(status.networks(records, judge))
    drawn = [
        {**n, "drawn": status.some_endpoints(records, n["id"], MOST_ENDPOINTS, judge)}
        for n in networks[:MOST_NETWORKS]
    ]
    used = {network["parent"] for network in drawn}
    found = (one for network in drawn for one in network["drawn"])
    guarded = list(filter(ports.is_guarded, found))
    shown: Facts = _safe(
        {
            "version": __version__,
            "service": health,
            "parents": _rows(parents),
            "networks": _rows(networks),
            "pools": _rows(status.pool_use(records)),
            "failures": _rows(status.failures(records)),
            "notices": _rows(status.notices(records)),
            "repairs": _rows(status.repairs(records, status.NEWEST_REPAIRS)),
            "refusals": _rows(refusals),
            "endpoints": sum(network["endpoints"] for network in networks),
            "drawn": drawn,
            "guarded": guarded[:MOST_ROWS],
        }
    )
    above = [_safe(parent) for parent in parents if parent["name"] in used]
    return {**shown, "picture": draw(above, shown["drawn"])}


def _rows(found: Sequence[Facts]) -> Facts:
    """Return the rows that are shown, and how many there are in all."""
    return {"shown": list(found[:MOST_ROWS]), "total": len(found)}


def _worst_first(found: list[Facts]) -> list[Facts]:
    return sorted(found, key=lambda f: _ORDER[f["health"]])


def _safe(value: Any) -> Any:
    """Return facts with every text printable, and none longer than MOST_CHARACTERS."""
    if isinstance(value, str):
        long = len(value) > MOST_CHARACTERS
        return printable(value[:MOST_CHARACTERS]) + ("…" if long else "")
    if isinstance(value, Mapping):
        return {key: _safe(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(one) for one in value]
    return value


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("underlay.api.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["when"] = _when
    return found


@cache
def _policy() -> str:
    """Return what a browser may do with the page: nothing but its own style."""
    style = _environment().get_template("style.css").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
