"""The records as values: what Docker asked for, and what this host answered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from typing import Literal

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Subnet = IPv4Network | IPv6Network
Family = Literal[4, 6]
FAMILIES: tuple[Family, ...] = (4, 6)
Role = Literal["endpoint", "gateway", "aux"]
Halt = Literal["", "down", "no carrier"]


def alone(address: Address) -> Subnet:
    """Return an address as a subnet of its own: a /32 or /128."""
    # From bytes: from an address, the library makes text first, ten times as slow.
    return ip_network((address.packed, address.max_prefixlen))


@dataclass(frozen=True, slots=True)
class Segment:
    """One subnet of a network, with the addresses Docker keeps out of its use.

    `pooled`: its addresses come from our IPAM, not from Docker's.
    """

    subnet: Subnet
    gateway: Address | None = None
    aux: tuple[Address, ...] = ()
    pooled: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells a device of the host from others when its name is no help.

    `permanent_mac` is burnt in, "" where nothing is; `vlan` is a tag (802.1Q).
    """

    name: str
    kind: str = ""
    mac: str = ""
    permanent_mac: str = ""
    vlan: int = 0


@dataclass(frozen=True, slots=True)
class Network:
    """A network as asked; `parent` is the device its children stand on.

    `vlans` are the VLANs under it that are ours to make, lowest first, by the names
    people know them by (eth0.50, eth0.50.7); the parent is then the last of them.

    `here` are the host's own addresses on the parent and `mac` is the parent's, as last
    seen, for modes that ask; `mtu` is the parent's, 0 until seen. `base` tells the
    lowest device, which is not ours, from others; `absent` says why there is nothing to
    stand on now, "" if there is; `halt` is why nothing passes the lowest device now.
    `inward` are the host's bridges of containers and virtual machines, for modes that
    ask. A routed network has no parent: its `base` is the device that answers for its
    containers, and its containers do without that.

    Modes derive the meaning of `options` on every pass, so that a newer version
    that derives better mends old networks. `name` is what Docker's API told later:
    no driver call carries it.
    """

    id: str
    options: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    segments: tuple[Segment, ...] = ()
    parent: str = ""
    vlans: tuple[str, ...] = ()
    here: tuple[Interface, ...] = ()
    mac: str = ""
    mtu: int = 0
    base: Identity | None = None
    absent: str = ""
    halt: Halt = ""
    inward: tuple[str, ...] = ()
    name: str = ""
    created: float = 0.0

    @property
    def uplink(self) -> str:
        """Return the parent by the name people know it by."""
        if self.options.get("mode") == "bridge" and self.options.get("parent"):
            return self.options["parent"]
        return self.vlans[-1] if self.vlans else self.parent

    @property
    def has_ground(self) -> bool:
        """Tell whether its devices have what they stand on, if they need anything."""
        return not (self.parent and self.absent)

    @property
    def standstill(self) -> str:
        """Return in words why its containers are cut off now, "" if they are not."""
        if self.absent or not (self.halt and self.base):
            return self.absent
        how = "is down" if self.halt == "down" else "has no carrier"
        return f"{self.base.name} {how}; waiting for it"

    @property
    def proxy(self) -> str:
        """Return the device that answers for its containers now, "" if none does."""
        if self.parent or self.absent:
            return ""
        return self.base.name if self.base else self.options.get("proxy", "")

    @property
    def label(self) -> str:
        """Return the name people know, or the short id until Docker told it."""
        return self.name or self.id[:12]

    def segment_of(self, address: Address) -> Segment | None:
        """Return the subnet an address belongs to."""
        for segment in self.segments:
            if address in segment.subnet:
                return segment
        return None

    @property
    def families(self) -> tuple[Family, ...]:
        """Return the IP families it has a subnet of."""
        return tuple(sorted({s.subnet.version for s in self.segments}))

    def speaks(self, family: Family) -> bool:
        """Tell whether the network has a subnet of this IP family."""
        return family in self.families


