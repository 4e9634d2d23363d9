"""What the log says, once, about the names of devices."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from underlay.model import Endpoint
from underlay.model.objects import AltName
from underlay.modes.device_name import asked, is_dockers
from underlay.records import Records

log = logging.getLogger(__name__)


@dataclass
class NameLog:
    """Says which name is an alternative one, and which cannot be given."""

    records: Records
    _last: frozenset[AltName] = frozenset()
    _said: set[AltName] = field(default_factory=set)

    def learned(self, endpoint: Endpoint) -> None:
        """Say so if Docker called a device otherwise than was asked for."""
        network, state = self.records.networks.get(endpoint.network), endpoint.learned
        name = asked(network, endpoint) if network else ""
        if not (network and state) or name in ("", state.device):
            return
        facts = {
            "network": network.label,
            "endpoint": endpoint.id[:12],
            "device": state.device,
            "ifname": name,
        }
        if is_dockers(name):
            log.warning(
                "ifname not given: Docker numbers such names itself", extra=facts
            )
        else:
            log.info("the device has its ifname as an alternative name", extra=facts)

    def lacking(self, names: frozenset[AltName]) -> None:
        """Say which names cannot be given: all in the host, and those just looked for.

        A pass looks into few sandboxes. What was said of the others holds on.
        """
        last, self._last = self._last, names
        # In the host, the device of an earlier start may be about to go.
        due = {name for name in names if name.sandbox or name in last}
        for name in due - self._said:
            facts = {
                "device": name.device,
                "altname": name.name,
                "sandbox": name.sandbox,
            }
            log.warning("alternative name not given: it is in use", extra=facts)
        get = self.records.endpoints.get
        inside = {n for n in self._said if n.sandbox and get(n.owner.endpoint)}
        self._said = due | inside
