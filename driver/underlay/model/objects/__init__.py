"""Kernel objects as values: what must be there, and what was observed.

Each has a `key`, by which desired and observed are paired, its place in the
`build_order`, and the `owner` it exists for. Links, sysctls, chains, bridge ports,
moved entries and SLAAC are changed in place; others are deleted and created again.
"""

from __future__ import annotations

from underlay.model.objects.common import (
    ADDRESS_SYSCTLS,
    CONTAINER_GROUP,
    HOST_METRIC,
    IPV6_SECRET,
    IPV6_SWITCH,
    MAIN_TABLE,
    OWN_LINK_LOCAL,
    PLAIN_NAME,
    POOL_METRIC,
    SHIM_GROUP,
    TABLE,
    UNFINISHED_GROUP,
    protocol,
    use_protocol,
)
from underlay.model.objects.firewall import (
    DOCKER_USER,
    FORWARDED,
    GOT,
    IPTABLES,
    SENT,
    ForwardAccept,
    NftChain,
)
from underlay.model.objects.gate import NftElements, NftTable
from underlay.model.objects.host import BridgePort, MovedEntry, Sysctl
from underlay.model.objects.ip import Address, Lifetimes, Neighbour, Route, Slaac
from underlay.model.objects.link import AltName, Link
from underlay.model.owner import MARK, PREFIX, Owner, SharedOwner, SysctlReason

Object = (
    Link
    | AltName
    | Address
    | Route
    | Neighbour
    | Slaac
    | Sysctl
    | ForwardAccept
    | NftChain
    | NftTable
    | NftElements
    | BridgePort
    | MovedEntry
)

__all__ = [
    "ADDRESS_SYSCTLS",
    "CONTAINER_GROUP",
    "DOCKER_USER",
    "FORWARDED",
    "GOT",
    "HOST_METRIC",
    "IPTABLES",
    "IPV6_SECRET",
    "IPV6_SWITCH",
    "MAIN_TABLE",
    "MARK",
    "OWN_LINK_LOCAL",
    "PLAIN_NAME",
    "POOL_METRIC",
    "PREFIX",
    "SENT",
    "SHIM_GROUP",
    "TABLE",
    "UNFINISHED_GROUP",
    "Address",
    "AltName",
    "BridgePort",
    "ForwardAccept",
    "Lifetimes",
    "Link",
    "MovedEntry",
    "Neighbour",
    "NftChain",
    "NftElements",
    "NftTable",
    "Object",
    "Owner",
    "Route",
    "SharedOwner",
    "Slaac",
    "Sysctl",
    "SysctlReason",
    "protocol",
    "use_protocol",
]
