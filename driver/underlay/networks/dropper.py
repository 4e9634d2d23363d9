"""Deleting what endpoints had, after they are off the records: many at once.

For every request that deletes a link the kernel waits about 20 ms, for an RCU grace
period. It waits once for a whole group of links. So DeleteEndpoint does not wait: one
thread deletes the devices of all endpoints that ended meanwhile. Until then their
addresses are not free, and what needs the devices gone waits for them (`finish`). If
the service dies in between, the next one's first pass finds devices without a record,
and deletes them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass

from underlay.errors import RecordsUnwritable, UnderlayError
from underlay.ipam import leases
from underlay.ipam.live_endpoints import LiveEndpoints
from underlay.model import Endpoint, Network
from underlay.model.objects import Owner
from underlay.networks.builder import Builder
from underlay.planning.desired import DesiredState
from underlay.records import Records

log = logging.getLogger(__name__)

# The kernel needs 50 ms for 50 devices; more is spent only beside programs that hang.
FINISH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """An endpoint that is off the records, as it was; `had` is what it wanted."""

    owner: Owner
    had: DesiredState
    network: Network | None = None
    endpoint: Endpoint | None = None

    @property
    def parent(self) -> str:
        """Return the parent of its network, "" if there is none or it is unknown."""
        return self.network.uplink.parent if self.network else ""


class Dropper:
    """The endpoints whose devices are still to be deleted; used by many threads.

    `clock` gives seconds since 1970. Before `run` is called, and after `stop`, `add`
    deletes at once.
    """

    def __init__(
        self,
        records: Records,
        builder: Builder,
        live_endpoints: LiveEndpoints,
        clock: Callable[[], float],
    ) -> None:
        self._records, self._builder = records, builder
        self._live_endpoints, self._clock = live_endpoints, clock
        self._changed = threading.Condition()
        self._due: dict[Owner, Ended] = {}
        self._dropping: dict[Owner, Ended] = {}
        self._is_running = False

    @property
    def owners(self) -> set[Owner]:
        """Return the owners whose devices are still to be deleted."""
        with self._changed:
            return self._pending()

    def add(self, ended: Ended) -> None:
        """Have the devices of an endpoint deleted soon."""
        with self._changed:
            self._due[ended.owner] = ended
            self._changed.notify_all()
            if self._is_running:
                return
        self._drop_due()

    def finish(self, concerns: Callable[[Ended], bool]) -> bool:
        """Wait until these are deleted; return whether there were any.

        Those that are added meanwhile are not waited for.
        """
        with self._changed:
            known = [*self._due.values(), *self._dropping.values()]
            left = {ended.owner for ended in known if concerns(ended)}
            self._changed.wait_for(
                lambda: left.isdisjoint(self._pending()), FINISH_SECONDS
            )
            return bool(left)

    def finish_all(self) -> bool:
        """Wait until all are deleted; return whether there were any."""
        return self.finish(lambda _: True)

    def _pending(self) -> set[Owner]:
        return self._due.keys() | self._dropping.keys()

    def run(self) -> None:
        """Delete what is added, in the calling thread, until told to stop."""
        with self._changed:
            self._is_running = True
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or not self._is_running)
                if not self._due:
                    return
            self._drop_due()

    def stop(self) -> None:
        """End `run` as soon as all is deleted."""
        with self._changed:
            self._is_running = False
            self._changed.notify_all()

    def _drop_due(self) -> None:
        with self._changed:
            taken, self._due = self._due, {}
            self._dropping |= taken
        try:
            self._drop(taken.values())
        except UnderlayError as error:
            log.warning("devices not deleted yet, retrying", extra={"error": error})
        except Exception:
            # A bug in one deletion must not end all later ones. A pass deletes these.
            log.exception("internal error")
        finally:
            self._free(taken)
            with self._changed:
                for owner in taken:
                    self._dropping.pop(owner, None)
                self._changed.notify_all()

    def _drop(self, ended: Collection[Ended]) -> None:
        # Under no lock: what is shared is dropped under the write lock.
        self._builder.delete_links({e.owner for e in ended})
        for one in ended:
            self._builder.drop({one.owner, *one.had.shared}, one.had)

    def _free(self, owners: Collection[Owner]) -> None:
        """Free the addresses that Docker released before the devices were gone.

        No flush to the disk: after a power cut there are no devices, and the cleanup
        frees what is released and has no endpoint.
        """
        try:
            with self._records.transaction(durable=False):
                for owner in owners:
                    self._live_endpoints.being_deleted.discard(owner.endpoint)
                    leases.end_returned(self._records, owner.endpoint, self._clock())
        except RecordsUnwritable as error:
            log.warning("address not freed yet, retrying", extra={"error": error})
            self._live_endpoints.being_deleted.difference_update(
                o.endpoint for o in owners
            )
