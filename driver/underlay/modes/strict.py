"""`strict=`: a container sends from its own MAC and its own addresses only.

ARP and neighbour discovery say whose an address is, so they are checked as well. What
only routers and DHCP servers send is dropped, and so is every frame that hides what it
carries: with a VLAN tag, for example. `nft list ruleset` shows how much was dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from underlay.model import Endpoint, IpAddress, Network
from underlay.model.ip import eui64
from underlay.model.objects.gate import GateFamily
from underlay.modes import ipv6

# Where an IPv6 packet has its source, and a neighbour message the address that it is
# about; then the last halves of these. nft takes both for the same set, if neither is
# called by a name.
SOURCE6, _TARGET6 = "@nh,64,128", "@th,64,128"
SOURCE6_END, _TARGET6_END = "@nh,128,64", "@th,128,64"
_DROP = "counter drop"
# What a frame says it is, and what its sender told the kernel that it is: rules read a
# packet as the latter. A socket on a device that no veth follows may lie.
_KINDS = "arp . arp : goto own_arp, ip . ip : goto own4, ip6 . ip6 : goto own6"
CHAINS = ("own", "own_arp", "own4", "own6")


def rules(family: GateFamily, by: str) -> Iterator[tuple[str, str]]:
    """Return the rules for what a strict container sends, each with its chain.

    `by` says which container it is. A TCP packet says nothing but where it is from, so
    most packets pass few of them.
    """
    yield "own", f"{by} . ether saddr != @macs {_DROP}"
    if family == "inet":  # that sees nothing but IP
        yield "own", "meta protocol vmap { ip : goto own4, ip6 : goto own6 }"
    else:
        yield "own", f"ether type . meta protocol vmap {{ {_KINDS} }}"
    yield "own", _DROP
    if family != "inet":
        yield "own_arp", f"{by} . arp saddr ether != @macs {_DROP}"
        # From 0.0.0.0 a container asks whether an address is in use.
        is_foreign = _not_in("4", f"{by} . arp saddr ip")
        yield "own_arp", f"arp saddr ip != 0.0.0.0 {is_foreign} {_DROP}"
    for rule in _of_ipv4(by):
        yield "own4", rule
    for rule in _of_ipv6(by):
        yield "own6", rule


def _of_ipv4(by: str) -> Iterator[str]:
    # From 0.0.0.0, and from ::, it asks for addresses, and joins groups.
    yield f"ip saddr != 0.0.0.0 {_not_in('4', f'{by} . ip saddr')} {_DROP}"
    yield "meta l4proto tcp return"
    yield f"icmp type {{ redirect, router-advertisement }} {_DROP}"
    yield f"udp sport 67 {_DROP}"
    yield f"udp dport 68 {_DROP}"


def _of_ipv6(by: str) -> Iterator[str]:
    is_foreign = f"{_not_in('6', f'{by} . {SOURCE6}')} {by} . {SOURCE6_END} != @ends6"
    yield f"ip6 saddr != :: {is_foreign} {_DROP}"
    yield "meta l4proto tcp return"
    yield f"icmpv6 type {{ nd-router-advert, nd-redirect }} {_DROP}"
    # With the second, it would keep other machines from an address that they are about
    # to take. Where the address is in another fragment, nothing tells whose it is.
    for about in ("nd-neighbor-advert", "nd-neighbor-solicit ip6 saddr ::"):
        for target, known in (
            (_TARGET6, "mine6"),
            (_TARGET6, "beside6"),
            (_TARGET6_END, "ends6"),
        ):
            yield f"icmpv6 type {about} {by} . {target} @{known} return"
        yield f"icmpv6 type {about} {_DROP}"
    yield f"udp sport 547 {_DROP}"
    yield f"udp dport 546 {_DROP}"
    # Extension headers may keep all that is checked above out of the first fragment.
    yield "frag frag-off != 0 return"
    yield "@th,0,8 & 0 == 0 return"
    yield _DROP


def _not_in(version: str, address: str) -> str:
    """Return what matches unless a container has an address, here or elsewhere."""
    return f"{address} != @mine{version} {address} != @beside{version}"


def elements(
    network: Network, endpoint: Endpoint, who: str
) -> Iterator[tuple[str, str]]:
    """Return what a gate knows of a strict container: the sets, and words in them."""
    yield "strict", who
    yield "macs", f"{who} . {endpoint.mac}"
    near = ipv6.own_link_local(network, endpoint)
    more = (near,) if near else ()
    for address in dict.fromkeys((*given_addresses(endpoint), *more)):
        yield _element("mine", address, who)
    end = ipv6.own_end(network, endpoint)
    # Also beside addresses of Docker, if routers advertise prefixes there.
    for octets in (
        *(() if near else (eui64(endpoint.mac),)),
        *((end.packed[8:],) if end else ()),
    ):
        yield "ends6", f"{who} . 0x{octets.hex()}"


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
