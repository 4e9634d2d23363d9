"""Kernel objects as values: what must be there, and what was seen there.

Each has a `key`, by which wanted and seen are paired, a `rank` in the order of
building, and the `owner` it exists for. Only links and sysctls are amended in place;
whatever else differs is made again.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal

from underlay import model
from underlay.owners import MARK as MARK
from underlay.owners import PREFIX as PREFIX
from underlay.owners import Owner as Owner

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


@dataclass(frozen=True, slots=True)
class Link:
    """A network device of ours. A field left None is not compared: not our business.

    A link seen without an owner was born in a process that died before it could set
    the mark. `flavour` and `flag` are the mode of a child; `vlan` is a tag (802.1Q).
    `peer` is the container's end of a pair, made in the same breath as this one.
    `master` is the bridge it is a port of. `like` is a device whose MTU and MAC it has
    from its birth, and from becoming a port, where none are given. `settings` are
    sysctls of the device, such as net/ipv4/conf/*/rp_filter=2, set at its birth before
    it is up; a `guarded` one is up only after the filters on it are made.
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
    like: str | None = None
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
class Port:
    """A device of the host as a port of a bridge of ours in its place."""

    name: str
    master: str
    owner: Owner | None = None

    rank = _SHARED

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return Port, self.name

    @property
    def device(self) -> str:
        """Return what it stands on."""
        return self.master

    def same(self, seen: Any) -> bool:
        """Tell that it can be amended."""
        return bool(seen.key == self.key)

    def satisfied_by(self, seen: Any) -> bool:
        """Tell whether it is a port of that bridge."""
        return bool(seen.master == self.master)

    def words(self, verb: Verb) -> str:
        """Return the step in iproute2's words."""
        how = f"master {self.master}" if verb == "add" else "nomaster"
        return f"ip link set {self.name} {how}"


@dataclass(frozen=True, slots=True)
class Held:
    """An address or route of the host's own that is to be on a device of two.

    It is the administrator's: moved, never deleted. `apart` is the other device; `turn`
    its place among those that are moved together.
    """

    standing: model.Standing
    device: str
    apart: str = ""
    turn: int = 0
    owner: Owner | None = None

    @property
    def rank(self) -> int:
        """Return the build order: the addresses, then the routes that need them."""
        return self.turn + (_ADDRESSES if self.standing.what == "address" else _ROUTES)

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return Held, self.standing.what, self.standing.words

    def same(self, seen: Any) -> bool:
        """Tell that it can be moved."""
        return bool(seen.key == self.key)

    def satisfied_by(self, seen: Any) -> bool:
        """Tell whether it is on the right device, and on no other."""
        return bool(seen.device == self.device)

    def words(self, verb: Verb) -> str:
        """Return the step in iproute2's words."""
        del verb
        family = " -6" if ":" in self.standing.words else ""
        what = "addr" if self.standing.what == "address" else "route"
        one = f"ip{family} {what}"
        words = self.standing.words
        return (
            f"{one} replace {words} dev {self.device};"
            f" {one} del {words} dev {self.apart}"
        )


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


Object = Link | Address | Route | Neighbour | Sysctl | Permit | Chain | Port | Held
