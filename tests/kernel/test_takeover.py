"""A device taken over by a bridge of ours, and given back, on a real kernel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from tests.fakes import Clock, Death, engine_on
from tests.kernel.conftest import ip
from tests.lab import net
from tests.lab.service import wait_until
from underlay.errors import BadParent, TakeoverFailed, TakeoverImpossible
from underlay.kernel.linux import LinuxKernel
from underlay.model import Endpoint, Network, Subnet
from underlay.model.objects import BridgePort, Owner
from underlay.model.steps import Create
from underlay.records import Records

pytestmark = pytest.mark.usefixtures("wire")
OPTIONS = {"mode": "bridge", "parent": "eth0", "takeover": "yes"}
ON = Network("n1", OPTIONS, False, (Subnet(ip_network("10.0.0.0/24")),))
ROUTER = {ip_address("10.0.0.1"), ip_address("fd00::1")}
BRIDGE = Owner.parse("underlay::bridge/eth0").device


def at(namespace, *words, check=True):
    command = ["nsenter", f"--net=/var/run/netns/{namespace}", *words]
    return subprocess.run(command, check=check, capture_output=True, text=True)


@pytest.fixture
def wire(request, tmp_path):
    """Put a router behind eth0, and much on it that must survive."""
    request.getfixturevalue("namespace")
    name = f"ulw{tmp_path.name[-4:]}{threading.get_native_id()}"
    net.ip(f"netns add {name}", f"link set wire0 netns {name}")
    try:
        at(
            name,
            "sh",
            "-ec",
            "ip link set lo up; ip link set wire0 up;"
            " ip addr add 10.0.0.1/24 dev wire0; ip addr add 192.0.2.99 dev wire0;"
            " ip addr add fd00::1/64 dev wire0 nodad",
        )
        for line in (
            "addr add 10.0.0.5/24 brd + dev eth0",
            "addr add 10.0.0.6/24 dev eth0 label eth0:web",
            "addr add 192.0.2.7/32 scope link metric 77 dev eth0",
            "addr add fd00::5/64 dev eth0 nodad",
            "addr add fd00:1::5/64 dev eth0 nodad noprefixroute",
            "route add default via 10.0.0.1 proto static metric 100",
            "route add 10.9.0.0/16 via 10.0.0.1 src 10.0.0.6 mtu 1400 dev eth0",
            "route add 10.8.0.0/16 dev eth0 scope link table 77",
            "route add 10.7.0.0/16 via 192.0.2.99 dev eth0 onlink",
            "-6 route add default via fd00::1 proto static metric 50",
            "-6 route add fd09::/64 via fd00::1 src fd00::5",
        ):
            ip(*line.split())
        while "tentative" in ip("addr", "show", "eth0"):
            time.sleep(0.02)
        yield name
    finally:
        net.ip(f"netns del {name}")


def state():
    """What the host has, in the words of ip."""
    looks = (
        ("-d", "link"), ("addr",), ("route", "show", "table", "all"),
        ("-6", "route", "show", "table", "all"), ("rule",),
    )  # fmt: skip
    shown = {words: ip(*words) for words in looks}
    volatile = r"^\d+: |@if\d+|\b\d+sec|link-netns\S* \S+"
    return {
        f"{words} {line}"
        for words, text in shown.items()
        for line in re.sub(volatile, "", text, flags=re.MULTILINE).splitlines()
    }


class Dying(LinuxKernel):
    """The kernel, and a process that dies before its n-th step."""

    def __init__(self, step=0, hook=lambda: None):
        super().__init__()
        self.last, self.steps, self.hook = step, 0, hook

    def apply(self, step):
        self.steps += 1
        if self.last == self.steps:
            raise Death
        super().apply(step)
        if isinstance(step, Create) and isinstance(step.object, BridgePort):
            self.hook()


def on(records, kernel=None):
    return engine_on(records, kernel or LinuxKernel(), Clock(), Clock())


ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 7))
print("up", flush=True)
while True:
    try:
        s.sendto(*s.recvfrom(99))
    except OSError:
        pass  # no way back at this moment
"""
ASK = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("10.0.0.5", 7))
s.settimeout(0.005)
sys.stdin.close()
last = longest = 0
for _ in range(10 ** 9):
    try:
        s.send(b"x")
        s.recv(99)
        now = time.monotonic()
        longest = max(longest, now - (last or now))
        last = now
        print(longest, flush=True)
    except OSError:
        pass
    time.sleep(0.001)
