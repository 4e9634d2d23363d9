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
    JoinAnswer,
    Network,
    host_network,
)
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
        if segment := network.subnet_of(given):
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
    said = named(network.options)
    found = [
        said.get(address.version, segment.gateway)
        for address in endpoint.addresses
        if (segment := network.subnet_of(address.ip)) is not None
        and address.version in families
    ]
    return JoinAnswer(
        device,
        gateway4=next((g for g in found if isinstance(g, IPv4Address)), None),
        gateway6=next((g for g in found if isinstance(g, IPv6Address)), None),
        on_link=tuple(host_network(g) for g in found if g and g in said.values()),
    )


def _bad(value: str, need: str) -> BadValue:
    return BadValue(key="gateway", value=value, need=need, hint="")
