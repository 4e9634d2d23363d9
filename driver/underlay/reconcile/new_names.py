"""When a pass has names to give in the host: Docker tells them after the start."""

from __future__ import annotations

from dataclasses import dataclass, field

from underlay.modes import mode_of, veth
from underlay.records import Records


@dataclass
class NewNames:
    """Tells whether containers have got names since it was asked last."""

    records: Records
    _last: dict[str, str] = field(default_factory=dict)

    def any(self) -> bool:
        """Return whether there are, on a host with devices that get them."""
        networks = self.records.networks.all()
        if not any(mode_of(n.options).KIND == veth.KIND for n in networks):
            self._last = {}
            return False
        last, self._last = self._last, self.records.endpoints.containers()
        return any(name and last.get(e) != name for e, name in self._last.items())