"""


@pytest.fixture
def longest_silence(wire, tmp_path):
    """Tell how long the host's address did not answer the router, in seconds."""
    python, seen = sys.executable, tmp_path / "seen"
    echo = subprocess.Popen([python, "-c", ECHO], stdout=subprocess.PIPE)
    echo.stdout.readline()
    with seen.open("wb") as out:
        ask = subprocess.Popen(
            ["nsenter", f"--net=/var/run/netns/{wire}", python, "-c", ASK],
            stdin=subprocess.PIPE, stdout=out,
        )  # fmt: skip
    while not seen.stat().st_size:
        time.sleep(0.01)

    def read():
        had = seen.stat().st_size
        while seen.stat().st_size == had:
            time.sleep(0.01)
        return float(seen.read_text().split()[-2])

    yield read
    for process in (ask, echo):
        process.kill()
        process.communicate()


@pytest.fixture
def engine(records):
    return on(records)


def test_addresses_and_routes_of_a_device_move_to_the_bridge_and_back(engine):
    before = state()
    engine.create_network(ON)
    assert engine.preview() == ()
    assert ip("-4", "addr", "show", "eth0") == ""
    shown = ip("addr", "show", BRIDGE)
    for words in (
        "10.0.0.5/24 brd 10.0.0.255",
        "eth0:web",
        "metric 77",
        "fd00:1::5/64",
    ):
        assert words in shown
    routes = ip("route", "show", "table", "all") + ip("-6", "route", "show")
    for words in (
        f"default via 10.0.0.1 dev {BRIDGE} proto static metric 100",
        f"10.9.0.0/16 via 10.0.0.1 dev {BRIDGE} src 10.0.0.6 mtu 1400",
        f"10.8.0.0/16 dev {BRIDGE} table 77 scope link",
        f"10.7.0.0/16 via 192.0.2.99 dev {BRIDGE} onlink",
        f"default via fd00::1 dev {BRIDGE} proto static metric 50",
    ):
        assert words in routes
    assert "dev eth0" not in ip("route")
    engine.delete_network("n1")
    assert state() ^ before == set()
    assert engine.records.host.takeovers() == []


def test_takeover_interrupts_the_host_for_a_moment_only(engine, longest_silence):
    engine.create_network(ON)
    taken = longest_silence()
    engine.delete_network("n1")
    given_back = longest_silence()
    assert max(taken, given_back) < 0.5


def life(engine):
    engine.create_network(ON)
    engine.delete_network("n1")


def count(tmp_path):
    records, kernel = Records(tmp_path / "count.db"), Dying()
    life(on(records, kernel))
    records.close()
    return kernel.steps


def test_takeover_stopped_after_any_step_is_repaired_by_a_new_process(
    tmp_path,
):
    before, steps = state(), count(tmp_path)
    assert steps > 20
    for step in range(1, steps + 1):
        path = tmp_path / f"{step}.db"
        records = Records(path)
        with pytest.raises(Death):
            life(on(records, Dying(step)))
        records.close()
        records = Records(path)
        engine = on(records)
        assert engine.reconcile() == []
        assert engine.preview() == ()
        if records.networks.all():  # it was made, so the bridge stays
            assert records.host.takeover("eth0").state == "on"
            engine.delete_network("n1")
        assert records.host.takeovers() == []
        assert state() ^ before == set()
        assert LinuxKernel().probe("eth0", ROUTER) == ROUTER
        records.close()


def test_silent_gateway_refuses_the_takeover_and_restores_everything(wire, records):
    before = state()
    deaf = Dying(hook=lambda: at(wire, "ip", "link", "set", "wire0", "arp", "off"))
    with pytest.raises(
        TakeoverFailed, match=r"E-151 eth0 was not taken over: 10.0.0.1"
    ):
        on(records, deaf).create_network(ON)
    assert state() ^ before == set()
    assert records.networks.all() == records.host.takeovers() == []


