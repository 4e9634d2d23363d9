"""Announcements as a neighbour's kernel takes them, and as they are on the wire."""

from __future__ import annotations

import secrets
import socket
import threading
from contextlib import suppress
from ipaddress import IPv4Interface, IPv6Interface, ip_address

import pytest

from tests.kernel.conftest import ip
from tests.lab import net
from tests.lab.service import wait_until
from underlay.kernel.announce import announce, what_is_answered
from underlay.kernel.ip import create
from underlay.kernel.linux import LinuxKernel
from underlay.kernel.namespaces import run_in
from underlay.model import Endpoint, LearnedState
from underlay.model.objects import Neighbour
from underlay.reconcile.announcer import ALWAYS, PAUSES_SECONDS, Announcer

FOUR, SIX = ip_address("10.0.0.9"), ip_address("fd00::9")
MAC, THEIRS, WRONG = (f"02:00:00:00:00:{n:02x}" for n in (9, 1, 0x66))
GATEWAYS = [ip_address("10.0.0.1"), ip_address("fd00::1")]
ALL_NODES = ip_address("ff02::1")
ETH_P_ALL = 3

pytestmark = pytest.mark.usefixtures("namespace")


@pytest.fixture
def neighbour(namespace):
    """Another namespace, at the other end of this one's eth0.

    That must be the test's own, so it is asked for here: marks come in no order.
    """
    del namespace
    with net.Namespace(f"ulan{secrets.token_hex(3)}", "") as found:
        net.ip(
            f"link set eth0 address {MAC}",
            f"link set wire0 address {THEIRS}",
            f"link set wire0 netns {found.netns}",
        )
        commands = """
            ip link set wire0 up
            ip addr add 10.0.0.1/24 dev wire0
            ip addr add fd00::1/64 dev wire0 nodad
        """
        found.run("sh", "-ec", commands)
        wait_until(lambda: " UP " in ip("-br", "link", "show", "eth0"), 5)
        yield found


def entry(neighbour, address):
    return neighbour.run("ip", "neigh", "show", str(address), "dev", "wire0").stdout


@pytest.mark.parametrize("state", ["stale", "reachable"])
@pytest.mark.parametrize("address", [FOUR, SIX])
def test_neighbour_with_a_wrong_mac_learns_the_right_one(neighbour, address, state):
    words = ("neigh", "replace", str(address), "lladdr", WRONG, "dev", "wire0")
    neighbour.run("ip", *words, "nud", state)
    assert WRONG in entry(neighbour, address)
    announce("eth0", [address])
    wait_until(lambda: MAC in entry(neighbour, address), 2)
    assert "router" not in entry(neighbour, address)


def test_neighbour_without_an_entry_gets_none_from_an_announcement(neighbour):
    announce("eth0", [FOUR, SIX])
    assert entry(neighbour, FOUR) == entry(neighbour, SIX) == ""


def test_device_in_another_namespace_is_announced_from_inside(neighbour):
    ip("neigh", "replace", str(FOUR), "lladdr", WRONG, "dev", "eth0", "nud", "stale")
    run_in(net.NETNS / neighbour.netns, lambda: announce("wire0", [FOUR]))
    wait_until(lambda: THEIRS in ip("neigh", "show", str(FOUR)), 2)


def frames_of(neighbour, count, tell):
    """Return what the other end of the wire gets about the addresses."""

    def listening():
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))

    with run_in(net.NETNS / neighbour.netns, listening) as wire:
        wire.bind(("wire0", ETH_P_ALL))
        wire.settimeout(5)
        tell()
        frames = []
        while len(frames) < count:
            frame = wire.recv(2000)
            if FOUR.packed in frame or SIX.packed in frame:
                frames.append(frame)
    return frames


def test_announcement_sends_a_request_a_reply_and_an_advertisement(neighbour):
    frames = frames_of(neighbour, 3, lambda: announce("eth0", [FOUR, SIX]))
    mac = bytes.fromhex(MAC.replace(":", ""))
    arp = b"\xff" * 6 + mac + bytes.fromhex("0806 0001 0800 06 04 00")
    request = arp + b"\1" + mac + FOUR.packed + b"\0" * 6 + FOUR.packed
    reply = arp + b"\2" + mac + FOUR.packed + mac + FOUR.packed
    assert frames[:2] == [request, reply]
    ethernet = bytes.fromhex("3333 00000001") + mac + b"\x86\xdd"
    ipv6 = bytes.fromhex("60000000 0020 3a ff") + SIX.packed + ALL_NODES.packed
    assert frames[2].startswith(ethernet + ipv6 + b"\x88\0")
    assert frames[2][58:] == bytes.fromhex("20000000") + SIX.packed + b"\2\1" + mac


def test_answering_gateway_confirms_an_address(neighbour):
    before = ip("neigh")

    def confirmed():
        return announce("eth0", [FOUR, SIX], gateways=GATEWAYS, seconds=0.5)

    # Its IPv6 hears the wire a moment after that is up.
    wait_until(lambda: confirmed() == {FOUR, SIX}, 10)
    # It knows the MAC from the question alone.
    assert MAC in entry(neighbour, FOUR)
    assert MAC in entry(neighbour, SIX)
    assert ip("neigh") == before


@pytest.mark.parametrize("state", ["stale", "reachable"])
def test_gateway_learns_the_mac_from_the_request_alone(neighbour, state, monkeypatch):
    """As one must that ignores gratuitous ARP."""
    for address in (FOUR, SIX):
        words = ("neigh", "replace", str(address), "lladdr", WRONG, "dev", "wire0")
        neighbour.run("ip", *words, "nud", state)
    monkeypatch.setattr("underlay.kernel.announce._frames", lambda *_: ())
    for address in (FOUR, SIX):
        told = announce("eth0", [address], gateways=GATEWAYS, seconds=5.0)
        assert told == {address}
        assert MAC in entry(neighbour, address)


