"""`isolate=on`: the containers of a routed network, and those of others, kept apart.

A table for each such network has the devices of its containers. What the host forwards
between one of them and a container of another network is dropped; the LAN and the host
itself are as before.
"""

from __future__ import annotations

from collections.abc import Iterator

from underlay.model import Endpoint, Network
from underlay.model.objects import (
    CONTAINER_GROUP,
    TABLE,
    NftElements,
    NftTable,
    Owner,
    SharedOwner,
)
from underlay.model.objects.gate import MEMBERS
from underlay.modes.gate_rules import BEFORE
from underlay.modes.port_policy import is_isolated

_GROUP = f"{CONTAINER_GROUP:#x}"
_BODY = (
    f"set {MEMBERS} {{ type ifname; }}",
    f"chain apart {{ type filter hook forward {BEFORE}; }}",
    f"rule apart iifname @{MEMBERS} oifgroup {_GROUP} oifname != @{MEMBERS} drop",
    f"rule apart oifname @{MEMBERS} iifgroup {_GROUP} iifname != @{MEMBERS} drop",
)


def objects(network: Network, endpoint: Endpoint) -> Iterator[NftTable | NftElements]:
    """Return what keeps a container apart, if its network is isolated."""
    if not is_isolated(network):
        return
    owner = SharedOwner("isolation", network.id).owner
    table = NftTable("inet", f"{TABLE}-{owner.device}", _BODY, owner=owner)
    yield table
    own = Owner(network.id, endpoint.id)
    who = f'"{own.host_end.device}"'
    found = frozenset({(MEMBERS, who)})
    yield NftElements(table.family, table.name, who, found, own)
