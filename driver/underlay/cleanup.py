"""Freeing what is dead, and only what is dead: two strikes, a grace time apart.

A dockerd that was killed forgets endpoints and addresses without a word. What it does
not list any more, whose sandbox is gone too, is a suspect; only a suspect that is one
again after the grace time is freed, by the verb Docker would have used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from underlay.engine import Engine
from underlay.ipam import Ipam
from underlay.kernel import Kernel
from underlay.model import DockerView, Endpoint, Tenure
from underlay.records import Records

log = logging.getLogger(__name__)

DAY_SECONDS = 86400.0


@dataclass
class Cleanup:
    """Heeds what dockerd says. `grace` is in seconds, `clock` tells them since 1970."""

    records: Records
    kernel: Kernel
    engine: Engine
    ipam: Ipam
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    grace: float
    history_days: float
    _suspects: dict[str, float] = field(default_factory=dict)

    def heed(self, view: DockerView) -> None:
        """Learn names from Docker's view, and free what was seen dead twice."""
        self._learn_names(view)
        dead = {f"endpoint {e.id}": e for e in self._dead_endpoints(view)}
        lost = {f"address {t.id}": t for t in self._lost_addresses(view)}
        for key in self._condemned({*dead, *lost}):
            if key in dead:
                endpoint = dead[key]
                log.warning("endpoint freed", extra={"endpoint": endpoint.id[:12]})
                self.engine.delete_endpoint(endpoint.network, endpoint.id)
            else:
                log.warning("address freed", extra={"address": lost[key].address})
                self.ipam.release_tenure(lost[key])
        self.records.addresses.forget_before(
            self.clock() - self.history_days * DAY_SECONDS
        )

    def _condemned(self, suspects: set[str]) -> list[str]:
        """Return who is a suspect again, the grace time after the first time."""
        now = self.monotonic()
        self._suspects = {key: self._suspects.get(key, now) for key in suspects}
        return [
            k for k, since in self._suspects.items() if now - since >= self.grace > 0
        ]

    def _dead_endpoints(self, view: DockerView) -> list[Endpoint]:
        return [
            endpoint
            for endpoint in self.records.networks.endpoints()
            if endpoint.id not in view.endpoints
            and not (endpoint.sandbox and self.kernel.sandbox_lives(endpoint.sandbox))
        ]

    def _lost_addresses(self, view: DockerView) -> list[Tenure]:
        return [
            tenure
            for tenure in self.records.addresses.unattended()
            if tenure.address not in view.addresses
        ]

    def _learn_names(self, view: DockerView) -> None:
        for known in self.records.networks.all():
            name = next((n.name for n in view.networks if n.id == known.id), known.name)
            if name != known.name:
                self.records.networks.rename(known.id, name)
        for pool in self.records.addresses.pools():
            names = sorted(
                network.name
                for network in view.networks
                if network.domain == pool.domain and pool.subnet in network.subnets
            )
            if names != list(pool.holders):
                self.records.addresses.name_holders(pool.id, names)
        for endpoint in self.records.networks.endpoints():
            name = view.endpoints.get(endpoint.id, endpoint.container)
            if name != endpoint.container:
                with self.records.writing():
                    self.records.networks.name_container(endpoint.id, name)
                    self.records.addresses.name_container(endpoint.id, name)
