"""Kernel objects as values: what must be there, and what was seen there.

Each has a `key`, by which wanted and seen are paired, a `build_order` in the order of
building, and the `owner` it exists for. Only links, sysctls and chains are amended
in place; whatever else differs is made again.
"""

from __future__ import annotations

from underlay.model.objects.common import (
    CONTAINER_GROUP,
    HEEDED,
    HOST_METRIC,
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
    FORWARDED,
    GOT,
    SENT,
    ForwardAccept,
    NftChain,
)
from underlay.model.objects.host import BridgePort, MovedEntry, Sysctl
from underlay.model.objects.ip import Address, Neighbour, Route
from underlay.model.objects.link import Link
from underlay.model.owner import MARK, PREFIX, Owner

Object = (
    Link
    | Address
    | Route
    | Neighbour
    | Sysctl
    | ForwardAccept
    | NftChain
    | BridgePort
    | MovedEntry
)

__all__ = [
    "CONTAINER_GROUP",
    "FORWARDED",
    "GOT",
    "HEEDED",
    "HOST_METRIC",
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
    "BridgePort",
    "ForwardAccept",
    "Link",
    "MovedEntry",
    "Neighbour",
    "NftChain",
    "Object",
    "Owner",
    "Route",
    "Sysctl",
    "protocol",
    "use_protocol",
]
