"""Building and dropping what a few owners need: the verbs' way to touch the kernel.

What is built is built before the record is committed, what is dropped is dropped after
it: death at any point leaves surplus in the kernel, which a pass removes, and never a
promise that nothing stands behind.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from underlay.errors import (
    KernelRefused,
    RecordsUnwritable,
    StillCarries,
    UnderlayError,
)
from underlay.kernel import Kernel
from underlay.objects import Owner
from underlay.plan import plan
from underlay.records import Records
from underlay.steps import Delete, Step
from underlay.wanted import Wanted, of_endpoint, of_network

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Builder:
    """Makes the kernel match the records for a few owners, at a cost of just these."""

    records: Records
    kernel: Kernel

    @contextmanager
    def building(self, owner: Owner) -> Iterator[None]:
        """Change the record, build what it now wants, COMMIT; or leave nothing.

        The caller changes the record inside; raises KernelRefused, RecordsUnwritable.
        """
        owners = {owner}
        try:
            self.records.check_there()
            with self.records.writing():
                yield
                if not owner.endpoint:
                    owners |= self.owners(owner.network)
                self.build(owners)
        except UnderlayError:
            self.drop(owners)
            raise

    def build(self, owners: Collection[Owner]) -> None:
        """Bring about what the records want for owners; part of a transaction."""
        for step in self.steps(owners):
            log.debug("step", extra={"step": str(step)})
            self.apply(step)

    def drop(self, owners: Collection[Owner], want: Wanted | None = None) -> None:
        """Delete what nothing wants any more; what is refused is left to the pass."""
        if not any(owner.vlan for owner in owners):
            self._delete(owners, want)
            return
        # Others may be about to stand on a VLAN: their builds hold the lock.
        try:
            with self.records.writing(durable=False):
                self._delete(owners, want)
        except RecordsUnwritable as error:
            log.warning("not dropped", extra={"error": error})

    def apply(self, step: Step) -> None:
        """Take a step, unless it would cost a container its network."""
        link = step.object
        carrier = isinstance(step, Delete) and link.kind in ("vlan", "dummy")
        if carrier and self.kernel.carries(link.name):
            raise StillCarries(step=step, device=link.name)
        self.kernel.apply(step)

    def steps(
        self,
        owners: Collection[Owner],
        devices: Collection[str] = (),
        want: Wanted | None = None,
    ) -> tuple[Step, ...]:
        """Plan for a few owners: look first, read second."""
        seen = self.kernel.observe({o.device for o in owners}.union(devices) - {""})
        mine = [o for o in seen if o.owner is None or o.owner in owners]
        if want is None:
            want = sum((self._wanted_of(o) for o in owners), Wanted())
        return plan(want, mine)

    def owners(self, network: str) -> set[Owner]:
        """Return for whom a network's own objects exist: itself, VLANs it shares."""
        known = self.records.networks.get(network)
        objects = of_network(known).objects if known else ()
        return {o.owner for o in objects if o.owner}

    def _wanted_of(self, owner: Owner) -> Wanted:
        networks = self.records.networks
        network = networks.get(owner.network)
        if owner.vlan:
            network = networks.any_on_vlan(owner.vlan)
        if network is None:
            return Wanted()
        if not owner.endpoint:
            return of_network(network).of(owner)
        endpoint = networks.endpoint(owner.endpoint)
        if endpoint is None or endpoint.network != owner.network:
            return Wanted()
        return of_endpoint(network, endpoint)

    def _delete(self, owners: Collection[Owner], want: Wanted | None) -> None:
        for step in self.steps(owners, want=want):
            if not isinstance(step, Delete):
                continue
            log.debug("step", extra={"step": str(step)})
            try:
                self.apply(step)
            except KernelRefused as error:
                log.warning("step refused", extra={"error": error})
