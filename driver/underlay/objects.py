"""Kernel objects as values: what must be there, and what was seen there.

Each has a `key`, by which wanted and seen are paired, a `rank` in the order of
building, and the `owner` it exists for. Only links and sysctls are amended in place;
whatever else differs is made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, Literal

from underlay import model

MARK = "underlay:"
PREFIX = "ul-"
TABLE = "underlay"
# A link is born in this group and leaves it when its alias is set: the kernel takes no
# alias at creation, and a death in between must not leave a link nobody owns.
UNFINISHED_GROUP = 157
# What routes and neighbours of ours carry, and addresses on them.
PROTOCOL = 157
# What stands on links: filters before those are up, addresses before the routes that
# may need them as their source.
_SHARED, _TOP, _FILTERS, _ADDRESSES, _ROUTES = 500, 1000, 1500, 2000, 3000
MAIN_TABLE = 254
# The metric of a route to one container; the kernel has no lower one for IPv6 without
# one being given.
HOST_METRIC: dict[int, int] = {4: 0, 6: 1024}
Verb = Literal["add", "del"]


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """The network or endpoint an object exists for.

    What several of them need (a VLAN, a shim, forwarding) exists for none of them by
    name: `shared` says what it is instead. `end` tells the host's end of an endpoint's
    pair of devices from the container's, which has "".
    """

    network: str = ""
    endpoint: str = ""
    shared: str = ""
    end: str = ""

    @property
    def mark(self) -> str:
        """Return what the object carries in the kernel; survives move and rename."""
        end = f"/{self.end}" if self.end else ""
        return f"{MARK}{self.network}:{self.shared or self.endpoint}{end}"

    @property
    def device(self) -> str:
        """Return the host-side device name, stable and within IFNAMSIZ (15)."""
        identity = self.mark.removeprefix(MARK).encode()
        return PREFIX + hashlib.sha256(identity).hexdigest()[:12]

    @property
    def host_end(self) -> Owner:
        """Return the owner of the host's end of an endpoint's pair."""
        return replace(self, end="host")

    @property
    def whole(self) -> Owner:
        """Return for whom both ends of a pair exist."""
        return replace(self, end="") if self.end else self

    @property
    def vlan(self) -> str:
        """Return the name (eth0.50) if this is a VLAN; other shared things have a /."""
        return "" if "/" in self.shared else self.shared

    @classmethod
    def parse(cls, mark: str) -> Owner:
        """Read a mark back."""
        network, _, rest = mark.removeprefix(MARK).partition(":")
        if not network:
            return cls(shared=rest)
        endpoint, _, end = rest.partition("/")
        return cls(network, endpoint, end=end)


@dataclass(frozen=True, slots=True)
class Link:
    """A network device of ours. A field left None is not compared: not our business.

    A link seen without an owner was born in a process that died before it could set
    the mark. `flavour` and `flag` are the mode of a child; `vlan` is a tag (802.1Q).
    `peer` is the container's end of a pair, made in the same breath as this one.
    `master` is the bridge it is a port of. `settings` are sysctls of the device, such
    as net/ipv4/conf/*/rp_filter=2, set at its birth before it is up; a `guarded` one is
    up only after the filters on it are made.
    """

    name: str
    kind: str
    owner: Owner | None
    parent: str | None = None
    flavour: str | None = None
    flag: str | None = None
    vlan: int | None = None
    mac: str | None = None
    mtu: int | None = None
    up: bool | None = None
    master: str | None = None
    peer: Link | None = None
    settings: tuple[str, ...] = ()
    guarded: bool = False

    @property
    def key(self) -> str:
        """Return its identity: the mark, for Docker changes names."""
        return self.owner.mark if self.owner else f"unfinished:{self.name}"

    @property
    def device(self) -> str:
        """Return the device it is."""
        return self.name

    @property
    def rank(self) -> int:
        """Return the build order: what others stand on comes first."""
        if self.kind == "vlan" and self.owner:
            return self.owner.vlan.count(".")  # a stacked tag has more dots
        if self.owner and self.owner.shared:
            return _SHARED
        return _TOP if self.parent or self.master else 0

    def same(self, seen: Any) -> bool:
        """Tell whether `seen` can be amended into this, rather than made again."""
        return bool(
            seen.kind == self.kind
            and self.parent in (None, seen.parent)
            and self.vlan in (None, seen.vlan)
        )

    def satisfied_by(self, seen: Any) -> bool:
        """Tell whether every field we decide has the value we want.

        The mode of an ipvlan link is no longer ours to decide once it is there: it is
        that of every child of the parent, other people's too.
        """
        modes = [(self.flavour, seen.flavour)] if self.kind != "ipvlan" else []
        return self.same(seen) and all(
            ours in (None, theirs)
            for ours, theirs in (
                *modes,
                (self.mac, seen.mac),
                (self.mtu, seen.mtu),
                (self.up, seen.up),
                (self.master, seen.master),
            )
        )


@dataclass(frozen=True, slots=True)
class Address:
    """An address of the host on a device of ours.

    A host-length one has scope link: the host is not to choose it as a source towards
    others. It goes with its device, and is never deleted alone.
    """

    interface: model.Interface
    device: str
    owner: Owner | None = None

    rank = _ADDRESSES

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return Address, self.interface, self.device

    def same(self, seen: Any) -> bool:
        """Tell whether `seen` is this one."""
        return bool(seen.key == self.key)

    satisfied_by = same

    def words(self, verb: Verb) -> str:
        """Return the step in iproute2's words."""
        if verb == "del":
            return f"ip addr del {self.interface} dev {self.device}"
        once = " nodad" if self.interface.version == 6 else ""
        return f"ip addr add {self.interface} dev {self.device} scope link{once}"


@dataclass(frozen=True, slots=True)
class Route:
    """A route of ours: to a device, or into nothing (a blackhole) without one.

    `metric` 10 means that a routing daemon may announce it. `source` is the address
    the host speaks from.
    """

    destination: model.Subnet
    device: str | None = None
    metric: int = 0
    table: int = MAIN_TABLE
    source: model.Address | None = None
    owner: Owner | None = None

    rank = _ROUTES

    @property
    def key(self) -> Hashable:
        """Return its identity; a destination has one route of ours at a metric."""
        return Route, self.table, self.destination, self.metric

    def same(self, seen: Any) -> bool:
        """Tell whether `seen` leads where this one does."""
        return bool((seen.device, seen.source) == (self.device, self.source))

    satisfied_by = same

    def words(self, verb: Verb) -> str:
        """Return the step in iproute2's words."""
        family = " -6" if self.destination.version == 6 else ""
        what = "" if self.device else "blackhole "
        words = f"ip{family} route {verb} {what}{self.destination}"
        words += f" dev {self.device}" if self.device else ""
        words += f" proto {PROTOCOL} metric {self.metric}"
        words += f" src {self.source}" if self.source else ""
        return words + (f" table {self.table}" if self.table != MAIN_TABLE else "")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What a device answers for (a proxy entry), or whom it need not ask (`mac`)."""

    address: model.Address
    device: str
    mac: str = ""
    owner: Owner | None = None

    rank = _ROUTES

    @property
    def key(self) -> Hashable:
        """Return its identity: a device has one entry of a sort for an address."""
        return Neighbour, bool(self.mac), self.address, self.device

    def same(self, seen: Any) -> bool:
        """Tell whether `seen` says the same."""
        return bool(seen.mac == self.mac)

    satisfied_by = same

    def words(self, verb: Verb) -> str:
        """Return the step in iproute2's words."""
        if not self.mac:
            return f"ip neigh {verb} proxy {self.address} dev {self.device}"
        how = f" lladdr {self.mac} nud permanent" if verb == "add" else ""
        return f"ip neigh {verb} {self.address}{how} dev {self.device}"


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A setting of the host, by its path under /proc/sys. It is never deleted.

    `turn` is its place among those that are written for one reason.
    """

    path: str
    value: str
    turn: int = 0
    owner: Owner | None = None

    device = ""

    @property
    def rank(self) -> int:
        """Return the build order: settings last, in their own order."""
        return 2 * _ROUTES + self.turn

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return Sysctl, self.path

    def same(self, seen: Any) -> bool:
        """Tell that it can be amended."""
        return bool(seen.path == self.path)

    def satisfied_by(self, seen: Any) -> bool:
        """Tell whether it has the value."""
        return bool(seen.value == self.value)

    def words(self, verb: Verb) -> str:
        """Return the step as sysctl takes it."""
        del verb
        return f"sysctl -w {self.path.replace('/', '.')}={self.value}"


@dataclass(frozen=True, slots=True)
class Permit:
    """A rule in Docker's own chain DOCKER-USER that lets traffic of ours be forwarded.

    Docker sets the policy of FORWARD to DROP, and an accept in another table does not
    override a drop. Where there is no such chain, nothing is missing.
    """

    family: model.Family
    match: str
    owner: Owner | None = None

    device = ""
    rank = _ROUTES

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return Permit, self.family, self.match

    def same(self, seen: Any) -> bool:
        """Tell whether `seen` is this one."""
        return bool(seen.key == self.key)

    satisfied_by = same

    def words(self, verb: Verb) -> str:
        """Return the step in iptables' words."""
        tool = "iptables" if self.family == 4 else "ip6tables"
        how = "-I" if verb == "add" else "-D"
        comment = f'-m comment --comment "{MARK}"'
        return f"{tool} {how} DOCKER-USER {self.match} {comment} -j ACCEPT"


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of the nftables table `underlay` of a family, with its rules.

    `hook` is the place in the kernel it hangs on; `device` the one it is bound to, if
    it is. Its rules are compared by their number: nft prints them in its own words.
    """

    family: Literal["ip", "netdev"]
    name: str
    hook: str
    rules: tuple[str, ...]
    device: str = ""
    owner: Owner | None = None

    rank = _FILTERS

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return Chain, self.family, self.name

    def same(self, seen: Any) -> bool:
        """Tell whether `seen` has as many rules."""
        return bool(len(seen.rules) == len(self.rules))

    satisfied_by = same

    def words(self, verb: Verb) -> str:
        """Return the step in nft's words."""
        chain = f"{self.family} {TABLE} {self.name}"
        if verb == "del":
            return f"nft delete chain {chain}"
        rules = "; ".join(self.rules)
        return f"nft add chain {chain} {{ type {self.hook}; {rules} }}"


Object = Link | Address | Route | Neighbour | Sysctl | Permit | Chain