def test_other_requests_are_served_while_a_silent_gateway_is_waited_for(wire, records):
    asked = threading.Event()

    def fall_silent():
        at(wire, "ip", "link", "set", "wire0", "arp", "off")
        asked.set()

    net.ip("link add eth5 type veth peer name wire5", "link set eth5 up")
    options = {"parent": "eth5", "host_access": "off"}
    beside = Network("n2", options, False, (Subnet(ip_network("10.3.0.0/24")),))
    deaf = on(records, Dying(hook=fall_silent))
    with ThreadPoolExecutor(1) as thread:
        taking = thread.submit(deaf.create_network, ON)
        assert asked.wait(20)
        wait_until(lambda: records.host.takeover("eth0"), 10)
        before = time.monotonic()
        on(records).create_network(beside)
        on(records).create_endpoint(Endpoint("e2", "n2"))
        took = time.monotonic() - before
        assert not taking.done()
        assert took < 1.5
        with pytest.raises(TakeoverFailed):
            taking.result(timeout=30)
    assert [n.id for n in records.networks.all()] == ["n2"]
    on(records).delete_network("n2")


def test_gateway_that_never_answered_is_ignored(wire, engine):
    at(wire, "ip", "link", "set", "wire0", "arp", "off")
    ip("neigh", "flush", "dev", "eth0")
    engine.create_network(ON)
    assert engine.records.host.takeover("eth0").state == "on"
    engine.delete_network("n1")


def test_takeover_bridge_keeps_the_parent_s_mac_and_mtu_with_a_hundred_containers(
    engine,
):
    ip("link", "set", "eth0", "mtu", "1450")
    had = fact("eth0", "address"), 1450
    engine.create_network(ON)
    for number in range(100):
        engine.create_endpoint(Endpoint(f"e{number}", "n1"))
        assert (fact(BRIDGE, "address"), fact(BRIDGE, "mtu")) == had
    assert fact("br-eth0", "ifalias") == "underlay::bridge/eth0"
    assert engine.preview() == ()
    engine.delete_network("n1")
    assert (fact("eth0", "address"), fact("eth0", "mtu")) == had


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["addr change 10.0.0.6/24 dev eth0 valid_lft 600 preferred_lft 600"],
         "10.0.0.6/24, it has a lifetime, as one from a DHCP server"),
        (["link add br9 type bridge", "link set eth0 master br9"], "a port of br9"),
        (["link add m9 link eth0 type macvlan"], "m9 .macvlan. is on it"),
        (["route add 10.5.0.0/16 nexthop via 10.0.0.1 dev eth0 nexthop via 10.0.0.1"
          " dev lo onlink"], "10.5.0.0/16 metric 0 table 254, it is one of several"),
    ],
)  # fmt: skip
def test_device_that_cannot_be_moved_whole_is_refused_untouched(engine, lines, words):
    for line in lines:
        ip(*line.split())
    before = state()
    with pytest.raises(TakeoverImpossible, match=f"E-150 eth0 cannot .*{words}"):
        engine.create_network(ON)
    assert state() ^ before == set()
    assert engine.records.host.takeovers() == []


def test_takeover_bridge_is_shared_and_the_last_network_returns_the_device(engine):
    before = state()
    engine.create_network(ON)
    engine.create_network(replace(ON, id="n2", options={**OPTIONS, "parent": "auto"}))
    with pytest.raises(BadParent, match="use mode=bridge and takeover=yes with"):
        engine.create_network(replace(ON, id="n3", options={"parent": "eth0"}))
    engine.delete_network("n1")
    assert fact("eth0", "master") == BRIDGE
    engine.delete_network("n2")
    assert state() ^ before == set()


def test_takeover_after_a_reboot_uses_what_the_host_has_then(records):
    on(records).create_network(ON)
    on(records).create_endpoint(Endpoint("e1", "n1"))
    ip("link", "del", BRIDGE)
    ip("link", "del", Owner("n1", "e1").device)
    for line in ("addr add 10.0.0.50/24 dev eth0", "route add default via 10.0.0.1"):
        ip(*line.split())
    engine = on(records)
    assert engine.reconcile() == []
    assert engine.preview() == ()
    assert "10.0.0.50/24" in ip("addr", "show", BRIDGE)
    assert f"default via 10.0.0.1 dev {BRIDGE}" in ip("route")
    assert fact(Owner("n1", "e1").host_end.device, "master") == BRIDGE


def test_container_faster_than_the_first_pass_finds_the_takeover_bridge_made(records):
    on(records).create_network(ON)
    ip("link", "del", BRIDGE)
    ip("addr", "add", "10.0.0.5/24", "dev", "eth0")
    on(records).create_endpoint(Endpoint("e1", "n1"))
    assert fact(Owner("n1", "e1").host_end.device, "master") == BRIDGE
    assert "10.0.0.5/24" in ip("addr", "show", BRIDGE)


