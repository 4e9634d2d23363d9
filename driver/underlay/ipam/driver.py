"""The IPAM calls of Docker: each is answered from the records, in one transaction.

Each domain has one allocation table. Each RequestPool makes a claim with its own
PoolID, so a release by one network never frees an address of another network.
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
    PoolExhausted,
    RecordsUnwritable,
    UnknownOption,
    UnknownPool,
    did_you_mean,
)
from underlay.ipam.leases import start_lease
from underlay.ipam.live_endpoints import LiveEndpoints
from underlay.ipam.placeholder_claims import leases_at, reserve_in_all_pools, resolve
from underlay.ipam.pools import add_pool
from underlay.ipam.subnets import (
    DOMAIN,
    parse_address,
    parse_range,
    parse_subnet,
    usable,
)
from underlay.kernel.clock import Recent, since_boot
from underlay.model import Claim, IpAddress, IpInterface, IpNetwork, Lease, Pool, Role
from underlay.modes import traits_of
from underlay.records import Records

log = logging.getLogger(__name__)

OPTIONS = ("domain", "probe")
EXAMPLES = {4: "192.168.1.0/24", 6: "fd00:1::/64"}
WITHOUT_IPV4 = " A network without IPv4 needs --ipv4=false (Docker 28 and later)."
OWN = "it is this host's own"
# The `docker network create` of a claim without a network still runs if this process
# made the claim so recently. Only then may a plain request name the aux address of
# another network.
CREATING_SECONDS = 30.0
# For an address of the host the time is shorter: Docker does not tell when the network
# of another driver has been created. Docker asks for aux addresses first.
OWN_AUX_SECONDS = 5.0
# How late the ReleaseAddress of a dead endpoint may come after its address was freed.
LATE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class IpamDriver:
    """Leases addresses.

    `clock` returns seconds since 1970, `monotonic` seconds since the host booted.
    `remove_dead_endpoint` removes an endpoint from the records if it is dead, and
    returns whether it was. `is_own` returns whether the host has an address.
    `finish_deletions` waits until no device of an ended endpoint is left, and returns
    whether there was any.
    """

    records: Records
    clock: Callable[[], float]
    remove_dead_endpoint: Callable[[str], bool]
    is_own: Callable[[IpAddress], bool]
    live_endpoints: LiveEndpoints
    monotonic: Callable[[], float] = since_boot
    finish_deletions: Callable[[], bool] = lambda: False
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
            hint = WITHOUT_IPV4 if family == 4 else ""
            raise NoSubnet(family=family, example=EXAMPLES[family], hint=hint)
        wanted = parse_subnet(subnet, family)
        first, last = parse_range(span, wanted)
        identity = f"{domain}/{wanted}/{secrets.token_hex(6)}"
        self.records.check_there()
        # Before it is recorded: the cleanup may run at once.
        self._made.note(identity, self.monotonic())
        with self.records.transaction():
            known = self.records.pools.get(domain, wanted)
            pool = known or add_pool(self.records, domain, wanted)
            self.records.pools.add_claim(identity, pool, first, last, self.clock())
            if not known:
                reserve_in_all_pools(
                    self.records, self.live_endpoints.kept, self.clock(), pool
                )
        return Claim(identity, pool, first, last)

    def forget_made(self) -> None:
        """Forget the recent claims: dockerd ended, and network creation with it."""
        self._made.clear()

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

        Without an address: the gateway of the pool, else its first address.
        """
        return self._once_devices_are_gone(
            lambda: self._request_gateway(identity, address)
        )

    def _request_gateway(self, identity: str, address: str) -> IpInterface:
        with self.records.transaction():
            claim = self._claim(identity)
            subnet = claim.pool.subnet
            chosen = (
                parse_address(address, subnet)
                if address
                else self._usual_gateway(claim)
            )
            self._reserve(claim, chosen, "gateway")
        return _interface(chosen, subnet)

    def request_address(
        self, identity: str, address: str, container: str
    ) -> IpInterface:
        """Lease the requested address, or the next free one.

        `container` is the container's name; Docker sends it from 29 on. Raises
        AddressTaken, PoolExhausted, OutsideSubnet, UnusableAddress, UnknownPool.
        """
        self.records.check_there()
        return self._once_devices_are_gone(
            lambda: self._request_address(identity, address, container)
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
        with self.records.transaction():
            claim = self._claim(identity)
            if not address:
                chosen = self._next_free(claim)
                self._start_lease(claim, chosen, "endpoint", container)
                return self._endpoint_interface(claim, chosen)
            chosen = parse_address(address, claim.pool.subnet)
            holders = self._live_holders(claim.pool, chosen)
            if not holders and self.is_own(chosen):
                if not self._may_be_own_aux(claim, container):
                    raise AddressTaken(address=chosen, holder=OWN, or_free="")
                self._reserve(claim, chosen, "aux")
            elif not holders:
                self._start_lease(claim, chosen, "endpoint", container)
            elif self._may_be_aux(claim, holders, container):
                self._reserve(claim, chosen, "aux")
            else:
                raise self._taken(holders[0])
            return self._endpoint_interface(claim, chosen)

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
        first, _ = usable(claim.pool.subnet)
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
            raise self._taken(used[0])
        if not any(t.claim == claim.id and t.role == role for t in holders):
            self._start_lease(claim, address, role)

    def _next_free(self, claim: Claim) -> IpAddress:
        """Return the next free address; addresses of the host become aux addresses."""
        while chosen := self.records.pools.next_free(claim):
            if not self.is_own(chosen):
                return chosen
            self._start_lease(claim, chosen, "aux")
        raise self._exhausted(claim)

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
        self, claim: Claim, address: IpAddress, role: Role, container: str = ""
    ) -> None:
        start_lease(self.records, claim, address, role, self.clock(), container)

    def _taken(self, lease: Lease) -> AddressTaken:
        """Return the refusal: only what a container has can be freed."""
        own = lease.role == "aux" and self.is_own(lease.address)
        holder = OWN if own else self._describe(lease)
        used = f"(underlay history {lease.address} shows what used it)"
        or_free = f", or free this one first {used}" if lease.role == "endpoint" else ""
        return AddressTaken(address=lease.address, holder=holder, or_free=or_free)

    def _describe(self, lease: Lease) -> str:
        network = self.records.networks.get(lease.network)
        where = f" of network {network.label}" if network else ""
        if lease.role != "endpoint":
            what = "the gateway" if lease.role == "gateway" else "an aux address"
            return f"it is {what}{where}"
        if lease.container:
            return f"container {lease.container}{where} has it"
        endpoint = lease.endpoint[:12]
        return (
            f"endpoint {endpoint}{where} has it" if endpoint else f"it is in use{where}"
        )

    def _exhausted(self, claim: Claim) -> PoolExhausted:
        size = int(claim.last) - int(claim.first) + 1
        whole = (claim.first, claim.last) == usable(claim.pool.subnet)
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
    if not re.fullmatch(DOMAIN, domain):
        need = "one word of letters, digits, '_', '.' and '-', at most 63"
        raise BadValue(key="domain", value=domain, need=need, hint="")
    return domain


def _interface(address: IpAddress, subnet: IpNetwork) -> IpInterface:
    return ip_interface(f"{address}/{subnet.prefixlen}")
