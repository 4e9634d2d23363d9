"""The addresses a host takes as the gateway of its routed networks: whether it may."""

from __future__ import annotations

from collections.abc import Iterable

from underlay.errors import GatewayTaken, RoutedSubnetOnHost
from underlay.model import Network
from underlay.model.host import Host
from underlay.modes import gateway, traits_of


def check_gateways(network: Network, routed: Iterable[Network], host: Host) -> None:
    """Raise GatewayTaken if somebody has an address that this host is to take.

    Raise RoutedSubnetOnHost if a pool is a whole segment of the host: what no container
    has of a pool leads nowhere.

    What `routed` networks have is the host's already, for the same purpose. It takes a
    second if a wire of the host's is where the address would be.
    """
    if not traits_of(network.options).host_prefix:
        return
    for segment in network.subnets:
        for address in host.addresses_of(""):
            own = address.network
            inside = own.version == segment.subnet.version and (
                own.subnet_of(segment.subnet)  # type: ignore[arg-type]
            )
            if inside and own.num_addresses > 1:
                raise RoutedSubnetOnHost(subnet=segment.subnet, address=address)
    known = {found for other in routed for found in gateway.of(other)}
    for found in gateway.of(network):
        if found in known:
            continue
        if found and host.is_own(found):
            holder = "the host has it already"
        elif found and host.is_in_use(found):
            holder = "a machine on the LAN answers for it"
        else:
            continue
        raise GatewayTaken(gateway=found, holder=holder)
