"""Modes: how a container is put on the wire. A mode is a module of pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from underlay.errors import ConflictingOptions, UnknownMode
from underlay.model import Endpoint, JoinAnswer, Network
from underlay.model.objects import Object, SysctlReason
from underlay.modes import bridge, ipvlan, macvlan, routed, sysctls
from underlay.modes.child_device import is_isolated
from underlay.modes.misspellings import mode_meant
from underlay.modes.parent_sharing import ParentUse


class Mode(Protocol):
    """What the rest of the program may ask of a mode. Nothing here does I/O."""

    @property
    def KIND(self) -> str:  # noqa: N802 - a constant of the module
        """The kind of the containers' devices, which the kernel must have."""

    @property
    def HOST_PREFIX(self) -> bool:  # noqa: N802
        """Whether a container's address stands alone, without its subnet."""

    def check(self, network: Network) -> None:
        """Raise Invalid unless the options of a new network make sense."""

    def check_endpoint(self, network: Network, endpoint: Endpoint) -> None:
        """Raise Invalid unless the options of a new endpoint make sense."""

    def seat(self, options: Mapping[str, str]) -> ParentUse | None:
        """Return what the network takes of its parent; None if it needs none."""

    def check_capacity(self, network: Network, neighbour: Endpoint) -> None:
        """Raise Conflict unless the network has room beside any one endpoint on it."""

    def endpoint_mac(
        self, network: Network, endpoint: Endpoint, parent_mac: str, derived: str
    ) -> str:
        """Return the MAC of the endpoint's device, "" if it is not ours to choose.

        Raises if the one asked for cannot be.
        """

    def reserves_gateway(self, options: Mapping[str, str], family: int) -> bool:
        """Tell whether no container may have the address of the pool's gateway.

        `family`: the IP family of the pool, 4 or 6.
        """

    def has_host_objects(self, options: Mapping[str, str]) -> bool:
        """Tell whether something of an endpoint is in the host after Docker took it."""

    def answers_arp(self, network: Network) -> bool:
        """Tell whether neighbours find a container by ARP and neighbour discovery.

        They ask its device, or the one of the host that answers for it.
        """

    def filters(self, options: Mapping[str, str]) -> str:
        """Return the option that needs nftables, "" if none does."""

    def sysctl_reasons(self, network: Network) -> Iterable[SysctlReason]:
        """Return for what its endpoints need settings of the host: `forwarding/4`."""

    def network_objects(self, network: Network) -> Iterable[Object]:
        """Return what must exist as long as the network does."""

    def endpoint_objects(
        self, network: Network, endpoint: Endpoint
    ) -> Iterable[Object]:
        """Return what must exist; Docker takes the link of the endpoint's own mark."""

    def attachment(self, network: Network, endpoint: Endpoint) -> JoinAnswer:
        """Return what Join answers."""


def attachment(network: Network, endpoint: Endpoint) -> JoinAnswer:
    """Return what Join answers.

    Where Docker is to switch IPv6 off on the device, the kernel would refuse its
    routes, and Docker the container's start.
    """
    found = mode_of(network.options).attachment(network, endpoint)
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
    """Return the mode a network's options ask for; macvlan if they do not say."""
    name = mode_name(options)
    if name not in MODES:
        raise UnknownMode(
            mode=name, hint=mode_meant(name, MODES), known=", ".join(sorted(MODES))
        )
    return MODES[name]


def withholds_way_out(network: Network) -> bool:
    """Tell whether options take a default route away that a network could give."""
    options, mode = network.options, mode_of(network.options)
    if network.internal or (is_isolated(options) and mode.seat(options)):
        return False
    without = options.get("gateway") == "none" and mode.answers_arp(network)
    return without or options.get("default_route") == "no"


def mode_name(options: Mapping[str, str]) -> str:
    """Return the name of the mode, as given or as another option implies it."""
    implied = {key: mode for key, mode in IMPLIED_BY.items() if key in options}
    name = options.get("mode") or next(iter(implied.values()), "macvlan")
    if name not in MODES:
        return name  # it is refused for that, with what it may mean
    for key, mode in implied.items():
        if mode != name:
            said = (
                f"mode={name}"
                if options.get("mode")
                else f"{next(iter(implied))}={options[next(iter(implied))]}"
            )
            raise ConflictingOptions(first=said, second=f"{key}={options[key]}")
    return name
