"""Addresses, routes and neighbours on our devices."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from ipaddress import IPv6Interface
from math import inf, isinf
from typing import Any

from underlay import model
from underlay.model.objects.common import (
    ADDRESSES,
    MAIN_TABLE,
    ROUTES,
    SLAAC,
    KernelObject,
    Verb,
    differing,
    nsenter,
    protocol,
    sysctl_command,
    word,
)
from underlay.model.owner import Owner


def _set_key(thing: object, *key: Hashable) -> None:
    """Give an object its key, once: a pass looks at each several times."""
    object.__setattr__(thing, "key", key)


# So many seconds apart, two ends of the lifetime of an address are the same.
_SAME_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long the kernel uses an IPv6 address that a server gave.

    In seconds from `since` on, which is in seconds since the host booted; inf is for
    ever. After `preferred` other addresses come first, after `valid` it is gone.
    """

    since: float
    preferred: float
    valid: float

    def is_as(self, other: Lifetimes) -> bool:
        """Return whether both end at the same time; the kernel tells whole seconds."""
        ends = (self.preferred, other.preferred), (self.valid, other.valid)
        return all(
            mine == its == inf
            or abs(self.since + mine - other.since - its) <= _SAME_SECONDS
            for mine, its in ends
        )

    def left(self, now: float) -> Lifetimes:
        """Return what is left at a time in seconds since the host booted."""
        past = now - self.since
        return Lifetimes(now, max(self.preferred - past, 0), max(self.valid - past, 0))

    def __str__(self) -> str:
        valid, preferred = map(_in_seconds, (self.valid, self.preferred))
        return f"valid_lft {valid} preferred_lft {preferred}"


def _in_seconds(value: float) -> str:
    return "forever" if isinf(value) else f"{value:.0f}"


@dataclass(frozen=True, slots=True)
class Address(KernelObject):
    """An address on a device of ours: the host's, or a container's in its sandbox.

    One of the host has scope link, so that the host does not choose it as a source for
    other destinations. It goes with its device, and is never deleted alone. One in a
    sandbox is, after a DHCP server has given another one. With `lifetimes`, the kernel
    first asks whether another machine has it. `has_failed`: one has.
    """

    interface: model.IpInterface
    device: str
    owner: Owner | None = None
    sandbox: str = ""
    lifetimes: Lifetimes | None = field(default=None, compare=False)
    has_failed: bool = field(default=False, compare=False)
    key: Hashable = field(init=False, compare=False, repr=False)

    build_order = ADDRESSES

    def __post_init__(self) -> None:
        address, length = self.interface, self.interface.network.prefixlen
        there = self.device, self.sandbox
        _set_key(self, Address, address.version, int(address), length, *there)

    __hash__ = KernelObject.__hash__

    def satisfied_by(self, seen: Any) -> bool:
        """Return whether `seen` ends when this does, if this ends."""
        if self.lifetimes is None:
            return True
        return seen.lifetimes is not None and self.lifetimes.is_as(seen.lifetimes)

    def command(self, verb: Verb) -> str:
        """Return the step in iproute2's words."""
        words = f"{nsenter(self.sandbox)}ip addr {verb} {self.interface}"
        words += f" dev {word(self.device)}"
        if verb == "del":
            return words
        if self.lifetimes:
            return f"{words} noprefixroute {self.lifetimes}"
        once = " nodad" if self.interface.version == 6 else ""
        return words + ("" if self.sandbox else " scope link") + once


