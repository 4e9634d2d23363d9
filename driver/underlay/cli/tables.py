"""Facts as people read them: tables, times and states in words."""

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
    """Print one line, to stderr if it is an error; all that is printed comes by here.

    What is not printable is shown escaped.
    """
    click.echo(printable(str(text)), err=err)


def print_json(facts: object) -> None:
    """Print JSON, for programs."""
    for line in as_json(facts, indent=2).splitlines():
        say(line)


def print_table(found: Iterable[Facts], columns: Columns) -> None:
    """Print a line for each, under a head."""
    rows = [[printable(str(c(f))) for c in columns.values()] for f in found]
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in [list(columns), *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


def plain(value: object) -> str:
    """Return one fact in words."""
    if isinstance(value, float):
        return when(value)
    if isinstance(value, str):
        return value or "-"
    return json.dumps(value)


def when(seconds: float | None) -> str:
    """Return a time (seconds since 1970) of this place's clocks; none is now."""
    if not seconds:
        return "now"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _state(facts: Facts) -> str:
    """Return the health in words, with where a device is if it is well."""
    match facts["health"]:
        case "failing":
            return f"failing since {when(facts['since'])}: {facts['error']}"
        case "pending":
            return f"pending: {facts['error']}"
        case "repaired":
            return f"repaired {when(facts['since'])}"
    state = facts.get("state", "joined")
    return "ok" if state == "joined" else state


def _whose(facts: Facts) -> str:
    """Return the container or network, or what several share: eth0.50, shim/eth0."""
    shared: str = facts["object"].removeprefix("underlay:").strip(":")
    return facts["container"] or facts["network"] or shared or "-"


def _where(facts: Facts) -> str:
    return f"inside {facts['place']}" if facts["place"] else "host"


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
    "WHOSE": _whose,
    "WHERE": _where,
    "BEFORE": lambda f: f["before"] or "-",
    "DONE": lambda f: f["step"],
    "TOOK": lambda f: f"{f['seconds']:.3f} s",
    "REFUSED": lambda f: f["error"] or "-",
}
LATELY: Columns = {key: REPAIRS[key] for key in ("WHEN", "WHOSE", "DONE")}
