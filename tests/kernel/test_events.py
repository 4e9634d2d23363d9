"""What the listener hears of the host, of sandboxes, and of strangers."""

from __future__ import annotations

import secrets
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from struct import pack

import pytest
from pyroute2.netlink import NETLINK_LISTEN_ALL_NSID, SOL_NETLINK

from tests.kernel.world import LONG_ENOUGH, Hearing, inside
from tests.lab import net
from tests.lab.service import wait_until
from underlay.kernel import events, namespaces
from underlay.kernel import rtnetlink as nl
from underlay.kernel.host_events import HostEvents, Urgency

MANY = 10_000


@pytest.fixture
def quiet(request):
    request.getfixturevalue("namespace")
    # Its IPv6 would speak up in the middle of a test.
    net.ip("link set eth0 down", "link set wire0 down")


@pytest.fixture
def hearing(request):
    request.getfixturevalue("quiet")
    found = Hearing()
    yield found
    found.close()


@pytest.fixture
def make():
    made = []

    def sandbox():
        made.append(net.Namespace(f"ulev{secrets.token_hex(3)}", ""))
        return made[-1]

    yield sandbox
    for one in made:
        one.close()


def path(sandbox):
    return str(net.NETNS / sandbox.netns)


@pytest.mark.usefixtures("quiet")
def test_listener_first_reports_that_anything_may_have_changed():
    told = threading.Event()
    ours, theirs = socket.socketpair()
    hearing = threading.Thread(
        target=events.Listener(theirs).listen,
        args=(lambda paths, _: told.set() if paths is None else None,),
    )
    hearing.start()
    assert told.wait(5)
    ours.close()
    hearing.join(timeout=5)
    theirs.close()
    assert not hearing.is_alive()


@pytest.mark.parametrize(
    "line",
    [
        "link set eth0 mtu 1400",
        "addr add 10.0.0.2/24 dev eth0",
        "addr add fd00::2/64 dev lo",
        "route add blackhole 10.9.0.0/16",
        "route add blackhole 10.9.0.0/16 proto 157",
        "route add blackhole fd09::/64 proto static",
    ],
)
def test_host_events_are_reported_without_a_sandbox_path(hearing, line):
    assert hearing.upon(line) == {""}


@pytest.mark.parametrize(
    ("line", "is_urgent"),
    [
        ("link set eth0 mtu 1400", True),
        ("addr add 10.0.0.2/24 dev eth0", True),
        ("link set eth0 up", True),
        ("route add blackhole 10.9.0.0/16", True),
        ("link set lo mtu 1400", False),
        ("addr add fd00::2/64 dev lo", False),
        ("link add docker9 type bridge", False),
        ("link del eth0", True),
    ],
)
def test_event_is_urgent_if_it_may_concern_a_parent(hearing, line, is_urgent):
    assert hearing.upon(line) == {""}
    assert any(hearing.urgent) == is_urgent


@pytest.mark.usefixtures("quiet")
def test_event_on_a_device_with_a_name_of_any_bytes_is_rated():
    words = b"ip link add br\xff type bridge".split()
    subprocess.run(words, check=True)
    (index,) = [i for i, found in socket.if_nameindex() if found.startswith("br")]
    address = nl.IFADDR.pack(socket.AF_INET, 24, 0, 0, index)
    rate = HostEvents(lambda _: False).urgency
    assert rate(nl.RTM_NEWADDR, address) is Urgency.SOON


@pytest.mark.parametrize(
    "line",
    [
        "link add veth8 type veth peer name veth9",
        "link set veth0 master docker0",
        "link set veth0 up",
        "addr add 10.3.0.2/24 dev veth0",
        "link set docker0 up",
        "link del veth0",
    ],
)
def test_events_of_foreign_containers_are_not_reported(hearing, line):
    assert hearing.upon("link add docker0 type bridge") == {""}
    assert hearing.upon("link add veth0 type veth peer name veth1") == set()
    assert hearing.upon(line) == set()


def test_new_wire_in_a_bridge_of_containers_is_reported(hearing):
    hearing.upon("link add docker0 type bridge")
    hearing.upon("link add link eth0 name child type macvlan")
    assert hearing.upon("link set child master docker0") == {""}


