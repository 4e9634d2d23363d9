"""Networks and containers on a kernel in memory, which tests of several parts use."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import (
    IPv4Interface,
    IPv6Interface,
    ip_address,
    ip_interface,
    ip_network,
)

from tests.fakes import BR0, ETH0, LO, Clock, FakeKernel, engine_on, ipam_on
from underlay.model import Endpoint, Network, Subnet
from underlay.model.docker import (
    DockerView,
)
from underlay.model.objects import (
    Address,
    Owner,
    Route,
)
from underlay.model.ports import PORTS_OPTION
from underlay.records import Records

LAN = Network(
    "n1", {"parent": "eth0"}, False, (Subnet(ip_network("10.0.0.0/24"), None),)
)
WEB = Endpoint("e1", "n1", IPv4Interface("10.0.0.5/24"))
DEVICE = Owner("n1", "e1").device
FOUR, SIX = ip_network("10.0.0.0/24"), ip_network("fd00::/64")
GATEWAY4, GATEWAY6 = ip_address("10.0.0.1"), ip_address("fd00::1")
ROOM = "/run/docker/netns/web"
MODES = {
    "macvlan": {"parent": "eth0", "host_access": "off"},
    "ipvlan": {"parent": "eth0", "mode": "ipvlan", "host_access": "off"},
    "vlan": {"parent": "eth0.50", "host_access": "off"},
    "bridge": {"bridge": "br0"},
    "takeover": {"mode": "bridge", "parent": "eth0", "takeover": "yes"},
    "routed": {"mode": "routed"},
}
HERE = ip_interface("10.0.0.9/24"), ip_interface("fd00::9/64")
ROUTED = {"mode": "routed", "proxy": "eth0", "masquerade": "on"}
MACVLAN = {"parent": "eth0"}
IPVLAN = {"parent": "eth0", "mode": "ipvlan"}
# With a gate, and a redirect in the sandbox.
GUARDED = {"policy": "published", "egress": "subnet", "ping": "off"}
WAYS = {
    "routed": ROUTED,
    "macvlan": MACVLAN,
    "ipvlan": IPVLAN,
    "macvlan-guarded": {**MACVLAN, **GUARDED},
    "routed-guarded": {"mode": "routed", **GUARDED},
}
PUBLISHED = {PORTS_OPTION: "8080:80/tcp [127.0.0.1]:53:53/udp"}
SUBNETS = (("10.0.0.0/24", 4), ("fd00::/64", 6))


def nowhere(_path):
    """Hear nothing: the tests say what changed."""


class World:
    """A network with one container on it, docked as Docker does it."""

    def __init__(self, records, options, docked=True, others=()):
        self.kernel, self.time = FakeKernel(LO, ETH0, BR0, *others), Clock()
        self.engine = engine_on(records, self.kernel, self.time)
        self.ipam = ipam_on(records, self.time, self.kernel)
        pooled = options.get("mode") == "routed"
        segments = (
            Subnet(FOUR, GATEWAY4, pooled=pooled),
            Subnet(SIX, GATEWAY6, pooled=pooled),
        )
        self.network = Network("n1", options, subnets=segments)
        self.made = self.claims() if pooled else []
        self.engine.create_network(self.network)
        self.given = [ip_interface("10.0.0.5/24"), ip_interface("fd00::5/64")]
        if pooled:
            self.given = [self.ipam.request_address(c, "", "") for c in self.made]
        if docked:
            self.start(*self.given)

    def claims(self):
        found = []
        for subnet, gateway in ((FOUR, GATEWAY4), (SIX, GATEWAY6)):
            claim = self.ipam.request_pool(str(subnet), "", {}, subnet.version)
            self.ipam.request_gateway(claim.id, str(gateway))
            found.append(claim.id)
        return found

    def start(self, four, six):
        four, six = IPv4Interface(str(four)), IPv6Interface(str(six))
        said = PUBLISHED if "policy" in self.network.options else {}
        asked = Endpoint(
            "e1", "n1", four, six, mac="", options=said, created=self.time()
        )
        known = self.engine.create_endpoint(asked)
        self.attachment = self.engine.join("n1", "e1", ROOM)
        self.dock(known)
        self.look()

    def dock(self, endpoint):
        """Move the device and give it what Join said."""
        given = [Address(a, "eth0") for a in endpoint.addresses]
        given += [
            Route(
                a.network, "eth0", {4: 0, 6: 256}[a.version],
                source=a.ip if a.version == 4 else None, connected=True,
            )
            for a in endpoint.addresses
            if a.network.prefixlen < a.max_prefixlen
        ]  # fmt: skip
        found = self.attachment
        ways = [(to, None) for to in found.on_link]
        ways += list(found.via)
        ways += [
            (ip_network("0.0.0.0/0" if g.version == 4 else "::/0"), g)
            for g in (found.gateway4, found.gateway6)
            if g
        ]
        given += [
            Route(to, "eth0", {4: 0, 6: 1024}[to.version], via=hop) for to, hop in ways
        ]
        self.kernel.dock(found.device, ROOM, "eth0", *given)

    def look(self, *stirred):
        return self.engine.reconciler.run_pass(
            frozenset(stirred or {ROOM}), self.time(), nowhere
        )

    def settle(self):
        """Let passes go on until they are done, in their own time."""
        for _ in range(20):
            again = self.look("", ROOM)
            if again is None and self.engine.preview() == ():
                return
            self.time.now += again or 1.0
        raise AssertionError([str(s) for s in self.engine.preview()])

    def dump(self):
        """Return all there is, host and sandbox, but what a new veth has."""
        links = [*self.kernel.links.values(), *self.kernel.rooms[ROOM].values()]
        shown = {
            replace(o, peer=None, sysctls=(), copy_from=None, mtu=0) for o in links
        }
        return shown, set(self.kernel.others), dict(self.kernel.settings)


def take_device(world):
    link = world.kernel.rooms[ROOM]["eth0"]
    world.kernel.lose(ROOM, "eth0")
    for name, other in list(world.kernel.links.items()):
        if other.peer and other.peer.key == link.key:
            world.kernel.links.pop(name)
            others = world.kernel.others.items()
            world.kernel.others = {k: o for k, o in others if o.device != name}


def take_addresses(world):
    take(world, Address)


def take(world, kind):
    others = world.kernel.others.items()
    world.kernel.others = {
        k: o for k, o in others if not (isinstance(o, kind) and o.sandbox == ROOM)
    }


def segment(subnet, gateway):
    return Subnet(ip_network(subnet), ip_address(gateway), pooled=True)


def network(identity, **options):
    four, six = segment("10.0.0.0/24", "10.0.0.1"), segment("fd00::/64", "fd00::1")
    return Network(identity, options, subnets=(four, six))


def life(engine, ipam, options):
    """Two networks of one subnet, and a container on each."""
    given = {}
    if options.get("mode") == "routed":
        # A routed pool is on no wire of the host.
        getattr(engine.kernel, "host_addresses", {}).pop("eth0", None)

    def create(name):
        claims = [ipam.request_pool(s, "", {}, f) for s, f in SUBNETS]
        given[name] = [c.id for c in claims]
        for claim, gateway in zip(given[name], ("10.0.0.1", "fd00::1"), strict=True):
            ipam.request_gateway(claim, gateway)
        engine.create_network(network(name, **options))

    def start(identity, name):
        four, six = (ipam.request_address(c, "", "") for c in given[name])
        said = PUBLISHED if "policy" in options else {}
        engine.create_endpoint(Endpoint(identity, name, four, six, options=said))

    return [
        lambda: create("n1"),
        lambda: start("e1", "n1"),
        lambda: create("n2"),
        lambda: start("e2", "n2"),
        lambda: engine.delete_endpoint("n1", "e1"),
        lambda: engine.delete_network("n1"),
        lambda: engine.delete_endpoint("n2", "e2"),
        lambda: engine.delete_network("n2"),
    ]


def parts(path, kernel):
    records = Records(path)
    return engine_on(records, kernel, Clock()), ipam_on(records, kernel=kernel)


def steps_of(kernel, verb):
    """Return the steps a verb takes."""
    taken, apply = [], kernel.apply

    def noted(step):
        taken.append(step)
        apply(step)

    kernel.apply = noted
    verb()
    kernel.apply = apply
    return taken


def view(*networks):
    everybody = [e for n in networks for e in n.endpoints]
    names = {e.id: e.name for e in everybody}
    addresses = frozenset(a.ip for e in everybody for a in e.addresses)
    return DockerView(networks, names, addresses)


def agree(engine):
    """One calm pass, then: nothing to do, and every device has its record."""
    engine.kernel.calm()
    assert engine.reconcile() == []
    assert engine.preview() == ()
    known = {
        Owner(e.network, e.id).mark
        for e in engine.records.endpoints.all()
        if not e.sandbox
    }
    assert {link.key for link in engine.kernel.links.values()} == known
    assert engine.records.repairs.failures() == []
