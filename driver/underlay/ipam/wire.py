"""Asking segments whether addresses are free, before containers get them.

The addresses that are next are asked for in the background, so that a draw waits for
nothing. What a machine on the segment has becomes a conflict (see conflicts).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field

from underlay.errors import UnderlayError
from underlay.ipam.conflicts import Conflicts, error_of, of_address
from underlay.ipam.segments import Segment, claim_of, devices_of, heard_claims
from underlay.ipam.sightings import Sightings
from underlay.kernel import Kernel
from underlay.model import Claim, HostUse, IpAddress, Lease, Verdict
from underlay.records import Records

log = logging.getLogger(__name__)

# So many addresses of each claim are asked for ahead, and so many at once while Docker
# waits: a burst of containers draws faster than can be asked.
AHEAD, AT_ONCE = 4, 16
# How long an answer counts, and when it is asked for again while the address waits.
FRESH_SECONDS, AGAIN_SECONDS = 300.0, 210.0
# An address that a container of this host had so recently is not asked for: a restart
# waits for nothing, and the watch would have heard another machine.
HELD_SECONDS = 120.0
# Addresses kept for stopped containers are asked for too, so many of each claim.
MOST_KEPT = 64
# So often an address that no other can replace is asked for, if another host asks for
# it as well.
MOST_ROUNDS = 3
# An address that another host has leased, as it says, is not free for so long, though
# nothing answers for it: the container is about to start.
START_SECONDS = 3.0
# The host's devices are read again after this time: there may be thousands.
MACS_SECONDS = 1.0
# After a boot so long, those that containers had before it are asked for.
BOOT_SECONDS = 600.0
# All claims are looked at after this time, and those that were drawn from at once.
LOOK_SECONDS = 60.0
# So many calls may wait for answers at once: the others of the 64 threads answer the
# calls of other networks. More are answered at once, and asked about behind that.
MOST_WAITING = 10
# So many addresses are asked for at once in the background.
MOST_AT_ONCE = 64
# So many segments are asked at once in the background: each is a wait, not work.
SEGMENTS_AT_ONCE = 16

_Key = tuple[str, IpAddress]


@dataclass(frozen=True, slots=True)
class Question:
    """An address must be asked for before it is leased; `fixed`: no other will do."""

    claim: Claim
    address: IpAddress
    fixed: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """What one of Docker's calls has asked for.

    `settled` need no other question: nothing could be asked, or it was asked twice.
    `contested` are left to other hosts, of which it has the MACs.
    """

    addresses: set[IpAddress] = field(default_factory=set)
    settled: set[IpAddress] = field(default_factory=set)
    contested: dict[IpAddress, str] = field(default_factory=dict)


@dataclass
class Wire:
    """What is known of addresses on segments; used by many threads.

    `clock` returns seconds since 1970, `monotonic` seconds since the host booted.
    """

    records: Records
    kernel: Kernel
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    # Called with free, used, contested or unasked, and for how many addresses that was
    # found; must not fail or wait.
    on_asked: Callable[[str, int], None] = lambda _result, _number: None
    # Tells the machines on a device that this host has leased an address; must not fail
    # or wait.
    hold: Callable[[str, IpAddress], None] = lambda _device, _address: None
    # Reports what was said on segments until now; must not fail or wait.
    catch_up: Callable[[], None] = lambda: None
    sightings: Sightings = field(default_factory=Sightings)
    conflicts: Conflicts = field(init=False)
    # When an address was last asked for and found free, by parent.
    _free: dict[_Key, float] = field(default_factory=dict)
    # When a container's address and MAC were last its own.
    _ended: dict[Hashable, float] = field(default_factory=dict)
    # The MACs of the host's devices, and when they were read.
    _macs: frozenset[str] = frozenset()
    _macs_at: float = float("-inf")
    _behind: list[Question] = field(default_factory=list)
    _claims: set[str] = field(default_factory=set)
    _looked: float = float("-inf")
    _waiting: threading.Semaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MOST_WAITING)
    )
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopping: bool = False

    # While Docker waits

    def must_ask(self, claim: Claim, address: IpAddress) -> bool:
        """Return whether an address must be asked for before it is leased."""
        devices = self.devices_of(claim)
        return bool(devices) and not (
            self._is_fresh(devices[0], address)
            or self._was_ours(claim, devices[0], address)
        )

    def ask_now(self, wanted: Question, asked: Asked) -> None:
        """Ask, wait for answers, and record which addresses are in use.

        Of a draw, the addresses behind it are asked for as well, unless another host
        asks for these. Never called in a transaction.
        """
        is_again = wanted.address in asked.addresses
        asked.addresses.add(wanted.address)
        devices = self.devices_of(wanted.claim)
        if not devices:  # probe=off since the conflict was recorded
            self.conflicts.settle({wanted.address: wanted.claim}, {}, self.monotonic())
            return
        if not self._waiting.acquire(blocking=False):
            asked.settled.add(wanted.address)
            with self._changed:
                self._behind.append(wanted)
            return
        try:
            ask = self._ask_for_one if wanted.fixed else self._ask_for_any
            verdict = ask(devices, wanted, asked)
        finally:
            self._waiting.release()
        if verdict.unasked:
            facts = {"address": wanted.address, "reason": verdict.unasked}
            log.warning("segment not asked for an address", extra=facts)
        # A switch may probe all the time: what is free twice is free.
        if verdict.unasked or (is_again and wanted.address not in verdict.contested):
            asked.settled.add(wanted.address)

    def _ask_for_one(
        self, devices: tuple[str, ...], wanted: Question, _asked: Asked
    ) -> Verdict:
        claims = {wanted.address: wanted.claim}
        for _ in range(MOST_ROUNDS):
            began = self.monotonic()
            verdict = self._ask(devices, claims)
            if not verdict.contested:
                return verdict
        # The other host goes on: it has leased the address, or is about to.
        self.conflicts.settle(claims, verdict.contested, began)
        return verdict

    def _ask_for_any(
        self, devices: tuple[str, ...], wanted: Question, asked: Asked
    ) -> Verdict:
        addresses = {wanted.address}
        if not asked.contested:
            addresses.update(self.records.pools.candidates(wanted.claim, AT_ONCE))
        verdict = self._ask(devices, dict.fromkeys(addresses, wanted.claim))
        for address in addresses:
            asked.contested.pop(address, None)
        asked.contested.update(verdict.contested)
        return verdict

    def may_keep(self, given: Question) -> bool:
        """Tell other hosts that an address is leased now; return whether it may be.

        Another host may have leased it in the same moment. Then the lease ends, and the
        address is in conflict.
        """
        claim, address = given.claim, given.address
        devices = self.devices_of(claim)
        if not devices:
            return True
        self.catch_up()
        mac = self._holder(devices[0], address)
        if not mac:
            # Not before: a host that keeps its lease must not hear one that gives it
            # back.
            self.hold(devices[0], address)
            self.catch_up()
            mac = self._holder(devices[0], address)
        if not mac:
            return True
        with self.records.transaction():
            for lease in self.records.leases.live(claim.pool.id, address):
                if lease.role == "endpoint" and not lease.endpoint:
                    self._give_back(claim, lease)
            self.conflicts.record(claim, {address: mac})
        self._free.pop((devices[0], address), None)
        self._ended.pop((claim.pool.id, address), None)
        return False

    def _give_back(self, claim: Claim, lease: Lease) -> None:
        """End a lease that no container had, nor is its address kept for one by it."""
        kept = self.records.reservations.get(claim.pool.domain, lease.address)
        if kept and kept.origin != "reserved" and kept.since == lease.since:
            self.records.reservations.drop(kept)
        self.records.leases.end(lease, self.clock())

    def _holder(self, parent: str, address: IpAddress) -> str:
        """Return the MAC of another host that has just leased an address, or ""."""
        since = self.monotonic() - START_SECONDS
        mac = self.sightings.held_since(parent, address, since)
        return "" if not mac or self.is_ours(mac) else mac

    def note_given(self, given: Question, *, is_asked: bool) -> None:
        """Note that an address is leased now; ask once more if no one waited for it."""
        devices = self.devices_of(given.claim)
        if not devices:
            return
        known = self._free.pop((devices[0], given.address), None)
        with self._changed:
            if known is not None and not is_asked:
                self._behind.append(given)
            self._claims.add(given.claim.id)
            self._changed.notify()

    def check(self, pool: int, address: IpAddress) -> None:
        """Raise AddressInUse if a machine on the segment has an address."""
        if found := of_address(self.records, pool, address):
            raise error_of(found)

    def claim_of(self, lease: Lease) -> Claim | None:
        """Return the claim that an address was leased by, None if it is gone."""
        return claim_of(self.records, lease)

    def use_of(self, address: IpAddress) -> HostUse | None:
        """Return how the host itself sees an address in use, None for not at all."""
        use = self.kernel.use_of(address)
        return None if use and use.mac and self.is_ours(use.mac) else use

    # Which segment

    def devices_of(self, claim: Claim) -> tuple[str, ...]:
        """Return the devices to ask on for a claim, the parent first; () for none."""
        if not claim.probe:
            return ()
        network = self.records.networks.get(claim.network)
        return devices_of(network) if network else ()

    def watched(self) -> dict[str, Segment]:
        """Return what to listen for, by device."""
        found: dict[str, Segment] = {}
        for claim in heard_claims(self.records):
            devices = self.devices_of(claim)
            for device in devices:
                segment = found.setdefault(device, Segment(devices[0]))
                segment.networks.setdefault(claim.pool, set()).add(claim.network)
        return found

    def is_ours(self, mac: str) -> bool:
        """Return whether a MAC is that of a container or a device of this host.

        The device of a container that ended just now may still answer.
        """
        ended = self._ended.get(mac, float("-inf"))
        is_recent = self.monotonic() - ended < HELD_SECONDS
        if is_recent or self.records.endpoints.with_mac(mac):
            return True
        now = self.monotonic()
        if now - self._macs_at >= MACS_SECONDS:
            self._macs = frozenset(device.mac for device in self.kernel.devices())
            self._macs_at = now
        return mac in self._macs

    def __post_init__(self) -> None:
        self.conflicts = Conflicts(self.records, self.clock, self.monotonic)
        self.records.leases.on_end = self._note_ended

    def _note_ended(self, lease: Lease) -> None:
        """Note that a container has no longer an address, nor its MAC."""
        # The leases of an earlier boot end now, but the host was off.
        if lease.role != "endpoint" or self.monotonic() < BOOT_SECONDS:
            return
        now = self.monotonic()
        self._ended[lease.pool, lease.address] = self._ended[lease.mac] = now

    # In the background

    def run(self) -> None:
        """Ask for what is next, until told to stop."""
        while not self._stopping:
            try:
                self.ask_due()
            except UnderlayError as error:
                log.debug("cannot ask for addresses", extra={"error": error})
            except Exception:
                log.exception("internal error")
            with self._changed:
                if not (self._behind or self._claims or self._stopping):
                    self._changed.wait(LOOK_SECONDS)

    def stop(self) -> None:
        """End the asking."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def look(self) -> None:
        """Look at all claims soon: a network may be new."""
        with self._changed:
            self._looked = float("-inf")
            self._changed.notify()

    def ask_due(self) -> None:
        """Ask for what was given without a wait, what is next, and about conflicts."""
        now = self.monotonic()
        with self._changed:
            behind, self._behind = self._behind, []
            claims, self._claims = self._claims, set()
        jobs: dict[tuple[str, ...], dict[IpAddress, Claim]] = {}

        def add(claim: Claim, addresses: Collection[IpAddress]) -> None:
            if addresses and (devices := self.devices_of(claim)):
                jobs.setdefault(devices, {}).update(dict.fromkeys(addresses, claim))

        for asked in behind:
            add(asked.claim, [asked.address])
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._forget(now)
            for conflict, claim in self._due_conflicts():
                add(claim, [conflict.address])
            known = self.records.pools.bound_claims()
        else:
            found = map(self.records.pools.claim, claims)
            known = [claim for claim in found if claim]
        for claim in known:
            add(claim, list(self._next_of(claim)))
        self._settle_all(jobs)

    def _next_of(self, claim: Claim) -> Iterator[IpAddress]:
        """Return the addresses of a claim to ask for ahead.

        Of a DHCP server's none is drawn here.
        """
        devices = self.devices_of(claim)
        if not devices:
            return
        is_drawn = claim.source == "pool"
        drawn = self.records.pools.candidates(claim, AHEAD) if is_drawn else ()
        kept = self.records.reservations.listed_in(claim, MOST_KEPT)
        listed = [one.address for one in kept]
        listed += self._held_before_boot(claim)
        for address in (*drawn, *listed):
            # The device of one that ended just now may still answer.
            if not self._was_ours(claim, devices[0], address) and not self._is_fresh(
                devices[0], address, AGAIN_SECONDS
            ):
                yield address

    def _held_before_boot(self, claim: Claim) -> Iterator[IpAddress]:
        """Return the addresses of containers that are about to start with the host."""
        if self.monotonic() > BOOT_SECONDS:
            return
        for lease in self.records.leases.live_of_claim(claim.id):
            known = self.records.endpoints.get(lease.endpoint)
            sandbox = known.sandbox if known else ""
            if lease.role == "endpoint" and not (
                sandbox and self.kernel.sandbox_exists(sandbox)
            ):
                yield lease.address

    def _due_conflicts(self) -> Iterator[tuple[Lease, Claim]]:
        """Return the conflicts that may be over, with the claims to ask for."""
        for conflict in self.conflicts.due():
            claim = claim_of(self.records, conflict)
            if claim and self.devices_of(claim):
                yield conflict, claim
            elif claim or not conflict.claim:  # no machine can be asked any more
                with self.records.transaction():
                    self.conflicts.end(conflict)

    def _settle_all(
        self, jobs: Mapping[tuple[str, ...], dict[IpAddress, Claim]]
    ) -> None:
        """Ask for addresses and record what comes of it; segments at the same time."""
        rest = list(jobs.items())
        while rest:
            part, rest = rest[:SEGMENTS_AT_ONCE], rest[SEGMENTS_AT_ONCE:]
            threads = [threading.Thread(target=self._settle, args=job) for job in part]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _settle(
        self, devices: tuple[str, ...], wanted: Mapping[IpAddress, Claim]
    ) -> None:
        addresses = list(wanted)
        for first in range(0, len(addresses), MOST_AT_ONCE):
            part = addresses[first : first + MOST_AT_ONCE]
            try:
                self._ask(devices, {a: wanted[a] for a in part})
            except UnderlayError as error:  # the records, say: asked again later
                log.debug("cannot ask for addresses", extra={"error": error})

    def _ask(
        self, devices: tuple[str, ...], claims: Mapping[IpAddress, Claim]
    ) -> Verdict:
        """Ask for addresses, and record what comes of it.

        An address that another host asks for too is neither free nor used.
        """
        began = self.monotonic()
        verdict = self.kernel.ask(devices, claims.keys(), self.is_ours)
        if verdict.unasked:
            self.on_asked("unasked", len(claims))
            return verdict
        now = self.monotonic()
        held = {a: mac for a in claims if (mac := self._holder(devices[0], a))}
        used = {**held, **verdict.used}
        contested = {a: m for a, m in verdict.contested.items() if a not in used}
        verdict = Verdict(used, contested)
        free = claims.keys() - verdict.used.keys() - verdict.contested.keys()
        for address in claims:
            if address in free:
                self._free[devices[0], address] = now
            else:
                self._free.pop((devices[0], address), None)
        self.on_asked("used", len(verdict.used))
        self.on_asked("contested", len(verdict.contested))
        self.on_asked("free", len(free))
        settled = {a: claims[a] for a in claims if a not in verdict.contested}
        self.conflicts.settle(settled, verdict.used, began)
        return verdict

    def _is_fresh(
        self, parent: str, address: IpAddress, within: float = FRESH_SECONDS
    ) -> bool:
        """Return whether an address was found free lately, and not heard of since."""
        at = self._free.get((parent, address))
        return self._is_quiet(parent, address, at, within)

    def _was_ours(self, claim: Claim, parent: str, address: IpAddress) -> bool:
        """Return whether a container of this host had an address last, just now."""
        at = self._ended.get((claim.pool.id, address))
        return self._is_quiet(parent, address, at, HELD_SECONDS)

    def _is_quiet(
        self, parent: str, address: IpAddress, at: float | None, within: float
    ) -> bool:
        """Return whether a moment is so recent, and no machine was heard since."""
        if at is None or self.monotonic() - at >= within:
            return False
        mac = self.sightings.since(parent, address, at)
        return not mac or self.is_ours(mac)

    def _forget(self, now: float) -> None:
        """Forget answers that count no more, and containers that ended long ago."""
        for key, at in list(self._free.items()):
            if now - at >= FRESH_SECONDS:
                self._free.pop(key, None)
        for ended, at in list(self._ended.items()):
            if now - at >= HELD_SECONDS:
                self._ended.pop(ended, None)
