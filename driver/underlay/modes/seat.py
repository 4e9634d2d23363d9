"""What a network takes of its parent, and who may have the rest of it."""

from __future__ import annotations

from dataclasses import dataclass

from underlay.errors import OtherChildren, OtherIpvlanMode, PassthruTaken


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
