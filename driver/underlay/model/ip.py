"""Addresses and subnets, by the names the kernel and Docker use for them."""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from typing import Literal

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
IpAddress = IPv4Address | IPv6Address
IpInterface = IPv4Interface | IPv6Interface
IpNetwork = IPv4Network | IPv6Network
Family = Literal[4, 6]
FAMILIES: tuple[Family, ...] = (4, 6)


def host_network(address: IpAddress) -> IpNetwork:
    """Return an address as a subnet of its own: a /32 or /128."""
    # From bytes: from an address, the library makes text first, ten times as slow.
    return ip_network((address.packed, address.max_prefixlen))


def eui64(mac: str) -> bytes:
    """Return what the addresses end with that a kernel makes of a MAC (RFC 4291)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    return bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
