"""What Docker's API tells, as values: networks, who is on them, and containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from underlay.model import IpAddress, IpInterface, IpNetwork, Subnet


@dataclass(frozen=True, slots=True)
class DockerEndpoint:
    """A container's place in a network as Docker lists it, with the container's id."""

    id: str
    container: str
    name: str
    mac: str
    addresses: tuple[IpInterface, ...]


@dataclass(frozen=True, slots=True)
class DockerNetwork:
    """A network as Docker's API lists it; `domain` is its IPAM option, if ours.

    `ours`: it is of this driver, not only of its IPAM. `ranges` has the --ip-range, or
    "", of each segment.
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
    """What Docker says of a container: its sandbox, and by network id the rest."""

    sandbox: str
    options: Mapping[str, Mapping[str, str]]
    gateways: Mapping[str, tuple[IpAddress, ...]]


@dataclass(frozen=True, slots=True)
class DockerView:
    """What dockerd said of the networks that use this driver or its IPAM.

    `endpoints` maps endpoint ids to container names; `addresses` are all that
    containers have or that are kept out of use (gateway, aux).
    """

    networks: tuple[DockerNetwork, ...]
    endpoints: Mapping[str, str]
    addresses: frozenset[IpAddress]
