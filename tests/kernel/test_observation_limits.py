"""What a look reads beside much that is not ours: it is counted, not timed."""

from __future__ import annotations

import secrets
import subprocess
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from tests.kernel.conftest import ip as run
from tests.kernel.world import OWNER, born, sandbox_path
from tests.lab import net
from underlay.kernel import host_entries, links, namespaces, neighbours, probe
from underlay.kernel import ip as routing
from underlay.kernel import rtnetlink as nl
from underlay.kernel.linux import LinuxKernel
from underlay.model import cache
from underlay.model.objects import Address, Link, Neighbour, Owner, Route
from underlay.model.steps import Create

pytestmark = pytest.mark.usefixtures("namespace")
MANY = 6_000
# The first of a crowd, before the kernel is asked for less.
AT_MOST = 2 * (routing._FEW + 300) + links._FEW


@pytest.fixture
def room(namespace):
    """A sandbox with a device of ours, and with another one."""
    del namespace
    found = net.Namespace(f"ulcr{secrets.token_hex(3)}", "")
    LinuxKernel().apply(Create(born(found.netns)))
    inside(
        found.netns,
        "link set lo up",
        "link add own0 type bridge",
        "link set own0 up",
        "addr add 10.0.0.5/24 dev eth0",
        "addr add fd00::5/64 dev eth0 nodad",
        "route add default via 10.0.0.1",
        "route add default via fd00::1",
        "route add 10.9.0.0/16 via 10.0.0.1",
    )
    yield found.netns
    found.close()


@pytest.fixture
def came(monkeypatch):
    """Count the messages of the kernel that come to this process."""
    counted = []

    def messages(data, whole=nl.messages):
        found = list(whole(data))
        counted.append(len(found))
        return iter(found)

    monkeypatch.setattr(nl, "messages", messages)
    return counted


@pytest.fixture(params=["", "before 4.20"])
def kernel_of_any_age(request, monkeypatch):
    if request.param:  # one that does not know the option
        monkeypatch.setattr(nl, "NETLINK_GET_STRICT_CHK", 1000)
    return request.param


def inside(room, *lines):
    words = ["ip", "-n", room, "-batch", "-"]
    subprocess.run(words, input="\n".join(lines), text=True, check=True)


def look(room):
    return LinuxKernel().observe_sandboxes({sandbox_path(room)})[sandbox_path(room)]


def remembered():
    kept = (routing._route, routing._leaves_by, routing._address_on)
    others = (neighbours._neighbour, links._our_link)
    return sum(len(r._kept) for r in (*kept, *others))


def forget():
    for _ in range(3 * cache._OFTEN):
        routing.next_generation()
        neighbours.next_generation()
        links.next_generation()


def crowd(by, device):
    pairs = [(n >> 8, n & 255) for n in range(MANY)]
    four = [f"route add 11.0.{a}.{b}/32 dev {device} proto {by}" for a, b in pairs]
    return four + [line.replace("11.0.", "fd11::").replace(".", ":").replace(
        "/32", "") for line in four]  # fmt: skip


@pytest.mark.parametrize(
    ("by", "device"), [("bird", "eth0"), ("bird", "own0"), ("boot", "own0")]
)
def test_sandbox_with_thousands_of_routes_is_observed_like_one_without(
    room, came, kernel_of_any_age, by, device
):
    forget()
    before, known = look(room), remembered()
    assert {str(o.destination) for o in before if isinstance(o, Route)} >= {
        "0.0.0.0/0",
        "::/0",
        "10.9.0.0/16",
        "10.0.0.0/24",
        "fd00::/64",
    }
    inside(room, *crowd(by, device))
    came.clear()
    assert look(room) == before
    assert remembered() < known + 10
    assert kernel_of_any_age or sum(came) < AT_MOST


def test_thousands_of_manual_routes_on_a_container_device_are_read_in_part(room, came):
    before = look(room)
    inside(room, *crowd("boot", "eth0"))
    came.clear()
    forget()
    found = look(room)
    assert {o for o in before if not isinstance(o, Route)} <= found
    defaults = {o for o in before if isinstance(o, Route) and not o.metric}
    assert {o for o in defaults if o.destination.prefixlen in (0, 24)} <= found
    assert sum(came) < AT_MOST + 3 * routing._MANY
    assert remembered() < 100


@pytest.mark.usefixtures("kernel_of_any_age")
@pytest.mark.parametrize("to", ["0.0.0.0/0", "::/0"])
def test_default_route_of_a_routing_daemon_is_found_among_thousands(room, to):
    network = ip_network(to)
    inside(
        room,
        f"route del default via {'10.0.0.1' if network.version == 4 else 'fd00::1'}",
        f"route add {to} dev own0 proto bird metric 32",
        *crowd("bird", "eth0"),
    )
    ways = [o for o in look(room) if isinstance(o, Route) and o.destination == network]
    assert len(ways) == 1
    assert ways[0].device != "eth0"


