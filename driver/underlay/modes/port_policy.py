"""Which ports of a container are reached, from where, and where it may connect to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from underlay.errors import BadValue
from underlay.model import Endpoint, Network
from underlay.model.ip import IpNetwork
from underlay.model.ports import PORTS_OPTION, Protocol, PublishedPort, of_option
from underlay.modes.options import OFF_ON, ON_OFF, choice

POLICY, ALLOW_FROM, EGRESS, PING = "policy", "allow_from", "egress", "ping"
STRICT, ISOLATE = "strict", "isolate"
KEYS = (POLICY, ALLOW_FROM, EGRESS, PING, STRICT)
_INBOUND = ("open", "published", "closed")
_EGRESS = ("open", "subnet", "none")
MOST_NETWORKS = 64
# IP family, protocol and number.
Port = tuple[int, Protocol, int]


@dataclass(frozen=True, slots=True)
class Policy:
    """What the options of a network and of an endpoint on it decide together.

    `published` are the ports that are reached by all, or by what `allow_from` lists;
    `for_host` those that the host alone reaches. `near` are the subnets of the network,
    and of the addresses that DHCP servers and routers gave the container.
    `strict`: it sends from its own MAC and addresses only.
    """

    inbound: str = "open"
    egress: str = "open"
    ping: bool = True
    allow_from: tuple[IpNetwork, ...] = ()
    published: tuple[Port, ...] = ()
    for_host: tuple[Port, ...] = ()
    near: tuple[IpNetwork, ...] = ()
    strict: bool = False
    is_strict_asked: bool = False

    @property
    def is_guarded(self) -> bool:
        """Return whether a gate has anything to do for the container."""
        return self.is_required or self.strict

    @property
    def is_required(self) -> bool:
        """Return whether the container must not start without a gate.

        A host that can have no gates leaves out what is only the default.
        """
        narrowed = self.inbound != "open" or self.egress != "open" or not self.ping
        return narrowed or (self.strict and self.is_strict_asked)


def check(given: Mapping[str, str], mode: str) -> None:
    """Raise unless the options of a network or an endpoint make sense."""
    for key in KEYS if mode == "ipvlan" else ():
        if key in given:
            need = "it is for macvlan, bridge and routed: ipvlan containers share a MAC"
            raise BadValue(key=key, value=given[key], need=need, hint="")
    choice(given, POLICY, _INBOUND)
    choice(given, EGRESS, _EGRESS)
    choice(given, PING, ON_OFF)
    choice(given, STRICT, ON_OFF)
    choice(given, ISOLATE, OFF_ON)
    _networks(given)


def policy_of(network: Network, endpoint: Endpoint) -> Policy:
    """Return the policy of a container; its own options come before the network's."""
    said = {**network.options, **endpoint.options}
    inbound = choice(said, POLICY, _INBOUND)
    ports = of_option(endpoint.options.get(PORTS_OPTION, ""))
    shown = ports if inbound == "published" else ()
    return Policy(
        inbound,
        choice(said, EGRESS, _EGRESS),
        choice(said, PING, ON_OFF) == "on",
        _networks(said) if inbound == "published" else (),
        _numbers(port for port in shown if not port.for_host),
        _numbers(port for port in shown if port.for_host),
        tuple(_near(network, endpoint)),
        choice(said, STRICT, ON_OFF if _has_pairs(network) else OFF_ON) == "on",
        bool(said.get(STRICT)),
    )


def _near(network: Network, endpoint: Endpoint) -> Iterator[IpNetwork]:
    # Where a DHCP server gives the addresses, the network may have 0.0.0.0/0.
    yield from (s.subnet for s in network.subnets if s.subnet.prefixlen)
    known = endpoint.learned
    for own in (*endpoint.all_addresses, *(known.from_routers if known else ())):
        if own.network.prefixlen < own.max_prefixlen:
            yield own.network


def is_isolated(network: Network) -> bool:
    """Return whether a network is kept apart from other routed ones: `isolate=`."""
    return choice(network.options, ISOLATE, OFF_ON) == "on"


def _has_pairs(network: Network) -> bool:
    """Return whether the containers of a network have veths: in bridge and routed."""
    mode = network.options.get("mode")
    return mode in ("bridge", "routed") or "bridge" in network.options


def redirected(endpoint: Endpoint) -> list[tuple[int, Protocol, int, int]]:
    """Return the ports that lead to another one, by -p 8080:80.

    Each as IP family, protocol, the published port and the one of the container.
    """
    ports = of_option(endpoint.options.get(PORTS_OPTION, ""))
    found: dict[tuple[int, Protocol, int], int] = {}
    for port in ports:
        for family in port.families if port.published != port.port else ():
            found.setdefault((family, port.protocol, port.published), port.port)
    return [(*key, to) for key, to in sorted(found.items())]


def _numbers(ports: Iterable[PublishedPort]) -> tuple[Port, ...]:
    found = {
        (family, port.protocol, number)
        for port in ports
        for family in port.families
        for number in port.numbers
    }
    return tuple(sorted(found))


def _networks(options: Mapping[str, str]) -> tuple[IpNetwork, ...]:
    """Return the networks of `allow_from`, () for all; raises BadValue."""
    value = options.get(ALLOW_FROM, "")
    words = [word.strip() for word in value.split(",") if word.strip()]
    try:
        found = [ip_network(word) for word in words]
    except ValueError as error:
        need = f"networks such as 192.168.1.0/24, with commas between them ({error})"
        raise BadValue(key=ALLOW_FROM, value=value, need=need, hint="") from error
    if (value and not words) or len(found) > MOST_NETWORKS:
        need = f"one to {MOST_NETWORKS} networks, with commas between them"
        raise BadValue(key=ALLOW_FROM, value=value, need=need, hint="")
    # The kernel takes no network beside one that it is a part of.
    four = collapse_addresses(n for n in found if isinstance(n, IPv4Network))
    six = collapse_addresses(n for n in found if isinstance(n, IPv6Network))
    return (*four, *six)