@dataclass(frozen=True, slots=True)
class Route(KernelObject):
    """A route of ours: to a device, or a blackhole without one.

    `metric` 10 means that a routing daemon may announce it. `source` is the address
    the host sends from. In a `sandbox` it is the container's own, by a next hop
    (`via`) or without, and has no mark; a `connected` one came with an address.
    """

    destination: model.IpNetwork
    device: str | None = None
    metric: int = 0
    table: int = MAIN_TABLE
    source: model.IpAddress | None = None
    owner: Owner | None = None
    via: model.IpAddress | None = None
    sandbox: str = ""
    connected: bool = False
    key: Hashable = field(init=False, compare=False, repr=False)

    build_order = ROUTES

    def __post_init__(self) -> None:
        # A destination has one route of ours at a metric.
        to, where = self.destination, (self.table, self.metric, self.sandbox)
        first = int(to.network_address)
        _set_key(self, Route, to.version, first, to.prefixlen, *where)

    __hash__ = KernelObject.__hash__

    def is_amendable_from(self, seen: Any) -> bool:
        """Return whether `seen` leads where this one does."""
        there = seen.device, seen.source, seen.via
        return bool(there == (self.device, self.source, self.via))

    def command(self, verb: Verb) -> str:
        """Return the step in iproute2's words."""
        family = " -6" if self.destination.version == 6 else ""
        what = "" if self.device else "blackhole "
        words = f"{nsenter(self.sandbox)}ip{family} route {verb} {what}"
        words += f"{self.destination}"
        if self.via:
            other = self.via.version != self.destination.version
            words += f" via{' inet6' if other else ''} {self.via}"
        words += f" dev {word(self.device)}" if self.device else ""
        by = "kernel" if self.connected else protocol()
        words += f" proto {by}" if self.connected or not self.sandbox else ""
        words += f" metric {self.metric}"
        words += f" src {self.source}" if self.source else ""
        return words + (f" table {self.table}" if self.table != MAIN_TABLE else "")


@dataclass(frozen=True, slots=True)
class Neighbour(KernelObject):
    """A proxy entry, or with a `mac` a permanent neighbour, of a device of ours."""

    address: model.IpAddress
    device: str
    mac: str = ""
    owner: Owner | None = None
    key: Hashable = field(init=False, compare=False, repr=False)

    build_order = ROUTES

    def __post_init__(self) -> None:
        # A device has one entry of a sort for an address.
        address, sort = self.address, bool(self.mac)
        _set_key(self, Neighbour, sort, address.version, int(address), self.device)

    __hash__ = KernelObject.__hash__

    def is_amendable_from(self, seen: Any) -> bool:
        """Return whether `seen` says the same."""
        return bool(seen.mac == self.mac)

    def command(self, verb: Verb) -> str:
        """Return the step in iproute2's words."""
        if not self.mac:
            return f"ip neigh {verb} proxy {self.address} dev {word(self.device)}"
        how = f" lladdr {self.mac} nud permanent" if verb == "add" else ""
        return f"ip neigh {verb} {self.address}{how} dev {word(self.device)}"


@dataclass(frozen=True, slots=True)
class Slaac(KernelObject):
    """How a device in a sandbox makes IPv6 addresses from router advertisements.

    Each ends with the `token` (::53), or without one as the `sysctls` say, in the order
    in which they are set. It is there as soon as the device has a token or a secret.
    `found` are addresses that the kernel has made: its business, and never compared.
    """

    device: str
    token: str = ""
    sysctls: tuple[str, ...] = ()
    owner: Owner | None = None
    sandbox: str = ""
    found: tuple[IPv6Interface, ...] = field(default=(), compare=False)
    key: Hashable = field(init=False, compare=False, repr=False)

    build_order = SLAAC

    def __post_init__(self) -> None:
        _set_key(self, Slaac, self.device, self.sandbox)

    __hash__ = KernelObject.__hash__

    def satisfied_by(self, seen: Any) -> bool:
        """Return whether `seen` has the token and the sysctls, as far as it tells."""
        return self.token == seen.token and not differing(self.sysctls, seen.sysctls)

    def command(self, verb: Verb) -> str:
        """Return the step in the words of sysctl and iproute2."""
        del verb  # it is never deleted
        where = nsenter(self.sandbox)
        words = where + sysctl_command(self.sysctls, self.device)
        if self.token:
            words += f"; {where}ip token set {self.token} dev {word(self.device)}"
        return words