def test_renamed_device_with_the_driver_s_mark_is_urgent(hearing):
    hearing.upon("link add other type veth peer name far")
    hearing.upon("link set other alias underlay:a:b")
    hearing.urgent.clear()
    assert hearing.upon("link set other name lost") == {""}
    assert any(hearing.urgent)


def test_veth_that_is_a_parent_is_reported_when_it_is_renamed(hearing):
    """The listener has heard nothing of it before, and the new name is no parent's."""
    assert hearing.upon("link set eth0 name lan0") == {""}


@pytest.mark.needs("nftables")
def test_events_of_firewall_rules_are_not_urgent(hearing):
    hearing.urgent.clear()
    subprocess.run(["nft", "add", "table", "ip", "underlay"], check=True)
    wait_until(lambda: hearing.told == [frozenset({""})], 5)
    assert not any(hearing.urgent)


def test_events_in_a_sandbox_are_urgent(hearing, make):
    sandbox = make()
    hearing.listener.watch(path(sandbox))
    hearing.upon("link set lo mtu 1400", here=sandbox)
    assert all(hearing.urgent)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_sysctl_changes_of_host_devices_are_reported(hearing, family):
    Path(f"/proc/sys/net/{family}/conf/eth0/forwarding").write_text("1")
    wait_until(lambda: hearing.told == [frozenset({""})], 5)


@pytest.mark.parametrize(
    "line",
    [
        "link set lo mtu 1400",
        "addr add 10.0.0.2/24 dev lo",
        "addr add fd00::2/64 dev lo",
        "route add blackhole 10.9.0.0/16",
        "route add blackhole fd09::/64",
        "route add blackhole 10.9.0.0/16 proto 157",
    ],
)
def test_events_of_a_watched_sandbox_are_reported_by_its_path(hearing, make, line):
    sandbox = make()
    hearing.listener.watch(path(sandbox))
    assert hearing.upon(line, here=sandbox) == {path(sandbox)}


def test_removals_in_a_sandbox_are_reported(hearing, make):
    sandbox = make()
    there = ["route add blackhole fd09::/64", "addr add 10.0.0.2/24 dev lo"]
    inside(sandbox, *there)
    hearing.listener.watch(path(sandbox))
    for line in there:
        gone = line.replace(" add ", " del ")
        assert hearing.upon(gone, here=sandbox) == {path(sandbox)}


