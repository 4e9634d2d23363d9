"""The `suffix=` of a new endpoint: no other container on the segment has it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from underlay.errors import SuffixTaken
from underlay.model import Endpoint, Network
from underlay.modes.ipv6 import SUFFIX
from underlay.records import Records


def check(
    records: Records,
    network: Network,
    asked: Endpoint,
    remove_dead_endpoint: Callable[[str], bool],
) -> None:
    """Raise SuffixTaken if a container on the parent has it; in a transaction.

    Both would make the same address of each prefix. `remove_dead_endpoint` removes an
    endpoint from the records if it is dead, and returns whether it was.
    """
    suffix = asked.options.get(SUFFIX)
    if not suffix:
        return
    for other in records.endpoints.with_option(SUFFIX):
        theirs = records.networks.get(other.network)
        if (
            other.id != asked.id
            and theirs
            and theirs.uplink.parent == network.uplink.parent
            and IPv6Address(other.options[SUFFIX]) == IPv6Address(suffix)
            and not remove_dead_endpoint(other.id)
        ):
            name = other.container or other.id[:12]
            raise SuffixTaken(
                suffix=suffix,
                parent=network.parent_label,
                other=name,
                network=theirs.label,
            )
