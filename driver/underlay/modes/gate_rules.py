"""The rules of a gate: which new connections containers get, and may make.

A TCP connection begins with SYN alone, so no state is needed to tell a new one from an
answer; nor with SCTP. For UDP, and for what is none of these, a set with timeouts keeps
the machines that a container has spoken to. Connections outlive every change of rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from underlay.model.objects.gate import SETS, GateFamily
from underlay.modes import egress_rules, strict

# Before the filters of other programs: what is dropped here, no other one counts.
BEFORE = "priority -5"
_TYPES = {
    "proto": "inet_proto",
    "port": "inet_service",
    "mac": "ether_addr",
    "ip4": "ipv4_addr",
    "net4": "ipv4_addr",
    "net6": "ipv6_addr",
}
_RAW = {"raw6": strict.SOURCE6, "end6": strict.SOURCE6_END}
_REMEMBERED = "flags dynamic,timeout; timeout 3m; size 65536;"
# The IP families in nft's words.
_IP = {4: "ip", 6: "ip6"}
# Chains for the packets of some containers only.
_CHAINS = ("judged", "noted", "bound", "let_in", "pinged")
_NEITHER = "{ tcp, udp, sctp, icmp, ipv6-icmp }"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gate is, and by what it knows the container that a packet is for or from.

    `hooks` are its base chains: name, what comes by it, and the hook. On a parent, what
    a container sends to its siblings comes `in` as well, and does not go `out`.
    """

    family: GateFamily
    to: str
    by: str
    kind: Literal["ether_addr", "ifname"]
    hooks: tuple[tuple[str, str, str], ...]


def _on_device(
    device: str, to: str, by: str, kind: Literal["ether_addr", "ifname"]
) -> Place:
    ways = (("in", "ingress"), ("out", "egress"))
    hooks = tuple((n, n, f'hook {way} device "{device}" priority 0') for n, way in ways)
    return Place("netdev", to, by, kind, hooks)


def _of_host(family: Literal["bridge", "inet"]) -> Place:
    ways = (("in", "forward"), ("host", "output"), ("out", "prerouting"))
    hooks = tuple((n, n, f"hook {way} {BEFORE}") for n, way in ways)
    return Place(family, "oifname", "iifname", "ifname", hooks)


def on_parent(parent: str) -> Place:
    """Return the place of a gate that frames pass on a parent, by MACs."""
    return _on_device(parent, "ether daddr", "ether saddr", "ether_addr")


def in_sandbox(device: str) -> Place:
    """Return the place of a gate on a container's device."""
    return _on_device(device, "iifname", "oifname", "ifname")


BRIDGED, ROUTED = _of_host("bridge"), _of_host("inet")


@cache  # the same for all containers at a place
def body(place: Place) -> tuple[str, ...]:
    """Return a gate's sets, chains and rules in nft's words."""
    return (
        *_sets(place),
        *(f"chain {name} {{ }}" for name in (*_CHAINS, *strict.CHAINS)),
        *(f"chain {n} {{ type filter {hook}; }}" for n, _, hook in place.hooks),
        *(f"rule judged {rule}" for rule in _judged(place.to)),
        *(f"rule noted {rule}" for rule in _noted(place.by)),
        *(f"rule bound {rule}" for rule in egress_rules.bound(place.family, place.by)),
        *(f"rule let_in {rule}" for rule in egress_rules.let_in(place.to)),
        *(f"rule pinged {p} type echo-request drop" for p in ("icmp", "icmpv6")),
        *(f"rule {c} {rule}" for c, rule in strict.rules(place.family, place.by)),
        *(
            f"rule {name} {rule}"
            for name, way, _ in place.hooks
            for rule in _of_chain(way, place)
        ),
    )


def _sets(place: Place) -> Iterator[str]:
    kind = place.kind
    for name, fields in SETS.items():
        if raw := _RAW.get(fields[-1]):
            yield f"set {name} {{ typeof {place.by} . {raw}; }}"
            continue
        typed = " . ".join(kind if f == "who" else _TYPES[f] for f in fields)
        ranges = " flags interval;" if fields[-1] in ("net4", "net6") else ""
        yield f"set {name} {{ type {typed};{ranges} }}"
    for version in (4, 6):
        address = f"{kind} . ipv{version}_addr"
        for name in ("talking", "asked"):
            yield (
                f"set {name}{version} {{ type {address} . inet_service . inet_service;"
                f" {_REMEMBERED} }}"
            )
        yield f"set other{version} {{ type {address} . inet_proto; {_REMEMBERED} }}"


def _of_chain(way: str, place: Place) -> Iterable[str]:
    by, to = place.by, place.to
    checks = ("strict jump own", "closed jump noted", "bounded jump bound")
    sent = tuple(f"{by} @{check}" for check in checks)
    if way == "out":
        return sent
    port = f"{to} . meta l4proto . th dport"
    to_siblings = sent if place.kind == "ether_addr" else ()
    # A bridge's output has also what the host forwards, which no socket here sent.
    is_own = "meta skuid >= 0 " if place.family == "bridge" else ""
    open_to_host = (
        f"meta protocol {ip} {is_own}{port} @hosted{version} goto let_in"
        for version, ip in _IP.items()
        if way == "host"
    )
    ping, judged = f"{to} @unpinged jump pinged", f"{to} @closed jump judged"
    return (*to_siblings, ping, *open_to_host, judged, f"{to} @bounded jump let_in")


def _judged(to: str) -> Iterator[str]:
    """Return the rules for what goes to a container that is not open."""
    port = f"{to} . meta l4proto . th dport"
    yield "tcp flags & (syn | ack) != syn accept"
    # A tag may hide a packet from all rules below.
    yield "meta protocol { 8021q, 8021ad } drop"
    yield "meta protocol != { ip, ip6 } accept"
    yield "meta l4proto { icmp, ipv6-icmp, igmp } accept"
    # Without the first fragment, which is judged, the others are nothing.
    yield "ip frag-off & 0x1fff != 0 accept"
    yield "frag frag-off != 0 accept"
    yield "meta l4proto sctp @th,96,8 != 1 accept"
    yield "udp sport 67 udp dport 68 accept"
    yield "udp sport 547 udp dport 546 accept"
    for version, ip in _IP.items():
        peer = f"{to} . {ip} saddr . udp sport . udp dport"
        is_from = f"{to} . {ip} saddr"
        allowed = f"{port} @limited{version} {is_from} @allowed{version}"
        hosted = f"{port} @hosted{version} {is_from} @hosts{version}"
        published = f"meta protocol {ip} {port} @published{version}"
        for accepted in (published, allowed, hosted):
            yield f"{accepted} goto let_in"
        yield f"{peer} @talking{version} accept"
        yield f"{is_from} . meta l4proto @other{version} accept"
    yield "drop"


def _noted(by: str) -> Iterator[str]:
    """Return the rules that keep the peers of closed containers.

    Not those of published ports, which are reached anyway: machines that ask these
    would fill the set, and then no container gets answers of new peers.
    """
    yield "meta l4proto tcp return"
    for version, ip in _IP.items():
        to = f"{by} . {ip} daddr"
        peer = f"{to} . udp dport . udp sport"
        own = f"{by} . meta l4proto . udp sport != @published{version}"
        yield f"{own} update @talking{version} {{ {peer} }}"
        to_other = f"update @other{version} {{ {to} . meta l4proto }}"
        yield f"meta l4proto != {_NEITHER} {to_other}"
