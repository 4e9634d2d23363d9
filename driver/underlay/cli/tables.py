"""What the commands print: tables, times and states in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from underlay.cli import terminal
from underlay.cli.terminal import Painted, cut, say, width
from underlay.model.text import as_json, printable

# No column is made narrower than this.
LEAST_COLUMNS = 8
COLOURS = {"failing": "red", "pending": "yellow", "repaired": "cyan"}
Facts = Mapping[str, Any]
Columns = Mapping[str, Callable[[Facts], object]]


def print_json(facts: object) -> None:
    """Print JSON, for programs."""
    for line in as_json(facts, indent=2).splitlines():
        say(line)


def print_table(found: Iterable[Facts], columns: Columns) -> None:
    """Print a heading, and one line for each row; on a terminal cut to its width."""
    rows = [[_cell(c(f)) for c in columns.values()] for f in found]
    heads = [Painted(name, "bright_black") for name in columns]
    lines = [heads, *rows]
    sizes = [max(width(c.text) for c in cells) for cells in zip(*lines, strict=True)]
    _shrink(sizes, terminal.columns())
    for row in lines:
        texts = [cut(c.text, size) for c, size in zip(row, sizes, strict=True)]
        ends = [size - width(text) + 2 for text, size in zip(texts, sizes, strict=True)]
        ends[-1] = 0
        parts = zip(row, texts, ends, strict=True)
        say(*(part for c, text, end in parts for part in _parts(c, text, end)))


def _cell(value: object) -> Painted:
    colour = value.colour if isinstance(value, Painted) else ""
    return Painted(printable(str(value)), colour)


def _parts(cell: Painted, text: str, blanks: int) -> tuple[object, str]:
    return (Painted(text, cell.colour) if cell.colour else text, " " * blanks)


def _shrink(sizes: list[int], most: int | None) -> None:
    """Take from the widest columns what is more than the terminal has."""
    while most and sum(sizes) + 2 * (len(sizes) - 1) > most:
        widest = max(range(len(sizes)), key=sizes.__getitem__)
        if sizes[widest] <= LEAST_COLUMNS:
            return  # let the lines wrap
        sizes[widest] -= 1


def print_facts(facts: Facts) -> None:
    """Print each fact of one object: a list one value a line if it is of objects."""
    size = max(len(key) for key in facts)
    for key, value in facts.items():
        head = key.ljust(size)
        for line in plain(value).split("\n"):
            say(f"{head}  {line}")
            head = " " * size


def plain(value: object) -> str:
    """Return one value in words: lists with commas, lists of objects on lines."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return when(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={plain(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        apart = "\n" if any(isinstance(one, Mapping) for one in value) else ", "
        return apart.join(map(plain, value)) or "-"
    if value is None or value == "":
        return "-"
    return printable(str(value))


def when(seconds: float | None) -> str:
    """Return a time (seconds since 1970) in local time, or "now" for none."""
    if not seconds:
        return "now"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _state(facts: Facts) -> Painted:
    """Return the health in words, or the state of a healthy device."""
    return Painted(_health(facts), COLOURS.get(facts["health"], "green"))


def _health(facts: Facts) -> str:
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
    "NAME": lambda f: f["name"] or f["id"][:12],
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
