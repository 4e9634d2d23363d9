"""Docker with a network of ipv6=dhcp on a host in memory, and the service on it."""

from __future__ import annotations

import heapq
from ipaddress import IPv4Interface, ip_address, ip_network

from tests.dhcp_segment import Fate
from tests.dhcpv6_segment import Segment, Server
from tests.fakes import Clock, Death, FakeKernel, engine_on
from tests.worlds import nowhere
from underlay.api import status
from underlay.dhcp import sockets
from underlay.ipam.identity import keep_for
from underlay.model import Endpoint, Network, Subnet
from underlay.model.objects import Address, Route
from underlay.records import Records

LEASE, HOLD = 3600, 120


class Host:
    """Docker with one network, its containers, and the service, which may die.

    At a point of `fate`: it is started again then, and finds what is on record.
    """

    def __init__(self, path, monkeypatch, fate=None, **options):
        self.path, self.clock, self.kernel = path, Clock(), FakeKernel()
        self.fate = fate or Fate()
        self.uptime = Clock(500.0)
        self.server = Server(self.clock, LEASE)
        self.segment = Segment(self.server, self.uptime, self.fate)
        for name in ("run", "send", "speaker"):
            monkeypatch.setattr(sockets, name, getattr(self.segment, name))
        self.number, self.changes = 0, []
        self.begin()
        self.options = {"parent": "eth0", "ipv6": "dhcp", **options}
        self.create_network("n1")

    def create_network(self, identity):
        subnet = Subnet(ip_network("10.0.0.0/24"), ip_address("10.0.0.1"))
        self.engine.create_network(Network(identity, self.options, subnets=(subnet,)))

    def begin(self):
        """Start the service on the records as they are."""
        self.records = Records(self.path)
        self.engine = engine_on(self.records, self.kernel, self.clock, self.uptime)
        self.keeper = self.engine.parts.keeper6
        self.keeper.on_change = lambda _room, is_new: self.changes.append(is_new)
        self.keeper.follow()
        for lease in self.records.dhcpv6_leases.concerned():
            self.keeper.note(lease)

    def begin_again(self):
        self.fate.arm(None)
        self.records.close()
        self.begin()
        self.look()

    def follow(self):
        """Have the service begin with new containers, after a death once more."""
        try:
            self.keeper.follow()
        except Death:
            self.begin_again()

    def start(self, name="web", network="n1", is_followed=True, **options):
        """Start a container; Docker tells its name a moment later."""
        self.number += 1
        identity, room = f"e{self.number}", f"/run/docker/netns/{self.number}"
        own = IPv4Interface(f"10.0.0.{self.number + 10}/24")
        asked = Endpoint(identity, network, own, options=options)
        self.engine.create_endpoint(asked)
        found = self.engine.join(network, identity, room)
        segment = Route(own.network, "eth0", 0, source=own.ip, connected=True)
        default = Route(ip_network("0.0.0.0/0"), "eth0", 0, via=found.gateway4)
        given = Address(own, "eth0"), segment, default
        self.kernel.dock(found.device, room, "eth0", *given)
        self.look()
        with self.records.transaction():
            self.records.endpoints.name_container(identity, name)
            keep_for(self.records, identity, name)
        self.look()
        if is_followed:
            self.follow()
        return identity

    def stop(self, identity):
        network = self.endpoint(identity).network
        room = self.endpoint(identity).sandbox
        self.engine.leave(identity)
        self.engine.delete_endpoint(network, identity)
        self.kernel.sandboxes.discard(room)
        self.kernel.rooms.pop(room, None)
        gone = [k for k, o in self.kernel.others.items() if self._room(o) == room]
        for key in gone:
            del self.kernel.others[key]
        self.look()

    @staticmethod
    def _room(found):
        return getattr(found, "sandbox", "")

    def look(self):
        rooms = {e.sandbox for e in self.records.endpoints.all() if e.sandbox}
        try:
            self.engine.reconciler.run_pass({"", *rooms}, self.clock(), nowhere)
        except Death:
            self.begin_again()

    def pass_time(self, seconds=0.0):
        """Let time pass, and the keeper do what becomes due."""
        end = self.uptime.now + seconds
        while (queue := self.keeper._queue) and queue[0][0] <= end:
            due, lease = heapq.heappop(queue)
            if self.keeper._first.get(lease) != due:
                continue
            del self.keeper._first[lease]
            self._be_at(max(self.uptime.now, due))
            try:
                self.keeper._try(lease)
            except Death:
                self.begin_again()
        self._be_at(end)
        self.look()

    def _be_at(self, uptime):
        self.clock.now += uptime - self.uptime.now
        self.uptime.now = uptime

    def listed(self, *names):
        self.keeper.note_listed(set(names))

    def endpoint(self, identity):
        return self.records.endpoints.get(identity)

    def lease(self, identity):
        return self.records.dhcpv6_leases.of_endpoint(identity)

    def addresses(self, identity):
        """Return the IPv6 addresses in the sandbox of an endpoint."""
        room = self.endpoint(identity).sandbox
        return {
            str(o.interface.ip): o
            for o in self.kernel.others.values()
            if isinstance(o, Address) and o.sandbox == room and o.interface.version == 6
        }

    @property
    def troubles(self):
        return [t["error"] for t in status.failures(self.records)]
