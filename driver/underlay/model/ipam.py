"""Pools, claims and leases."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
)
from typing import Literal

from underlay.model.ip import IpAddress, IpNetwork

# conflict: another machine on the segment has the address. slaac: a container's kernel
# made it from router advertisements.
Role = Literal["endpoint", "gateway", "aux", "conflict", "slaac"]
Origin = Literal["drawn", "fixed", "reserved"]
# dhcp: the servers of the segment say which addresses.
Source = Literal["pool", "dhcp"]
# What a container is known by on its parent: what the user calls it (identity=), its
# name, its MAC or address where the user chose that, or the number of its place in the
# network where Docker tells none of these.
Former = IPv4Interface | IPv4Network | IPv6Interface  # an address, or where a route led
ClientKind = Literal["label", "name", "mac", "address", "place"]


@dataclass(frozen=True, slots=True)
class Pool:
    """One subnet of one domain, in which no address is leased twice."""

    id: int
    domain: str
    subnet: IpNetwork
    holders: tuple[str, ...] = ()

    @property
    def is_dhcp(self) -> bool:
        """Whether it is everything (0.0.0.0/0): DHCP servers have the addresses."""
        return self.subnet.prefixlen == 0

    @property
    def label(self) -> str:
        """Return the subnet as people are shown it."""
        return "dhcp" if self.is_dhcp else str(self.subnet)


@dataclass(frozen=True, slots=True)
class Claim:
    """One network's hold on a pool; Docker knows it as the PoolID.

    `first` and `last` bound what it draws from (--ip-range), beginning at `start` if
    that is given; `network` is the network it was made for, once CreateNetwork came.
    `probe`: the segment is asked whether its addresses are free, and listened to while
    containers have them. `source`: where its addresses come from.
    """

    id: str
    pool: Pool
    first: IpAddress
    last: IpAddress
    network: str = ""
    since: float = 0.0
    probe: bool = True
    start: IpAddress | None = None
    source: Source = "pool"


@dataclass(frozen=True, slots=True)
class Lease:
    """Which endpoint has an address, from when until when (seconds since 1970; 0: now).

    `returned`: Docker released it while the endpoint lived, which still has it.
    `fixed` and `fixed_mac`: Docker asked for this address (--ip), for this MAC.
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
    fixed: int = 0
    fixed_mac: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """The container that an address of a domain is kept for, and the MAC it had.

    `origin`: the address was drawn, asked for (--ip), or reserved by the administrator.
    `network` is the id of the one that the container had it on last. `since` is when
    that began, `gone` when Docker stopped listing the container, 0 while it does.
    """

    domain: str
    address: IpAddress
    name: str
    origin: Origin
    network: str = ""
    mac: str = ""
    since: float = 0.0
    gone: float = 0.0

    @property
    def lapses(self) -> bool:
        """Whether Docker lists the container no more, unless reserved by hand."""
        return self.gone > 0 and self.origin != "reserved"


@dataclass(frozen=True, slots=True)
class DhcpLease:
    """What a container is to DHCP servers, and the address that one gave it.

    It is known by `kind` and `value` on its parent (`uplink`, as asked), whatever the
    network is. `mac`, `client_id` and `hostname` are what servers are told. `network`
    had it last; `endpoint` has it, "" while no container does. `container` is the name
    of the container, "" as long as Docker has not told it. `router` is the next hop
    of the default route, None if there is none; `options` those of the server's answer,
    as they came. `former`: addresses and routes that the endpoint had before, and may
    have still. With the address itself among them, the endpoint must not have it.

    `since` is when the server was asked, in seconds since 1970. So are `renew`,
    `rebind` and `expires`, which are 0 if it never ends. `uptime` is that moment in
    seconds since the host booted, and `boot` the id of that boot. `gone`: since when
    Docker lists the container no more, 0 while it does.
    """

    id: int
    uplink: str
    kind: ClientKind
    value: str
    mac: str
    client_id: bytes = b""
    hostname: str = ""
    network: str = ""
    endpoint: str = ""
    address: IPv4Interface | None = None
    server: IPv4Address | None = None
    server_mac: str = ""
    router: IPv4Address | None = None
    options: bytes = b""
    since: float = 0.0
    renew: float = 0.0
    rebind: float = 0.0
    expires: float = 0.0
    uptime: float = 0.0
    boot: str = ""
    gone: float = 0.0
    former: tuple[Former, ...] = ()
    container: str = ""

    @property
    def is_dropped(self) -> bool:
        """Whether its time is over, and it was taken out of the running container."""
        return self.address in self.former


@dataclass(frozen=True, slots=True)
class Dhcpv6Lease:
    """What a container is to DHCPv6 servers, and the address that one gave it.

    The fields are those of DhcpLease, where they have the same names. `client_id` has
    DUID and IAID, by RFC 4361. `server` is the link-local address that the server spoke
    from, and `duid` is what it is known by. From `preferred` on, other addresses come
    before this one. `silent` is since when servers have been asked without an answer, 0
    if the last question was answered.
    """

    id: int
    uplink: str
    kind: ClientKind
    value: str
    mac: str
    client_id: bytes = b""
    hostname: str = ""
    network: str = ""
    endpoint: str = ""
    address: IPv6Interface | None = None
    server: IPv6Address | None = None
    duid: bytes = b""
    since: float = 0.0
    renew: float = 0.0
    rebind: float = 0.0
    preferred: float = 0.0
    expires: float = 0.0
    uptime: float = 0.0
    boot: str = ""
    gone: float = 0.0
    silent: float = 0.0
    former: tuple[Former, ...] = ()
    container: str = ""

    @property
    def is_dropped(self) -> bool:
        """Whether its time is over, and it was taken out of the running container."""
        return self.address in self.former
