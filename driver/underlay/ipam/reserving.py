"""An administrator reserves addresses for containers, and gives reservations up."""

from __future__ import annotations

import re

from underlay.errors import AddressTaken, BadValue, NotFound, did_you_mean
from underlay.ipam import conflicts
from underlay.ipam.identity import kept_in_words, moment, name_of, or_give_up
from underlay.ipam.subnets import check_domain, parse_address
from underlay.model import IpAddress, Reservation
from underlay.records import Records

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")


def reserve(
    records: Records, domain: str, address: IpAddress, name: str, now: float
) -> None:
    """Reserve an address for a container, which need not exist; part of a transaction.

    Raises BadValue, AddressTaken, AddressInUse if another machine has it, and
    OutsideSubnet or UnusableAddress if no host of the pool may have it.
    """
    if not _NAME.fullmatch(name):
        need = "the name of a container: letters, digits, '_', '.' and '-'"
        raise BadValue(key="NAME", value=name, need=need, hint="")
    check_domain(domain)
    _check_leases(records, domain, address, name)
    known = records.reservations.get(domain, address)
    if known and known.name != name and not known.lapses:
        raise AddressTaken(
            address=address,
            holder=kept_in_words(known, 0),
            or_free=or_give_up(known),
        )
    mine = known if known and known.name == name else None
    records.reservations.hold(
        Reservation(
            domain=domain,
            address=address,
            name=name,
            origin="reserved",
            network=mine.network if mine else "",
            mac=mine.mac if mine else "",
            since=mine.since if mine else now,
        )
    )


def _check_leases(records: Records, domain: str, address: IpAddress, name: str) -> None:
    for pool in records.pools.all():
        if pool.domain != domain or address not in pool.subnet or pool.is_dhcp:
            continue
        parse_address(str(address), pool.subnet)
        for lease in records.leases.live(pool.id, address):
            if lease.role == "conflict":
                raise conflicts.error_of(lease)
            if lease.role != "endpoint" or name_of(lease.container) != name:
                holder = lease.container or lease.role
                since = moment(lease.since)
                raise AddressTaken(
                    address=address, holder=f"{holder} has it since {since}", or_free=""
                )


def unreserve(records: Records, domain: str, address: IpAddress) -> Reservation:
    """Give up what is kept at an address, and return it; part of a transaction.

    A container that has the address keeps it until it stops. Raises NotFound.
    """
    known = records.reservations.get(domain, address)
    if known is None:
        every = records.reservations.all()
        kept = [str(k.address) for k in every if k.domain == domain]
        other = next((k.domain for k in every if k.address == address), "")
        raise NotFound(
            kind=f"reservation in domain {domain} of",
            name=str(address),
            hint=f" Domain {other} has one: --domain {other}."
            if other
            else did_you_mean(str(address), kept),
            known=", ".join(kept[:12]) or "none",
        )
    records.reservations.drop(known)
    return known
