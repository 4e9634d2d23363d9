"""Docker goes on while records are lost or old: no live address is given away.

A model of dockerd with many networks of one subnet sends its verbs in the order of the
real one; between them the records are lost, put back from a copy, and Docker's list is
read, which may be older than what was sent meanwhile.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.fakes import Clock, FakeKernel, engine_on
from underlay.docker_sync.cleanup import Cleanup
from underlay.docker_sync.recovery import Recovery
from underlay.errors import UnderlayError
from underlay.ipam.driver import IpamDriver
from underlay.model import Endpoint, Network, Subnet
from underlay.model.docker import (
    DockerContainer,
    DockerEndpoint,
    DockerNetwork,
    DockerView,
)
from underlay.model.objects import Owner
from underlay.records import Records

SUBNET = ip_network("10.0.0.0/27")
SPANS = ("", "10.0.0.8/29", "10.0.0.16/29")
GRACE = 60.0
PICK = st.integers(0, 99)


@dataclass
class Net:
    id: str
    pool: str
    ours: bool
    span: str
    gateway: str
    aux: tuple = ()
    members: dict = field(default_factory=dict)  # endpoint id -> address


class LostRecordsMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.kernel, self.time = FakeKernel(), Clock()
        self.nets, self.made = {}, 0
        self.seen = None  # a view and what was on record before it
        self.heeded = set()  # endpoints that were told since records were put back
        self.start()

    def start(self):
        self.records = Records(self.folder / "underlay.db")
        self.engine = engine_on(self.records, self.kernel, self.time)
        self.ipam = IpamDriver(
            self.records,
            self.time,
            self.engine.remove_dead_endpoint,
            self.kernel.is_own,
            self.engine.live_endpoints,
            self.time,
            wire=self.engine.parts.ipam.wire,
        )
        parts = self.records, self.kernel, self.engine
        observer = self.engine.reconciler.observer
        self.cleanup = Cleanup(
            *parts, self.ipam, observer, self.time, self.time, GRACE, 30
        )
        parents = self.engine.reconciler.parents
        dhcp = self.engine.parts.recovery.dhcp
        self.recovery = Recovery(*parts, parents, observer, self.time, self.ask, dhcp)
        self.kernel.other_namespaces = {
            Owner(net.id, e).mark: (ip_address(a),)
            for net in self.nets.values()
            for e, a in net.members.items()
            if net.ours
        }
        self.recovery.begin()
        self.seen = None

    def teardown(self):
        self.records.close()
        shutil.rmtree(self.folder)

    def ask(self, ids):
        return {c: DockerContainer(f"/run/{c[2:]}", {}, {}) for c in ids}

    def number(self):
        self.made += 1
        return self.made

    def net(self, n, *, empty=False):
        known = [x for x in self.nets.values() if not (empty and x.members)]
        return known[n % len(known)] if known else None

    @property
    def known_living(self):
        """Addresses of the living: other drivers' are unknown until Docker lists them.

        Of ours the devices tell.
        """
        return {
            address
            for net in self.nets.values()
            for identity, address in net.members.items()
            if net.ours or identity in self.heeded
        }

    # What Docker does

    @rule(ours=st.booleans(), n=PICK, aux=st.booleans())
    def network_create(self, ours, n, aux):
        identity, span = f"net{self.number():012}", SPANS[n % len(SPANS)]
        reserved = (ip_address("10.0.0.30"),) if aux else ()
        try:
            pool = self.ipam.request_pool(str(SUBNET), span, {}, 4).id
        except UnderlayError:
            return
        try:
            gateway = self.ipam.request_gateway(pool, "10.0.0.1").ip
            for address in reserved:
                self.ipam.request_address(pool, str(address), "")
            segment = Subnet(SUBNET, gateway, reserved, pooled=True)
            if ours:
                asked = Network(identity, {"parent": "eth0"}, subnets=(segment,))
                self.engine.create_network(asked)
        except UnderlayError:
            self.ipam.release_pool(pool)
            return
        self.nets[identity] = Net(identity, pool, ours, span, str(gateway), reserved)

    @rule(n=PICK)
    def network_rm(self, n):
        net = self.net(n, empty=True)
        if net:
            del self.nets[net.id]
            for address in (net.gateway, *net.aux):
                self.ipam.release_address(net.pool, str(address))
            self.ipam.release_pool(net.pool)
            if net.ours:
                self.engine.delete_network(net.id)

    @rule(n=PICK, wish=st.sampled_from(("", "", "10.0.0.5", "10.0.0.9", "10.0.0.17")))
    def run(self, n, wish):
        net = self.net(n)
        if net is None:
            return
        try:
            given = self.ipam.request_address(net.pool, wish, "")
        except UnderlayError:
            return
        address = str(given.ip)
        assert address not in self.known_living | {net.gateway, *map(str, net.aux)}
        identity = f"end{self.number():012}"
        if net.ours:
            try:
                self.engine.create_endpoint(Endpoint(identity, net.id, given))
                self.engine.join(net.id, identity, f"/run/{identity}")
            except UnderlayError:
                self.ipam.release_address(net.pool, address)
                return
            self.kernel.dock(Owner(net.id, identity).device, f"/run/{identity}", "eth0")
        net.members[identity] = address
        self.heeded.add(identity)

    @rule(n=PICK, m=PICK)
    def rm(self, n, m):
        net = self.net(n)
        if net and net.members:
            identity = list(net.members)[m % len(net.members)]
            address = net.members[identity]
            if self.addresses().count(address) > 1:
                return  # given twice before Docker was heard: its release ends either
            del net.members[identity]
            if net.ours:
                self.engine.leave(identity)
                self.kernel.sandboxes.discard(f"/run/{identity}")
                self.kernel.rooms.pop(f"/run/{identity}", None)
                self.engine.delete_endpoint(net.id, identity)
            self.ipam.release_address(net.pool, address)

    def addresses(self):
        return [a for net in self.nets.values() for a in net.members.values()]

    @rule(n=PICK, m=PICK)
    def release_for_a_living_one(self, n, m):
        net = self.net(n)
        if net and net.ours and net.members:
            address = list(net.members.values())[m % len(net.members)]
            self.ipam.release_address(net.pool, address)

    # What happens to the records

    @rule()
    def lose(self):
        self.records.close()
        for path in self.folder.glob("underlay.db*"):
            path.unlink()
        self.heeded = set()
        self.start()

    @rule()
    def copy(self):
        self.records.close()
        shutil.copy(self.folder / "underlay.db", self.folder / "copy")
        self.start()

    @rule()
    def restore(self):
        if (self.folder / "copy").exists():
            self.records.close()
            shutil.copy(self.folder / "copy", self.folder / "underlay.db")
            self.heeded = set()
            self.start()

    # What Docker is asked

    @rule()
    def look(self):
        self.seen = (self.recovery.snapshot(), self.view())

    def view(self):
        networks = tuple(
            DockerNetwork(
                id=net.id,
                name=net.id,
                domain="default",
                ip_networks=(SUBNET,),
                ours=net.ours,
                options={"parent": "eth0"} if net.ours else {},
                subnets=(
                    Subnet(SUBNET, ip_address(net.gateway), net.aux, pooled=True),
                ),
                ranges=(net.span,),
                endpoints=tuple(
                    DockerEndpoint(e, f"c-{e}", e, "", (ip_interface(f"{a}/27"),))
                    for e, a in net.members.items()
                ),
            )
            for net in self.nets.values()
        )
        listed = [e for n in networks for e in n.endpoints]
        reserved = {a for n in networks for s in n.subnets for a in (s.gateway, *s.aux)}
        addresses = reserved | {a.ip for e in listed for a in e.addresses}
        names = {e.id: e.name for e in listed}
        return DockerView(networks, names, frozenset(addresses))

    @rule(seconds=st.sampled_from((0.0, 0.0, GRACE)))
    def heed(self, seconds):
        if self.seen is None:
            self.look()
        before, view = self.seen
        self.seen = None
        self.time.now += seconds
        self.recovery.rebuild(view, before)
        self.cleanup.run(view)
        self.heeded |= set(view.endpoints)

    @rule()
    def settle(self):
        """Docker is asked until all is known that it lists."""
        for _ in range(3):
            self.seen = None
            self.heed(GRACE)
        for net in self.nets.values():
            for identity, address in net.members.items():
                assert self.holder(address), (identity, address)
                if net.ours:
                    assert self.records.endpoints.get(identity)
            assert self.records.networks.get(net.id) or not net.ours

    def holder(self, address):
        return [
            t
            for pool in self.records.pools.all()
            for t in self.records.leases.live(pool.id, ip_address(address))
            if t.role == "endpoint"
        ]

    @invariant()
    def who_is_known_keeps_the_address(self):
        for net in self.nets.values():
            for identity, address in net.members.items():
                if identity in self.heeded:
                    assert self.holder(address), (identity, address)


TestLostRecordsMachine = LostRecordsMachine.TestCase
TestLostRecordsMachine.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
