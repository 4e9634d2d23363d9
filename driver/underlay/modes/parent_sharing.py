"""What a network takes of its parent, and who may have the rest of it."""

from __future__ import annotations

from dataclasses import dataclass

from underlay.errors import MixedChildTypes, OtherIpvlanMode, PassthruTaken
from underlay.model import Device

CHILD_KINDS = {
    "macvlan": "macvlan",
    "macvtap": "macvlan",
    "ipvlan": "ipvlan",
    "ipvtap": "ipvlan",
}


@dataclass(frozen=True, slots=True)
class ParentUse:
    """How children sit on a parent, as far as the kernel keeps it for all of them.

    `kind` is that of the children, "" for ports of a bridge, which children do not
    mind. `setting` is what every child of the parent has in common; `alone`: there is
    no room for a second network.
    """

    kind: str
    shared_mode: tuple[str, ...] = ()
    exclusive: bool = False

    @property
    def is_strict(self) -> bool:
        """Tell whether a wrong neighbour would be changed without a word."""
        return bool(self.shared_mode) or self.exclusive

    def check_compatible(self, other: ParentUse, who: str, parent: str) -> None:
        """Raise unless the other, who is there already, leaves room for this one."""
        if not (self.kind and other.kind):
            return
        if self.kind != other.kind:
            raise MixedChildTypes(parent=parent, kind=other.kind, who=who)
        if self.shared_mode != other.shared_mode:
            raise OtherIpvlanMode(
                parent=parent,
                who=who,
                theirs=" ".join(other.shared_mode),
                mine=" ".join(self.shared_mode),
            )
        if self.exclusive or other.exclusive:
            how = " in mode passthru" if other.exclusive else ""
            raise PassthruTaken(parent=parent, other=who, how=how)


def parent_use_of(child: Device) -> ParentUse:
    """Return how a child that somebody else made sits on its parent."""
    kind = CHILD_KINDS[child.kind]
    alone = child.flavour == "passthru"
    if kind != "ipvlan":
        return ParentUse(kind, exclusive=alone)
    return ParentUse(
        kind, (f"ipvlan_mode={child.flavour}", f"ipvlan_flag={child.flag}")
    )
