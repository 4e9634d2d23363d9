"""What a lease from a DHCP server is now: all of it follows from its record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from underlay.errors import LeaseNotRenewed, NoDhcpv6Server
from underlay.ipam.identity import moment
from underlay.model import DhcpLease, Dhcpv6Lease, Failure, Network
from underlay.model.owner import Owner
from underlay.modes.dhcp_options import hold
from underlay.records import Records

AnyLease = DhcpLease | Dhcpv6Lease

# bound: a container has it. unanswered: one has it, and no server renews it. held: its
# container does not run. ended: the same, and its time is over. removed: its container
# is gone, and it goes back to the server. unserved: no server has given an address.
# records/counts.py counts by the same words.
LeaseState = Literal["bound", "unanswered", "held", "ended", "removed", "unserved"]
STATES: tuple[LeaseState, ...] = get_args(LeaseState)


def state_of(lease: AnyLease, now: float) -> LeaseState:
    """Return the state of a lease; `now` in seconds since 1970."""
    if lease.address is None:
        return "unserved"
    if lease.endpoint:
        return "unanswered" if _is_past(lease.rebind, now) else "bound"
    if lease.gone:
        return "removed"
    return "ended" if _is_past(lease.expires, now) else "held"


def goes_back(lease: AnyLease, network: Network | None) -> float:
    """Return when the lease of a removed container is given back, since 1970.

    `network` is the one it was used in last, None if that is gone.
    """
    return lease.gone + hold(network.options if network else {})


def failures(records: Records, now: float) -> Iterator[Failure]:
    """Return the leases that no server renews, as failures of their endpoints.

    And containers that have no address, because no DHCPv6 server has given one.
    """
    late: list[AnyLease] = [*records.dhcp_leases.late(now)]
    late += records.dhcpv6_leases.late(now)
    for lease in late:
        mark = Owner(lease.network, lease.endpoint).mark
        yield Failure(mark, str(error_of(lease)), lease.rebind)
    for unserved in records.dhcpv6_leases.unserved():
        mark = Owner(unserved.network, unserved.endpoint).mark
        yield Failure(mark, str(unserved_error(unserved)), unserved.silent)


def unserved_error(lease: Dhcpv6Lease) -> NoDhcpv6Server:
    """Return the error that says since when no DHCPv6 server gives an address."""
    return NoDhcpv6Server(device=lease.uplink, since=moment(lease.silent))


def error_of(lease: AnyLease) -> LeaseNotRenewed:
    """Return the error that says since when no server has renewed a lease."""
    return LeaseNotRenewed(
        address=lease.address and lease.address.ip,
        device=lease.uplink,
        since=moment(lease.since),
        server=lease.server,
        until=moment(lease.expires),
        has="has lost (when_lost=drop)" if lease.is_dropped else "keeps",
    )


def _is_past(time: float, now: float) -> bool:
    """Return whether a time of a lease is over; 0 never is."""
    return 0 < time <= now
