"""Shims and their filters, which nft makes: never while other verbs wait to write.

A shim is created first, down; then its filters; then it is set up, in the transaction
that needs it. The device is deleted first, then the filters.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from underlay.errors import KernelRefused
from underlay.kernel import Kernel
from underlay.model.objects import Link, NftChain, Owner, SharedOwner
from underlay.model.steps import (
    Amend,
    Create,
    Delete,
    Step,
    is_by_program,
    is_setting_up,
)
from underlay.modes.host_access import filters
from underlay.networks.desired_lookup import DesiredLookup
from underlay.records import Records


@dataclass
class Shims:
    """Keeps shims from being up without filters, and needed ones from being deleted."""

    records: Records
    kernel: Kernel
    lookup: DesiredLookup
    _lock: threading.Lock = field(default_factory=threading.Lock)
    # Held while a filter is created or deleted: its need must not change meanwhile.
    _filtering: threading.Lock = field(default_factory=threading.Lock)
    _asked: Counter[Owner] = field(default_factory=Counter)
    # The chains that this process created on the present devices.
    _made: set[Hashable] = field(default_factory=set)

    @contextmanager
    def asking(self, shims: Collection[Owner]) -> Iterator[None]:
        """Keep these shims, and their filters, from being deleted meanwhile."""
        with self._lock:
            self._asked.update(shims)
        try:
            yield
        finally:
            with self._lock:
                self._asked.subtract(shims)
                self._asked = +self._asked

    @property
    def asked(self) -> set[Owner]:
        """Return the shims needed by verbs that have not recorded anything yet."""
        with self._lock:
            return set(self._asked)

    def without_programs(self, steps: Iterable[Step]) -> list[Step]:
        """Return the steps to apply before nft creates what the others need."""
        found = [step for step in steps if not is_by_program(step)]
        born = {step.object.key for step in found if isinstance(step, Create)}
        late = [s for s in found if is_setting_up(s) and s.object.key in born]
        return [s for s in found if self._may(s) and s not in late]

    def _may(self, step: Step) -> bool:
        """Return whether a step leaves no shim up without its filters."""
        link = step.object
        if not (is_setting_up(step) and link.owner):
            return True
        return {chain.key for chain in filters(link.owner)} <= self._made

    def apply(self, step: Step) -> None:
        """Apply a step; raises KernelRefused, also if filters are missing."""
        if isinstance(step.object, NftChain):
            with self._filtering:
                self._filter(step, step.object)
            return
        if not self._may(step):
            raise KernelRefused(step=step, why="its filters are missing", hint="")
        self.kernel.apply(step)
        if isinstance(step.object, Link) and not isinstance(step, Amend):
            for chain in filters(step.object.owner or Owner()):
                self._made.discard(chain.key)

    def _filter(self, step: Step, chain: NftChain) -> None:
        """Create a chain, or delete it if nothing needs it by now."""
        if isinstance(step, Delete) and self._is_needed(chain):
            return
        self._made.discard(chain.key)
        self.kernel.apply(step)
        if not isinstance(step, Delete):
            self._made.add(chain.key)

    def _is_needed(self, chain: NftChain) -> bool:
        """Return whether a verb needs the shim of a chain, or the records want it.

        A chain seen in the kernel shows its owner only by its name.
        """
        asked = self.asked
        parents = {network.uplink.parent for network in self.records.networks.all()}
        known = {SharedOwner("shim", parent).owner for parent in parents}
        for owner in asked | known:
            if chain.name.endswith(f"-{owner.device}"):
                wanted = self.lookup.desired_of(owner).objects
                return owner in asked or any(o.key == chain.key for o in wanted)
        return False
