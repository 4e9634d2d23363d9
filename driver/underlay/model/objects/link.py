"""The network devices that the service creates, and their alternative names."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from underlay.model.objects.common import (
    NAMES,
    SHARED,
    TOP,
    KernelObject,
    Verb,
    differing,
    nsenter,
    word,
)
from underlay.model.owner import Owner


@dataclass(frozen=True, slots=True)
class Link(KernelObject):
    """A network device. A field that is None is not compared, and never changed.

    A link observed without an owner was created by a process that died before it could
    set the mark.

    `flavour` and `flag` are the mode of a macvlan or ipvlan child; `queue`
    is how many broadcasts wait for a macvlan child at the most. `vlan` is the tag
    (802.1Q). `peer` is the other end of a veth, created in the same request. `master`
    is the bridge it is a port of, `group` the device group that firewall rules match.
    `room` is the least MTU it must have. `copy_from` is a device whose MTU and MAC it
    gets where none are given: when it is created and when it becomes a port.

    `sysctls`, such as net/ipv4/conf/*/rp_filter=2, are set before it is up, and again
    when they change, as far as the kernel reports them with the link. `initial_sysctls`
    are those of the device it replaces, and are set once. A link that is
    `up_after_filters` is set up only when its filters are there.

    `sandbox` is the path of its namespace, "" for the host's; its parent is in the host
    in any case. A `placeholder` stands for a device that cannot be created now, and may
    be of any kind.
    """

    name: str
    kind: str
    owner: Owner | None
    parent: str | None = None
    flavour: str | None = None
    flag: str | None = None
    queue: int | None = None
    vlan: int | None = None
    mac: str | None = None
    mtu: int | None = None
    room: int | None = None
    up: bool | None = None
    master: str | None = None
    copy_from: str | None = None
    peer: Link | None = None
    group: int | None = None
    sysctls: tuple[str, ...] = ()
    initial_sysctls: tuple[str, ...] = ()
    up_after_filters: bool = False
    sandbox: str = ""
    placeholder: bool = False
    key: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # The mark, for Docker changes names.
        key = self.owner.mark if self.owner else f"unfinished:{self.name}"
        object.__setattr__(self, "key", key)

    __hash__ = KernelObject.__hash__

    @property
    def device(self) -> str:
        """Return its name."""
        return self.name

    @property
    def build_order(self) -> int:
        """Return the build order: a device comes before those that stand on it."""
        if self.kind == "vlan" and self.owner:
            return self.owner.vlan.count(".")  # a stacked tag has more dots
        if self.owner and self.owner.shared:
            return SHARED
        return TOP if self.parent or self.master else 0

    def is_amendable_from(self, seen: Any) -> bool:
        """Return whether `seen` can be changed into this, or must be created again."""
        # A look into a sandbox may not tell the parent.
        unknown = seen.sandbox and seen.parent is None
        return self.placeholder or bool(
            seen.kind == self.kind
            and (unknown or self.parent in (None, seen.parent))
            and self.vlan in (None, seen.vlan)
        )

    def satisfied_by(self, seen: Any) -> bool:
        """Return whether every field and sysctl that we set has its value."""
        return (
            self.is_amendable_from(seen)
            and self.attributes_match(seen)
            and not self.differing_sysctls(seen)
        )

    def differing_sysctls(self, seen: Any) -> tuple[str, ...]:
        """Return the sysctls that `seen` shows with another value."""
        return differing(self.sysctls, seen.sysctls)

    def attributes_match(self, seen: Any) -> bool:
        """Return whether every field that we set, without the sysctls, has its value.

        The mode of an ipvlan link is set at its creation only: later it is that of
        every child of the parent, also of those that are not ours.
        """
        return (
            (self.kind == "ipvlan" or self.flavour in (None, seen.flavour))
            and self.mac in (None, seen.mac)
            and self.mtu in (None, seen.mtu)
            and (self.room or 0) <= (seen.mtu or self.room or 0)
            and self.up in (None, seen.up)
            and self.master in (None, seen.master)
            and self.group in (None, seen.group)
            and self.has_queue(seen)
        )

    def has_queue(self, seen: Any) -> bool:
        """Return whether `seen` has the queue that we set; old kernels tell of none."""
        return seen.queue is None or self.queue in (None, seen.queue)


@dataclass(frozen=True, slots=True)
class AltName(KernelObject):
    """An alternative name of a device of ours, for people and their programs.

    It is no mark: whatever has the name, the alias tells the owner. One that
    another device has is left out. `sandbox` is as for a link.
    """

    name: str
    device: str
    owner: Owner
    sandbox: str = ""
    key: Hashable = field(init=False, compare=False, repr=False)

    build_order = NAMES

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", (AltName, self.owner.mark, self.name))

    __hash__ = KernelObject.__hash__

    def command(self, verb: Verb) -> str:
        """Return the step in iproute2's words."""
        words = f"{nsenter(self.sandbox)}ip link property {verb}"
        return f"{words} dev {word(self.device)} altname {word(self.name)}"
