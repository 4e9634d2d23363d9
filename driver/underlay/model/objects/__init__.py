"""Kernel objects as values: what must be there, and what was seen there.

Each has a `key`, by which wanted and seen are paired, a `rank` in the order of
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
from underlay.model.objects.firewall import FORWARDED, GOT, SENT, Chain, Permit
from underlay.model.objects.host import Held, Port, Sysctl
from underlay.model.objects.ip import Address, Neighbour, Route
from underlay.model.objects.link import Link
from underlay.model.owner import MARK, PREFIX, Owner

Object = Link | Address | Route | Neighbour | Sysctl | Permit | Chain | Port | Held

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
    "Chain",
    "Held",
    "Link",
    "Neighbour",
    "Object",
    "Owner",
    "Permit",
    "Port",
    "Route",
    "Sysctl",
    "protocol",
    "use_protocol",
]