@pytest.mark.usefixtures("neighbour")
def test_missing_or_unprobed_gateway_confirms_nothing():
    nobody = [ip_address("10.0.0.77"), ip_address("fd00::77")]
    assert announce("eth0", [FOUR, SIX], gateways=nobody, seconds=0.2) == set()
    assert announce("eth0", [FOUR, SIX], gateways=GATEWAYS) == set()
    assert announce("eth0", [FOUR], gateways=GATEWAYS[1:], seconds=0.2) == set()


def test_reply_to_another_device_confirms_nothing(neighbour):
    """Nor does one from another host: the gateway and this address are meant."""
    body = bytes.fromhex("0001 0800 06 04 0002")
    theirs, mac = (bytes.fromhex(m.replace(":", "")) for m in (THEIRS, MAC))
    other = ip_address("10.0.0.77").packed
    gateway = GATEWAYS[0].packed
    head = mac + theirs + b"\x08\x06" + body
    frames = [
        head + theirs + gateway + mac + other,
        head + theirs + other + mac + FOUR.packed,
        b"\xff" * 6 + (head + theirs + gateway + mac + FOUR.packed)[6:],
        (head + theirs + gateway + mac + FOUR.packed)[:40],
    ]
    neighbour.run("ip", "addr", "del", "10.0.0.1/24", "dev", "wire0")

    def speak():
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        s.bind(("wire0", 0))
        return s

    with run_in(net.NETNS / neighbour.netns, speak) as wire:
        done = threading.Event()

        def lie():
            while not done.wait(0.01):
                for frame in frames:
                    wire.send(frame)

        liar = threading.Thread(target=lie)
        liar.start()
        try:
            told = announce("eth0", [FOUR], gateways=GATEWAYS, seconds=0.5)
        finally:
            done.set()
            liar.join()
    assert told == set()


def test_proxied_addresses_are_announced_unlike_the_device_s_own(neighbour):
    """And so that a host that knows another MAC takes it (RFC 4861, 7.2.8)."""
    create(Neighbour(SIX, "eth0"))
    own = ip_address("fe80::ff:fe00:9")
    ip("addr", "add", f"{own}/64", "dev", "eth0", "nodad")
    (frame,) = frames_of(neighbour, 1, lambda: what_is_answered("eth0", [SIX]))
    assert frame[22:54] == own.packed + ALL_NODES.packed
    override = bytes.fromhex("20000000")
    assert frame[58:78] == override + SIX.packed


def test_unsupported_announcement_is_refused():
    with pytest.raises(OSError, match="no device none0"):
        announce("none0", [FOUR])
    ip("link", "set", "eth0", "down")
    with pytest.raises(OSError, match="down"):
        announce("eth0", [FOUR])


class Told:
    """A container whose addresses are announced, with a clock of the test's."""

    def __init__(self, neighbour, gateways):
        self.now, self.neighbour = 1000.0, neighbour
        self.announcer = Announcer(LinuxKernel(), lambda: self.now)
        path = str(net.NETNS / neighbour.netns)
        web = Endpoint(
            "e1",
            "n1",
            IPv4Interface("10.0.0.1/24"),
            IPv6Interface("fd00::1/64"),
            sandbox=path,
            learned=LearnedState("wire0", 1500),
        )
        self.announcer.schedule(web, gateways=gateways)

    def frames(self, pauses=(0.0, *PAUSES_SECONDS)):
        """Return how many replies and advertisements came, pause by pause."""
        counts = []
        for pause in pauses:
            self.now += pause
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
                wire.bind(("eth0", ETH_P_ALL))
                self.announcer.send_due()
                counts.append(self.count(wire))
        return counts

    def count(self, wire):
        wire.settimeout(0.1)
        frames = []
        with suppress(TimeoutError):
            while True:
                frames.append(wire.recv(2000))
        arp = [f for f in frames if f[12:14] == b"\x08\x06" and f[21] == 2]
        told = [f for f in frames if f[12:14] == b"\x86\xdd" and f[54] == 136]
        own = bytes.fromhex(THEIRS.replace(":", ""))
        return tuple(
            sum(f[6:12] == own and f[:6] != own for f in found) for found in (arp, told)
        )


def test_announcements_end_when_the_gateway_has_answered(neighbour):
    ip("addr", "add", "10.0.0.9/24", "dev", "eth0")
    ip("addr", "add", "fd00::9/64", "dev", "eth0", "nodad")
    before = neighbour.run("ip", "neigh").stdout
    told = Told(neighbour, [FOUR, SIX])
    assert told.frames() == [(1, 1)] * ALWAYS + [(0, 0)] * (
        len(PAUSES_SECONDS) + 1 - ALWAYS
    )
    assert neighbour.run("ip", "neigh").stdout == before


def test_announcements_continue_where_no_gateway_answers(neighbour):
    told = Told(neighbour, [ip_address("10.0.0.77"), ip_address("fd00::77")])
    assert told.frames() == [(1, 1)] * (len(PAUSES_SECONDS) + 1)


def test_endpoint_that_left_is_not_announced_by_the_kernel(neighbour):
    told = Told(neighbour, [])
    assert told.frames([0.0]) == [(1, 1)]
    neighbour.run("ip", "addr", "del", "10.0.0.1/24", "dev", "wire0")
    assert told.frames([1.0]) == [(0, 1)]
    neighbour.run("ip", "link", "del", "wire0")
    told.announcer.send_due()
    neighbour.close()
    told.now += 2.0
    told.announcer.send_due()
    assert told.announcer._numbers == {}
