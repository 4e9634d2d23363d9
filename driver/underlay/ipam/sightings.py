"""Which machines were heard lately to have addresses of our pools."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from underlay.model import IpAddress, Sighting

# So many addresses are remembered: those heard of longest ago go first.
MOST = 4096
_Key = tuple[str, IpAddress]


@dataclass
class Sightings:
    """The MAC that an address was heard with last on a parent; used by many threads."""

    _seen: dict[_Key, tuple[str, float]] = field(default_factory=dict)
    # Those that other hosts have leased, and that may not be up yet.
    _held: dict[_Key, tuple[str, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, parent: str, seen: Sighting, at: float) -> None:
        """Note what was heard of an address at a moment."""
        with self._lock:
            for known in (self._seen, self._held)[: 1 + (seen.kind == "hold")]:
                known.pop((parent, seen.address), None)
                known[parent, seen.address] = seen.mac, at
                if len(known) > MOST:
                    del known[next(iter(known))]

    def since(self, parent: str, address: IpAddress, moment: float) -> str:
        """Return the MAC that an address was heard with after a moment, or ""."""
        mac, at = self._seen.get((parent, address), ("", moment))
        return mac if at > moment else ""

    def held_since(self, parent: str, address: IpAddress, moment: float) -> str:
        """Return the MAC of a host that has leased an address since then, or ""."""
        mac, at = self._held.get((parent, address), ("", moment))
        return mac if at > moment else ""
