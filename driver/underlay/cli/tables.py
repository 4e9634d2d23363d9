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
_NEVER = "for ever"
# What a container is to DHCP servers, by the kind of its name there.
_KNOWN_BY = {
    "label": "identity",
    "name": "name",
    "mac": "MAC",
    "address": "--ip",
    "place": "place",
}
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
        if "text" in value:  # it says itself in words
            return printable(value["text"])
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


def _lease_state(facts: Facts) -> Painted:
    colours = {"bound": "green", "unanswered": "red", "unserved": "yellow"}
    return Painted(_lease_words(facts), colours.get(facts["state"], ""))


def _lease_words(facts: Facts) -> str:
    """Return the state of a lease in words."""
    match facts["state"]:
        case "bound":
            return "bound to a running container"
        case "unanswered":
            return f"bound; no server has renewed it since {when(facts['since'])}"
        case "held":
            return "held for a stopped container"
        case "ended":
            return "ended; its container is stopped"
        case "removed":
            what = "a removed" if facts["container"] else "an ended"
            return f"of {what} container, goes back {when(facts['goes_back'])}"
    return "no server has given an address yet"


def _until(facts: Facts) -> str:
    return when(facts["expires"]) if facts["expires"] else _NEVER


def _client_in_words(facts: Facts) -> Facts:
    if facts["family"] == 4:
        return {"client id": facts["client_id"]}
    return {"DUID": facts["client_id"], "IAID": facts["iaid"]}


def lease_in_words(facts: Facts) -> Facts:
    """Return the facts of a lease for people, those that are not known left out.

    A reservation is a line for each program of a server.
    """
    given = bool(facts["address"])
    return {
        "container": facts["container"],
        "known by": f"{_KNOWN_BY[facts['kind']]} {facts['name']}",
        **{key: facts[key] for key in ("parent", "network", "address", "mac")},
        **_client_in_words(facts),
        "host name": facts["hostname"],
        "server": facts["server"],
        "router": facts["router"],
        "state": _lease_words(facts),
        "since": when(facts["since"]) if given else "",
        "renew": when(facts["renew"]) if facts["renew"] else "",
        "expires": _until(facts) if given else "",
        **{f"in {name}": line for name, line in (facts["reservation"] or {}).items()},
    }


def _port(facts: Facts) -> str:
    """Return a port, and the one it leads to: 8080->80/tcp."""
    lead = f"->{facts['leads_to']}" if facts["leads_to"] != facts["port"] else ""
    return f"{facts['port']}{lead}/{facts['protocol']}"


def _published(facts: Facts) -> str:
    """Return what -p names in short: 8080->80/tcp, 5432/tcp (host)."""
    return f"{_port(facts)}{' (host)' if facts['host_only'] else ''}"


def _reach(key: str) -> Callable[[Facts], object]:
    """Return a column that says from where a port is reached."""

    def cell(facts: Facts) -> object:
        if facts[key] == "allowed":
            return f"from {', '.join(facts['allow_from'])}"
        return {"all": "yes", "none": "no"}.get(facts[key], facts[key])

    return cell


def _listens_on(facts: Facts) -> object:
    if not facts["listens"]:
        return Painted("nothing listens", "yellow")
    return ", ".join(facts["addresses"])


def _change(facts: Facts) -> object:
    """Return what is different since the last look, else when it was first seen so."""
    if facts["change"]:
        return Painted(facts["change"], "cyan")
    return when(facts["since"]) if facts["since"] else "-"


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
    "ADDRESSES": lambda f: ", ".join((*f["addresses"], *f["router_addresses"])) or "-",
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
LEASES: Columns = {
    "NAME": lambda f: f["name"],
    "CONTAINER": lambda f: f["container"] or "-",
    "PARENT": lambda f: f["parent"],
    "NETWORK": lambda f: f["network"] or "-",
    "FAMILY": lambda f: f"IPv{f['family']}",
    "ADDRESS": lambda f: f["address"] or "-",
    "MAC": lambda f: f["mac"],
    "SERVER": lambda f: f["server"] or "-",
    "UNTIL": lambda f: _until(f) if f["address"] else "-",
    "STATE": _lease_state,
}
# Below the endpoints in the status, if one has a lease: a row for each.
GIVEN: Columns = {
    "ADDRESS": lambda f: f["lease"].get("address") or ", ".join(f["addresses"][:1]),
    "CONTAINER": lambda f: f["container"] or "-",
    "NETWORK": lambda f: f["network"],
    "SERVER": lambda f: f["lease"]["server"],
    "UNTIL": lambda f: when(f["lease"]["until"]) if f["lease"]["until"] else _NEVER,
}
CONFLICTS: Columns = {
    "ADDRESS": lambda f: f["address"],
    "MAC": lambda f: f["mac"] or "-",
    "NETWORK": lambda f: f["network"] or "-",
    "SINCE": lambda f: when(f["since"]),
}
# Below the endpoints in the status, if one has a policy or publishes ports.
POLICIES: Columns = {
    "CONTAINER": lambda f: f["container"] or f["id"][:12],
    "NETWORK": lambda f: f["network"],
    "POLICY": lambda f: f["policy"],
    "PORTS": lambda f: ", ".join(map(_published, f["ports"])) or "-",
    "FROM": lambda f: ", ".join(f["allow_from"]) or "-",
    "EGRESS": lambda f: f["egress"],
    "PING": lambda f: "on" if f["ping"] else "off",
    "STRICT": lambda f: "on" if f["strict"] else "off",
}
EXPOSURE: Columns = {
    "CONTAINER": lambda f: f["container"],
    "NETWORK": lambda f: f["network"],
    "POLICY": lambda f: f["policy"],
    "PORT": _port,
    "LISTENS": _listens_on,
    "LAN": _reach("lan"),
    "HOST": _reach("host"),
    "CONTAINERS": _reach("containers"),
    "SINCE": _change,
}
RESERVATIONS: Columns = {
    "ADDRESS": lambda f: f["address"],
    "DOMAIN": lambda f: f["domain"],
    "CONTAINER": lambda f: f["container"],
    "BY": lambda f: f["origin"],
    "SINCE": lambda f: when(f["since"]),
    "GONE": lambda f: when(f["gone"]) if f["gone"] else "-",
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
