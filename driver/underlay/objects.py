"""Kernel objects as values: what must be there, and what was seen there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

MARK = "underlay:"
PREFIX = "ul-"
# A link is born in this group and leaves it when its alias is set: the kernel takes no
# alias at creation, and a death in between must not leave a link nobody owns.
UNFINISHED_GROUP = 157
_TOP = 1000


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """The network or endpoint an object exists for.

    A `vlan` (eth0.50) exists for as many networks as stand on it, hence for none of
    them by name.
    """

    network: str = ""
    endpoint: str = ""
    vlan: str = ""

    @property
    def mark(self) -> str:
        """Return what the object carries in the kernel; survives move and rename."""
        return f"{MARK}{self.network}:{self.vlan or self.endpoint}"

    @property
    def device(self) -> str:
        """Return the host-side device name, stable and within IFNAMSIZ (15)."""
        identity = self.mark.removeprefix(MARK).encode()
        return PREFIX + hashlib.sha256(identity).hexdigest()[:12]

    @classmethod
    def parse(cls, mark: str) -> Owner:
        """Read a mark back."""
        network, _, rest = mark.removeprefix(MARK).partition(":")
        return cls(network, rest) if network else cls(vlan=rest)


@dataclass(frozen=True, slots=True)
class Link:
    """A network device of ours. A field left None is not compared: not our business.

    A link seen without an owner was born in a process that died before it could set
    the mark. `flavour` and `flag` are the mode of a child; `vlan` is a tag (802.1Q).
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

    @property
    def key(self) -> str:
        """Return its identity: the mark, for Docker changes names."""
        return self.owner.mark if self.owner else f"unfinished:{self.name}"

    @property
    def rank(self) -> int:
        """Return the build order: what others stand on comes first."""
        if self.kind == "vlan" and self.owner:
            return self.owner.vlan.count(".")  # a stacked tag has more dots
        return _TOP if self.parent else 0

    def same_device(self, seen: Link) -> bool:
        """Tell whether `seen` can be amended into this, rather than made again."""
        return (
            seen.kind == self.kind
            and self.parent in (None, seen.parent)
            and self.vlan in (None, seen.vlan)
        )

    def satisfied_by(self, seen: Link) -> bool:
        """Tell whether every field we decide has the value we want.

        The mode of an ipvlan link is no longer ours to decide once it is there: it is
        that of every child of the parent, other people's too.
        """
        modes = [(self.flavour, seen.flavour)] if self.kind != "ipvlan" else []
        return self.same_device(seen) and all(
            ours in (None, theirs)
            for ours, theirs in (
                *modes,
                (self.mac, seen.mac),
                (self.mtu, seen.mtu),
                (self.up, seen.up),
            )
        )


Object = Link
