"""Modes: how a container is put on the wire. A mode is a module of pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from underlay.errors import BadValue, ConflictingOptions, PassthruFull, UnknownMode
from underlay.model import Endpoint, IpNetwork, JoinAnswer, Network
from underlay.model.objects import Object, SysctlReason
from underlay.modes import (
    bridge,
    device_name,
    dhcp_options,
    extra_routes,
    ipv6,
    ipvlan,
    leased,
    macvlan,
    port_policy,
    routed,
    sysctls,
)
from underlay.modes.child_device import is_isolated
from underlay.modes.misspellings import mode_meant
from underlay.modes.options import Traits, check_endpoint_options


class Mode(Protocol):
    """What the rest of the program asks of a mode. No mode does I/O."""

    @property
    def KIND(self) -> str:  # noqa: N802 - a constant of the module
        """The kind of the containers' devices, which the kernel must have."""

    def check(self, network: Network) -> None:
        """Raise Invalid unless the options of a new network make sense."""

    def traits(self, options: Mapping[str, str]) -> Traits:
        """Return what the options decide for all containers of a network alike."""

    def endpoint_mac(
        self, network: Network, endpoint: Endpoint, parent_mac: str, derived: str, /
    ) -> str:
        """Return the MAC of the endpoint's device, "" if the kernel chooses it.

        Raises if the container cannot have the MAC asked for.
        """

    def sysctl_reasons(self, network: Network, /) -> Iterable[SysctlReason]:
        """Return why the endpoints of a network need sysctls of the host."""

    def network_objects(self, network: Network) -> Iterable[Object]:
        """Return what must exist as long as the network does."""

    def endpoint_objects(
        self, network: Network, endpoint: Endpoint
    ) -> Iterable[Object]:
        """Return what must exist; Docker moves the link with the endpoint's mark."""

    def attachment(self, network: Network, endpoint: Endpoint) -> JoinAnswer:
        """Return what Join answers."""


def check(network: Network) -> None:
    """Raise Invalid unless the options of a new network make sense."""
    mode_of(network.options).check(network)
    traits = traits_of(network.options)
    has_segment = traits.answers_arp and traits.parent_use is not None
    mode = mode_name(network.options)
    dhcp_options.check(network, mode, has_segment=has_segment)
    ipv6.check(network, mode, has_segment=has_segment)
    port_policy.check(network.options, mode)
    device_name.check(network.options)
    _check_routes(network, network.options)


def check_endpoint(network: Network, endpoint: Endpoint) -> None:
    """Raise Invalid unless the options of a new endpoint make sense."""
    check_endpoint_options(network, endpoint)
    dhcp_options.check_endpoint(network, endpoint.options, mode_name(network.options))
    ipv6.check_endpoint(network, endpoint)
    port_policy.check(endpoint.options, mode_name(network.options))
    device_name.check(endpoint.options)
    _check_routes(network, endpoint.options)
    extra_routes.check_leased(network, endpoint)


def _check_routes(network: Network, given: Mapping[str, str]) -> None:
    key, traits = extra_routes.KEY, traits_of(network.options)
    extra_routes.check(network, given, only_gateway=traits.host_prefix)
    # The next hop of a routed container is the host, with a segment or without.
    if given.get(key) and not (traits.answers_arp or traits.host_prefix):
        need = "without a segment there is no next hop: the host's routes decide"
        raise BadValue(key=key, value=given[key], need=need, hint="")


def attachment(network: Network, endpoint: Endpoint) -> JoinAnswer:
    """Return what Join answers.

    Where Docker is to switch IPv6 off on the device, the kernel would refuse its
    routes, and Docker the container's start.
    """
    found = mode_of(network.options).attachment(network, endpoint)
    found = replace(found, via=(*found.via, *extra_routes.of(network, endpoint)))
    found = leased.with_routes(found, network, endpoint)
    if not sysctls.switch_ipv6_off(endpoint.options):
        return found
    return JoinAnswer(
        found.device,
        gateway4=found.gateway4,
        on_link=tuple(to for to in found.on_link if to.version == 4),
        via=tuple((to, hop) for to, hop in found.via if to.version == 4),
    )


MODES: dict[str, Mode] = {
    "macvlan": macvlan,
    "ipvlan": ipvlan,
    "routed": routed,
    "bridge": bridge,
}

# The option of Docker's own driver that names a mode when `mode` itself is not given.
IMPLIED_BY = {
    "macvlan_mode": "macvlan",
    "ipvlan_mode": "ipvlan",
    "ipvlan_flag": "ipvlan",
    "bridge": "bridge",
}


def mode_of(options: Mapping[str, str]) -> Mode:
    """Return the mode a network's options ask for; macvlan if they name none."""
    name = mode_name(options)
    if name not in MODES:
        raise UnknownMode(
            mode=name, hint=mode_meant(name, MODES), known=", ".join(sorted(MODES))
        )
    return MODES[name]


def traits_of(options: Mapping[str, str]) -> Traits:
    """Return what a network's options decide for all its containers alike."""
    return mode_of(options).traits(options)


def check_capacity(network: Network, neighbour: Endpoint) -> None:
    """Raise Conflict unless the network has room beside any one endpoint on it."""
    use = traits_of(network.options).parent_use
    if use and use.exclusive:
        holder = neighbour.container or neighbour.id[:12]
        raise PassthruFull(network=network.label, endpoint=holder)


def withholds_way_out(network: Network) -> bool:
    """Return whether options take a default route away that a network could give."""
    options, traits = network.options, traits_of(network.options)
    if network.internal or (is_isolated(options) and traits.parent_use):
        return False
    without = options.get("gateway") == "none" and traits.answers_arp
    return without or options.get("default_route") == "no"


def lacking_gateway(network: Network) -> list[IpNetwork]:
    """Return the subnets that have no gateway, where options leave it to Docker."""
    families = () if network.internal else traits_of(network.options).reserved_gateways
    return [
        segment.subnet
        for segment in network.subnets
        if segment.gateway is None
        and segment.subnet.version in families
        and not segment.dhcp
    ]


def mode_name(options: Mapping[str, str]) -> str:
    """Return the name of the mode, as given or as another option implies it."""
    implied = {key: mode for key, mode in IMPLIED_BY.items() if key in options}
    name = options.get("mode") or next(iter(implied.values()), "macvlan")
    if name not in MODES:
        return name  # mode_of() refuses it, and suggests what it may mean
    for key, mode in implied.items():
        if mode != name:
            said = (
                f"mode={name}"
                if options.get("mode")
                else f"{next(iter(implied))}={options[next(iter(implied))]}"
            )
            raise ConflictingOptions(first=said, second=f"{key}={options[key]}")
    return name
