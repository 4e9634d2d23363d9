"""ipvlan children follow their parent, and get back what they lose: a real kernel.

Few and long tests, for each takes seconds on the kernels that have ipvlan.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface, ip_network

import pytest

from tests.fakes import Clock, engine_on
from tests.kernel.containers import L2, NEW, OPTIONS, WEB2, Room, Wire, calm, without
from tests.lab import net
from tests.lab.service import wait_until
from underlay.errors import NoParent
from underlay.kernel.linux import LinuxKernel
from underlay.model import Endpoint, Subnet
from underlay.model.objects import Owner

pytestmark = pytest.mark.needs("ipvlan")

L3 = replace(
    L2, subnets=(Subnet(ip_network("10.81.0.0/24")), Subnet(ip_network("fd81::/64")))
)
WEB3 = Endpoint("e1", "n1", ip_interface("10.81.0.5/24"), ip_interface("fd81::5/64"))
SHIM = Owner.parse("underlay::shim/eth0").device
ALONE = {"host_access": "off"}


@pytest.fixture
def wire(request):
    request.getfixturevalue("namespace")
    found = Wire()
    yield found
    found.far.close()


@pytest.fixture
def engine(records, request):
    request.getfixturevalue("wire")
    return engine_on(records, LinuxKernel(), Clock())


@pytest.fixture
def room():
    with Room() as found:
        yield found


def start(engine, room, flavour="l2", **options):
    """Have a container at rest on a network of a flavour; return its endpoint."""
    network, endpoint = (L2, WEB2) if flavour == "l2" else (L3, WEB3)
    options = {**OPTIONS, "ipvlan_mode": flavour, **options}
    engine.create_network(replace(network, options=options))
    room.start(engine, endpoint)
    # The kernel takes a moment for the link-local address, and for each one's route.
    wait_until(lambda: room.has("inet6 /64 scope link"), 5, room.face)
    wait_until(lambda: room.has(f"{int(endpoint.ipv6):032x}/80"), 5, room.face)
    return endpoint


TAKEN = (
    "link del eth0",
    "link set eth0 down",
    "link set eth0 mtu 1300",
    "addr del {ipv4} dev eth0",
    "addr del {ipv6} dev eth0",
    "route del default dev eth0",
    "route del ::/0 dev eth0",
    "route del {subnet} dev eth0",
)
TAKEN_IN_HOST = (f"link del {SHIM}", f"link set {SHIM} down", "route flush proto 157")


@pytest.mark.parametrize("flavour", ["l2", "l3", "l3s"])
def test_removed_ipvlan_objects_are_restored(engine, wire, room, flavour):
    web = start(engine, room, flavour)
    before = room.face()
    for what in TAKEN:
        facts = {"ipv4": web.ipv4, "ipv6": web.ipv6, "subnet": web.ipv4.network}
        room.ip(what.format(**facts))
        assert engine.preview() != (), what
        calm(engine)
        wait_until(lambda: room.face() == before, 5, lambda w=what: (w, room.face()))
    wire.assert_reaches(web)
    for what in TAKEN_IN_HOST:
        net.ip(what)
        assert engine.preview() != (), what
        calm(engine)
    wire.assert_reaches(web)


@pytest.mark.parametrize("flavour", ["l2", "l3", "l3s"])
def test_ipvlan_container_follows_replacement_absence_and_renaming_of_its_parent(
    engine, wire, room, flavour
):
    web = start(engine, room, flavour)
    before = without(room.face(), wire.mac)
    wire.unplug()
    wire.plug(NEW)
    calm(engine)
    wait_until(lambda: without(room.face(), NEW) == before, 5, room.face)
    wire.assert_reaches(web)
    wire.unplug()
    calm(engine)
    assert room.has("veth")
    wire.plug()
    calm(engine)
    wait_until(lambda: without(room.face(), wire.mac) == before, 5, room.face)
    wire.assert_reaches(web)
    wire.rename("lan0")
    calm(engine)
    room.ip("link del eth0")
    calm(engine)
    wait_until(lambda: without(room.face(), wire.mac) == before, 5, room.face)
    wire.assert_reaches(web)


def test_neighbours_learn_every_new_mac_of_the_parent(engine, wire, room):
    web = start(engine, room)

    def assert_told(mac, had):
        stale = f"lladdr {had} dev wire0 nud stale"
        wire.far.ip(*(f"neigh replace {a.ip} {stale}" for a in web.addresses))
        calm(engine)
        engine.reconciler.announcer.send_due()
        shown = ("neigh", "show", "dev", "wire0")
        wait_until(lambda: wire.far.show(*shown).count(mac) >= 2, 3)
        wire.assert_reaches(web)

    engine.reconciler.announcer.send_due()
    had = wire.mac
    net.ip(f"link set eth0 address {NEW}")
    assert_told(NEW, had)
    wire.unplug()
    wire.plug(had)
    assert_told(had, NEW)


@pytest.mark.parametrize(
    ("flavour", "flag"), [("l2", "private"), ("l3", "vepa"), ("l3s", "private")]
)
def test_ipvlan_mode_and_flag_are_repaired(engine, wire, room, flavour, flag):
    start(engine, room, flavour, ipvlan_flag=flag, **ALONE)
    assert room.has(f"ipvlan mode {flavour} {flag}")
    room.ip("link del eth0")
    calm(engine)
    assert room.has(f"ipvlan mode {flavour} {flag}")
    wire.unplug()
    wire.plug()
    calm(engine)
    assert room.has(f"ipvlan mode {flavour} {flag}")


def test_foreign_ipvlan_children_are_never_switched(engine, wire, room):
    web = start(engine, room, **ALONE)
    before = without(room.face(), wire.mac)
    wire.unplug()
    wire.plug()
    net.ip("link add link eth0 name theirs type ipvlan mode l3 private")
    assert len(engine.reconcile()) == 1
    theirs = LinuxKernel().device("theirs")
    assert (theirs.flavour, theirs.flag) == ("l3", "private")
    (failure,) = engine.records.repairs.failures()
    assert "theirs" in failure.text
    net.ip("link del theirs")
    calm(engine)
    assert engine.records.repairs.failures() == []
    wait_until(lambda: without(room.face(), wire.mac) == before, 5, room.face)
    assert room.has("ipvlan mode l2 bridge")
    wire.host_addresses = ()
    wire.assert_reaches(web)


def test_ipvlan_container_started_without_a_parent_gets_its_interface_later(
    engine, wire, room
):
    engine.create_network(L2)
    wire.unplug()
    room.start(engine, WEB2)
    assert room.has("veth")
    with pytest.raises(NoParent):
        options = {"missing_parent": "fail"}
        engine.create_endpoint(Endpoint("e2", "n1", options=options))
    wire.plug()
    calm(engine)
    assert room.has("ipvlan mode l2 bridge")
    wire.assert_reaches(WEB2)