def test_later_configuration_of_the_device_moves_to_the_bridge(engine):
    engine.create_network(ON)
    ip("addr", "add", "10.0.0.9/24", "dev", "eth0")
    assert engine.reconcile() == []
    assert "10.0.0.9/24" in ip("addr", "show", BRIDGE)
    ip("addr", "del", "10.0.0.6/24", "dev", BRIDGE)
    assert engine.reconcile() == []
    assert "10.0.0.6/24" not in ip("addr")  # it was the administrator's to take away
    engine.delete_network("n1")
    assert "10.0.0.9/24" in ip("addr", "show", "eth0")
    assert "10.0.0.6/24" not in ip("addr")


def test_renamed_takeover_device_stays_a_port_without_interruption(engine):
    before = state()
    engine.create_network(ON)
    shown = ip("addr", "show", BRIDGE)
    ip("link", "set", "eth0", "down")
    ip("link", "set", "eth0", "name", "lan0")
    ip("link", "set", "lan0", "up")
    assert engine.reconcile() == []
    assert engine.preview() == ()
    assert engine.records.networks.get("n1").uplink.parent_missing == ""
    engine.create_endpoint(Endpoint("e1", "n1"))
    assert fact(Owner("n1", "e1").host_end.device, "master") == BRIDGE
    engine.delete_endpoint("n1", "e1")
    engine.delete_network("n1")
    assert engine.reconcile() == []
    assert ip("addr", "show", BRIDGE) == shown
    for line in ("link set lan0 down", "link set lan0 name eth0", "link set eth0 up"):
        ip(*line.split())
    assert engine.reconcile() == []
    wait_until(lambda: state() ^ before == set(), 5, lambda: state() ^ before)
    assert engine.records.host.takeovers() == []


def test_manually_reverted_takeover_is_repaired_and_logged(engine):
    engine.create_network(ON)
    ip("link", "set", "eth0", "nomaster")
    ip("addr", "add", "10.0.0.9/24", "dev", "eth0")
    engine.reconciler.run_pass({""}, engine.clock(), print)
    assert fact("eth0", "master") == BRIDGE
    assert "10.0.0.9/24" in ip("addr", "show", BRIDGE)
    address, port = engine.records.repairs.latest(9)
    assert (port.before, port.step) == ("", f"ip link set eth0 master {BRIDGE}")
    assert address.before == "ip addr add 10.0.0.9/24 dev eth0"
    assert {port.mark, address.mark} == {"underlay::bridge/eth0"}


ROUTER_SPEAKS = """
import socket, struct, time
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
prefix = socket.inet_pton(socket.AF_INET6, "fd05::")
said = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
said += struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + prefix
while True:
    try:
        s.sendto(said, ("ff02::1", 0, 0, socket.if_nametoindex("wire0")))
    except OSError:
        pass  # no address of its own yet
    time.sleep(0.05)
"""


def test_router_advertisements_are_processed_on_the_bridge_then_on_the_device(
    wire, engine
):
    def hears(device):
        told = "fd05::" in ip("-6", "addr", "show", device)
        return told and "proto ra" in ip("-6", "route", "show", "dev", device)

    command = ["nsenter", f"--net=/var/run/netns/{wire}", sys.executable, "-c"]
    router = subprocess.Popen([*command, ROUTER_SPEAKS])
    try:
        wait_until(lambda: hears("eth0"), 10)
        engine.create_network(ON)
        wait_until(lambda: hears(BRIDGE), 10)
        assert "fd05::" not in ip("-6", "addr", "show", "eth0")
        assert "proto ra" not in ip("-6", "route", "show", "dev", "eth0")
        assert engine.preview() == ()
        engine.delete_network("n1")
        wait_until(lambda: hears("eth0"), 10)
    finally:
        router.kill()
        router.wait()


def test_takeover_bridge_with_foreign_ports_stays_until_they_go(engine, caplog):
    before = state()
    engine.create_network(ON)
    ip("link", "add", "tap9", "type", "veth", "peer", "name", "vm9")
    ip("link", "set", "tap9", "master", "br-eth0")
    engine.delete_network("n1")
    assert engine.reconcile() == []
    assert engine.preview() == ()
    assert fact("tap9", "master") == fact("eth0", "master") == BRIDGE
    assert "other devices are on it" in caplog.text
    ip("link", "del", "tap9")
    assert engine.reconcile() == []
    assert state() ^ before == set()


def fact(device, name):
    return json.loads(ip("-j", "-d", "link", "show", device))[0][name]
