"""Containers that make IPv6 addresses: set up by the pass, and kept so."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

import pytest

from tests.fakes import BR0, ETH0, LO, Clock, FakeKernel, engine_on
from tests.worlds import MODES, ROOM, nowhere
from underlay.api import status
from underlay.errors import SuffixTaken
from underlay.model import Endpoint, Network, Subnet
from underlay.model.objects import IPV6_SWITCH, Address, NftElements, Route, Slaac
from underlay.planning.sandbox import LINK_LOCAL_MOST
from underlay.reconcile.duplicates import RECORDED_MOST, SILENT_SECONDS
from underlay.reconcile.new_names import NewNames
from underlay.service.hosts_file import entries

FOUR = Subnet(ip_network("10.0.0.0/24"), ip_address("10.0.0.1"))
HEARD = IPv6Interface("fd70:1::53/64"), IPv6Interface("fd70:2::53/64")
SHARED = {"macvlan", "ipvlan", "vlan", "bridge"}


class Room:
    """A container on a network whose routers it hears, docked as Docker does it."""

    def __init__(self, records, options):
        self.kernel, self.time = FakeKernel(LO, ETH0, BR0), Clock()
        self.engine, self.records = engine_on(records, self.kernel, self.time), records
        self.engine.create_network(Network("n1", options, subnets=(FOUR,), name="lan"))

    def start(self, identity="e1", container="web", **options):
        four = IPv4Interface(f"10.0.0.{4 + int(identity[1:])}/24")
        asked = Endpoint(
            identity, "n1", four, options=options, container=container,
            created=self.time(),
        )  # fmt: skip
        known = self.engine.create_endpoint(asked)
        if container:
            self.records.endpoints.name_container(identity, container)
        room = ROOM if identity == "e1" else f"{ROOM}{identity}"
        found = self.engine.join("n1", identity, room)
        link = Route(FOUR.subnet, "eth0", source=four.ip, connected=True)
        way = Route(ip_network("0.0.0.0/0"), "eth0", via=FOUR.gateway)
        address = Address(known.ipv4, "eth0")
        self.kernel.dock(found.device, room, "eth0", address, link, way)
        self.settle(room)

    def end(self, identity="e1"):
        room = ROOM if identity == "e1" else f"{ROOM}{identity}"
        self.kernel.lose(room, "eth0")
        self.engine.leave(identity)
        self.engine.delete_endpoint("n1", identity)

    def settle(self, room=ROOM):
        for _ in range(20):
            again = self.engine.reconciler.run_pass({"", room}, self.time(), nowhere)
            if again is None and self.engine.preview() == ():
                return
            self.time.now += again or 1.0
        raise AssertionError([str(s) for s in self.engine.preview()])

    def slaac(self, room=ROOM):
        found = (o for o in self.kernel.others.values() if isinstance(o, Slaac))
        return next((o for o in found if o.sandbox == room), None)

    def hear(self, *addresses):
        """Do as the kernel does when a router advertises prefixes."""
        found = self.slaac()
        self.kernel.others[found.key] = replace(found, found=addresses)
        self.settle()


@pytest.fixture(params=sorted(SHARED))
def room(request, records):
    return Room(records, {**MODES[request.param], "ipv6": "slaac"})


def secrets(found):
    return [s for s in found.sysctls if "stable_secret" in s]


def test_secret_stays_when_the_parent_gets_another_name(records):
    room = Room(records, {"parent": "eth0", "host_access": "off", "ipv6": "slaac"})
    room.start()
    first = room.slaac()
    room.end()
    room.kernel.strangers["lan0"] = replace(
        room.kernel.strangers.pop("eth0"), name="lan0"
    )
    room.settle()
    assert records.networks.get("n1").uplink.parent == "lan0"
    room.start("e2")
    assert secrets(room.slaac(f"{ROOM}e2")) == secrets(first)


def test_secret_follows_from_the_name_and_outlives_the_endpoint(room):
    room.start()
    first = room.slaac()
    assert len(secrets(first)) == 1
    room.end()
    room.start("e2", "db")
    other = room.slaac(f"{ROOM}e2")
    assert secrets(other) != secrets(first)
    room.start("e3", "web")
    assert secrets(room.slaac(f"{ROOM}e3")) == secrets(first)


def test_first_set_up_is_no_repair_and_a_change_of_it_is_one(room):
    room.start()
    assert room.records.repairs.last() == {}
    found = room.slaac()
    changed = ("net/ipv6/conf/*/accept_ra=0",)
    room.kernel.others[found.key] = replace(found, sysctls=changed)
    room.settle()
    assert room.slaac() == found
    assert len(room.records.repairs.last()) == 1


def test_nothing_is_set_until_docker_has_told_the_name(room):
    names = NewNames(room.records)
    room.start(container="")
    assert room.slaac() is None
    names.places()
    room.records.endpoints.name_container("e1", "web")
    assert ROOM in names.places()
    assert not names.places()
    room.settle()
    assert room.slaac()
    before = secrets(room.slaac())
    room.records.endpoints.name_container("e1", "renamed")
    room.settle()
    assert secrets(room.slaac()) == before


def test_device_made_again_gets_all_of_it_with_ipv6_off_until_then(room):
    room.start()
    before = room.slaac()
    link = room.kernel.rooms[ROOM]["eth0"]
    room.kernel.lose(ROOM, "eth0")
    for name, end in list(room.kernel.links.items()):
        if end.peer and end.peer.key == link.key:
            room.kernel.links.pop(name)
    taken, apply = [], room.kernel.apply

    def note(step):
        taken.append(step.object)
        apply(step)

    room.kernel.apply = note
    room.settle()
    assert room.slaac() == before
    born = room.kernel.rooms[ROOM]["eth0"]
    assert born.initial_sysctls == (f"{IPV6_SWITCH}1",)
    kinds = [type(o).__name__ for o in taken]
    assert kinds.index("Link") < kinds.index("Slaac") < kinds.index("Address")


def test_addresses_that_appear_are_noted_and_left_alone(room):
    told = []
    room.engine.reconciler.on_addresses = lambda: told.append(1)
    room.start()
    room.hear(HEARD[0])
    for address in HEARD:
        there = Address(address, "eth0", sandbox=ROOM)
        room.kernel.others[there.key] = there
    room.settle()
    assert room.records.endpoints.get("e1").learned.from_routers == HEARD[:1]
    assert any(e.startswith("fd70:1::53 web") for e in entries(room.records))
    room.hear(HEARD[1])
    assert room.records.endpoints.get("e1").learned.from_routers == HEARD[1:]
    assert len(told) == 2
    assert room.records.repairs.last() == {}
    kept = {o.interface for o in room.kernel.others.values() if isinstance(o, Address)}
    assert {*HEARD} <= kept


def history(room, address):
    return room.records.leases.history(str(address.ip), 10)


def test_history_has_the_addresses_from_routers_as_long_as_they_are_there(room):
    room.start()
    began = room.time()
    room.hear(*HEARD)
    for address in HEARD:
        (had,) = history(room, address)
        assert (had.role, had.endpoint, had.container) == ("slaac", "e1", "web")
        assert had.mac == room.records.endpoints.get("e1").mac
        assert had.since >= began
        assert not had.until
    version = room.records.change_counter()
    room.settle()
    assert room.records.change_counter() == version
    room.time.now += 60
    room.hear(HEARD[1])
    assert history(room, HEARD[0])[0].until == room.time()
    assert not history(room, HEARD[1])[0].until
    room.end()
    assert history(room, HEARD[1])[0].until


def test_addresses_seen_by_a_process_that_died_end_with_the_endpoint(room):
    room.start()
    room.hear(HEARD[0])
    room.kernel.lose(ROOM, "eth0")
    room.kernel.sandboxes.discard(ROOM)
    room.time.now += 100
    again = engine_on(room.records, room.kernel, room.time)
    with room.records.transaction():
        assert again.remove_dead_endpoint("e1")
    assert history(room, HEARD[0])[0].until == room.time()


def test_addresses_of_an_earlier_sandbox_end_when_the_next_one_is_seen(room):
    room.start()
    room.hear(HEARD[0])
    first = history(room, HEARD[0])[0]
    room.records.endpoints.join("e1", ROOM)
    found = room.slaac()
    room.kernel.others[found.key] = replace(found, found=HEARD[1:])
    room.settle()
    assert [t.id for t in history(room, HEARD[0])] == [first.id]
    assert history(room, HEARD[0])[0].until
    assert not history(room, HEARD[1])[0].until


@pytest.fixture
def fixed(records):
    room = Room(records, {**MODES["macvlan"], "ipv6": "suffix"})
    room.start(suffix="::53")
    return room


def refused(room, address=HEARD[0]):
    """Do as the kernel does when a machine has an address."""
    room.engine.reconciler.duplicates.hear(ROOM, address.ip)
    room.settle()


def troubles(room):
    return [t["error"] for t in status.failures(room.records)]


def test_suffix_that_a_machine_has_is_a_trouble_until_the_container_has_it(fixed):
    refused(fixed)
    (found,) = troubles(fixed)
    assert "E-167" in found
    assert "fd70:1::53 is in use" in found
    (endpoint,) = status.endpoints(fixed.records)
    assert endpoint["health"] == "failing"
    refused(fixed)
    assert len(history(fixed, HEARD[0])) == 1
    fixed.hear(HEARD[0])
    assert troubles(fixed) == []
    refused(fixed)  # heard of before it was over
    assert troubles(fixed) == []
    roles = {t.role: t.until for t in history(fixed, HEARD[0])}
    assert roles["conflict"]
    assert not roles["slaac"]


def test_suffix_that_no_router_gives_a_prefix_for_is_no_trouble_after_an_hour(fixed):
    refused(fixed)
    fixed.time.now += SILENT_SECONDS - 1
    fixed.settle()
    assert troubles(fixed)
    fixed.time.now += 2
    fixed.settle()
    assert troubles(fixed) == []


def test_router_with_ever_new_prefixes_does_not_fill_the_records(fixed):
    for number in range(100):
        refused(fixed, IPv6Interface((int(HEARD[0].ip) + (number << 64), 64)))
    assert len(fixed.records.leases.conflicts()) == RECORDED_MOST
    fixed.time.now += SILENT_SECONDS + 1
    fixed.settle()
    refused(fixed)
    assert len(troubles(fixed)) == 1


def test_next_process_ends_such_a_trouble_too(fixed):
    refused(fixed)
    fixed.engine = engine_on(fixed.records, fixed.kernel, fixed.time)
    fixed.settle()
    fixed.engine.parts.ipam.wire.look()
    assert list(fixed.engine.parts.ipam.wire.conflicts.due()) == []
    assert troubles(fixed)
    fixed.time.now += SILENT_SECONDS + 1
    fixed.settle()
    assert troubles(fixed) == []


def test_trouble_about_a_suffix_ends_with_the_endpoint(fixed):
    refused(fixed)
    fixed.end()
    assert troubles(fixed) == []
    assert fixed.records.leases.conflicts() == []


@pytest.mark.parametrize("other", ["fd70:1::54/64", "fd70:1::1:0:0:53/64"])
def test_other_addresses_of_a_container_that_a_machine_has_are_its_own_matter(
    fixed, other
):
    refused(fixed, IPv6Interface(other))
    assert troubles(fixed) == []


def test_address_that_the_kernel_makes_another_of_is_only_logged(room, caplog):
    room.start()
    with caplog.at_level("INFO"):
        refused(room)
    assert troubles(room) == []
    assert "the kernel makes another" in caplog.text


def test_suffix_of_a_living_container_of_the_parent_is_refused(fixed):
    fixed.engine.create_network(
        Network("n2", {**MODES["macvlan"], "ipv6": "suffix"}, name="other")
    )
    for network, suffix in (("n1", "::53"), ("n2", "0::0:53")):
        asked = Endpoint("e2", network, options={"suffix": suffix})
        with pytest.raises(SuffixTaken, match="container web of network n1 on eth0"):
            fixed.engine.create_endpoint(asked)
    fixed.engine.create_endpoint(Endpoint("e3", "n2", options={"suffix": "::54"}))
    fixed.end()
    fixed.engine.create_endpoint(Endpoint("e2", "n2", options={"suffix": "::53"}))


def test_strict_gate_follows_the_addresses_from_routers(records):
    room = Room(records, {**MODES["bridge"], "ipv6": "slaac"})

    def listed():
        found = (o for o in room.kernel.others.values() if isinstance(o, NftElements))
        each = (element for of in found for element in of.elements)
        return {int(words.split()[2], 16) for name, words in each if name == "mine6"}

    room.start()
    near = listed()
    assert len(near) == 1
    for address in HEARD:
        room.hear(address)
        assert listed() == near | {int(address.ip)}
    room.end()
    assert not [o for o in room.kernel.others.values() if isinstance(o, NftElements)]


def test_of_many_addresses_in_a_container_few_are_recorded(room):
    room.start()
    room.hear(*(HEARD[0] + number for number in range(1000)))
    learned = room.records.endpoints.get("e1").learned
    assert len(learned.from_routers) == LINK_LOCAL_MOST


def test_default_route_by_another_network_is_not_taken_from_routers(room):
    room.start()
    assert "net/ipv6/conf/*/accept_ra_defrtr=1" in room.slaac().sysctls
    way = Route(
        ip_network("::/0"), "eth1", 1024, via=ip_address("fd00::1"), sandbox=ROOM
    )
    room.kernel.others[way.key] = way
    room.settle()
    assert "net/ipv6/conf/*/accept_ra_defrtr=0" in room.slaac().sysctls
    del room.kernel.others[way.key]
    room.settle()
    assert "net/ipv6/conf/*/accept_ra_defrtr=1" in room.slaac().sysctls


def test_suffix_needs_no_name(records):
    room = Room(records, {**MODES["macvlan"], "ipv6": "suffix"})
    room.start(container="", suffix="::53")
    assert "ip token set ::53 dev eth0" in room.slaac().command("add")
    assert secrets(room.slaac()) == []


def test_network_that_hears_no_router_sets_nothing(records):
    room = Room(records, MODES["macvlan"])
    room.start()
    assert room.slaac() is None
