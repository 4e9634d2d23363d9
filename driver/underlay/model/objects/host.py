"""What belongs to the host, and is set or moved for as long as a network needs it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from underlay import model
from underlay.model.objects.common import (
    ADDRESSES,
    ROUTES,
    SHARED,
    KernelObject,
    Verb,
    word,
)
from underlay.model.owner import Owner
from underlay.model.text import as_sysctl


@dataclass(frozen=True, slots=True)
class Sysctl(KernelObject):
    """A sysctl of the host, by its path under /proc/sys. It is never deleted.

    `write_order` is its place among those that are written for one reason.
    """

    path: str
    value: str
    write_order: int = 0
    owner: Owner | None = None

    device = ""

    @property
    def build_order(self) -> int:
        """Return the build order: sysctls last, in their own order."""
        return 2 * ROUTES + self.write_order

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return Sysctl, self.path

    def satisfied_by(self, seen: Any) -> bool:
        """Return whether it has the value."""
        return bool(seen.value == self.value)

    def command(self, verb: Verb) -> str:
        """Return the step in sysctl's words."""
        del verb
        return f"sysctl -w {word(f'{as_sysctl(self.path)}={self.value}')}"


@dataclass(frozen=True, slots=True)
class BridgePort(KernelObject):
    """A device of the host as a port of the bridge of ours that takes its place."""

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

    def satisfied_by(self, seen: Any) -> bool:
        """Return whether it is a port of that bridge."""
        return bool(seen.master == self.master)

    def command(self, verb: Verb) -> str:
        """Return the step in iproute2's words."""
        how = f"master {word(self.master)}" if verb == "add" else "nomaster"
        return f"ip link set {word(self.name)} {how}"


@dataclass(frozen=True, slots=True)
class MovedEntry(KernelObject):
    """An address or route of the host that must be on one of two devices.

    It is the administrator's: moved, never deleted. `apart` is the other device,
    `write_order` its place among those that are moved together.
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

    def satisfied_by(self, seen: Any) -> bool:
        """Return whether it is on the right device, and on no other."""
        return bool(seen.device == self.device)

    def command(self, verb: Verb) -> str:
        """Return the step in iproute2's words."""
        del verb
        family = " -6" if ":" in self.entry.words else ""
        what = "addr" if self.entry.what == "address" else "route"
        one = f"ip{family} {what}"
        words = self.entry.words
        if self.device == self.apart:  # as it was seen, on the wrong device
            return f"{one} add {words} dev {word(self.device)}"
        return (
            f"{one} replace {words} dev {word(self.device)};"
            f" {one} del {words} dev {word(self.apart)}"
        )
