"""Network devices of ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from underlay.model.objects.common import SHARED, TOP
from underlay.model.owner import Owner


@dataclass(frozen=True, slots=True)
class Link:
    """A network device of ours. A field left None is not compared: not our business.

    A link seen without an owner was born in a process that died before it could set
    the mark. `flavour` and `flag` are the mode of a child; `vlan` is a tag (802.1Q).
    `peer` is the container's end of a pair, made in the same breath as this one.
    `room` is the least MTU it is to have. `master` is the bridge it is a port of,
    `group` the group of devices it is in, by which rules of the firewall know it.
    `like` is a device whose MTU and MAC it has from its birth, and from becoming a
    port, where none are given. `settings` are
    sysctls of the device, such as net/ipv4/conf/*/rp_filter=2, set at its birth before
    it is up and kept, as far as the kernel tells them with a link; `inherited` are
    those of a device in whose place it is, set at its birth only. A `guarded` one is up
    only after the filters on it are made.

    `sandbox` is the path of the namespace it is to be in, "" for the host's; what it
    stands on is in the host in any case. A `stand_in` keeps the place of a device that
    cannot be made now: any kind of device will do.
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

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def device(self) -> str:
        """Return the device it is."""
        return self.name

    @property
    def build_order(self) -> int:
        """Return the build order: what others stand on comes first."""
        if self.kind == "vlan" and self.owner:
            return self.owner.vlan.count(".")  # a stacked tag has more dots
        if self.owner and self.owner.shared:
            return SHARED
        return TOP if self.parent or self.master else 0

    def is_amendable_from(self, seen: Any) -> bool:
        """Tell whether `seen` can be amended into this, rather than made again."""
        # From inside a sandbox it may not be possible to tell what it stands on.
        unknown = seen.sandbox and seen.parent is None
        return self.placeholder or bool(
            seen.kind == self.kind
            and (unknown or self.parent in (None, seen.parent))
            and self.vlan in (None, seen.vlan)
        )

    def satisfied_by(self, seen: Any) -> bool:
        """Tell whether every field and setting we decide has the value we want."""
        return (
            self.is_amendable_from(seen)
            and self.attributes_match(seen)
            and not self.differing_sysctls(seen)
        )

    def differing_sysctls(self, seen: Any) -> tuple[str, ...]:
        """Return the settings that `seen` shows with another value."""
        return _unlike(self.sysctls, seen.sysctls)

    def attributes_match(self, seen: Any) -> bool:
        """Tell whether every field we decide, but the settings, has its value.

        The mode of an ipvlan link is no longer ours to decide once it is there: it is
        that of every child of the parent, other people's too.
        """
        return (
            (self.kind == "ipvlan" or self.flavour in (None, seen.flavour))
            and self.mac in (None, seen.mac)
            and self.mtu in (None, seen.mtu)
            and (self.room or 0) <= (seen.mtu or self.room or 0)
            and self.up in (None, seen.up)
            and self.master in (None, seen.master)
            and self.group in (None, seen.group)
        )


@lru_cache  # thousands of devices have the same ones
def _unlike(wanted: tuple[str, ...], shown: tuple[str, ...]) -> tuple[str, ...]:
    values = dict(setting.split("=") for setting in shown)
    pairs = ((setting, *setting.split("=")) for setting in wanted)
    return tuple(s for s, path, value in pairs if values.get(path, value) != value)
