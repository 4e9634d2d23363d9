"""The pool and address verbs: every answer comes from the records, in one transaction.

One allocation table per domain. Each RequestPool is a claim of its own with its own
PoolID, so that what one network gives back never frees what another one holds.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface

from underlay.errors import (
    AddressTaken,
    BadValue,
    NoSubnet,
    NotSupportedYet,
    Overlap,
    PoolExhausted,
    RecordsUnwritable,
    UnknownOption,
    UnknownPool,
    did_you_mean,
)
from underlay.ipam import leases as tenures
from underlay.ipam import placeholder_claims as standins
from underlay.ipam import subnets as pools
from underlay.ipam.live_endpoints import LiveEndpoints
from underlay.kernel.clock import Recent, since_boot
from underlay.model import Claim, IpAddress, IpInterface, IpNetwork, Lease, Pool, Role
from underlay.modes import traits_of
from underlay.records import Records

log = logging.getLogger(__name__)

OPTIONS = ("domain", "probe")
EXAMPLES = {4: "192.168.1.0/24", 6: "fd00:1::/64"}
OWN = "it is this host's own"
# A claim without a network is one whose `docker network create` still runs, if this
# process made it so lately: only then may a plain request name another's aux address.
CREATING_SECONDS = 30.0
# And one of the host's own, sooner: of another driver's network, nothing tells when it
# is created. Docker asks for aux addresses first of all.
OWN_AUX_SECONDS = 5.0
# How late a ReleaseAddress may come for whom an address was taken from as dead.
LATE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class IpamDriver:
    """Hands out addresses.

    `clock` gives seconds since 1970, `monotonic` since the host booted.
    `reap` takes a dead endpoint off the record, and tells whether it was dead;
    `is_own` tells whether an address is the host's, `living` who has one and lives.
    """

    records: Records
    clock: Callable[[], float]
    remove_dead_endpoint: Callable[[str], bool]
    is_own: Callable[[IpAddress], bool]
    living: LiveEndpoints
    monotonic: Callable[[], float] = since_boot
    _late_releases: dict[tuple[str, IpAddress], float] = field(default_factory=dict)
    _made: Recent = field(default_factory=lambda: Recent(CREATING_SECONDS))

    def request_pool(
        self, subnet: str, span: str, options: Mapping[str, str], family: int
    ) -> Claim:
        """Claim the pool of a subnet, drawing from `span` (--ip-range).

        Raises NoSubnet, BadSubnet, BadRange, Overlap, and for the options Invalid.
        """
        domain = _domain(options)
        if not subnet:
            raise NoSubnet(family=family, example=EXAMPLES[family])
        wanted = pools.parse_subnet(subnet, family)
        first, last = pools.parse_range(span, wanted)
        identity = f"{domain}/{wanted}/{secrets.token_hex(6)}"
        self.records.check_there()
        # Before it is on record: the clean-up may look as soon as it is.
        self._made.note(identity, self.monotonic())
        with self.records.transaction():
            known = self.records.pools.get(domain, wanted)
            pool = known or self._new_pool(domain, wanted)
            self.records.pools.add_claim(identity, pool, first, last, self.clock())
            if not known:
                standins.reserve_in_all_pools(
                    self.records, self.living.kept, self.clock(), pool
                )
        return Claim(identity, pool, first, last)

    def forget_made(self) -> None:
        """Note that dockerd has ended: no `docker network create` runs any more."""
        self._made.clear()

    def __post_init__(self) -> None:
        self.records.endings.by("ReleasePool", self._release_pool)
        self.records.endings.by("ReleaseAddress", self._release_address)

    def release_pool(self, identity: str) -> None:
        """Give up a claim and all it still holds; an unknown one is fine.

        But not the addresses of endpoints that live: see Living.
        """
        try:
            with self.records.transaction():
                self._release_pool(identity)
        except RecordsUnwritable as error:
            self.records.endings.remember(error, "ReleasePool", identity)

    def _release_pool(self, identity: str) -> None:
        if claim := self._released(identity):
            self.living.release(claim, self.clock())

    def request_gateway(self, identity: str, address: str) -> IpInterface:
        """Keep an address out of use as the gateway; any network may name the same.

        Without an address: the gateway of the pool, else its first address.
        """
        with self.records.transaction():
            claim = self._claim(identity)
            subnet = claim.pool.subnet
            chosen = (
                pools.parse_address(address, subnet)
                if address
                else self._usual_gateway(claim)
            )
            self._reserve(claim, chosen, "gateway")
        return _interface(chosen, subnet)

    def request_address(
        self, identity: str, address: str, container: str
    ) -> IpInterface:
        """Hand out the address asked for, or the next free one.

        `container` is its name where the engine tells it (29 on). Raises AddressTaken,
        PoolExhausted, OutsideSubnet, UnusableAddress, UnknownPool.
        """
        self.records.check_there()
        with self.records.transaction():
            claim = self._claim(identity)
            if not address:
                chosen = self._next_free(claim)
                self._begin(claim, chosen, "endpoint", container)
                return self._endpoint_interface(claim, chosen)
            chosen = pools.parse_address(address, claim.pool.subnet)
            holders = self._living(claim.pool, chosen)
            if not holders and self.is_own(chosen):
                if not self._may_be_own_aux(claim, container):
                    raise AddressTaken(address=chosen, holder=OWN)
                self._reserve(claim, chosen, "aux")
            elif not holders:
                self._begin(claim, chosen, "endpoint", container)
            elif self._may_be_aux(claim, holders, container):
                self._reserve(claim, chosen, "aux")
            else:
                own = holders[0].role == "aux" and self.is_own(chosen)
                holder = OWN if own else self._describe(holders[0])
                raise AddressTaken(address=chosen, holder=holder)
            return self._endpoint_interface(claim, chosen)

    def _endpoint_interface(self, claim: Claim, address: IpAddress) -> IpInterface:
        """Return an address with the pool's length, or its own in a routed network."""
        network = self.records.networks.get(claim.network)
        if network and traits_of(network.options).host_prefix:
            return ip_interface(address)
        return _interface(address, claim.pool.subnet)

    def release_address(self, identity: str, address: str) -> None:
        """Take back what a claim holds at an address; nothing there is fine."""
        try:
            with self.records.transaction():
                self._release_address(identity, address)
        except RecordsUnwritable as error:
            self.records.endings.remember(error, "ReleaseAddress", identity, address)

    def _release_address(self, identity: str, address: str) -> None:
        claim = self._released(identity, address)
        held = standins.leases_at(self.records, claim, address) if claim else ()
        for tenure in held:
            if claim and self._is_given_back(claim, tenure):
                self._end(tenure)

    def _is_given_back(self, claim: Claim, tenure: Lease) -> bool:
        """Tell whether Docker means whom it says: a repeated one must free nobody.

        It gives an endpoint's address back after DeleteEndpoint, and a network's own
        when the network goes, on which nobody lives then.
        """
        if tenure.role != "endpoint":
            return not self.living.is_on(claim)
        if tenure.endpoint and self.living.has(claim, tenure):
            # One family's, perhaps: engine 29 does that where IPv6 is switched off.
            if not self._is_for_predecessor(tenure):
                self.records.leases.note_returned(tenure)
            return False
        # Of another driver's container, there is nothing else to tell that it is gone.
        self.living.forget((claim.pool.domain, tenure.address))
        return not self._is_for_predecessor(tenure)

    def _released(self, identity: str, address: str = "") -> Claim | None:
        """Return the claim that Docker gives up, or an address of, if that is known."""
        known = self.records.pools.claim(identity)
        return known or self.living.named(identity, address)

    def _is_for_predecessor(self, tenure: Lease) -> bool:
        """Tell whether a release is for one who had an address before, and lost it.

        If it is not, the address stays taken until the clean-up frees it.
        """
        owed = self._late_releases.pop((tenure.claim, tenure.address), None)
        return owed is not None and self.monotonic() - owed < LATE_SECONDS

    def release_tenure(self, tenure: Lease) -> None:
        """Take back one address, if it is still the one that was looked at."""
        with self.records.transaction():
            live = self.records.leases.live(tenure.pool or 0, tenure.address)
            if tenure in live:
                self._end(tenure)

    def _new_pool(self, domain: str, subnet: IpNetwork) -> Pool:
        other = self.records.pools.overlapping(domain, subnet)
        if other:
            raise Overlap(
                subnet=subnet,
                other=other.subnet,
                holder=self._holder(other),
                domain=domain,
            )
        return self.records.pools.add(domain, subnet, *pools.usable(subnet))

    def _holder(self, pool: Pool) -> str:
        names = list(pool.holders) or [
            network.label
            for claim in self.records.pools.claims_on(pool.id)
            if (network := self.records.networks.get(claim.network))
        ]
        if not names:
            return "a network Docker has not named yet"
        return f"network {' and '.join(names)}"

    def _claim(self, identity: str) -> Claim:
        """Return a claim by its PoolID, which may have been Docker's alone so far."""
        known = self.records.pools.claim(identity)
        claim = known or standins.resolve(self.records, identity)
        if claim is None:
            self.living.note_unknown(identity)
            raise UnknownPool(pool=identity, path=self.records.path)
        return claim

    def _usual_gateway(self, claim: Claim) -> IpAddress:
        first, _ = pools.usable(claim.pool.subnet)
        named = self.records.leases.gateway_of(claim.pool.id)
        if named:
            return named.address
        held = self.records.leases.live(claim.pool.id, first)
        free = self.records.pools.next_free(claim) if held else first
        if free is None:
            raise self._exhausted(claim)
        return free

    def _reserve(self, claim: Claim, address: IpAddress, role: Role) -> None:
        holders = self.records.leases.live(claim.pool.id, address)
        used = [t for t in holders if t.role == "endpoint"]
        if used:
            raise AddressTaken(address=address, holder=self._describe(used[0]))
        if not any(t.claim == claim.id and t.role == role for t in holders):
            self._begin(claim, address, role)

    def _next_free(self, claim: Claim) -> IpAddress:
        """Return the next free address; the host's own are put aside for good."""
        while chosen := self.records.pools.next_free(claim):
            if not self.is_own(chosen):
                return chosen
            self._begin(claim, chosen, "aux")
        raise self._exhausted(claim)

    def _living(self, pool: Pool, address: IpAddress) -> list[Lease]:
        """Return who has an address, after the dead have given it back."""
        holders = self.records.leases.live(pool.id, address)
        for tenure in holders:
            if tenure.endpoint and self.remove_dead_endpoint(tenure.endpoint):
                self._end(tenure)
                self._note_owed(tenure)
        return self.records.leases.live(pool.id, address) if holders else []

    def _note_owed(self, tenure: Lease) -> None:
        """Note that Docker may be about to give back what somebody else gets now."""
        now = self.monotonic()
        for key in [
            k for k, t in self._late_releases.items() if now - t >= LATE_SECONDS
        ]:
            self._late_releases.pop(key)
        self._late_releases[tenure.claim, tenure.address] = now

    def _may_be_aux(self, claim: Claim, holders: list[Lease], container: str) -> bool:
        """Tell whether a network being created names an aux address others name too.

        Docker asks for an aux address exactly as for a container's --ip.
        """
        reserved = all(t.role == "aux" for t in holders)
        mine = any(t.claim == claim.id for t in holders)
        return reserved and not mine and self.is_creating(claim, container)

    def _may_be_own_aux(self, claim: Claim, container: str) -> bool:
        """Tell whether a network being created keeps an address of the host out of use.

        As guides say it should. A container never gets one.
        """
        return self.is_creating(claim, container, OWN_AUX_SECONDS)

    def is_creating(
        self, claim: Claim, container: str = "", within: float = CREATING_SECONDS
    ) -> bool:
        """Tell whether the `docker network create` that made a claim may still run.

        `within` so many seconds. What is asked for a `container` is part of none.
        """
        age = self._made.age(claim.id, self.monotonic())
        return age < within and not claim.network and not container

    def _begin(
        self, claim: Claim, address: IpAddress, role: Role, container: str = ""
    ) -> None:
        tenures.start(self.records, claim, address, role, self.clock(), container)

    def _end(self, tenure: Lease) -> None:
        self.records.leases.end(tenure, self.clock())

    def _describe(self, tenure: Lease) -> str:
        network = self.records.networks.get(tenure.network)
        where = f" of network {network.label}" if network else ""
        if tenure.role != "endpoint":
            what = "the gateway" if tenure.role == "gateway" else "an aux address"
            return f"it is {what}{where}"
        if tenure.container:
            return f"container {tenure.container}{where} has it"
        who = tenure.endpoint[:12]
        return f"endpoint {who}{where} has it" if who else f"it is in use{where}"

    def _exhausted(self, claim: Claim) -> PoolExhausted:
        size = int(claim.last) - int(claim.first) + 1
        whole = (claim.first, claim.last) == pools.usable(claim.pool.subnet)
        count = self.records.leases.held_by_role(claim, whole=whole)
        span = "" if whole else f" ({claim.first} to {claim.last})"
        return PoolExhausted(
            span=f"{claim.pool.subnet}{span}",
            live=count["endpoint"],
            reserved=count["gateway"] + count["aux"],
            gateway=count["gateway"],
            aux=count["aux"],
            size=size,
        )


def _domain(options: Mapping[str, str]) -> str:
    for key, value in options.items():
        if key not in OPTIONS:
            raise UnknownOption(
                what="IPAM",
                key=key,
                hint=did_you_mean(key, OPTIONS),
                known=", ".join(OPTIONS),
            )
        if key == "probe" and value not in ("on", "off"):
            raise BadValue(
                key=key,
                value=value,
                need="on or off",
                hint=did_you_mean(value, ("on", "off")),
            )
        if key == "probe" and value == "on":
            raise NotSupportedYet(what="--ipam-opt probe=on", instead="Leave it out.")
    domain = options.get("domain", "default")
    if not re.fullmatch(pools.DOMAIN, domain):
        need = "one word of letters, digits, '_', '.' and '-', at most 63"
        raise BadValue(key="domain", value=domain, need=need, hint="")
    return domain


def _interface(address: IpAddress, subnet: IpNetwork) -> IpInterface:
    return ip_interface(f"{address}/{subnet.prefixlen}")
