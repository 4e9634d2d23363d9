"""What a network takes of its parent, and which networks can share the parent."""

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
    """How the devices of a network use their parent.

    `kind` is the kind of the children, "" for ports of a bridge, which exclude no
    children. `shared_mode` is what the kernel sets for all children of a parent alike;
    `exclusive`: there is no room for a second network.
    """

    kind: str
    shared_mode: tuple[str, ...] = ()
    exclusive: bool = False

    @property
    def is_strict(self) -> bool:
        """Return whether the kernel would silently change existing children."""
        return bool(self.shared_mode) or self.exclusive

    def check_compatible(self, other: ParentUse, holder: str, parent: str) -> None:
        """Raise unless the use that is there already, by `holder`, leaves room."""
        if not (self.kind and other.kind):
            return
        if self.kind != other.kind:
            raise MixedChildTypes(parent=parent, kind=other.kind, who=holder)
        if self.shared_mode != other.shared_mode:
            raise OtherIpvlanMode(
                parent=parent,
                who=holder,
                theirs=" ".join(other.shared_mode),
                mine=" ".join(self.shared_mode),
            )
        if self.exclusive or other.exclusive:
            how = " in mode passthru" if other.exclusive else ""
            raise PassthruTaken(parent=parent, other=holder, how=how)


def parent_use_of(child: Device) -> ParentUse:
    """Return how a child that another program made uses its parent."""
    kind = CHILD_KINDS[child.kind]
    exclusive = child.flavour == "passthru"
    if kind != "ipvlan":
        return ParentUse(kind, exclusive=exclusive)
    return ParentUse(
        kind, (f"ipvlan_mode={child.flavour}", f"ipvlan_flag={child.flag}")
    )
