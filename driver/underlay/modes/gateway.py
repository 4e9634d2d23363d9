"""The default route of a container: `gateway=` and `default_route=`, in every mode."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from underlay.errors import BadValue
from underlay.model import (
    FAMILIES,
    Endpoint,
    Family,
    IpAddress,
    IpInterface,
    JoinAnswer,
    Network,
    Subnet,
    host_network,
)
from underlay.modes import leased
from underlay.modes.options import DEFAULT_ROUTE, choice


def named(options: Mapping[str, str]) -> dict[int, IpAddress | None]:
    """Return the gateways that `gateway=` names, by IP family; None stands for `none`.

    A family that is left out has the gateway that Docker names.
    """
    value = options.get("gateway", "")
    if value == "none":
        return {4: None, 6: None}
    found: dict[int, IpAddress | None] = {}
    for word in value.split(",") if value else ():
        try:
            given = ip_address("" if "%" in word else word)
        except ValueError:
            need = "none, or an address, or one of each IP family with a comma between"
            raise _bad(value, need) from None
        if given.version in found:
            raise _bad(value, f"at most one IPv{given.version} address")
        if given.is_multicast or given.is_unspecified or given.is_loopback:
            raise _bad(value, f"{given} is not the address of a router")
        found[given.version] = given
    return found


def check(network: Network, *, isolated: bool) -> None:
    """Raise unless `gateway=` makes sense.

    A gateway is outside every subnet, in a family the network has, and the network
    has a parent.
    """
    value = network.options.get("gateway", "")
    if isolated and any(named(network.options).values()):
        need = "a gateway needs a parent. Add -o parent=<device>"
        raise _bad(value, need)
    for family, given in named(network.options).items():
        if given is None:
            continue
        if not any(s.subnet.version == family for s in network.subnets):
            need = f"the network has no IPv{family} subnet that {given} could serve"
            raise _bad(value, need)
        segment = network.subnet_of(given)
        if segment and not segment.dhcp:
            need = (
                f"{given} is in {segment.subnet}. Use --gateway {given}, which also"
                " keeps the address from containers"
            )
            raise _bad(value, need)


def default_families(options: Mapping[str, str]) -> tuple[Family, ...]:
    """Return the IP families in which a network may give the default route."""
    said = choice(options, "default_route", DEFAULT_ROUTE)
    return tuple(f for f in FAMILIES if said in ("yes", str(f)))


def of(network: Network) -> list[IpAddress | None]:
    """Return the gateway of each subnet, IPv4 first; None where there is none."""
    said = named(network.options)
    return [said.get(s.subnet.version, s.gateway) for s in network.subnets]


def attachment(
    device: str, network: Network, endpoint: Endpoint, families: Collection[Family]
) -> JoinAnswer:
    """Return a device and the gateways, in these families, of an endpoint's subnets.

    A gateway outside every subnet is reached by a route of its own.
    """
    found, on_link = [], []
    for address in endpoint.addresses:
        segment = network.subnet_of(address.ip)
        if segment is None or address.version not in families:
            continue
        hop, is_apart = _next_hop(network, endpoint, address, segment)
        found.append(hop)
        if hop and is_apart:
            on_link.append(host_network(hop))
    return JoinAnswer(
        device,
        gateway4=next((g for g in found if isinstance(g, IPv4Address)), None),
        gateway6=next((g for g in found if isinstance(g, IPv6Address)), None),
        on_link=tuple(on_link),
    )


def _next_hop(
    network: Network, endpoint: Endpoint, address: IpInterface, segment: Subnet
) -> tuple[IpAddress | None, bool]:
    """Return the gateway of one address, and whether it is outside of the subnet.

    With DHCP the lease says both. What has a fixed address there has none.
    """
    said = named(network.options)
    if segment.dhcp:
        router = leased.router(network.options, endpoint.router, endpoint.leased)
        hop = said.get(address.version, router or segment.gateway)
        return hop, hop is not None and hop not in address.network
    hop = said.get(address.version, segment.gateway)
    return hop, hop in said.values()


def _bad(value: str, need: str) -> BadValue:
    return BadValue(key="gateway", value=value, need=need, hint="")
