"""What Docker's API lists, as values: networks, their endpoints, and containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from underlay.model import IpAddress, IpInterface, IpNetwork, Subnet


@dataclass(frozen=True, slots=True)
class DockerEndpoint:
    """An endpoint as Docker lists it, with the id of its container."""

    id: str
    container: str
    name: str
    mac: str
    addresses: tuple[IpInterface, ...]


@dataclass(frozen=True, slots=True)
class DockerNetwork:
    """A network as Docker's API lists it.

    `ours`: its driver is underlay, not only its IPAM driver. `domain` is the option of
    underlay's IPAM. `ranges` has the --ip-range, or "", of each subnet.
    """

    id: str
    name: str
    domain: str
    ip_networks: tuple[IpNetwork, ...]
    ours: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    subnets: tuple[Subnet, ...] = ()
    ranges: tuple[str, ...] = ()
    endpoints: tuple[DockerEndpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class DockerContainer:
    """What Docker lists of a container; options and gateways by network id."""

    sandbox: str
    options: Mapping[str, Mapping[str, str]]
    gateways: Mapping[str, tuple[IpAddress, ...]]


@dataclass(frozen=True, slots=True)
class DockerPlace:
    """A container and its place in one network, as Docker keeps it.

    `is_connected`: it has one; `endpoint` is its id, "" while the container does not
    run. `settings` are what it was connected with, as Docker takes them to connect it
    again. `is_fixed`: the user chose its IPv4 address. `keeps_mac`: Docker gives the
    container the MAC of the user's choice again.
    """

    is_running: bool
    is_connected: bool = False
    endpoint: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_fixed: bool = False
    keeps_mac: bool = False


@dataclass(frozen=True, slots=True)
class ListedContainer:
    """A container as Docker lists it, whether it runs or not.

    `drawing` are the networks in which it asks for no address of its own choice, by id,
    or by name before it ran in them.
    """

    name: str
    drawing: tuple[str, ...]


DockerContainers = tuple[ListedContainer, ...]


@dataclass(frozen=True, slots=True)
class FailedStart:
    """A container that Docker was to start by itself, and why it could not."""

    container: str
    networks: tuple[str, ...]
    error: str


@dataclass(frozen=True, slots=True)
class DockerView:
    """What dockerd lists of the networks that use this driver or its IPAM.

    `endpoints` maps endpoint ids to container names. `addresses` are those of
    containers and those reserved (gateway, aux). `containers` are all that have one of
    these networks, also those that do not run.
    """

    networks: tuple[DockerNetwork, ...]
    endpoints: Mapping[str, str]
    addresses: frozenset[IpAddress]
    containers: DockerContainers = ()


@dataclass(frozen=True, slots=True)
class DockerEngine:
    """What dockerd says of itself.

    `firewall` is the name of its back end (iptables, nftables), "" if it does not say.
    """

    version: str
    system: str = ""
    is_rootless: bool = False
    is_desktop: bool = False
    firewall: str = ""
