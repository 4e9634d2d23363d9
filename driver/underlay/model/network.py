"""Networks and endpoints: what Docker asked for, and what this host answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from underlay.model.device import DeviceIdentity, LinkFault
from underlay.model.ip import Family, IpAddress, IpInterface, IpNetwork
from underlay.model.ipam import Former
from underlay.model.lease_options import NO_OPTIONS, LeaseOptions


@dataclass(frozen=True, slots=True)
class Subnet:
    """One subnet of a network, with the addresses Docker keeps out of its use.

    `pooled`: its addresses come from our IPAM, not from Docker's. `dhcp`: and that has
    them, with their prefix lengths and the gateway, from the servers of the segment.
    Then the subnet may be all there is (0.0.0.0/0).
    """

    subnet: IpNetwork
    gateway: IpAddress | None = None
    aux: tuple[IpAddress, ...] = ()
    pooled: bool = False
    dhcp: bool = False

    @property
    def label(self) -> str:
        """Return the subnet as people are shown it."""
        return "dhcp" if self.subnet.prefixlen == 0 else str(self.subnet)


@dataclass(frozen=True, slots=True)
class Uplink:
    """What a network stands on, as last seen.

    `parent` is the device its children stand on, which is there or is to be made. A
    routed network has none: its `base_device` is the device that answers for its
    containers, and its containers do without that.

    `vlans` are the VLANs under it that are ours to make, lowest first, by the names
    people know them by (eth0.50, eth0.50.7); the parent is then the last of them.
    `mtu` in bytes and `mac` are the parent's, 0 and "" until seen. `base_device` tells
    the lowest device, which is not ours, from others. `parent_missing` says why there
    is nothing to stand on now, "" if there is; `link_fault` is why nothing passes the
    lowest device now.

    For modes that ask, `host_addresses` are the host's own on the parent, and
    `container_bridges` its bridges of containers and virtual machines.

    `takes_over` is the device whose place a bridge of ours, which is then the parent,
    takes. It is known while the network is created, and not recorded with it.
    """

    parent: str = ""
    vlans: tuple[str, ...] = ()
    mtu: int = 0
    base_device: DeviceIdentity | None = None
    mac: str = ""
    host_addresses: tuple[IpInterface, ...] = ()
    container_bridges: tuple[str, ...] = ()
    parent_missing: str = ""
    link_fault: LinkFault = ""
    takes_over: str = ""

    @property
    def base_name(self) -> str:
        """Return the name that the device under the VLANs had when they were made."""
        return self.vlans[0].rpartition(".")[0] if self.vlans else self.parent

    @property
    def base_identity(self) -> DeviceIdentity:
        """Return the identity of the lowest device, a mere name if that is all."""
        return self.base_device or DeviceIdentity(self.base_name)

    @property
    def has_parent_now(self) -> bool:
        """Return whether the parent exists, or none is needed."""
        return not (self.parent and self.parent_missing)

    @property
    def cut_off_reason(self) -> str:
        """Return in words why containers are cut off now, "" if they are not."""
        if self.parent_missing or not (self.link_fault and self.base_device):
            return self.parent_missing
        how = "is down" if self.link_fault == "down" else "has no carrier"
        return f"{self.base_device.name} {how}; waiting for it"


@dataclass(frozen=True, slots=True)
class Network:
    """A network as asked, and what it stands on.

    Modes derive the meaning of `options` on every pass, so that a newer version
    that derives better mends old networks. `name` is what Docker's API told later:
    no driver call carries it. `created` in seconds since 1970.
    """

    id: str
    options: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    subnets: tuple[Subnet, ...] = ()
    uplink: Uplink = Uplink()
    name: str = ""
    created: float = 0.0

    @property
    def parent_label(self) -> str:
        """Return the parent by the name people know it by."""
        if self.options.get("mode") == "bridge" and self.options.get("parent"):
            return self.options["parent"]
        return self.uplink.vlans[-1] if self.uplink.vlans else self.uplink.parent

    @property
    def lasting_parent_label(self) -> str:
        """Return the same, but the name that was asked for if the parent has another.

        A parent that was asked for as `auto`, by its MAC or as a VLAN: its name now.
        """
        asked = self.options.get("parent", "")
        is_name = asked not in ("", "auto") and not {".", ":"} & {*asked}
        return asked if is_name and "vlan" not in self.options else self.parent_label

    @property
    def proxy(self) -> str:
        """Return the device that answers for its containers now, "" if none does."""
        if self.uplink.parent or self.uplink.parent_missing:
            return ""
        base = self.uplink.base_device
        return base.name if base else self.options.get("proxy", "")

    @property
    def label(self) -> str:
        """Return the name people know, or the short id until Docker told it."""
        return self.name or self.id[:12]

    def subnet_of(self, address: IpAddress) -> Subnet | None:
        """Return the subnet an address belongs to."""
        for segment in self.subnets:
            if address in segment.subnet:
                return segment
        return None

    @property
    def families(self) -> tuple[Family, ...]:
        """Return the IP families it has a subnet of."""
        return tuple(sorted({s.subnet.version for s in self.subnets}))

    def speaks(self, family: Family) -> bool:
        """Return whether the network has a subnet of this IP family."""
        return family in self.families


@dataclass(frozen=True, slots=True)
class LearnedState:
    """How a device was when Docker had finished with it, inside its sandbox.

    `default_families` are the IP families whose default route goes by it: Docker gives
    it to one network of the container's, and moves it. `mtu` in bytes. `sysctls` are
    those of the device (net/ipv6/conf/*/disable_ipv6=1) that are not as those of any
    new device. `families_off` are the IP families that are switched off on it at
    present: it can have no address and no route of them. `link_local` are addresses
    that Docker gave it beside the endpoint's own (--link-local-ip). `from_routers` are
    those that the kernel made from router advertisements, and that are in use.
    """

    device: str
    mtu: int
    default_families: tuple[Family, ...] = ()
    sysctls: tuple[str, ...] = ()
    families_off: tuple[Family, ...] = ()
    link_local: tuple[IpInterface, ...] = ()
    from_routers: tuple[IPv6Interface, ...] = ()


@dataclass(frozen=True, slots=True)
class LeasedIpv6:
    """An address that a DHCPv6 server gave, and for how many seconds (inf: for ever).

    `since` is when it was asked, in seconds since the host booted; from `preferred` on,
    other addresses come before this one. `is_lost`: its time is over, and it must not
    be there until a server gives it again.
    """

    address: IPv6Interface
    since: float
    preferred: float
    valid: float
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One container's place in a network.

    `sandbox` is the path of the namespace Docker moves the device into, from Join
    on; `learned` how it was there, once that was seen; `left` tells that Leave came, so
    the device is on its way back. `router` is the next hop of its default route, where
    that comes with a lease from a DHCP server, and `leased` what else came with it.
    `former` are the addresses that a server gave before, and the destinations of
    routes, as long as they may be there; `lost` is one whose lease has ended, which
    must not be there until a server gives it again. `leased6` came from a DHCPv6
    server, after the start: Docker does not know it.
    """

    id: str
    network: str
    ipv4: IPv4Interface | None = None
    ipv6: IPv6Interface | None = None
    mac: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    sandbox: str = ""
    learned: LearnedState | None = None
    left: bool = False
    container: str = ""
    created: float = 0.0
    router: IPv4Address | None = None
    former: tuple[Former, ...] = ()
    leased: LeaseOptions = NO_OPTIONS
    lost: IPv4Interface | None = None
    leased6: LeasedIpv6 | None = None

    @property
    def addresses(self) -> tuple[IpInterface, ...]:
        """Return its one or two addresses, IPv4 first."""
        return tuple(a for a in (self.ipv4, self.ipv6) if a is not None)

    @property
    def all_addresses(self) -> tuple[IpInterface, ...]:
        """Return the same, and the one that a DHCPv6 server gave."""
        leased = self.leased6
        more = (leased.address,) if leased and not leased.is_lost else ()
        return (*self.addresses, *more)


@dataclass(frozen=True, slots=True)
class LeftoverDevice:
    """The device of an endpoint that ended, in a sandbox where Docker left it.

    `sandbox` is the path of that namespace.
    """

    network: str
    endpoint: str
    sandbox: str


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """What Join answers: the device Docker moves, and the way out through it.

    `on_link` are destinations to be sent out as they are, without a next hop; `via` are
    those with one. Docker calls the device `name` if it takes names from drivers, else
    `prefix` and a number.
    """

    device: str
    gateway4: IPv4Address | None = None
    gateway6: IPv6Address | None = None
    on_link: tuple[IpNetwork, ...] = ()
    via: tuple[tuple[IpNetwork, IpAddress], ...] = ()
    prefix: str = "eth"
    name: str = ""

    @property
    def destinations(self) -> set[IpNetwork]:
        """Return where its routes lead, but the default route, which Docker moves."""
        return {to for to in (*self.on_link, *dict(self.via)) if to.prefixlen}


def as_leased(network: Network, endpoints: Iterable[Endpoint]) -> Network:
    """Return a network with the subnets of its containers, where DHCP gives them.

    The network itself has 0.0.0.0/0 there: it says nothing about the segment. Endpoints
    of other networks do not count.
    """
    if not any(segment.dhcp for segment in network.subnets):
        return network
    leased = {e.ipv4.network for e in endpoints if e.ipv4 and e.network == network.id}
    others = (segment for segment in network.subnets if not segment.dhcp)
    found = [Subnet(subnet, pooled=True, dhcp=True) for subnet in sorted(leased)]
    return replace(network, subnets=(*found, *others))


_AS_ASKED = ("options", "internal", "subnets", "network", "ipv4", "ipv6", "mac")


def difference(
    known: Network | Endpoint, asked: Network | Endpoint
) -> dict[str, str] | None:
    """Return the first field in which two of one id differ, and both values."""
    for name in _AS_ASKED:
        was, now = getattr(known, name, None), getattr(asked, name, None)
        if was != now:
            return {"field": name, "was": _in_words(was), "now": _in_words(now)}
    return None


def _in_words(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{k}={v}" for k, v in sorted(value.items())) or "none"
    if isinstance(value, tuple):
        return ", ".join(f"{s.subnet} via {s.gateway}" for s in value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value or "none")
