"""Segments that networks are on, and the claims whose addresses are heard there.

A network with the null IPAM driver has no claim. If DHCP servers give its addresses, it
is listened to as if it had one: of no pool, with an empty id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from underlay.ipam.dhcp_claims import EVERYWHERE
from underlay.ipam.subnets import usable
from underlay.model import Claim, IpAddress, Lease, Network, Pool
from underlay.model.objects import SharedOwner
from underlay.modes import mode_of, traits_of
from underlay.modes.child_device import is_isolated
from underlay.modes.dhcp_options import is_probed
from underlay.records import Records

_NO_POOL = Pool(0, "", EVERYWHERE)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that is listened to: its parent, and the networks on it by pool."""

    parent: str
    networks: dict[Pool, set[str]] = field(default_factory=dict)

    def has(self, address: IpAddress) -> bool:
        """Return whether an address is in a pool; what DHCP servers have is in none."""
        return any(address in p.subnet for p in self.networks if not p.is_dhcp)


def devices_of(network: Network) -> tuple[str, ...]:
    """Return the devices to ask on for a network, the parent first; () for none.

    The children of a macvlan parent hear each other, and the parent does not hear them:
    so their sibling in the host asks too.
    """
    parent, options = network.uplink.parent, network.options
    if not parent or is_isolated(options) or not traits_of(options).answers_arp:
        return ()
    if mode_of(options).KIND != "macvlan":
        return (parent,)
    return parent, SharedOwner("shim", parent).owner.device


def heard_claims(records: Records) -> Iterator[Claim]:
    """Return the claims of networks, with those that stand for one without."""
    yield from records.pools.bound_claims()
    for network in records.networks.all():
        if claim := _without_pool(network):
            yield claim


def claim_of(records: Records, lease: Lease) -> Claim | None:
    """Return the claim that an address was leased by, None if it is gone."""
    if lease.claim:
        return records.pools.claim(lease.claim)
    network = records.networks.get(lease.network)
    return _without_pool(network) if network else None


def _without_pool(network: Network) -> Claim | None:
    if not any(s.dhcp and not s.pooled for s in network.subnets):
        return None
    first, last = usable(EVERYWHERE)
    probe = is_probed(network.options)
    return Claim(
        "", _NO_POOL, first, last, network.id, probe=probe, source="dhcp"
    )  # fmt: skip
