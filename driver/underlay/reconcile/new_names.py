"""Where a pass has something to do with names: Docker tells them after the start."""

from __future__ import annotations

from dataclasses import dataclass, field

from underlay.modes import ipv6, mode_of, veth
from underlay.records import Records


@dataclass
class NewNames:
    """Tells which containers have got names since it was asked last."""

    records: Records
    _last: dict[str, str] = field(default_factory=dict)

    def places(self) -> frozenset[str]:
        """Return where to look: in the host ("") if its devices get such names.

        And in the sandboxes of those that make IPv6 addresses, by their names.
        """
        networks = self.records.networks.all()
        paired = any(mode_of(n.options).KIND == veth.KIND for n in networks)
        hearing = {n.id for n in networks if ipv6.is_asked(n.options)}
        if not (paired or hearing):
            self._last = {}
            return frozenset()
        last, self._last = self._last, self.records.endpoints.containers()
        new = [e for e, name in self._last.items() if name and last.get(e) != name]
        found = map(self.records.endpoints.get, new if hearing else ())
        inside = {e.sandbox for e in found if e and e.network in hearing}
        return frozenset({"" for _ in new if paired} | inside - {""})
