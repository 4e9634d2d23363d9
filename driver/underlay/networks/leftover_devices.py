"""Devices that Docker left in a sandbox when their endpoint ended.

Docker moves a device back before it deletes the endpoint, but not if `docker network
connect` fails half way: "file exists" for a name or a route. Then the device stays in
the container, with its address. The service deletes it with its endpoint. If the kernel
refuses that, a pass retries, and the address is not given to another container before.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from underlay.errors import KernelRefused, RecordsUnwritable
from underlay.kernel import Kernel
from underlay.model import LeftoverDevice
from underlay.model.objects import Link, Object, Owner
from underlay.records import Records

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeftoverDevices:
    """Finds such devices, and remembers where they are until they are gone."""

    records: Records
    kernel: Kernel

    def of(self, owner: Owner, sandboxes: Iterable[str]) -> frozenset[Object]:
        """Return the device of one endpoint in these sandboxes; none is usual."""
        existing = {path for path in sandboxes if self.kernel.sandbox_exists(path)}
        rooms = self.kernel.observe_sandboxes(existing) if existing else {}
        return frozenset(
            o
            for room in rooms.values()
            for o in room
            if isinstance(o, Link) and o.key == owner.mark
        )

    def left_by(self, owner: Owner) -> frozenset[Object]:
        """Return the device of an ending endpoint, if Docker did not move it back."""
        ending = self.records.endpoints.get(owner.endpoint)
        try:
            if not (ending and ending.sandbox) or self.kernel.observe({owner.device}):
                return frozenset()
            return self.of(owner, {ending.sandbox})
        except KernelRefused as error:  # a pass will look again
            log.warning("cannot inspect the sandbox", extra={"error": error})
            return frozenset()

    def note(self, left: Collection[Object]) -> None:
        """Record where such devices are; part of the caller's transaction."""
        for link in left:
            if isinstance(link, Link) and link.owner:
                owner, path = link.owner, link.sandbox
                remnant = LeftoverDevice(owner.network, owner.endpoint, path)
                self.records.endpoints.add_leftover(remnant)

    def places(self) -> set[str]:
        """Return the sandboxes in which there may be some."""
        return {remnant.sandbox for remnant in self.records.endpoints.leftovers()}

    def among(
        self, rooms: Mapping[str, Collection[Object]], known: Collection[str]
    ) -> frozenset[Object]:
        """Return those that were seen in sandboxes; `known` endpoints have none.

        One whose endpoint is not on record, in a network of this host. In a container
        there may be another host of this driver, with networks of its own. As long as
        Docker is to be asked what the records lack, only what is known to have ended.
        """
        links = {
            o
            for room in rooms.values()
            for o in room
            if isinstance(o, Link) and o.owner and o.owner.endpoint
            if o.owner.endpoint not in known
        }
        if not links:
            return frozenset()
        ended = {remnant.endpoint for remnant in self.records.endpoints.leftovers()}
        if not self.records.host.missing_networks():
            ours = {network.id for network in self.records.networks.all()}
            unknown = {o.owner for o in links if o.owner and o.owner.network in ours}
            ended |= {
                owner.endpoint
                for owner in unknown
                if self.records.endpoints.get(owner.endpoint) is None
            }
        return frozenset(o for o in links if o.owner and o.owner.endpoint in ended)

    def forget_gone(self) -> None:
        """Remove devices from the records that are gone, or whose sandbox is.

        Raises RecordsUnwritable, KernelRefused.
        """
        for remnant in self.records.endpoints.leftovers():
            if self._is_gone(remnant):
                with self.records.transaction(durable=False):
                    self.records.endpoints.forget_leftover(remnant.endpoint)

    def _is_gone(self, remnant: LeftoverDevice) -> bool:
        if not self.kernel.sandbox_exists(remnant.sandbox):
            return True
        rooms = self.kernel.observe_sandboxes({remnant.sandbox})
        mark = Owner(remnant.network, remnant.endpoint).mark
        # A sandbox that cannot be read proves nothing.
        seen = rooms.get(remnant.sandbox)
        return seen is not None and all(o.key != mark for o in seen)

    def try_to_forget(self) -> None:
        """Do so as part of a teardown, which always succeeds."""
        try:
            self.forget_gone()
        except (RecordsUnwritable, KernelRefused) as error:
            log.warning(
                "leftover device not forgotten, retrying", extra={"error": error}
            )
