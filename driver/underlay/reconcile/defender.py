"""Machines that claim the address of a running container, heard on its segment.

The container defends its address (RFC 5227, 2.4 b), and the conflict is recorded until
it has been silent for a while. If the machine goes on, an address of a DHCP server is
given up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from underlay.ipam.segments import Segment
from underlay.ipam.wire import Wire
from underlay.model import Family, IpAddress, Lease, Sighting
from underlay.reconcile.announcer import Announcer
from underlay.records import Records

log = logging.getLogger(__name__)

# Between two announcements of an address that is defended (RFC 5227).
DEFEND_SECONDS = 10.0
# What comes so soon after the first claim may be the same one, heard on another device,
# or sent before the machine heard that the address is defended.
SAME_SECONDS = 0.5
# So long after its lease began, a container may not be up, and the host answers probes
# for it. Later the container does; an address that has moved on is not held up.
STARTING_SECONDS = 60.0
# So many addresses are known at most: a machine may make up any number of them.
MOST_KNOWN = 4096


@dataclass
class Defender:
    """Compares what is heard with the leases. `monotonic`: since the host booted."""

    records: Records
    wire: Wire
    announcer: Announcer
    monotonic: Callable[[], float]
    # Called with an endpoint whose address is claimed once more within ten seconds;
    # must not fail or wait.
    on_contested: Callable[[str], None] = lambda _endpoint: None
    _segments: Mapping[str, Segment] = field(default_factory=dict)
    # Whose an address is, as of a state of the records; thousands are heard again and
    # again.
    _known: dict[tuple[str, IpAddress], Lease | None] = field(default_factory=dict)
    _as_of: tuple[int, int] = (0, 0)
    # When an address was defended last, by the id of its lease.
    _defended: dict[int, float] = field(default_factory=dict)
    # The leases that were contested since.
    _contested: set[int] = field(default_factory=set)

    def follow(self) -> dict[str, Collection[Family]]:
        """Take note of what networks there are; return what to listen to, by device."""
        before, self._segments = self._segments, self.wire.watched()
        self._known = {}
        if self._segments != before:
            self.wire.look()
        return {
            device: {pool.subnet.version for pool in segment.networks}
            for device, segment in self._segments.items()
        }

    def hear(self, sightings: Collection[Sighting]) -> None:
        """Note which machines have which addresses; defend those of containers.

        One thread at a time; another may follow meanwhile.
        """
        self._forget_if_changed()
        segments, known = self._segments, self._known
        now = self.monotonic()
        told: set[IpAddress] = set()
        for seen in sightings:
            segment = segments.get(seen.device)
            if segment is None:
                continue
            if segment.has(seen.address):
                self.wire.sightings.note(segment.parent, seen, now)
            key = seen.device, seen.address
            if key not in known:
                known[key] = self._lease(segment, seen.address)
            lease = known[key]
            if lease and seen.mac != lease.mac:
                if seen.kind != "probe":
                    self._defend(lease, seen, now)
                elif seen.address not in told and self._may_be_starting(lease, seen):
                    told.add(seen.address)
                    self.wire.hold(segment.parent, seen.address)

    def _forget_if_changed(self) -> None:
        counter = self.records.change_counter()
        if counter != self._as_of or len(self._known) > MOST_KNOWN:
            self._as_of, self._known = counter, {}

    def _may_be_starting(self, lease: Lease, seen: Sighting) -> bool:
        """Return whether a probe may be for a container that cannot answer yet."""
        age = self.wire.clock() - lease.since
        return age < STARTING_SECONDS and not self.wire.is_ours(seen.mac)

    def _lease(self, segment: Segment, address: IpAddress) -> Lease | None:
        """Return the lease of the container on a segment that has an address."""
        for pool, networks in segment.networks.items():
            if address in pool.subnet:
                for lease in self.records.leases.live(pool.id, address):
                    if lease.role == "endpoint" and lease.network in networks:
                        return lease
        return None

    def _defend(self, lease: Lease, seen: Sighting, now: float) -> None:
        since = now - self._defended.get(lease.id, float("-inf"))
        is_known = since < SAME_SECONDS or lease.id in self._contested
        if (since < DEFEND_SECONDS and is_known) or self.wire.is_ours(seen.mac):
            return
        if since < DEFEND_SECONDS:
            self._contested.add(lease.id)
            self.on_contested(lease.endpoint)
            return
        self._defended = {
            key: at for key, at in self._defended.items() if now - at < DEFEND_SECONDS
        }
        self._defended[lease.id] = now
        self._contested &= self._defended.keys() - {lease.id}
        claim = self.wire.claim_of(lease)
        if claim is None:
            return
        with self.records.transaction():
            live = self.records.leases.live(claim.pool.id, lease.address)
            if not any(t.id == lease.id for t in live):
                return  # it ended meanwhile
            self.wire.conflicts.record(claim, {lease.address: seen.mac})
        endpoint = self.records.endpoints.get(lease.endpoint)
        if endpoint:
            self.announcer.defend(endpoint, lease.address)
