"""The device that answers for routed containers, on a wire with a neighbour."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from tests.fakes import Clock, engine_on
from tests.kernel.containers import Room, Wire, calm
from tests.kinds import has
from tests.lab import net
from tests.lab.service import wait_until
from underlay.ipam.driver import IpamDriver
from underlay.kernel.ip import create
from underlay.kernel.linux import LinuxKernel
from underlay.kernel.sysctl import SYSCTLS
from underlay.model import Endpoint, Network, Subnet
from underlay.model.objects import Neighbour

# Of the wire's own subnets, the host's and the neighbour's addresses left out.
POOLS = ("10.0.0.128/27", "10.0.0.129"), ("fd00::1:0/112", "fd00::1:1")
FORWARDING = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"
NEW, WRONG = "02:00:00:00:00:99", "02:00:00:00:00:66"


class Host:
    """An engine with a routed network whose proxy is the wire's card."""

    def __init__(self, records, wire):
        self.wire, self.kernel, self.clock = wire, LinuxKernel(), Clock()
        self.engine = engine_on(records, self.kernel, self.clock)
        ipam = IpamDriver(
            records,
            self.clock,
            self.engine.remove_dead_endpoint,
            self.kernel.is_own,
            self.engine.live_endpoints,
            self.clock,
            wire=self.engine.parts.ipam.wire,
        )
        self.ipam, self.claims, segments = ipam, [], []
        for subnet, gateway in POOLS:
            family = ip_network(subnet).version
            claim = ipam.request_pool(subnet, "", {}, family).id
            ipam.request_gateway(claim, gateway)
            self.claims.append(claim)
            place = ip_network(subnet), ip_address(gateway)
            segments.append(Subnet(*place, pooled=True))
        options = {"mode": "routed", "proxy": wire.name}
        self.engine.create_network(Network("n1", options, subnets=tuple(segments)))

    def offer(self, identity):
        """Return the endpoint of a container that is about to start."""
        given = (self.ipam.request_address(c, "", "") for c in self.claims)
        four, six = (ip_interface(str(a)) for a in given)
        return Endpoint(identity, "n1", four, six)

    def mislead(self, endpoint):
        """Have the neighbour know another MAC for a container's addresses."""
        wrong = f"lladdr {WRONG} dev wire0 nud stale"
        addresses = [a.ip for a in endpoint.addresses]
        self.wire.far.ip(*(f"neigh replace {a} {wrong}" for a in addresses))

    def assert_told(self, endpoint, mac):
        """The neighbour learns a MAC before it asks, and reaches the container."""
        self.engine.reconciler.announcer.send_due()
        for address in (a.ip for a in endpoint.addresses):
            shown = ("neigh", "show", str(address), "dev", "wire0")
            far = self.wire.far
            wait_until(
                lambda s=shown: mac in far.show(*s), 2, lambda s=shown: far.show(*s)
            )
        self.wire.assert_reaches(endpoint)


@pytest.fixture
def host(request, records):
    request.getfixturevalue("namespace")
    wire = Wire()
    if not has("nftables"):  # the host must forward already then: E-404
        for path in FORWARDING:
            (SYSCTLS / path).write_text("1")
    yield Host(records, wire)
    wire.far.close()


@pytest.fixture
def room():
    with Room() as found:
        yield found


@pytest.fixture
def web(host, room):
    """A container at rest, of which all neighbours were told."""
    found = host.offer("e1")
    room.start(host.engine, found)
    host.clock.now += 100.0
    host.engine.reconciler.announcer.send_due()
    return found


def test_neighbour_with_a_wrong_mac_reaches_a_new_container_at_once(host, room):
    web = host.offer("e1")
    host.mislead(web)
    room.start(host.engine, web)
    host.assert_told(web, host.wire.mac)


@pytest.mark.parametrize("how", ["set", "exchanged"])
def test_neighbours_learn_a_new_mac_of_the_proxy(host, web, how):
    host.mislead(web)
    if how == "set":
        net.ip(f"link set eth0 address {NEW}")
    else:
        host.wire.unplug()
        host.wire.plug(NEW)
        host.mislead(web)
    calm(host.engine)
    host.assert_told(web, NEW)


def test_renamed_proxy_continues_to_answer(host, web):
    host.wire.rename("lan0")
    host.mislead(web)
    calm(host.engine)
    host.assert_told(web, host.wire.mac)
    with Room() as other:
        late = host.offer("e2")
        host.mislead(late)
        other.start(host.engine, late)
        host.assert_told(late, host.wire.mac)


def test_container_started_without_the_proxy_is_reached_when_it_appears(host):
    mac = host.wire.mac
    host.wire.unplug()
    with Room() as room:
        late = host.offer("e2")
        room.start(host.engine, late)
        assert not any(room.has(words) for words in ("NO-CARRIER", "state DOWN"))
        host.engine.reconciler.announcer.send_due()
        host.wire.plug(mac)
        host.mislead(late)
        calm(host.engine)
        host.assert_told(late, mac)


def test_sysctls_of_a_renamed_proxy_are_restored_after_the_last_container(host, room):
    paths = "net/ipv6/conf/{}/proxy_ndp", "net/ipv4/neigh/{}/proxy_delay"

    def settings(name):
        return [(SYSCTLS / p.format(name)).read_text() for p in paths]

    before = settings("eth0")
    room.start(host.engine, host.offer("e1"))
    assert settings("eth0") != before
    host.wire.rename("lan0")
    calm(host.engine)
    host.engine.delete_endpoint("n1", "e1")
    assert settings("lan0") == before


def test_proxied_addresses_alone_are_announced_on_the_proxy(host, web):
    host.mislead(web)
    four, six = (a.ip for a in web.addresses)
    net.ip(f"neigh del proxy {four} dev eth0")
    create(Neighbour(four, "lo"))
    host.kernel.announce("", "eth0", [four, six], (), 0.0)
    shown = ("neigh", "show", str(six), "dev", "wire0")
    wait_until(lambda: host.wire.mac in host.wire.far.show(*shown), 2)
    assert WRONG in host.wire.far.show("neigh", "show", str(four), "dev", "wire0")