@dataclass(frozen=True, slots=True)
class Inside:
    """How a device was when Docker had finished with it, inside its sandbox.

    `defaults` are the IP families whose default route goes by it: Docker gives it to
    one network of the container's, and moves it. `mtu` in bytes. `settings` are its
    sysctls (net/ipv6/conf/*/disable_ipv6=1) that are not as those of any new device.
    `without` are the IP families that are switched off on it at present: it can have no
    address and no route of them. `beside` are link-local addresses that Docker gave it
    beside the endpoint's own (--link-local-ip).
    """

    device: str
    mtu: int
    defaults: tuple[Family, ...] = ()
    settings: tuple[str, ...] = ()
    without: tuple[Family, ...] = ()
    beside: tuple[Interface, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One container's place in a network.

    `sandbox` is the path of the namespace Docker moves the device into, from Join
    on; `inside` how it was there, once that was seen; `left` tells that Leave came, so
    the device is on its way back.
    """

    id: str
    network: str
    ipv4: IPv4Interface | None = None
    ipv6: IPv6Interface | None = None
    mac: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    sandbox: str = ""
    inside: Inside | None = None
    left: bool = False
    container: str = ""
    created: float = 0.0

    @property
    def addresses(self) -> tuple[Interface, ...]:
        """Return its one or two addresses, IPv4 first."""
        return tuple(a for a in (self.ipv4, self.ipv6) if a is not None)


@dataclass(frozen=True, slots=True)
class Remnant:
    """The device of an endpoint that ended, in a sandbox where Docker left it.

    `sandbox` is the path of that namespace.
    """

    network: str
    endpoint: str
    sandbox: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """What Join answers: the device Docker moves, and the way out through it.

    `on_link` are destinations to be sent out as they are, without a next hop; `via` are
    those with one.
    """

    device: str
    gateway4: IPv4Address | None = None
    gateway6: IPv6Address | None = None
    on_link: tuple[Subnet, ...] = ()
    via: tuple[tuple[Subnet, Address], ...] = ()

    @property
    def destinations(self) -> set[Subnet]:
        """Return where its routes lead, but the default route, which Docker moves."""
        return {to for to in (*self.on_link, *dict(self.via)) if to.prefixlen}


@dataclass(frozen=True, slots=True)
class Pool:
    """One subnet of one domain: the table no address leaves twice."""

    id: int
    domain: str
    subnet: Subnet
    holders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """One network's hold on a pool; Docker knows it as the PoolID.

    `first` and `last` bound what it draws from (--ip-range); `network` is the
    network it was made for, once CreateNetwork came.
    """

    id: str
    pool: Pool
    first: Address
    last: Address
    network: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Tenure:
    """Who had an address, from when until when (seconds since 1970; 0: still).

    `returned`: Docker gave it back while the endpoint lived, which has it all the same.
    """

    id: int
    address: Address
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


@dataclass(frozen=True, slots=True)
class Setting:
    """A sysctl of the host that is `value` as long as somebody needs it for a reason.

    `path` is under /proc/sys, `before` what it was; without a `value` it is only to be
    put back. `turn` is its place in the order of writing, and backwards afterwards.
    """

    reason: str
    path: str
    before: str
    value: str
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """An address or route on a device, with all it has: the kernel's message in hex.

    `words` tell it from others, in iproute2's words; `via` is a next hop, `why` what
    speaks against moving it to another device.
    """

    what: Literal["address", "route"]
    words: str
    payload: str
    via: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Takeover:
    """A bridge of ours that has, or is to have, what stood on its parent.

    `facts` are on their way: to the bridge while it is `on`, else back to the parent,
    because it is not proven yet (`trying`) or not needed any more (`back`). `settings`
    are sysctls of the parent (`net/ipv4/conf/*/rp_filter=1`), for the bridge to be born
    with.
    """

    parent: str
    bridge: str
    state: Literal["trying", "on", "back"]
    facts: tuple[Standing, ...] = ()
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trouble:
    """What could not be done about one object, and since when."""

    mark: str
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class Repair:
    """One drift from the records, and what a pass did about it.

    `mark` says whose object it was, `place` where: the path of a sandbox, "" for the
    host. `before` is what was seen there ("" for nothing), `step` what was done,
    `error` why that was refused, "" if it was not. `at` is when, and `seconds` how long
    after it was noticed. `network` and `container` are names, or short ids.
    """

    at: float
    mark: str
    place: str
    before: str
    step: str
    seconds: float
    error: str = ""
    network: str = ""
    container: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """A device of this host as the kernel lists it.

    `parent` is the device it stands on, if that is in the same namespace, `master` the
    bridge or bond it is a port of; `flavour` and `flag` are a child's mode, `vlan` the
    tag (802.1Q) of a VLAN. `ours`: it has our mark. A VLAN of ours then has the `label`
    people know it by, and a bridge that of the device whose place it has. `halt` is why
    nothing passes it now; `active` is the port that a bond sends by, where that is one.
    """

    name: str
    kind: str
    mac: str
    mtu: int
    loopback: bool = False
    permanent_mac: str = ""
    parent: str = ""
    flavour: str = ""
    flag: str = ""
    vlan: int = 0
    ours: bool = False
    master: str = ""
    label: str = ""
    halt: Halt = ""
    active: str = ""


_AS_ASKED = ("options", "internal", "segments", "network", "ipv4", "ipv6", "mac")


def difference(
    known: Network | Endpoint, asked: Network | Endpoint
) -> dict[str, str] | None:
    """Return the first field in which two of one id differ, and both values."""
    for name in _AS_ASKED:
        if name == "mac" and isinstance(known, Network):
            continue  # the host's own, which nobody asked for
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
