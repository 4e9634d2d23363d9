"""Pools, claims and leases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from underlay.model.ip import IpAddress, IpNetwork

Role = Literal["endpoint", "gateway", "aux"]


@dataclass(frozen=True, slots=True)
class Pool:
    """One subnet of one domain, in which no address is leased twice."""

    id: int
    domain: str
    subnet: IpNetwork
    holders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """One network's hold on a pool; Docker knows it as the PoolID.

    `first` and `last` bound what it draws from (--ip-range); `network` is the
    network it was made for, once CreateNetwork came.
    """

    id: str
    pool: Pool
    first: IpAddress
    last: IpAddress
    network: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Lease:
    """Which endpoint has an address, from when until when (seconds since 1970; 0: now).

    `returned`: Docker released it while the endpoint lived, which still has it.
    """

    id: int
    address: IpAddress
    role: Role
    pool: int | None = None
    claim: str = ""
    network: str = ""
    endpoint: str = ""
    mac: str = ""
    container: str = ""
    since: float = 0.0
    until: float = 0.0
    returned: int = 0
