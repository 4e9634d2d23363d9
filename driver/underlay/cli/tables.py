"""What the commands print: tables, times and states in words."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from underlay.model.text import as_json, printable

Facts = Mapping[str, Any]
Columns = Mapping[str, Callable[[Facts], object]]


def say(text: object = "", *, err: bool = False) -> None:
    """Print one line, unprintable characters escaped. Every command prints this way."""
    click.echo(printable(str(text)), err=err)


def print_json(facts: object) -> None:
    """Print JSON, for programs."""
    for line in as_json(facts, indent=2).splitlines():
        say(line)


def print_table(found: Iterable[Facts], columns: Columns) -> None:
    """Print a heading, and one line for each row."""
    rows = [[printable(str(c(f))) for c in columns.values()] for f in found]
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in [list(columns), *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


def plain(value: object) -> str:
    """Return one value in words."""
    if isinstance(value, float):
        return when(value)
    if isinstance(value, str):
        return value or "-"
    return json.dumps(value)


def when(seconds: float | None) -> str:
    """Return a time (seconds since 1970) in local time, or "now" for none."""
    if not seconds:
        return "now"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _state(facts: Facts) -> str:
    """Return the health in words, or the state of a healthy device."""
    match facts["health"]:
        case "failing":
            return f"failing since {when(facts['since'])}: {facts['error']}"
        case "pending":
            return f"pending: {facts['error']}"
        case "repaired":
            return f"repaired {when(facts['since'])}"
    state = facts.get("state", "joined")
    return "ok" if state == "joined" else state


def _object(facts: Facts) -> str:
    """Return the container or network, or what networks share: eth0.50, shim/eth0."""
    shared: str = facts["object"].removeprefix("underlay:").strip(":")
    return facts["container"] or facts["network"] or shared or "-"


def _joined(key: str) -> Callable[[Facts], str]:
    return lambda facts: ", ".join(facts[key]) or "-"


PARENTS: Columns = {
    "PARENT": lambda f: f["name"],
    "NETWORKS": _joined("networks"),
    "ENDPOINTS": lambda f: f["endpoints"],
    "STATE": _state,
}
NETWORKS: Columns = {
    "NAME": lambda f: f["name"] or "-",
    "ID": lambda f: f["id"][:12],
    "MODE": lambda f: f["mode"],
    "PARENT": lambda f: f["parent"] or "-",
    "SUBNETS": _joined("subnets"),
    "GATEWAYS": _joined("gateways"),
    "ENDPOINTS": lambda f: f["endpoints"],
    "STATE": _state,
}
ENDPOINTS: Columns = {
    "ID": lambda f: f["id"][:12],
    "CONTAINER": lambda f: f["container"] or "-",
    "NETWORK": lambda f: f["network"],
    "ADDRESSES": _joined("addresses"),
    "MAC": lambda f: f["mac"] or "-",
    "STATE": _state,
}
POOLS: Columns = {
    "SUBNET": lambda f: f["subnet"],
    "DOMAIN": lambda f: f["domain"],
    "NETWORKS": _joined("networks"),
    "LIVE": lambda f: f["live"],
    "GATEWAY": _joined("gateway"),
    "AUX": _joined("aux"),
}
STATUS: Mapping[str, Columns] = {
    "parents": PARENTS,
    "networks": NETWORKS,
    "endpoints": ENDPOINTS,
    "pools": POOLS,
}
HISTORY: Columns = {
    "ADDRESS": lambda f: f["address"],
    "FOR": lambda f: f["role"],
    "CONTAINER": lambda f: f["container"] or "-",
    "MAC": lambda f: f["mac"] or "-",
    "NETWORK": lambda f: f["network"] or "-",
    "FROM": lambda f: when(f["since"]),
    "UNTIL": lambda f: when(f["until"]),
}
REPAIRS: Columns = {
    "WHEN": lambda f: when(f["at"]),
    "OBJECT": _object,
    "NAMESPACE": lambda f: f["place"] or "host",
    "BEFORE": lambda f: f["before"] or "-",
    "ACTION": lambda f: f["step"],
    "TIME": lambda f: f"{f['seconds']:.3f} s",
    "ERROR": lambda f: f["error"] or "-",
}
RECENT: Columns = {key: REPAIRS[key] for key in ("WHEN", "OBJECT", "ACTION")}
