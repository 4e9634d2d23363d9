"""IPAM against a plain model: never two owners, never outside, nothing lost.

A name keeps its address as long as there are others, a fixed one always; and nothing
is kept for ever.
"""

from __future__ import annotations

import tempfile
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from tests.fakes import Clock, ipam_on
from underlay.errors import (
    AddressTaken,
    OutsideSubnet,
    Overlap,
    PoolExhausted,
    UnknownPool,
    UnusableAddress,
)
from underlay.ipam import subnets
from underlay.model import Reservation
from underlay.records import Records

SUBNETS = ("10.0.0.0/29", "10.0.0.0/28", "10.0.0.8/29", "10.1.0.0/30", "fd00::/125")
RANGES = {
    "10.0.0.0/29": ("", "10.0.0.4/30"),
    "10.0.0.0/28": ("", "10.0.0.8/29", "10.0.0.12/30"),
    "10.0.0.8/29": ("",),
    "10.1.0.0/30": ("",),
    "fd00::/125": ("", "fd00::4/126"),
}
OFFSETS = st.integers(-1, 16)
NAMES = st.sampled_from(["", "web", "db", "c"])


class IpamMachine(RuleBasedStateMachine):
    """The model: claims with their domain, subnet and span, and what they hold."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "underlay.db"
        self.clock = Clock()
        self.records = Records(self.path)
        self.claims = {}  # PoolID -> (domain, subnet, first, last)
        self.holds = {}  # (domain, address) -> {(PoolID, role)}
        self.order = []  # (PoolID, address), longest held first
        self.queue = {}  # (domain, subnet) -> addresses in the order they were freed
        self.kept = {}  # (domain, address) -> (name, origin, since, gone)

    claims_made = Bundle("claims_made")

    @property
    def ipam(self):
        return ipam_on(self.records, self.clock)

    def teardown(self):
        self.records.close()
        self.folder.cleanup()

    @rule(
        target=claims_made,
        domain=st.sampled_from(("default", "lab")),
        subnet=st.sampled_from(SUBNETS),
        n=st.integers(0, 2),
    )
    def request_pool(self, domain, subnet, n):
        span = RANGES[subnet][n % len(RANGES[subnet])]
        mine = ip_network(subnet)
        overlaps = any(
            d == domain and s != mine and s.version == mine.version and s.overlaps(mine)
            for d, s, _, _ in self.claims.values()
        )
        family = mine.version
        if overlaps:
            with pytest.raises(Overlap):
                self.ipam.request_pool(subnet, span, {"domain": domain}, family)
            return multiple()
        claim = self.ipam.request_pool(subnet, span, {"domain": domain}, family)
        assert claim.id not in self.claims
        first, last = subnets.parse_range(span, mine)
        if not any(c[:2] == (domain, mine) for c in self.claims.values()):
            self.queue[domain, mine] = []
        self.claims[claim.id] = (domain, mine, first, last)
        return claim.id

    @rule(claim=claims_made, name=NAMES)
    def request_next(self, claim, name):
        if claim not in self.claims:
            with pytest.raises(UnknownPool):
                self.ipam.request_address(claim, "", name)
            return
        domain, subnet, first, last = self.claims[claim]
        span = [first + n for n in range(int(last) - int(first) + 1)]
        unheld = [a for a in span if not self.holds.get((domain, a))]
        free = [a for a in unheld if (domain, a) not in self.kept]
        freed = [a for a in self.queue[domain, subnet] if a in free]
        fresh = [a for a in free if a not in freed]
        own = self._own(domain, subnet, name)
        order = own or fresh or freed or self._yielding(domain, unheld)
        if not order:
            with pytest.raises(PoolExhausted):
                self.ipam.request_address(claim, "", name)
            return
        given = self.ipam.request_address(claim, "", name)
        assert given.ip == order[0]
        assert given.network == subnet
        if not own:
            self._forget(domain, given.ip)
        self._hold(domain, given.ip, claim, "endpoint")
        self._keep(domain, subnet, given.ip, name, "drawn")

    def _own(self, domain, subnet, name):
        """Return what is kept for a name and not in use, the most fitting one first."""
        found = [
            (origin != "reserved", since, a)
            for (d, a), (kept_for, origin, since, _) in self.kept.items()
            if (d, kept_for) == (domain, name) and a in subnet
            if not self.holds.get((d, a))
        ]
        return [a for *_, a in sorted(found)]

    def _yielding(self, domain, unheld):
        """Return what others may have if nothing else is left, the first one first."""
        found = []
        for a in unheld:
            _, origin, since, gone = self.kept[domain, a]
            if gone and origin != "reserved":
                found.append((False, gone, a))
            elif origin == "drawn":
                found.append((True, since, a))
        return [a for *_, a in sorted(found)]

    @rule(claim=claims_made, offset=OFFSETS, name=NAMES, gateway=st.booleans())
    def request_one(self, claim, offset, name, gateway):
        if claim not in self.claims:
            return
        domain, subnet, _, _ = self.claims[claim]
        wish = subnet.network_address + max(offset, 0)
        first, last = subnets.usable(subnet)
        role = "gateway" if gateway else "endpoint"
        ask = (
            (lambda: self.ipam.request_gateway(claim, str(wish)))
            if gateway
            else (lambda: self.ipam.request_address(claim, str(wish), name))
        )
        held = self.holds.get((domain, wish), set())
        roles = {r for _, r in held}
        owner, origin, _, gone = self.kept.get((domain, wish), (name, "", 0, 0))
        is_kept = not gone if gateway else owner != name and name
        if wish not in subnet or not first <= wish <= last:
            with pytest.raises((OutsideSubnet, UnusableAddress)):
                ask()
        elif "endpoint" in roles or (held and not gateway):
            with pytest.raises(AddressTaken):
                ask()
        elif origin and is_kept and not held:
            with pytest.raises(AddressTaken, match=f"container {owner}"):
                ask()
        else:
            assert ask().ip == wish
            self._hold(domain, wish, claim, role)
            if gateway:
                self._forget(domain, wish)
            else:
                self._keep(domain, subnet, wish, name, "fixed")

    @rule(listed=st.sets(st.sampled_from(["web", "db", "c"])))
    def look_at_docker(self, listed):
        with self.records.transaction():
            self.records.reservations.note_listed(listed, self.clock())
        for (domain, a), (name, origin, since, gone) in self.kept.items():
            if name in listed:
                gone = 0
            elif not self.holds.get((domain, a)):
                gone = gone or self.clock()
            self.kept[domain, a] = name, origin, since, gone

    @rule(days=st.sampled_from([1, 8]))
    def let_days_pass(self, days):
        """The clean-up frees what was kept for a week after its container was gone."""
        self.clock.now += days * 86400
        limit = self.clock() - 7 * 86400
        with self.records.transaction():
            for gone in self.records.reservations.gone_before(limit):
                self.records.reservations.drop(gone)
        for (domain, a), (_, origin, _, gone) in sorted(
            self.kept.items(), key=lambda item: item[0][1].packed
        ):
            idle = not self.holds.get((domain, a))
            if idle and 0 < gone < limit and origin != "reserved":
                self._forget(domain, a)

    @rule(
        domain=st.sampled_from(("default", "lab")),
        subnet=st.sampled_from(SUBNETS),
        offset=st.integers(1, 6),
        name=st.sampled_from(["web", "db"]),
    )
    def reserve(self, domain, subnet, offset, name):
        address = ip_network(subnet).network_address + offset
        if (domain, address) in self.kept or self.holds.get((domain, address)):
            return
        with self.records.transaction():
            self.records.reservations.hold(
                Reservation(domain, address, name, "reserved", since=self.clock())
            )
        self.kept[domain, address] = name, "reserved", self.clock(), 0
        self._unqueue(domain, address)

    @rule(data=st.data())
    def unreserve(self, data):
        if not self.kept:
            return
        domain, address = data.draw(st.sampled_from(sorted(self.kept, key=str)))
        with self.records.transaction():
            kept = self.records.reservations.get(domain, address)
            self.records.reservations.drop(kept)
        self._forget(domain, address)

    def _keep(self, domain, subnet, address, name, origin):
        """An address is kept for the name that has it, and no other of the pool."""
        known = self.kept.get((domain, address))
        if not name:
            return
        if known and known[1] == "reserved" and known[0] != name:
            return
        for (d, a), (other, how, _, _) in list(self.kept.items()):
            same = (d, other) == (domain, name) and a in subnet and a != address
            if same and how != "reserved" and not self.holds.get((d, a)):
                self._forget(d, a)
        is_mine = known and known[0] == name
        how = known[1] if is_mine and known[1] != "drawn" else origin
        since = known[2] if is_mine else self.clock()
        self.kept[domain, address] = name, how, since, 0

    def _forget(self, domain, address):
        if self.kept.pop((domain, address), None) and not self.holds.get(
            (domain, address)
        ):
            self._enqueue(domain, address)

    def _enqueue(self, domain, address):
        for (d, subnet), queue in self.queue.items():
            if d == domain and address in subnet and self._is_usable(subnet, address):
                queue.append(address)

    def _unqueue(self, domain, address):
        for (d, _), queue in self.queue.items():
            if d == domain and address in queue:
                queue.remove(address)

    def _is_usable(self, subnet, address):
        first, last = subnets.usable(subnet)
        return first <= address <= last

    @rule(claim=claims_made, offset=OFFSETS)
    def release(self, claim, offset):
        if claim not in self.claims:
            self.ipam.release_address(claim, "10.0.0.1")
            return
        _domain, subnet, _, _ = self.claims[claim]
        address = subnet.network_address + max(offset, 0)
        self.ipam.release_address(claim, str(address))
        self._let_go(claim, address)

    @rule(claim=consumes(claims_made))
    def release_pool(self, claim):
        self.ipam.release_pool(claim)
        if claim not in self.claims:
            return
        for holder, address in list(self.order):
            if holder == claim:
                self._let_go(claim, address)
        del self.claims[claim]

    @rule()
    def die_and_start_again(self):
        self.records.close()
        self.records = Records(self.path)

    def _hold(self, domain, address, claim, role):
        self.holds.setdefault((domain, address), set()).add((claim, role))
        if (claim, address) not in self.order:
            self.order.append((claim, address))
        self._unqueue(domain, address)

    def _let_go(self, claim, address):
        domain = self.claims[claim][0]
        held = self.holds.get((domain, address), set())
        left = {h for h in held if h[0] != claim}
        self.order = [o for o in self.order if o != (claim, address)]
        self.holds[domain, address] = left
        if held and not left and (domain, address) not in self.kept:
            self._enqueue(domain, address)

    @invariant()
    def records_and_model_agree(self):
        live = set()
        for pool in self.records.pools.all():
            owners = {}
            for tenure in self.records.leases.live_in(pool.id):
                assert tenure.address in pool.subnet
                live.add((pool.domain, tenure.address, tenure.claim, tenure.role))
                owners.setdefault(tenure.address, []).append(tenure.role)
            for roles in owners.values():
                assert roles.count("endpoint") <= 1
                assert "endpoint" not in roles or len(roles) == 1
        kept = {
            (k.domain, k.address): (k.name, k.origin, k.since, k.gone)
            for k in self.records.reservations.all()
        }
        assert kept == self.kept
        assert live == {
            (domain, address, claim, role)
            for (domain, address), held in self.holds.items()
            for claim, role in held
        }


TestIpamMachine = IpamMachine.TestCase
TestIpamMachine.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
