"""IPAM against a plain model: never two owners, never outside, nothing lost."""

from __future__ import annotations

import tempfile
from ipaddress import ip_address, ip_network
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

    @rule(claim=claims_made)
    def request_next(self, claim):
        if claim not in self.claims:
            with pytest.raises(UnknownPool):
                self.ipam.request_address(claim, "", "")
            return
        domain, subnet, first, last = self.claims[claim]
        span = [ip_address(n) for n in range(int(first), int(last) + 1)]
        if subnet.version == 6:
            span = [ip_address(a) for a in span]
        free = [a for a in span if not self.holds.get((domain, a))]
        if not free:
            with pytest.raises(PoolExhausted):
                self.ipam.request_address(claim, "", "")
            return
        given = self.ipam.request_address(claim, "", "")
        freed = [a for a in self.queue[domain, subnet] if a in free]
        fresh = [a for a in free if a not in freed]
        assert given.ip == (fresh or freed)[0]
        assert given.network == subnet
        self._hold(domain, subnet, given.ip, claim, "endpoint")

    @rule(claim=claims_made, offset=OFFSETS, gateway=st.booleans())
    def request_one(self, claim, offset, gateway):
        if claim not in self.claims:
            return
        domain, subnet, _, _ = self.claims[claim]
        wish = subnet.network_address + max(offset, 0)
        first, last = subnets.usable(subnet)
        role = "gateway" if gateway else "endpoint"
        ask = (
            (lambda: self.ipam.request_gateway(claim, str(wish)))
            if gateway
            else (lambda: self.ipam.request_address(claim, str(wish), "c"))
        )
        held = self.holds.get((domain, wish), set())
        roles = {r for _, r in held}
        if wish not in subnet or not first <= wish <= last:
            with pytest.raises((OutsideSubnet, UnusableAddress)):
                ask()
        elif "endpoint" in roles or (held and not gateway):
            with pytest.raises(AddressTaken):
                ask()
        else:
            assert ask().ip == wish
            self._hold(domain, subnet, wish, claim, role)

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

    def _hold(self, domain, subnet, address, claim, role):
        self.holds.setdefault((domain, address), set()).add((claim, role))
        if (claim, address) not in self.order:
            self.order.append((claim, address))
        if address in self.queue[domain, subnet]:
            self.queue[domain, subnet].remove(address)

    def _let_go(self, claim, address):
        domain, subnet, _, _ = self.claims[claim]
        held = self.holds.get((domain, address), set())
        left = {h for h in held if h[0] != claim}
        self.order = [o for o in self.order if o != (claim, address)]
        if held and not left:
            self.queue[domain, subnet].append(address)
        self.holds[domain, address] = left

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
        assert live == {
            (domain, address, claim, role)
            for (domain, address), held in self.holds.items()
            for claim, role in held
        }


TestIpamMachine = IpamMachine.TestCase
TestIpamMachine.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
