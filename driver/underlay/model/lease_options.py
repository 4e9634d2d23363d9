"""What a lease brings a container beside its address: routers, routes and an MTU.

RFC 2132, with classless routes (RFC 3442) and long options (RFC 3396).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Self

# Codes of options.
ROUTERS, MTU, CLASSLESS_ROUTES = 3, 26, 121
_PAD, _END = 0, 255
_SMALLEST_MTU = 68


@dataclass(frozen=True, slots=True)
class LeaseRoute:
    """A classless static route (RFC 3442); without `via`, on the link itself."""

    destination: IPv4Network
    via: IPv4Address | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOptions:
    """What a server says: `routers` by option 3, `routes` by option 121, `mtu` by 26.

    The MTU is in bytes, None if the server says none.
    """

    routers: tuple[IPv4Address, ...] = ()
    routes: tuple[LeaseRoute, ...] = ()
    mtu: int | None = None

    @classmethod
    def of_area(cls, area: bytes) -> Self:
        """Return what options in one area say; raises ValueError if one is cut off."""
        found: dict[int, bytes] = {}
        for code, value in parts(area):
            found[code] = found.get(code, b"") + value
        return cls.of(found)

    @classmethod
    def of(cls, options: Mapping[int, bytes]) -> Self:
        """Return what options say; those of another length than theirs say nothing."""
        mtu = options.get(MTU, b"")
        size = int.from_bytes(mtu, "big") if len(mtu) == 2 else 0
        return cls(
            routers=tuple(a for a in addresses(options.get(ROUTERS, b"")) if int(a)),
            routes=_routes(options.get(CLASSLESS_ROUTES, b"")),
            mtu=size if size >= _SMALLEST_MTU else None,
        )

    def gateway(self, *, classless: bool = True) -> IPv4Address | None:
        """Return the default gateway, None if there is none.

        Where there are classless routes, option 3 does not count (RFC 3442), unless
        they are to be left out.
        """
        if classless and self.routes:
            vias = (r.via for r in self.routes if not r.destination.prefixlen)
            return next(vias, None)
        return self.routers[0] if self.routers else None

    @property
    def destinations(self) -> set[IPv4Network]:
        """Return where the routes lead, but for the default route."""
        return {r.destination for r in self.routes if r.destination.prefixlen}


NO_OPTIONS = LeaseOptions()


def parts(area: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the options of an area as they come, a long one in several parts.

    Raises ValueError for one that is cut off.
    """
    at = 0
    while at < len(area) and area[at] != _END:
        if area[at] == _PAD:
            at += 1
            continue
        value = area[at + 2 :][: area[at + 1]] if at + 1 < len(area) else None
        if value is None or len(value) < area[at + 1]:
            raise ValueError("an option is cut off")
        yield area[at], value
        at += 2 + len(value)


def addresses(value: bytes) -> tuple[IPv4Address, ...]:
    """Return the addresses in an option, none if its length is wrong."""
    if len(value) % 4:
        return ()
    return tuple(IPv4Address(value[at : at + 4]) for at in range(0, len(value), 4))


def _routes(value: bytes) -> tuple[LeaseRoute, ...]:
    """Return the routes of option 121, none if one of them cannot be read."""
    found, at = [], 0
    while at < len(value):
        width, size = value[at], (value[at] + 7) // 8
        entry = value[at + 1 : at + 1 + size + 4]
        if width > 32 or len(entry) < size + 4:
            return ()
        to = IPv4Network((entry[:size].ljust(4, b"\0"), width), strict=False)
        via = IPv4Address(entry[size:])
        found.append(LeaseRoute(to, via if int(via) else None))
        at += 1 + len(entry)
    return tuple(found)
