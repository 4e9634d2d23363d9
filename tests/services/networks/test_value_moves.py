"""Creating an endpoint takes its value through few packages, and seldom back up."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, ip_interface, ip_network
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import underlay
from tests.fakes import FakeKernel, engine_on
from underlay.model import Endpoint, Network, Subnet

PACKAGE = Path(underlay.__file__).parent
MOST_MOVES, MOST_MOVES_UP = 20, 6
LAN = Network(
    "n1",
    {"parent": "eth0", "host_access": "on"},
    False,
    (Subnet(ip_network("192.0.2.0/24")),),
)


def package_of(code: CodeType) -> str:
    """Return the package of the service that code belongs to, "" for other code."""
    path = Path(code.co_filename)
    if not path.is_relative_to(PACKAGE):
        return ""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def holds_endpoint(value: Any) -> bool:
    if isinstance(value, tuple | list | set | frozenset):
        return any(map(holds_endpoint, value))
    return isinstance(value, Endpoint)


def arguments(frame: FrameType) -> list[Any]:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return [frame.f_locals.get(name) for name in names]


@dataclass
class Moves:
    """The moves of an endpoint's value from one package to another.

    It moves down with a call that gets an endpoint, and back up with what such a call
    returns, and with every endpoint that a call returns. What a generator yields counts
    once. To read a property of the value is no move.
    """

    down: list[tuple[str, str, str]] = field(default_factory=list)
    up: list[tuple[str, str, str]] = field(default_factory=list)
    # The frames themselves: the id of one that is gone is used again.
    _called: list[FrameType] = field(default_factory=list)
    _returned: list[FrameType] = field(default_factory=list)

    def __call__(self, frame: FrameType, event: str, value: Any) -> None:
        """Be a profile function, see sys.setprofile."""
        here, there = package_of(frame.f_code), caller_of(frame)
        if event not in ("call", "return") or not (here and there) or here == there:
            return
        given = arguments(frame)
        if here == "model" and given and isinstance(given[0], Endpoint):
            return
        move = there, here, frame.f_code.co_qualname
        gets_it = any(map(holds_endpoint, given))
        if event == "call" and gets_it and is_new(frame, self._called):
            self.down.append(move)
        gives_it = holds_endpoint(value) or (gets_it and value is not None)
        if event == "return" and gives_it and is_new(frame, self._returned):
            self.up.append(move)


def caller_of(frame: FrameType) -> str:
    """Return the package that calls, however many libraries are in between."""
    caller = frame.f_back
    while caller and not package_of(caller.f_code):
        caller = caller.f_back
    return package_of(caller.f_code) if caller else ""


def is_new(frame: FrameType, known: list[FrameType]) -> bool:
    if any(other is frame for other in known):
        return False
    known.append(frame)
    return True


def test_a_new_endpoint_moves_little_between_packages(records):
    kernel = FakeKernel()
    kernel.host_addresses = {"eth0": (ip_interface("192.0.2.10/24"),)}
    driver = engine_on(records, kernel)
    driver.create_network(LAN)
    moves, before = Moves(), sys.getprofile()
    sys.setprofile(moves)
    try:
        driver.create_endpoint(Endpoint("e1", "n1", IPv4Interface("192.0.2.5/24")))
    finally:
        sys.setprofile(before)
    assert len(kernel.links) == 2  # the container's device, and the host's beside it
    assert {"records", "planning", "modes"} <= {callee for _, callee, _ in moves.down}
    assert len(moves.up) <= MOST_MOVES_UP, moves.up
    assert len(moves.down) + len(moves.up) <= MOST_MOVES, moves