def test_address_that_a_machine_has_is_told_of_and_no_other_removal_is(hearing, make):
    sandbox = make()
    hearing.listener.watch(path(sandbox))
    inside(
        sandbox,
        "link set lo up",
        "link add a0 type veth peer name b0",
        "address add fd70:1::53/64 dev b0 nodad",
        "link set b0 up",
        "link set a0 up",
        "address add fd70:1::54/64 dev a0 valid_lft 300 preferred_lft 200",
        "address add 10.9.0.1/24 dev a0",
        "address add fd70:1::53/64 dev a0 valid_lft 300 preferred_lft 200",
    )
    wait_until(lambda: hearing.doubled, 10)
    inside(
        sandbox, "address del fd70:1::54/64 dev a0", "address del 10.9.0.1/24 dev a0"
    )
    time.sleep(LONG_ENOUGH)
    assert hearing.doubled == [(path(sandbox), "fd70:1::53")]
    shown = subprocess.run(
        ["ip", "-n", sandbox.netns, "-6", "address", "show", "dev", "a0"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "fd70:1::53" not in shown  # nothing is left to look at


def test_unwatched_namespace_without_an_nsid_is_not_reported(hearing, make):
    sandbox = make()
    assert hearing.upon("addr add 10.0.0.2/24 dev lo", here=sandbox) == set()
    hearing.listener.watch(path(sandbox))
    assert hearing.upon("addr add 10.0.0.3/24 dev lo", here=sandbox) == {path(sandbox)}


def test_moved_device_gives_its_sandbox_an_nsid_that_is_reported_once(hearing, make):
    sandbox = make()
    assert hearing.upon("link add link eth0 name child type macvlan") == {""}
    assert hearing.upon(f"link set child netns {sandbox.netns}") == {""}
    assert hearing.upon("link set child mtu 1300", here=sandbox) == set()
    hearing.listener.watch(path(sandbox))
    assert hearing.upon("link set child mtu 1200", here=sandbox) == {path(sandbox)}


def test_all_changed_sandboxes_are_reported(hearing, make):
    both = make(), make()
    for sandbox in both:
        hearing.listener.watch(path(sandbox))
    hearing.told.clear()
    for sandbox in both:
        inside(sandbox, "addr add 10.0.0.2/24 dev lo")
    everybody = {path(sandbox) for sandbox in both}
    wait_until(lambda: set().union(*hearing.told) == everybody, 5)


@pytest.mark.parametrize("protocol", ["bird", "bgp", "zebra", "ra"])
@pytest.mark.parametrize("family", ["10.9.0.0/16", "fd09::/64"])
def test_routing_daemon_routes_are_not_reported(hearing, make, protocol, family):
    sandbox = make()
    hearing.listener.watch(path(sandbox))
    learnt = [
        f"route {verb} blackhole {family} proto {protocol}" for verb in ("add", "del")
    ]
    assert hearing.upon(*learnt) == set()
    assert hearing.upon(*learnt, here=sandbox) == set()


SILENT_PAIR = [
    f"link set {device} {how}"
    for how in ("addrgenmode none", "up")
    for device in ("eth0", "wire0")
]
OURS = "neigh add {} lladdr 02:00:00:00:00:05 nud permanent dev eth0 protocol 157"
AT_ONCE = {
    "deleted": "neigh del {} dev eth0",
    "changed": "neigh replace {} lladdr 02:00:00:00:00:06 nud permanent dev eth0",
    "no longer permanent": "neigh change {} nud stale dev eth0",
}
THEIRS = [
    "neigh add {} lladdr 02:00:00:00:00:05 nud reachable dev eth0",
    "neigh replace {} lladdr 02:00:00:00:00:06 nud permanent dev eth0 protocol static",
    "neigh del {} dev eth0",
]


@pytest.mark.parametrize("line", AT_ONCE.values(), ids=AT_ONCE)
@pytest.mark.parametrize("address", ["10.0.0.5", "fd00::5"])
def test_removed_or_changed_driver_neighbour_entry_is_reported(hearing, address, line):
    net.ip(*SILENT_PAIR, OURS.format(address))
    hearing.hush()
    assert hearing.upon(line.format(address)) == {""}


@pytest.mark.parametrize("address", ["10.0.0.5", "fd00::5"])
def test_foreign_neighbour_entries_are_not_reported(hearing, make, address):
    sandbox = make()
    hearing.listener.watch(path(sandbox))
    net.ip(*SILENT_PAIR)
    inside(sandbox, "link add eth0 type veth peer name wire0", *SILENT_PAIR)
    hearing.hush()
    theirs = [line.format(address) for line in THEIRS]
    assert hearing.upon(*theirs) == set()
    assert hearing.upon(*theirs, here=sandbox) == set()


def test_file_that_is_no_namespace_cannot_be_watched(hearing, tmp_path):
    with pytest.raises(FileNotFoundError):
        hearing.listener.watch(str(tmp_path / "none"))
    (tmp_path / "left-over").touch()
    with pytest.raises(OSError):
        hearing.listener.watch(str(tmp_path / "left-over"))


def test_known_namespace_is_not_queried_again(hearing, make, monkeypatch):
    sandbox = make()
    hearing.listener.watch(path(sandbox))
    monkeypatch.delattr(namespaces, "assigned_nsid")
    hearing.listener.watch(path(sandbox))


def test_removed_sandbox_is_reported_as_changed_and_forgotten(hearing, make):
    first = make()
    hearing.listener.watch(path(first))
    number = namespaces.assigned_nsid(path(first))
    first.close()
    wait_until(lambda: frozenset({path(first)}) in hearing.told, 10)
    second = make()
    assert namespaces.assigned_nsid(path(second)) == number
    assert hearing.upon("addr add 10.0.0.2/24 dev lo", here=second) == set()
    hearing.listener.watch(path(second))
    assert hearing.upon("addr add 10.0.0.3/24 dev lo", here=second) == {path(second)}


def test_new_namespace_at_an_old_path_is_watched(hearing, make):
    sandbox = make()
    hearing.listener.watch(path(sandbox))
    sandbox.close()
    wait_until(lambda: hearing.told, 10)
    net.ip(f"netns add {sandbox.netns}")
    hearing.listener.watch(path(sandbox))
    assert hearing.upon("link set lo up", here=sandbox) == {path(sandbox)}


def test_host_namespace_with_an_nsid_is_still_the_host(hearing):
    number = namespaces.assigned_nsid("/proc/thread-self/ns/net")
    assert hearing.upon("addr add 10.0.0.2/24 dev lo") == {""}
    # As kernels tell it that do not leave out their own.
    ancillary = [(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, pack("=i", number))]
    assert hearing.listener._origin(bytes(64), ancillary) == {""}


def test_ten_thousand_events_are_reported_in_few_messages(hearing, make):
    sandbox = make()
    hearing.listener.watch(path(sandbox))
    began = time.monotonic()
    storm = [f"addr add 10.0.{n >> 8}.{n & 255}/32 dev lo" for n in range(MANY)]
    told = hearing.upon(*storm, here=sandbox)
    seconds = time.monotonic() - began
    assert told <= {path(sandbox), None}
    assert len(hearing.told) <= 100 * seconds + 1
    hearing.listener.watch(path(sandbox))
    assert hearing.upon("link set lo mtu 1400", here=sandbox) == {path(sandbox)}


@pytest.mark.usefixtures("quiet")
def test_socket_overflow_means_that_anything_may_have_changed(make, monkeypatch):
    monkeypatch.setattr(events, "_BUFFER_BYTES", 1)
    hearing, sandbox = Hearing(), make()
    try:
        hearing.listener.watch(path(sandbox))
        storm = [f"addr add 10.0.0.{n}/32 dev lo" for n in range(250)]
        told = hearing.upon(*storm, here=sandbox)
        assert None in told
        # Whether it still has its number, the overflow may have hidden.
        assert hearing.upon("link set lo mtu 1300", here=sandbox) == set()
        hearing.listener.watch(path(sandbox))
        told = hearing.upon("link set lo mtu 1400", here=sandbox)
        assert told == {path(sandbox)}
    finally:
        hearing.close()


@pytest.mark.needs("nftables")
def test_rules_of_all_programs_are_reported_and_reads_are_not(hearing):
    def done(*words):
        hearing.told.clear()
        hearing.rules.clear()
        subprocess.run(words, check=False, capture_output=True)
        time.sleep(LONG_ENOUGH)
        return set().union(*hearing.told), set(hearing.rules)

    ours, theirs, nothing = ({""}, {"changed"}), (set(), {"changed"}), (set(), set())
    assert done("nft", "add", "table", "ip", "theirs") == theirs
    assert done("nft", "add", "chain", "ip", "theirs", "c") == theirs
    assert done("nft", "add", "rule", "ip", "theirs", "c", "drop") == theirs
    assert done("nft", "add", "table", "ip", "underlay") == ours
    assert done("nft", "add", "chain", "ip", "underlay", "c") == ours
    assert done("nft", "add", "rule", "ip", "underlay", "c", "drop") == ours
    assert done("iptables-nft", "-N", "DOCKER-USER") == ours
    assert done("iptables-nft", "-S", "DOCKER-USER") == nothing
    assert done("nft", "-j", "list", "ruleset") == nothing
    done("iptables-nft", "-F", "DOCKER-USER")  # it was empty
    assert done("iptables-nft", "-A", "DOCKER-USER", "-j", "RETURN") == ours
    assert done("nft", "delete", "table", "ip", "theirs") == theirs
    assert done("nft", "flush", "ruleset") == ours


def test_long_message_about_rules_is_read_to_its_end():
    """Where pages have 64 KB, the kernel puts up to 8 KB into one."""
    ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)
    with ours, theirs:
        theirs.setblocking(False)
        ours.send(bytes(7_800) + b"underlay\0")
        assert [events._is_of_ours(m) for m in events._messages(theirs)] == [True]


@pytest.mark.parametrize("kind", [16, 17, 20, 21, 24, 25, 28, 80, 81, 255])
@pytest.mark.parametrize("size", [0, 1, 4, 8, 11, 12, 16, 17, 20, 48])
@pytest.mark.parametrize("byte", [0, 1, 255])
def test_malformed_event_is_no_error(kind, size, byte):
    """The kernel sends none, but a container's root may."""
    ours, theirs = socket.socketpair()
    listener = events.Listener(theirs, lambda _: False)
    head = struct.pack("=IHHII", 16 + size, kind, 0, 0, 0)
    with ours, theirs:
        assert listener._origin(head + bytes([byte]) * size, []) <= {""}
