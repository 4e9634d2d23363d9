"""`strict=`: a container sends from its own MAC and its own addresses only.

ARP and neighbour discovery say whose an address is, so they are checked as well. What
only routers and DHCP servers send is dropped, and so is every frame that hides what it
carries: with a VLAN tag, for example. `nft list ruleset` shows how much was dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address

from underlay.model import Endpoint, IpAddress, Network
from underlay.model.objects.gate import GateFamily
from underlay.modes import ipv6

# Where an IPv6 packet has its source, and a neighbour message the address that it is
# about. nft takes both for the same set, if neither is called by a name.
SOURCE6, _TARGET6 = "@nh,64,128", "@th,64,128"
_DROP = "counter drop"
_LINK_LOCAL = bytes.fromhex("fe80000000000000")


def rules(family: GateFamily, by: str) -> Iterator[str]:
    """Return the rules for what a strict container sends; `by` says which it is."""
    yield f"{by} . ether saddr != @macs {_DROP}"
    if family != "inet":  # that sees nothing but IP
        yield f"ether type != {{ arp, ip, ip6 }} {_DROP}"
        yield f"ether type arp {by} . arp saddr ether != @macs {_DROP}"
        # From 0.0.0.0 a container asks whether an address is in use.
        is_foreign = _not_in("4", f"{by} . arp saddr ip")
        yield f"arp saddr ip != 0.0.0.0 {is_foreign} {_DROP}"
    # From 0.0.0.0 and :: it asks for addresses, and joins groups.
    yield f"ip saddr != 0.0.0.0 {_not_in('4', f'{by} . ip saddr')} {_DROP}"
    yield f"ip6 saddr != :: {_not_in('6', f'{by} . {SOURCE6}')} {_DROP}"
    yield f"icmp type {{ redirect, router-advertisement }} {_DROP}"
    yield f"icmpv6 type {{ nd-router-advert, nd-redirect }} {_DROP}"
    is_foreign = _not_in("6", f"{by} . {_TARGET6}")
    yield f"icmpv6 type nd-neighbor-advert {is_foreign} {_DROP}"
    # Else it would keep other machines from an address that they are about to take.
    yield f"icmpv6 type nd-neighbor-solicit ip6 saddr :: {is_foreign} {_DROP}"
    yield f"udp sport {{ 67, 547 }} {_DROP}"
    yield f"udp dport {{ 68, 546 }} {_DROP}"


def _not_in(version: str, address: str) -> str:
    """Return what matches unless a container has an address, here or elsewhere."""
    return f"{address} != @mine{version} {address} != @beside{version}"


def elements(
    network: Network, endpoint: Endpoint, who: str
) -> Iterator[tuple[str, str]]:
    """Return what a gate knows of a strict container: the sets, and words in them."""
    yield "strict", who
    yield "macs", f"{who} . {endpoint.mac}"
    near = ipv6.own_link_local(network, endpoint) or _of_mac(endpoint.mac)
    for address in dict.fromkeys((*given_addresses(endpoint), near)):
        yield _element("mine", address, who)


def beside(addresses: Iterable[IpAddress], who: str) -> frozenset[tuple[str, str]]:
    """Return what a gate knows of the other networks of a strict container."""
    return frozenset(_element("beside", address, who) for address in addresses)


def _element(name: str, address: IpAddress, who: str) -> tuple[str, str]:
    if address.version == 4:
        return f"{name}4", f"{who} . {address}"
    return f"{name}6", f"{who} . 0x{address.packed.hex()}"


def given_addresses(endpoint: Endpoint) -> Iterator[IpAddress]:
    """Return the addresses that a container was given, as far as they are known."""
    known = endpoint.learned
    there = (*known.link_local, *known.from_routers) if known else ()
    yield from (a.ip for a in (*endpoint.all_addresses, *there))


def _of_mac(mac: str) -> IPv6Address:
    """Return the link-local address that a kernel makes from a MAC."""
    octets = bytes.fromhex(mac.replace(":", ""))
    made = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Address(_LINK_LOCAL + made)
