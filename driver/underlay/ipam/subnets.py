"""Carve pools, bound ranges, derive MACs. Pure arithmetic on `ipaddress` values."""

from __future__ import annotations

import hashlib
import re
from ipaddress import IPv4Network, IPv6Address, ip_address, ip_network

from underlay.errors import (
    BadRange,
    BadSubnet,
    BadValue,
    OutsideSubnet,
    UnusableAddress,
)
from underlay.model import IpAddress, IpNetwork

Span = tuple[IpAddress, IpAddress]
DOMAIN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
LEAST_TO_SPREAD, LARGEST_OFFSET = 64, 65536
_POOL_ID = re.compile(rf"(?P<domain>{DOMAIN})/(?P<subnet>[^/]+/[0-9]+)/[0-9a-f]{{12}}")


def check_domain(domain: str) -> None:
    """Raise BadValue unless a word can be the name of a domain."""
    if not re.fullmatch(DOMAIN, domain):
        need = "one word of letters, digits, '_', '.' and '-', at most 63"
        raise BadValue(key="domain", value=domain, need=need, hint="")


def parse_subnet(text: str, family: int) -> IpNetwork:
    """Read --subnet of the given IP family (4 or 6)."""
    try:
        subnet = ip_network(_zoneless(text))
    except ValueError as error:
        raise BadSubnet(subnet=text, why=str(error), hint=_masked(text)) from None
    if subnet.version != family:
        why = f"it is IPv{subnet.version} where IPv{family} is asked for"
        raise BadSubnet(subnet=text, why=why, hint="")
    if subnet.network_address.is_unspecified:
        why = "it gives a size only. Use the network address of your LAN"
        raise BadSubnet(subnet=text, why=why, hint="")
    if subnet.is_multicast or subnet.is_loopback:
        what = "multicast" if subnet.is_multicast else "loopback"
        raise BadSubnet(subnet=text, why=f"it is {what} space", hint="")
    return subnet


def parse_pool_id(text: str) -> tuple[str, IpNetwork] | None:
    """Return the domain and subnet of our PoolID; None if it is another text."""
    found = _POOL_ID.fullmatch(text)
    if found is None:
        return None
    if found["subnet"] == "0.0.0.0/0":  # of a claim whose addresses DHCP servers give
        return found["domain"], IPv4Network("0.0.0.0/0")
    family = 6 if ":" in found["subnet"] else 4
    try:
        subnet = parse_subnet(found["subnet"], family)
    except BadSubnet:
        return None
    return (found["domain"], subnet) if str(subnet) == found["subnet"] else None


def _zoneless(text: str) -> str:
    """Refuse a zone: fd00::5 and fd00::5%eth0 are one address on the wire."""
    if "%" in text:
        raise ValueError(f"{text!r} has a zone, which means something on one host only")
    return text


def _masked(text: str) -> str:
    try:
        return f" Did you mean {str(ip_network(text, strict=False))!r}?"
    except ValueError:
        return ""


def usable(subnet: IpNetwork) -> Span:
    """Return the first and last address a host may have.

    IPv4 keeps network and broadcast address out (not in /31 and /32, RFC 3021); IPv6
    the subnet-router anycast address (not in /127 and /128, RFC 6164).
    """
    first, last = subnet[0], subnet[-1]
    if subnet.max_prefixlen - subnet.prefixlen < 2:
        return first, last
    return first + 1, last - 1 if isinstance(subnet, IPv4Network) else last


def parse_range(text: str, subnet: IpNetwork) -> Span:
    """Read --ip-range: the part of the subnet that automatic addresses come from."""
    if not text:
        return usable(subnet)
    try:
        inner = ip_network(text, strict=False)
    except ValueError as error:
        raise BadRange(range=text, subnet=subnet, why=str(error)) from None
    first, last = usable(subnet)
    if inner[0] not in subnet or inner[-1] not in subnet:
        raise BadRange(range=text, subnet=subnet, why="it is not inside the subnet")
    low, high = max(inner[0], first, key=int), min(inner[-1], last, key=int)
    if int(low) > int(high):
        raise BadRange(range=text, subnet=subnet, why="no host may have its addresses")
    return low, high


def parse_address(text: str, subnet: IpNetwork) -> IpAddress:
    """Read one address a host of the subnet may have."""
    first, last = usable(subnet)
    facts = {"address": text, "subnet": subnet, "first": first, "last": last}
    try:
        address = ip_address(_zoneless(text))
    except ValueError:
        raise OutsideSubnet(**facts) from None
    if address not in subnet:
        raise OutsideSubnet(**facts)
    if not int(first) <= int(address) <= int(last):
        last_one = "broadcast" if address == subnet[-1] else "network"
        raise UnusableAddress(what=last_one, **facts)
    return address


def own_start(host: str, first: IpAddress, last: IpAddress) -> IpAddress:
    """Return where a host begins in a range: elsewhere than others, as a rule.

    Hosts that draw from one range so seldom want the same address. A small range is
    used from its first address on; in a large one of IPv6 the numbers stay small.
    """
    size = min(int(last) - int(first) + 1, LARGEST_OFFSET)
    if size < LEAST_TO_SPREAD:
        return first
    digest = hashlib.sha256(f"{host}\0{first}\0{last}".encode()).digest()
    return first + int.from_bytes(digest[:8]) % size


def derive_secret(host: str, uplink: str, container: str) -> IPv6Address:
    """Return the secret, of 128 bits, that a container makes IPv6 addresses with.

    The same container on the same parent of a host gets the same one again.
    """
    digest = hashlib.sha256(f"{host}\0ipv6 {uplink}\0{container}".encode()).digest()
    return IPv6Address(digest[:16])


def derive_mac(host: str, network: str, subject: str) -> str:
    """Return a locally administered unicast MAC for an address of a network.

    The same address gets the same MAC again, so a sticky address is a sticky MAC; the
    host's identity keeps two hosts from ever deriving the same one.
    """
    digest = hashlib.sha256(f"{host}\0{network}\0{subject}".encode()).digest()
    octets = bytes([digest[0] & 0xFC | 0x02]) + digest[1:6]
    return octets.hex(":")
