"""What a server gives in a DHCP message, and how an exchange with it may end.

RFC 2131 and 2132.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from underlay.dhcp.packets import (
    Option,
    Packet,
    encode_options,
    is_name,
    text,
)
from underlay.model.lease_options import LeaseOptions

_FOREVER = 0xFFFFFFFF


class BadOffer(ValueError):
    """A server's message that gives no usable lease. The text says what it is without.

    It has no data of the server, so that it can be counted.
    """


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server gives in an OFFER or an ACK.

    Durations are in seconds from the request on, None for ever. `said` is what the
    options bring beside the address; `options` has all of them in one area, as
    `encode_options` makes it.
    """

    address: IPv4Interface
    server: IPv4Address
    lease: float | None
    t1: float | None
    t2: float | None
    said: LeaseOptions
    domain: str = ""
    options: bytes = b""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as its server is spoken to: the MAC is the server's or a relay's."""

    address: IPv4Address
    server: IPv4Address
    server_mac: str


@dataclass(frozen=True, slots=True)
class Leased:
    """A server confirmed a lease, whose times count from `asked` on.

    `offered_after`, of a new lease: seconds from the last DISCOVER to the OFFER. A
    server that first looks whether the address is in use needs half a second or more.
    """

    offer: Offer
    server_mac: str
    asked: float
    offered_after: float | None = None

    @property
    def held(self) -> Held:
        """Return what renewals and a release need of it."""
        return Held(self.offer.address.ip, self.offer.server, self.server_mac)


@dataclass(frozen=True, slots=True)
class Refused:
    """A server refused the address, or it confirmed what the caller does not accept."""

    server: IPv4Address | None
    why: str


Outcome = Leased | Refused


def read_offer(packet: Packet) -> Offer:
    """Return what the server of an OFFER or an ACK gives; raises BadOffer."""
    options, address, server = packet.options, packet.yiaddr, packet.server
    if not int(address) or address.is_multicast or address.is_loopback:
        raise BadOffer("without an address")
    if server is None:
        raise BadOffer("without a server identifier")
    prefix = _prefix_length(options.get(Option.SUBNET_MASK, b""))
    if prefix is None:
        raise BadOffer("without a subnet mask")
    seconds = _number(options, Option.LEASE_SECONDS, 4)
    if not seconds:
        raise BadOffer("without a lease time")
    return Offer(
        IPv4Interface((address, prefix)),
        server,
        *_times(seconds, options),
        said=LeaseOptions.of(options),
        domain=_domain(options.get(Option.DOMAIN, b"")),
        options=encode_options(options),
    )


def _times(
    lease: int, options: Mapping[int, bytes]
) -> tuple[float | None, float | None, float | None]:
    """Return lease, T1 and T2; the usual ones where the server's are out of order."""
    if lease == _FOREVER:
        return None, None, None
    t1, t2 = (_number(options, code, 4) or 0 for code in (Option.T1, Option.T2))
    second = t2 if 0 < t2 < lease else lease * 7 / 8
    first = t1 if 0 < t1 < second else second * 4 / 7  # half the lease, as a rule
    return lease, first, second


def _number(options: Mapping[int, bytes], code: int, size: int) -> int | None:
    value = options.get(code, b"")
    return int.from_bytes(value, "big") if len(value) == size else None


def _prefix_length(mask: bytes) -> int | None:
    ones = int.from_bytes(mask, "big")
    zeros = ones ^ 0xFFFFFFFF
    if len(mask) != 4 or not ones or zeros & (zeros + 1):
        return None
    return ones.bit_count()


def _domain(value: bytes) -> str:
    name = text(value).rstrip(".")
    return name if is_name(name) else ""
