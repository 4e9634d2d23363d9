"""The name of a container's device that is asked for: `ifname=`, in every mode.

Docker names a device when it moves it: the prefix that Join answers, and a number.
Until engine 27 that is one more than the last of this prefix in the sandbox, from 28 on
the lowest that no device has which Docker moved there. A name is exact where both rules
lead to it. Newer engines take the name itself (DstName). Otherwise the service adds the
name as an alternative one. Docker knows of none: it would fail to give such a name to
another device. So none is added that Docker may give.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from underlay.errors import BadValue
from underlay.model import Endpoint, Network
from underlay.modes.options import NAME_KEYS, one_of_keys

PREFIX = "eth"
MOST_BYTES = 15
_DOCKERS = re.compile(rf"{PREFIX}[0-9]+")
# "all" and "default" are no devices where the kernel has its sysctls by device.
_RESERVED = (".", "..", "all", "default", "lo")
_NUMBER = re.compile(r"0|[1-9][0-9]*")


def check(options: Mapping[str, str]) -> None:
    """Raise unless the options name a device as the kernel and Docker can call it."""
    key, name = one_of_keys(options, NAME_KEYS)
    if not name:
        return
    need = ""
    if len(name.encode(errors="replace")) > MOST_BYTES:
        need = f"a device has a name of {MOST_BYTES} bytes at the most"
    elif not name.isprintable() or re.search(r"[\s/:%]", name):
        need = "the name of a device has no blank and none of / : %"
    elif name in _RESERVED:
        need = f"no device of a container can be called {name}"
    if need:
        raise BadValue(key=key, value=name, need=need, hint="")


def asked(network: Network, endpoint: Endpoint) -> str:
    """Return the name asked for, for the endpoint or its network; "" is Docker's."""
    mine = one_of_keys(endpoint.options, NAME_KEYS)[1]
    return mine or one_of_keys(network.options, NAME_KEYS)[1]


def is_dockers(name: str) -> bool:
    """Return whether a name is of the kind that Docker gives without being asked."""
    return bool(_DOCKERS.fullmatch(name))


def prefix_for(name: str, wished: Collection[str], given: Collection[str]) -> str:
    """Return the prefix by which Docker gives a name exactly, else the usual one.

    `given` are the names of the container's other devices, as far as known; `wished`
    those asked for, which may be alternative ones.
    """
    if not is_dockers(name) and name not in wished:
        for prefix, number in _splits(name):
            taken = set(_numbers(given, prefix))
            if taken == set(range(number)) and taken.issuperset(
                _numbers(wished, prefix)
            ):
                return prefix
    return PREFIX


def given_to(others: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return the names wished for by a container's endpoints, and those Docker gave.

    `others`: of each, in the order in which they joined, the name asked for and the
    name that was observed, "" for none.
    """
    wished: list[str] = []
    given: list[str] = []
    for name, device in others:
        if device:
            given.append(device)
        elif name and prefix_for(name, wished, given) != PREFIX:
            given.append(name)
        wished.append(name)
    return [name for name in wished if name], given


def alternative(network: Network, endpoint: Endpoint) -> str:
    """Return the name to add to a device that Docker called otherwise, "" for none."""
    name = asked(network, endpoint)
    device = endpoint.learned.device if endpoint.learned else name
    return "" if name == device or is_dockers(name) else name


def _splits(name: str) -> Iterator[tuple[str, int]]:
    """Return the ways in which a name is a prefix and a number."""
    for at in range(1, len(name)):
        if _NUMBER.fullmatch(name[at:]):
            yield name[:at], int(name[at:])


def _numbers(names: Iterable[str], prefix: str) -> Iterator[int]:
    for name in names:
        rest = name.removeprefix(prefix)
        if rest != name and rest.isascii() and rest.isdigit():
            yield int(rest)
