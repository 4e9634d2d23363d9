"""Asking DHCP servers: when a lease is due, and how many starts may wait."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, ip_network

import pytest

from tests.dhcp_segment import SERVER, Fate, Segment, Server
from tests.fakes import Clock, FakeKernel, engine_on
from underlay.dhcp import sockets
from underlay.dhcp.exchange import MOST_SERVERS
from underlay.dhcp.frames import SERVER_PORT, unwrap
from underlay.dhcp.offers import Offer, Refused
from underlay.dhcp.packets import MessageType, Option, decode
from underlay.ipam import dhcp_servers
from underlay.ipam.dhcp_servers import MOST_WAITING, DhcpServers
from underlay.model import (
    DhcpLease,
    Endpoint,
    LearnedState,
    Network,
    Subnet,
    Uplink,
)
from underlay.model.lease_options import LeaseOptions
from underlay.model.objects import SharedOwner
from underlay.modes.host_access import PROBE_MARK

HEADERS = 14 + 20 + 8  # of Ethernet, IP and UDP
LAN = Network("n1", {"parent": "eth0"}, uplink=Uplink("eth0"))
LEASE = DhcpLease(1, "eth0", "name", "web", "02:00:00:00:00:07", b"\x01web")


@pytest.fixture
def servers():
    return DhcpServers(FakeKernel(), Clock(5_000.0), Clock(100.0))


def ask(servers, seconds=5.0):
    return servers.ask_new(LAN, LEASE, None, seconds, lambda *_: "")


# a_lease_lives_through, Sanne/incus-spawn#247
def test_lease_of_this_boot_does_not_follow_the_clock_on_the_wall(servers):
    lease = DhcpLease(
        1, "eth0", "name", "web", "", since=4_000.0, uptime=50.0, boot=servers.boot()
    )
    assert servers.moment(lease, 4_600.0) == 650.0
    servers.clock.now += 86_400
    assert servers.moment(lease, 4_600.0) == 650.0


def test_lease_of_an_earlier_boot_goes_by_the_clock_on_the_wall(servers):
    lease = DhcpLease(1, "eth0", "name", "web", "", since=4_000.0, boot="boot-0")
    assert servers.moment(lease, 5_060.0) == 160.0


def offer(address):
    server = IPv4Address("10.0.0.1")
    return Offer(IPv4Interface(address), server, None, None, None, LeaseOptions())


def test_device_that_is_gone_is_told_like_a_server_that_does_not_answer(
    servers, monkeypatch
):
    def run(*_words, **_more):
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(sockets, "run", run)
    answer = ask(servers)
    assert answer.given is None
    assert answer.heard == "eth0: No such device"
    give_back(servers)  # and nothing is raised


def give_back(servers, device="eth0"):
    with ExitStack() as later:
        servers.release(device, with_server(), later)


def with_server():
    return replace(
        LEASE,
        address=IPv4Interface("10.0.0.7/24"),
        server=IPv4Address("10.0.0.1"),
        server_mac="02:00:00:00:00:01",
    )


@pytest.mark.parametrize(
    ("hostname", "option"), [("on", Option.HOST_NAME), ("register", Option.FQDN)]
)
def test_server_is_asked_to_register_the_name_where_the_network_says_so(
    servers, monkeypatch, hostname, option
):
    sent = []

    def run(exchange, *_words, **_more):
        sent.extend(exchange.tick(0.0))

    monkeypatch.setattr(sockets, "run", run)
    servers.options_of = {"n1": {"hostname": hostname}}.get
    lease = replace(LEASE, network="n1", hostname="web")
    servers.ask_new(LAN, lease, None, 5.0, lambda *_: "")
    options = decode(sent[0][HEADERS:]).options
    assert {Option.HOST_NAME, Option.FQDN} & options.keys() == {option}
    assert b"web" in options[option]


@pytest.mark.parametrize("declined", [False, True])
def test_declined_address_is_neither_asked_for_nor_taken(
    servers, monkeypatch, declined
):
    found = []

    def run(exchange, *_words, **_more):
        (sent,) = exchange.tick(0.0)
        asked = decode(sent[HEADERS:]).options.get(Option.REQUESTED_ADDRESS)
        offers = [offer(a) for a in ("10.0.0.7/24", "10.0.0.8/24")]
        found.append((asked, [bool(exchange._accept(o)) for o in offers]))

    monkeypatch.setattr(sockets, "run", run)
    servers.kernel.sandboxes.add("/run/web")
    learned = LearnedState("eth0", 1500)
    web = Endpoint("e1", "n1", sandbox="/run/web", learned=learned)
    servers.replace(web, with_server(), declined=declined)
    last = with_server().address.ip.packed
    assert found == [(None if declined else last, [declined, False])]


def test_of_many_reasons_against_offers_the_most_frequent_are_told(
    servers, monkeypatch
):
    def flood(exchange, *_, **__):
        exchange.heard.update({f"of 10.0.0.{n}, outside": 1 for n in range(30)})
        exchange.heard["for another client"] = 7

    monkeypatch.setattr(sockets, "run", flood)
    heard = ask(servers).heard
    assert heard.startswith("heard: 7 times for another client, 1 times of 10.0.0.0")
    assert heard.endswith("27 times others")
    assert heard.count("outside") == 3


def test_start_after_a_silent_one_waits_for_a_shorter_time(servers, monkeypatch):
    ends = []
    monkeypatch.setattr(
        sockets, "run", lambda _exchange, _device, end, **_: ends.append(end)
    )
    ask(servers, 12.0)
    ask(servers, 12.0)
    servers.monotonic.now += dhcp_servers.QUIET_SECONDS
    ask(servers, 12.0)
    assert ends == [112.0, 104.0, 142.0]


@pytest.mark.parametrize(
    ("options", "has_shim"),
    [({}, True), ({"mode": "ipvlan"}, False), ({"mode": "bridge"}, False)],
)
def test_children_of_a_macvlan_parent_are_asked_by_its_shim(
    servers, monkeypatch, options, has_shim
):
    found = []
    monkeypatch.setattr(
        sockets, "run", lambda *_, shim, mark, **__: found.append((shim, mark))
    )
    network = replace(LAN, options={**LAN.options, **options})
    servers.ask_new(network, LEASE, None, 5.0, lambda _: "")
    shim = SharedOwner("shim", "eth0").owner.device
    assert found == [(shim if has_shim else "", PROBE_MARK)]


@pytest.mark.parametrize("is_up", [True, False])
def test_lease_goes_back_by_the_shim_where_there_is_one(servers, monkeypatch, is_up):
    shim, sent = SharedOwner("shim", "eth0").owner.device, []

    def send(_frames, device, _later, *, mark=0):
        if device == shim and not is_up:
            raise OSError(errno.ENODEV, "No such device")
        sent.append((device, mark))

    monkeypatch.setattr(sockets, "send", send)
    give_back(servers)
    assert sent == [(shim, PROBE_MARK) if is_up else ("eth0", 0)]


@pytest.mark.parametrize("there", ["eth0", "eth0.50"])
def test_lease_of_a_removed_vlan_goes_back_with_its_tags(servers, monkeypatch, there):
    """The service removes a VLAN with its last network, and holds the lease longer."""
    sent = []

    def send(frames, device, _later, **_more):
        if device != there:
            raise OSError(errno.ENODEV, "No such device")
        sent.extend(frames)

    monkeypatch.setattr(sockets, "send", send)
    give_back(servers, "eth0.50.7")
    (frame,) = sent
    tags = bytes.fromhex("81000032" * (there == "eth0") + "81000007")
    assert frame[12:].startswith(tags)
    plain = frame[:12] + frame[12:].removeprefix(tags)
    message = decode(unwrap(plain, SERVER_PORT).payload)
    assert message.kind == MessageType.RELEASE


def test_parent_without_carrier_is_asked_on_for_a_second(servers, monkeypatch):
    ends = []
    monkeypatch.setattr(
        sockets, "run", lambda _exchange, _device, end, **_: ends.append(end)
    )
    connected = servers.kernel.strangers["eth0"]
    servers.kernel.strangers["eth0"] = replace(connected, link_fault="no carrier")
    ask(servers, 12.0)
    assert "eth0 has no carrier" in servers.way_out(LAN)
    # A start after that is not one after a silent segment.
    servers.kernel.strangers["eth0"] = connected
    ask(servers, 12.0)
    assert ends == [101.0, 112.0]
    assert "a server serves the segment of eth0" in servers.way_out(LAN)


def test_spanning_tree_of_a_bridge_is_named_where_no_server_answers(servers):
    servers.spanning_tree_delay = {"eth0": 15.0}.__getitem__
    bridge = replace(servers.kernel.strangers["eth0"], kind="bridge")
    servers.kernel.strangers["eth0"] = bridge
    said = servers.way_out(LAN)
    assert "The bridge eth0 has spanning tree on, with a delay of 15 s" in said
    assert "only 30 s after they came up" in said
    servers.spanning_tree_delay = lambda _: 0.0
    assert "spanning tree" not in servers.way_out(LAN)


def test_many_starts_that_wait_leave_threads_to_other_calls(servers, monkeypatch):
    waiting, go_on = threading.Semaphore(0), threading.Event()

    def run(*_words, **_more):
        waiting.release()
        assert go_on.wait(10)

    monkeypatch.setattr(sockets, "run", run)
    with ThreadPoolExecutor(MOST_WAITING) as pool:
        asked = [pool.submit(ask, servers) for _ in range(MOST_WAITING)]
        for _ in asked:
            assert waiting.acquire(timeout=10)
        assert "starts wait already" in ask(servers).heard
        go_on.set()
        assert not any(one.result().given for one in asked)


def answered_by(*servers, outcome=None):
    """Return what stands for an exchange that these servers answer."""

    def run(exchange, *_words, **_more):
        exchange.servers |= set(map(IPv4Address, servers))
        exchange.outcome = outcome

    return run


def test_exchanges_are_counted_by_what_is_asked_and_the_result(servers, monkeypatch):
    found = []
    servers.on_exchange = lambda *words: found.append(words[:2])
    monkeypatch.setattr(sockets, "run", answered_by())
    ask(servers)
    refused = Refused(IPv4Address("10.0.0.1"), "no")
    monkeypatch.setattr(sockets, "run", answered_by("10.0.0.1", outcome=refused))
    servers.ask_again(LAN, with_server())
    servers.kernel.sandboxes.add("/run/web")
    learned = LearnedState("eth0", 1500)
    web = Endpoint("e1", "n1", sandbox="/run/web", learned=learned)
    servers.renew(web, with_server())
    servers.rebind(web, with_server())

    def gone(*_words, **_more):
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(sockets, "run", gone)
    ask(servers)
    assert found == [
        ("new", "silent"),
        ("reboot", "refused"),
        ("renew", "refused"),
        ("rebind", "refused"),
        ("new", "unsent"),
    ]


def test_servers_are_counted_for_an_hour_and_a_second_one_is_logged_once(
    servers, monkeypatch, caplog
):
    assert servers.answering() == {}
    monkeypatch.setattr(sockets, "run", answered_by("10.0.0.1"))
    ask(servers)
    ask(servers)
    assert servers.answering() == {"eth0": 1}
    assert not caplog.records
    monkeypatch.setattr(sockets, "run", answered_by("10.0.0.2"))
    ask(servers)
    ask(servers)
    assert servers.answering() == {"eth0": 2}
    (said,) = caplog.records
    assert said.server == IPv4Address("10.0.0.2")
    servers.monotonic.now += dhcp_servers.ANSWERED_SECONDS
    assert servers.answering() == {"eth0": 0}


def test_of_many_servers_of_a_parent_the_last_ones_are_counted(servers, monkeypatch):
    for number in range(MOST_SERVERS * 2):
        monkeypatch.setattr(sockets, "run", answered_by(f"10.0.1.{number}"))
        ask(servers)
        servers.monotonic.now += 1
    assert servers.answering() == {"eth0": MOST_SERVERS}
    assert ("eth0", IPv4Address(f"10.0.1.{number}")) in servers._answered


def test_stop_of_the_service_waits_for_no_server(servers, monkeypatch):
    def run(_exchange, _device, _end, abandoned, **_):
        assert not abandoned()
        servers.stop()
        assert abandoned()

    monkeypatch.setattr(sockets, "run", run)
    assert ask(servers).given is None


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (130, "of 10.55.0.130, which container db has here"),
        (600, "of 10.55.2.88, outside the network's --subnet"),
        (131, ""),
    ],
)
def test_running_container_gets_no_address_of_another_one(
    records, monkeypatch, first, why
):
    """Nor one outside the subnet, whatever the server of its lease says."""
    clock = Clock()
    engine = engine_on(records, FakeKernel(), clock)
    subnet = Subnet(ip_network("10.55.0.0/23"))
    for name in ("n1", "n2"):
        engine.create_network(Network(name, {"parent": "eth0"}, subnets=(subnet,)))
    engine.create_endpoint(Endpoint("db", "n2", IPv4Interface("10.55.0.130/23")))
    segment = Segment(Server(clock), clock, Fate())
    segment.server.first = first
    monkeypatch.setattr(sockets, "run", segment.run)
    engine.kernel.sandboxes.add("/run/web")
    web = Endpoint("web", "n1", sandbox="/run/web", learned=LearnedState("eth0", 1500))
    held = IPv4Interface("10.55.0.100/23")
    lease = replace(
        with_server(), network="n1", endpoint="web", address=held, server=SERVER
    )
    servers = engine.parts.keeper.servers
    assert servers.renew(web, lease).refused
    answer = servers.replace(web, lease)
    assert bool(answer.given) == (not why)
    assert why in answer.heard
