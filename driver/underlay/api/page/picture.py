"""The picture of the page: parents, their networks and endpoints, as boxes and lines.

All of it is computed here; the template only draws. Sizes are in SVG's user units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Facts = dict[str, Any]

# At most so many are drawn; the rest is a number.
MOST_PARENTS, MOST_NETWORKS, MOST_ENDPOINTS = 16, 40, 8
_PARENT_X, _NETWORK_X, _ENDPOINT_X = 4, 196, 420
_PARENT_WIDTH, _NETWORK_WIDTH, _ENDPOINT_WIDTH = 150, 190, 132
_HEIGHT, _GAP, _ROW = 40, 8, 4
WIDTH = _ENDPOINT_X + _ROW * (_ENDPOINT_WIDTH + _GAP) + 4
# So many characters of a monospaced font fit into a box.
_LETTER = 7.0


@dataclass(frozen=True, slots=True)
class Box:
    """A box with two lines of text; `health` is its colour, `title` its whole text."""

    x: int
    y: int
    width: int
    first: str
    second: str
    health: str
    title: str
    height: int = _HEIGHT


@dataclass(frozen=True, slots=True)
class Picture:
    """Boxes, and lines between them as four coordinates."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[tuple[int, int, int, int], ...]


def draw(parents: Sequence[Facts], networks: Sequence[Facts]) -> Picture:
    """Lay out networks beside their parents; each has its endpoints in `drawn`."""
    boxes: list[Box] = []
    lines: list[tuple[int, int, int, int]] = []
    y = _GAP // 2
    for parent, members in _groups(parents, networks):
        top = y
        for network in members:
            found = list(_network(network, y))
            boxes += found
            lines.append((_PARENT_X + _PARENT_WIDTH, top, _NETWORK_X, y))
            y = max(box.y for box in found) + _HEIGHT + _GAP
        boxes.append(_parent(parent, top))
    half = _HEIGHT // 2
    joined = tuple((a, b + half, c, d + half) for a, b, c, d in lines)
    return Picture(WIDTH, y + _GAP, tuple(boxes), joined)


def _groups(
    parents: Sequence[Facts], networks: Sequence[Facts]
) -> Iterator[tuple[Facts, list[Facts]]]:
    """Yield each parent with its networks, and then the networks without one."""
    left = MOST_NETWORKS
    known = {parent["name"]: parent for parent in parents[:MOST_PARENTS]}
    known[""] = {"name": "no parent", "health": "none", "error": ""}
    for name, parent in known.items():
        members = [n for n in networks if n["parent"] == name][:left]
        left -= len(members)
        if members:
            yield parent, members


def _parent(facts: Facts, y: int) -> Box:
    title = f"{facts['name']} {facts['error']}".strip()
    state = facts["health"] if facts["health"] != "none" else ""
    x, width = _PARENT_X, _PARENT_WIDTH
    first, second = _fit(facts["name"], width), _fit(state, width)
    return Box(x, y, width, first, second, facts["health"], title)


def _network(facts: Facts, y: int) -> Iterator[Box]:
    name = facts["name"] or facts["id"][:12]
    width = _NETWORK_WIDTH
    about = " ".join([facts["mode"], *facts["subnets"][:1]])
    title = f"{name} ({', '.join(facts['subnets'])}) {facts['error']}".strip()
    health = facts["health"]
    yield Box(
        _NETWORK_X, y, width, _fit(name, width), _fit(about, width), health, title
    )
    drawn = facts["drawn"][:MOST_ENDPOINTS]
    for place, endpoint in enumerate(drawn):
        yield _endpoint(endpoint, *_cell(place, y))
    more = facts["endpoints"] - len(drawn)
    if more > 0:
        x, top = _cell(len(drawn), y)
        text = f"{more:,} more"
        yield Box(x, top, _ENDPOINT_WIDTH, text, "", "none", text)


def _endpoint(facts: Facts, x: int, y: int) -> Box:
    name = facts["container"] or facts["id"][:12]
    addresses = [a.partition("/")[0] for a in facts["addresses"]]
    title = f"{name} {' '.join(addresses)} {facts['mac']} {facts['error']}".strip()
    width = _ENDPOINT_WIDTH
    first, second = _fit(name, width), _fit("".join(addresses[:1]), width)
    return Box(x, y, width, first, second, facts["health"], title)


def _cell(place: int, y: int) -> tuple[int, int]:
    """Return where the box of the endpoint at a place begins."""
    row, column = divmod(place, _ROW)
    x = _ENDPOINT_X + column * (_ENDPOINT_WIDTH + _GAP)
    return x, y + row * (_HEIGHT + _GAP)


def _fit(text: str, width: int) -> str:
    most = int((width - 12) / _LETTER)
    return text if len(text) <= most else f"{text[: most - 1]}…"