def test_routes_with_a_tos_are_neither_the_driver_s_nor_docker_s(room):
    before = look(room)
    inside(
        room,
        "route add default tos 0x10 via 10.0.0.7 dev eth0",
        "route add 10.9.0.0/16 tos 0x08 via 10.0.0.7",
    )
    assert look(room) == before


def test_route_with_a_next_hop_of_the_other_family_is_read_with_it(room):
    inside(
        room,
        "route del default via 10.0.0.1",
        "route add 0.0.0.0/0 via inet6 fd00::1 dev eth0",
    )
    ways = {
        o for o in look(room) if isinstance(o, Route) and o.destination.version == 4
    }
    (default,) = (o for o in ways if not o.destination.prefixlen)
    assert default.via == ip_address("fd00::1")
    again = Route(
        default.destination, "eth0", sandbox=sandbox_path(room), via=default.via
    )
    assert "via inet6 fd00::1" in str(Create(again))
    inside(room, "route del 0.0.0.0/0")
    LinuxKernel().apply(Create(again))
    assert look(room) >= ways


def test_addresses_and_devices_a_container_added_itself_are_not_read(room, came):
    before = look(room)
    inside(room, *(f"addr add 11.0.{n >> 8}.{n & 255}/32 dev lo" for n in range(3000)))
    inside(room, *(f"link add own{n} type bridge" for n in range(1, 400)))
    forget()
    came.clear()
    assert look(room) == before
    assert sum(came) < links._FEW + 100
    assert remembered() < 50


def test_host_with_thousands_of_routes_and_neighbours_is_observed_like_one_without(
    came,
):
    shim = Owner.parse("underlay::shim/eth0")
    pool = Route(ip_network("10.64.0.0/24"), None, 10)
    things = [
        Link(shim.device, "macvlan", shim, "eth0", "bridge", up=True),
        Address(ip_interface("10.64.0.1/32"), shim.device),
        Neighbour(ip_address("10.64.0.9"), shim.device, "02:00:00:00:00:09"),
        Neighbour(ip_address("10.64.0.8"), "eth0"),
        pool,
    ]
    kernel = LinuxKernel()
    for thing in things:
        kernel.apply(Create(thing))
    forget()
    before, known = kernel.observe(), remembered()
    assert {type(o) for o in before} == {type(o) for o in things}
    mac = "lladdr 02:00:00:00:00:05 nud permanent"
    net.ip(*crowd("boot", "eth0"))
    net.ip(*(
        f"neigh add 11.0.{n >> 8}.{n & 255} {mac} dev eth0" for n in range(3000)
    ))  # fmt: skip
    came.clear()
    assert kernel.observe() == before
    assert remembered() < known + 10
    assert sum(came) < 100
    came.clear()
    assert probe._states(links.index_of("eth0"), {ip_address("11.0.0.7")})
    assert sum(came) < 5
    came.clear()
    found = {s.words for s in host_entries.entries_on(shim.device)}
    assert "10.64.0.1/32" in found
    assert sum(came) < 20


@pytest.mark.usefixtures("kernel_of_any_age")
def test_objects_on_a_device_are_reported_with_their_routes():
    run("addr", "add", "10.0.0.2/24", "dev", "eth0")
    run("addr", "add", "10.1.0.2/24", "dev", "wire0")
    hops = [
        "nexthop",
        "via",
        "10.0.0.1",
        "dev",
        "eth0",
        "nexthop",
        "via",
        "10.1.0.1",
        "dev",
        "wire0",
    ]
    run("route", "add", "10.7.0.0/16", *hops)
    run("route", "add", "10.8.0.0/16", "via", "10.1.0.1")
    found = {s.words: s.obstacle for s in host_entries.entries_on("eth0")}
    assert found["10.0.0.2/24"] == ""
    assert "several ways" in found["10.7.0.0/16 metric 0 table 254"]
    assert not any(words.startswith("10.8.") for words in found)


@pytest.fixture
def bare(namespace):
    """A namespace as the kernel makes it: nothing is up, and there is no table."""
    del namespace
    name = f"ulcr{secrets.token_hex(3)}"
    net.ip(f"netns add {name}")
    yield name
    net.ip(f"netns del {name}")


@pytest.mark.usefixtures("kernel_of_any_age")
def test_namespace_that_never_had_a_route_is_observed(bare):
    """The kernel ends the list with an error: there is no main table."""
    assert look(bare) == frozenset()
    run("link", "add", "link", "eth0", "name", OWNER.device, "type", "macvlan")
    run("link", "set", OWNER.device, "alias", OWNER.mark, "netns", bare)
    (seen,) = look(bare)
    assert (seen.owner, seen.parent) == (OWNER, "eth0")
    place = Path(sandbox_path(bare))
    assert namespaces.run_in(place, routing.default_device_index) is None
    assert namespaces.run_in(place, lambda: list(routing.routes({}))) == []
    assert namespaces.run_in(place, lambda: host_entries.entries_on("lo")) == []


def test_missing_device_has_no_addresses():
    assert list(routing.addresses({9999: "gone0"})) == []
