"""`egress=`: where a container that may not connect everywhere sends to.

TCP and SCTP say in each packet whether it begins a connection. For UDP, a set keeps the
machines that have asked the container.
"""

from __future__ import annotations

from collections.abc import Iterator

from underlay.model.objects.gate import GateFamily

_IP = {4: "ip", 6: "ip6"}


def let_in(to: str) -> Iterator[str]:
    """Return the rules for what is accepted: the answers to it may leave."""
    yield f"{to} != @bounded accept"
    for version, ip in _IP.items():
        peer = f"{to} . {ip} saddr . udp sport . udp dport"
        yield f"update @asked{version} {{ {peer} }}"
    yield "accept"


def bound(family: GateFamily, by: str) -> Iterator[str]:
    """Return the rules for what a container sends that may not connect everywhere."""
    # A socket may tell the kernel that a frame is something else than it says.
    for ip in _IP.values() if family == "netdev" else ():
        yield f"ether type {ip} meta protocol != {ip} drop"
    yield "meta protocol { 8021q, 8021ad } drop"
    yield "meta protocol != { ip, ip6 } return"
    yield "icmp type != echo-request return"
    yield "icmpv6 type != echo-request return"
    yield "meta l4proto igmp return"
    yield "tcp flags & (syn | ack) != syn return"
    yield "meta l4proto sctp @th,96,8 != 1 return"
    yield "udp sport 68 udp dport 67 return"
    yield "udp sport 546 udp dport 547 return"
    for version, ip in _IP.items():
        to = f"{by} . {ip} daddr"
        yield f"{to} . udp dport . udp sport @asked{version} return"
        yield f"{to} @near{version} return"
    yield "drop"
