"""What a network takes of its parent, and who may have the rest of it."""

from __future__ import annotations

from dataclasses import dataclass

from underlay.errors import OtherChildren, OtherIpvlanMode, PassthruTaken
from underlay.model import Device

CHILD_KINDS = {
    "macvlan": "macvlan",
    "macvtap": "macvlan",
    "ipvlan": "ipvlan",
    "ipvtap": "ipvlan",
}


@dataclass(frozen=True, slots=True)
class Seat:
    """How children sit on a parent, as far as the kernel keeps it for all of them.

    `kind` is that of the children, "" for ports of a bridge, which children do not
    mind. `setting` is what every child of the parent has in common; `alone`: there is
    no room for a second network.
    """

    kind: str
    setting: tuple[str, ...] = ()
    alone: bool = False

    @property
    def is_strict(self) -> bool:
        """Tell whether a wrong neighbour would be changed without a word."""
        return bool(self.setting) or self.alone

    def check_beside(self, other: Seat, who: str, parent: str) -> None:
        """Raise unless the other, who is there already, leaves room for this one."""
        if not (self.kind and other.kind):
            return
        if self.kind != other.kind:
            raise OtherChildren(parent=parent, kind=other.kind, who=who)
        if self.setting != other.setting:
            raise OtherIpvlanMode(
                parent=parent,
                who=who,
                theirs=" ".join(other.setting),
                mine=" ".join(self.setting),
            )
        if self.alone or other.alone:
            how = " in mode passthru" if other.alone else ""
            raise PassthruTaken(parent=parent, other=who, how=how)


def seat_of(child: Device) -> Seat:
    """Return how a child that somebody else made sits on its parent."""
    kind = CHILD_KINDS[child.kind]
    alone = child.flavour == "passthru"
    if kind != "ipvlan":
        return Seat(kind, alone=alone)
    return Seat(kind, (f"ipvlan_mode={child.flavour}", f"ipvlan_flag={child.flag}"))
