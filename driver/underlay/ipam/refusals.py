"""Why an address cannot be had, in the words of the records."""

from __future__ import annotations

from underlay.errors import PoolExhausted
from underlay.ipam.identity import kept_for_others, moment
from underlay.ipam.subnets import usable
from underlay.model import Claim, Lease
from underlay.records import Records


def holder_in_words(records: Records, lease: Lease) -> str:
    """Return what has the address of a lease."""
    network = records.networks.get(lease.network)
    where = f" of network {network.label}" if network else ""
    if lease.role != "endpoint":
        what = "the gateway" if lease.role == "gateway" else "an aux address"
        return f"it is {what}{where}"
    if lease.container:
        since = moment(lease.since)
        return f"container {lease.container}{where} has it since {since}"
    endpoint = lease.endpoint[:12]
    return f"endpoint {endpoint}{where} has it" if endpoint else f"it is in use{where}"


def exhausted(records: Records, claim: Claim) -> PoolExhausted:
    """Return the refusal of a draw, with what uses up the range of a claim."""
    size = int(claim.last) - int(claim.first) + 1
    whole = (claim.first, claim.last) == usable(claim.pool.subnet)
    count = records.leases.held_by_role(claim, whole=whole)
    span = "" if whole else f" ({claim.first} to {claim.last})"
    kept = records.reservations.idle_in(claim)
    foreign = count["conflict"]
    return PoolExhausted(
        span=f"{claim.pool.subnet}{span}",
        kept=kept_for_others(kept),
        live=count["endpoint"],
        reserved=count["gateway"] + count["aux"],
        gateway=count["gateway"],
        aux=count["aux"],
        foreign=f", {foreign} in use by other machines (underlay conflict ls)"
        if foreign
        else "",
        size=size,
    )
