"""What is the host's own, and set or moved for as long as somebody needs it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from underlay import model
from underlay.model.objects.common import ADDRESSES, ROUTES, SHARED, Verb, word
from underlay.model.owner import Owner


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A setting of the host, by its path under /proc/sys. It is never deleted.

    `turn` is its place among those that are written for one reason.
    """

    path: str
    value: str
    write_order: int = 0
    owner: Owner | None = None

    device = ""

    @property
    def build_order(self) -> int:
        """Return the build order: settings last, in their own order."""
        return 2 * ROUTES + self.write_order

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return Sysctl, self.path

    def is_amendable_from(self, seen: Any) -> bool:
        """Tell that it can be amended."""
        return bool(seen.path == self.path)

    def satisfied_by(self, seen: Any) -> bool:
        """Tell whether it has the value."""
        return bool(seen.value == self.value)

    def command(self, verb: Verb) -> str:
        """Return the step as sysctl takes it."""
        del verb
        return f"sysctl -w {self.path.replace('/', '.')}={self.value}"


@dataclass(frozen=True, slots=True)
class BridgePort:
    """A device of the host as a port of a bridge of ours in its place."""

    name: str
    master: str
    owner: Owner | None = None

    build_order = SHARED

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return BridgePort, self.name

    @property
    def device(self) -> str:
        """Return what it stands on."""
        return self.master

    def is_amendable_from(self, seen: Any) -> bool:
        """Tell that it can be amended."""
        return bool(seen.key == self.key)

    def satisfied_by(self, seen: Any) -> bool:
        """Tell whether it is a port of that bridge."""
        return bool(seen.master == self.master)

    def command(self, verb: Verb) -> str:
        """Return the step in iproute2's words."""
        how = f"master {word(self.master)}" if verb == "add" else "nomaster"
        return f"ip link set {word(self.name)} {how}"


@dataclass(frozen=True, slots=True)
class MovedEntry:
    """An address or route of the host's own that is to be on a device of two.

    It is the administrator's: moved, never deleted. `apart` is the other device; `turn`
    its place among those that are moved together.
    """

    entry: model.HostEntry
    device: str
    apart: str = ""
    write_order: int = 0
    owner: Owner | None = None

    @property
    def build_order(self) -> int:
        """Return the build order: the addresses, then the routes that need them."""
        return self.write_order + (
            ADDRESSES if self.entry.what == "address" else ROUTES
        )

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return MovedEntry, self.entry.what, self.entry.words

    def is_amendable_from(self, seen: Any) -> bool:
        """Tell that it can be moved."""
        return bool(seen.key == self.key)

    def satisfied_by(self, seen: Any) -> bool:
        """Tell whether it is on the right device, and on no other."""
        return bool(seen.device == self.device)

    def command(self, verb: Verb) -> str:
        """Return the step in iproute2's words."""
        del verb
        family = " -6" if ":" in self.entry.words else ""
        what = "addr" if self.entry.what == "address" else "route"
        one = f"ip{family} {what}"
        words = self.entry.words
        if self.device == self.apart:  # as it was seen, where it is not to be
            return f"{one} add {words} dev {word(self.device)}"
        return (
            f"{one} replace {words} dev {word(self.device)};"
            f" {one} del {words} dev {word(self.apart)}"
        )
