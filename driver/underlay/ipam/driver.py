"""The IPAM calls of Docker: each is answered from the records, in one transaction.

Each domain has one allocation table. Each RequestPool makes a claim with its own
PoolID, so a release by one network never frees an address of another network.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_interface

from underlay.errors import (
    AddressTaken,
    PoolExhausted,
    RecordsUnwritable,
    UnknownPool,
)
from underlay.ipam import conflicts, dhcp_claims, placeholder_claims
from underlay.ipam.identity import name_of
from underlay.ipam.idle_containers import IdleContainers
from underlay.ipam.kept_addresses import KeptAddresses
from underlay.ipam.leases import start_lease
from underlay.ipam.live_endpoints import LiveEndpoints
from underlay.ipam.options import is_probing, source_of
from underlay.ipam.placeholder_claims import leases_at, reserve_in_all_pools, resolve
from underlay.ipam.pools import add_pool, asked_pool
from underlay.ipam.refusals import exhausted, holder_in_words
from underlay.ipam.subnets import (
    own_start,
    parse_address,
    usable,
)
from underlay.ipam.wire import Asked, Question, Wire
from underlay.kernel.clock import Recent, since_boot
from underlay.model import (
    Claim,
    IpAddress,
    IpInterface,
    IpNetwork,
    Lease,
    Pool,
    Role,
)
from underlay.modes import traits_of
from underlay.records import Records

log = logging.getLogger(__name__)

OWN = "it is this host's own"
# The `docker network create` of a claim without a network still runs if this process
# made the claim so recently. Only then may a plain request name the aux address of
# another network.
CREATING_SECONDS = 30.0
# For an address of the host the time is shorter: Docker does not tell when the network
# of another driver has been created. Docker asks for aux addresses first.
OWN_AUX_SECONDS = 5.0
# How often the segment is asked for one request, several addresses each time.
MOST_QUESTIONS = 16
# How late the ReleaseAddress of a dead endpoint may come after its address was freed.
LATE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class IpamDriver:
    """Leases addresses.

    `clock` returns seconds since 1970, `monotonic` seconds since the host booted.
    `remove_dead_endpoint` removes an endpoint from the records if it is dead, and
    returns whether it was. `is_own` returns whether the host has an address, and
    `routers` the next hops of its default routes. `machine` identifies this host.
    `finish_deletions` waits until no device of an ended endpoint is left, and returns
    whether there was any. `ask_dhcp` answers requests for addresses of DHCP servers.
    """

    records: Records
    clock: Callable[[], float]
    remove_dead_endpoint: Callable[[str], bool]
    is_own: Callable[[IpAddress], bool]
    live_endpoints: LiveEndpoints
    wire: Wire = field(kw_only=True)
    monotonic: Callable[[], float] = since_boot
    finish_deletions: Callable[[], bool] = lambda: False
    idle: IdleContainers = field(default_factory=IdleContainers)
    reserve_days: float = 7.0
    routers: Callable[[], Collection[IpAddress]] = tuple
    machine: str = ""
    ask_dhcp: Callable[[Claim, str, str], IpInterface] = dhcp_claims.unserved
    _late_releases: dict[tuple[str, IpAddress], float] = field(default_factory=dict)
    _made: Recent = field(default_factory=lambda: Recent(CREATING_SECONDS))

    def request_pool(
        self, subnet: str, span: str, options: Mapping[str, str], family: int
    ) -> Claim:
        """Claim the pool of a subnet, drawing from `span` (--ip-range).

        Raises NoSubnet, BadSubnet, BadRange, Overlap, and for the options Invalid.
        """
        self.records.check_there()
        if source_of(options) == "dhcp" and not subnet:
            note = partial(self._made.note, now=self.monotonic())
            return dhcp_claims.claim(self.records, options, family, self.clock(), note)
        domain, wanted, (first, last) = asked_pool(subnet, span, options, family)
        identity = f"{domain}/{wanted}/{secrets.token_hex(6)}"
        # Before it is recorded: the cleanup may run at once.
        self._made.note(identity, self.monotonic())
        with self.records.transaction():
            known = self.records.pools.get(domain, wanted)
            pool = known or add_pool(self.records, domain, wanted)
            start = None if options.get("slice") else self._start(first, last)
            self.records.pools.add_claim(
                identity, pool, first, last, self.clock(),
                probe=is_probing(options), start=start, source=source_of(options),
            )  # fmt: skip
            if not known:
                reserve_in_all_pools(
                    self.records, self.live_endpoints.kept, self.clock(), pool
                )
        return Claim(identity, pool, first, last, source=source_of(options))

    def _start(self, first: IpAddress, last: IpAddress) -> IpAddress | None:
        """Return where this host begins in a range, None for its first address."""
        if not self.machine:
            return None
        return own_start(self.records.host.identity(self.machine), first, last)

    def forget_made(self) -> None:
        """Forget the recent claims: dockerd ended, and network creation with it."""
        self._made.clear()

    @property
    def _kept(self) -> KeptAddresses:
        return KeptAddresses(self.records, self.idle, self.reserve_days)

    def __post_init__(self) -> None:
        self.records.endings.by("ReleasePool", self._release_pool)
        self.records.endings.by("ReleaseAddress", self._release_address)

    def release_pool(self, identity: str) -> None:
        """Remove a claim and end its leases; an unknown claim is no error.

        Leases of live endpoints do not end: see LiveEndpoints.
        """
        try:
            with self.records.transaction():
                self._release_pool(identity)
        except RecordsUnwritable as error:
            self.records.endings.remember(error, "ReleasePool", identity)

    def _release_pool(self, identity: str) -> None:
        if claim := self._released(identity):
            self.live_endpoints.release(claim, self.clock())

    def request_gateway(self, identity: str, address: str) -> IpInterface:
        """Reserve an address as the gateway; several networks may name the same one.

        Without an address: the gateway of the pool, else the router that the host has
        there. Else an address that CreateNetwork frees: Docker asks for one, and before
        28 whatever the network is.
        """
        return self._once_devices_are_gone(
            lambda: self._request_gateway(identity, address)
        )

    def _request_gateway(self, identity: str, address: str) -> IpInterface:
        with self.records.transaction():
            claim = self._claim(identity)
            dhcp_claims.refuse_gateway(claim, address)
            subnet = claim.pool.subnet
            chosen = (
                parse_address(address, subnet)
                if address
                else self._usual_gateway(claim)
            )
            self._reserve(claim, chosen, "gateway", fixed=bool(address))
        return _interface(chosen, subnet)

    def request_address(
        self, identity: str, address: str, container: str
    ) -> IpInterface:
        """Lease the requested address, or the next free one.

        `container` is the container's name; Docker sends it from 29 on. Raises
        AddressTaken, AddressInUse, PoolExhausted, OutsideSubnet, UnusableAddress,
        UnknownPool.
        """
        self.records.check_there()
        known = placeholder_claims.known(self.records, identity)
        if known and dhcp_claims.is_asked(known, address):
            return self.ask_dhcp(known, address, container)
        if not address and self._is_being_freed(identity, container):
            self.finish_deletions()
        return self._once_devices_are_gone(
            lambda: self._request_address(identity, address, container)
        )

    def _is_being_freed(self, identity: str, container: str) -> bool:
        """Return whether a container's address waits for its last device to go."""
        going = self.live_endpoints.being_deleted
        claim = self.records.pools.claim(identity) if going else None
        return claim is not None and any(
            lease.endpoint in going
            for kept in self._kept.of(claim, container)
            for lease in self.records.leases.live(claim.pool.id, kept.address)
        )

    def _once_devices_are_gone(self, take: Callable[[], IpInterface]) -> IpInterface:
        """Take an address, which the device of an ended endpoint may still have."""
        try:
            return take()
        except (AddressTaken, PoolExhausted):
            if not self.finish_deletions():
                raise
        return take()

    def _request_address(
        self, identity: str, address: str, container: str
    ) -> IpInterface:
        asked, known = Asked(), self.records.pools.claim(identity)
        is_heard = known and self.wire.devices_of(known)
        for _ in range(MOST_QUESTIONS):
            if is_heard:  # what is said on segments delays no other network
                self.wire.catch_up()
            with self.records.transaction():
                wanted, given = self._take(identity, address, container, asked)
            if given and self.wire.may_keep(wanted):
                self.wire.note_given(wanted, is_asked=wanted.address in asked.addresses)
                return given
            if given:
                asked.addresses.add(wanted.address)
            else:
                # Outside of the transaction: machines have 0.2 seconds to answer.
                self.wire.ask_now(wanted, asked)
        # Other machines have dozens of addresses of this range, or ask for them.
        self.wire.check(wanted.claim.pool.id, wanted.address)
        if mac := asked.contested.get(wanted.address):
            raise conflicts.in_use(wanted.address, mac, self.clock())
        raise exhausted(self.records, wanted.claim)

    def _take(
        self, identity: str, address: str, container: str, asked: Asked
    ) -> tuple[Question, IpInterface | None]:
        """Lease an address, unless its segment must be asked first (None).

        `asked`: for what it was. Part of a transaction, and not undone where a question
        is returned: what it found dead has ended.
        """
        claim = self._claim(identity)
        if address:
            chosen = parse_address(address, claim.pool.subnet)
            taken = self._take_requested(claim, chosen, container, asked)
        else:
            kept = self._own_address(claim, container)
            chosen = kept or self._next_free(claim, asked.contested)
            taken = self._may_lease(claim, chosen, asked)
            if taken:
                self._start_lease(claim, chosen, "endpoint", container)
        question = Question(claim, chosen, fixed=bool(address or kept))
        return question, self._endpoint_interface(claim, chosen) if taken else None

    def _may_lease(self, claim: Claim, address: IpAddress, asked: Asked) -> bool:
        """Return whether the segment was asked for an address, or cannot be asked."""
        return address in asked.settled or not self.wire.must_ask(claim, address)

    def _take_requested(
        self, claim: Claim, chosen: IpAddress, container: str, asked: Asked
    ) -> bool:
        """Lease the requested address; return whether that needs no question first."""
        if container:
            self._kept.check(claim, chosen, name_of(container))
        found = self._live_holders(claim.pool, chosen)
        holders = [lease for lease in found if lease.role != "conflict"]
        if not holders and self.is_own(chosen):
            if not self._may_be_own_aux(claim, container):
                raise AddressTaken(address=chosen, holder=OWN, or_free="")
            self._reserve(claim, chosen, "aux")
        elif not holders:
            is_asked = chosen in asked.addresses
            if is_asked:
                self.wire.check(claim.pool.id, chosen)
            if (found and not is_asked) or not self._may_lease(claim, chosen, asked):
                return False
            self._start_lease(claim, chosen, "endpoint", container, fixed=True)
        elif self._may_be_aux(claim, holders, container):
            self._reserve(claim, chosen, "aux")
        else:
            raise self._taken(holders[0])
        return True

    def _own_address(self, claim: Claim, container: str) -> IpAddress | None:
        """Return the address that is kept for a container, if it is free."""
        for kept in self._kept.of(claim, container):
            if not self._live_holders(claim.pool, kept.address) and not self.is_own(
                kept.address
            ):
                return kept.address
        return None

    def _endpoint_interface(self, claim: Claim, address: IpAddress) -> IpInterface:
        """Return an address with the prefix length its container gets."""
        network = self.records.networks.get(claim.network)
        if network and traits_of(network.options).host_prefix:
            return ip_interface(address)
        return _interface(address, claim.pool.subnet)

    def release_address(self, identity: str, address: str) -> None:
        """End the lease of an address by a claim; a missing lease is no error."""
        try:
            with self.records.transaction():
                self._release_address(identity, address)
        except RecordsUnwritable as error:
            self.records.endings.remember(error, "ReleaseAddress", identity, address)

    def _release_address(self, identity: str, address: str) -> None:
        claim = self._released(identity, address)
        held = leases_at(self.records, claim, address) if claim else ()
        for lease in held:
            if claim and self._is_given_back(claim, lease):
                self.records.leases.end(lease, self.clock())

    def _is_given_back(self, claim: Claim, lease: Lease) -> bool:
        """Return whether a release ends a lease: a repeated release must not.

        Docker releases an endpoint's address after DeleteEndpoint. It releases the
        gateway and aux addresses of a network when the network has no endpoint left.
        """
        if lease.role == "conflict":
            return False
        if lease.role != "endpoint":
            return not self.live_endpoints.is_on(claim)
        if lease.endpoint and self.live_endpoints.has(claim, lease):
            # Docker 29 releases one family's address where IPv6 is switched off.
            if not self._is_for_predecessor(lease):
                self.records.leases.note_returned(lease)
            return False
        # For a container of another driver, the release is the only sign of its end.
        self.live_endpoints.forget((claim.pool.domain, lease.address))
        return not self._is_for_predecessor(lease)

    def _released(self, identity: str, address: str = "") -> Claim | None:
        """Return the claim that Docker means in a release, if it is known."""
        known = self.records.pools.claim(identity)
        return known or self.live_endpoints.named(identity, address)

    def _is_for_predecessor(self, lease: Lease) -> bool:
        """Return whether a release is for the previous, dead holder of an address.

        If it is not, the address stays leased until the cleanup frees it.
        """
        owed = self._late_releases.pop((lease.claim, lease.address), None)
        return owed is not None and self.monotonic() - owed < LATE_SECONDS

    def release_lease(self, lease: Lease) -> None:
        """End one lease, if it has not changed since it was read."""
        with self.records.transaction():
            live = self.records.leases.live(lease.pool or 0, lease.address)
            if lease in live:
                self.records.leases.end(lease, self.clock())

    def _claim(self, identity: str) -> Claim:
        """Return a claim by its PoolID, which the records may have lost."""
        known = self.records.pools.claim(identity)
        claim = known or resolve(self.records, identity)
        if claim is None:
            self.live_endpoints.note_unknown(identity)
            raise UnknownPool(pool=identity, path=self.records.path)
        return claim

    def _usual_gateway(self, claim: Claim) -> IpAddress:
        named = self.records.leases.gateway_of(claim.pool.id)
        if named:
            return named.address
        first, last = usable(claim.pool.subnet)
        for router in self.routers():
            if router in claim.pool.subnet and int(first) <= int(router) <= int(last):
                return router
        kept = self.records.reservations.get(claim.pool.domain, first)
        is_free = not (kept or self.records.leases.live(claim.pool.id, first))
        free = first if is_free else self.records.pools.next_free(claim)
        if free is None:
            raise exhausted(self.records, claim)
        return free

    def _reserve(
        self, claim: Claim, address: IpAddress, role: Role, *, fixed: bool = False
    ) -> None:
        holders = self.records.leases.live(claim.pool.id, address)
        used = [t for t in holders if t.role == "endpoint"]
        if used:
            raise self._taken(used[0])
        for conflict in (t for t in holders if t.role == "conflict"):
            # Of a gateway, say: it is another machine's, as it should be.
            self.records.leases.end(conflict, self.clock())
        self._kept.take_from_gone(claim, address)
        if not any(t.claim == claim.id and t.role == role for t in holders):
            self._start_lease(claim, address, role, fixed=fixed)

    def _next_free(
        self, claim: Claim, contested: Collection[IpAddress] = ()
    ) -> IpAddress:
        """Return the next free address; addresses of the host become aux addresses.

        So do those that other programs have routes to. What the kernel has a neighbour
        at is in conflict, without a question.
        Two hosts that draw the same ones part: behind those that another host asks for,
        as many again are left to it.
        """
        if contested:
            behind = self.records.pools.candidates(claim, 2 * len(contested) + 1)
            for address in reversed(behind):
                if address not in contested and not self.wire.use_of(address):
                    return address
        free, yielded = self.records.pools.next_free, self._kept.yielded
        while chosen := free(claim) or yielded(claim):
            use = self.wire.use_of(chosen)
            if use is None:
                return chosen
            if use.mac:
                self.wire.conflicts.record(claim, {chosen: use.mac})
            else:
                self._start_lease(claim, chosen, "aux")
        raise exhausted(self.records, claim)

    def _live_holders(self, pool: Pool, address: IpAddress) -> list[Lease]:
        """Return the leases of an address, after those of dead endpoints ended."""
        holders = self.records.leases.live(pool.id, address)
        for lease in holders:
            if lease.endpoint and self.remove_dead_endpoint(lease.endpoint):
                self.records.leases.end(lease, self.clock())
                self._expect_late_release(lease)
        return self.records.leases.live(pool.id, address) if holders else []

    def _expect_late_release(self, lease: Lease) -> None:
        """Note that Docker may yet release an address for its previous, dead holder."""
        now = self.monotonic()
        for key in [
            k for k, t in self._late_releases.items() if now - t >= LATE_SECONDS
        ]:
            self._late_releases.pop(key)
        self._late_releases[lease.claim, lease.address] = now

    def _may_be_aux(self, claim: Claim, holders: list[Lease], container: str) -> bool:
        """Return whether a network being created names another network's aux address.

        Docker asks for an aux address exactly as for a container's --ip.
        """
        reserved = all(t.role == "aux" for t in holders)
        mine = any(t.claim == claim.id for t in holders)
        return reserved and not mine and self.is_creating(claim, container)

    def _may_be_own_aux(self, claim: Claim, container: str) -> bool:
        """Return whether a network being created reserves an address of the host.

        Guides advise that. A container never gets such an address.
        """
        return self.is_creating(claim, container, OWN_AUX_SECONDS)

    def is_creating(
        self, claim: Claim, container: str = "", within: float = CREATING_SECONDS
    ) -> bool:
        """Return whether the `docker network create` that made a claim may still run.

        It ran within the last `within` seconds. A request for a `container` is not part
        of it.
        """
        age = self._made.age(claim.id, self.monotonic())
        return age < within and not claim.network and not container

    def _start_lease(
        self,
        claim: Claim,
        address: IpAddress,
        role: Role,
        container: str = "",
        *,
        fixed: bool = False,
    ) -> None:
        start_lease(
            self.records, claim, address, role, self.clock(), container, fixed=fixed
        )

    def _taken(self, lease: Lease) -> AddressTaken:
        """Return the refusal: only what a container has can be freed."""
        own = lease.role == "aux" and self.is_own(lease.address)
        holder = OWN if own else holder_in_words(self.records, lease)
        used = f"(underlay history {lease.address} shows what used it)"
        or_free = f", or free this one first {used}" if lease.role == "endpoint" else ""
        return AddressTaken(address=lease.address, holder=holder, or_free=or_free)


def _interface(address: IpAddress, subnet: IpNetwork) -> IpInterface:
    return ip_interface(f"{address}/{subnet.prefixlen}")
