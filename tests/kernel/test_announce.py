"""Announcements as a neighbour's kernel takes them, and as they are on the wire."""

from __future__ import annotations

import secrets
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.kernel.conftest import ip
from tests.lab import net
from tests.lab.service import wait_until
from underlay.kernel.announce import announce
from underlay.kernel.namespaces import inside

FOUR, SIX = ip_address("10.0.0.9"), ip_address("fd00::9")
MAC, WRONG = "02:00:00:00:00:09", "02:00:00:00:00:66"
ETH_P_ALL = 3

pytestmark = pytest.mark.usefixtures("namespace")


@pytest.fixture
def neighbour():
    """Another namespace, at the other end of this one's eth0."""
    commands = "ip addr add 10.0.0.1/24 dev lo; ip addr add fd00::1/64 dev lo nodad"
    with net.Namespace(f"ulan{secrets.token_hex(3)}", commands) as found:
        net.ip(f"link set eth0 address {MAC}", f"link set wire0 netns {found.netns}")
        found.run("ip", "link", "set", "wire0", "up")
        wait_until(lambda: " UP " in ip("-br", "link", "show", "eth0"), 5)
        yield found


def entry(neighbour, address):
    return neighbour.run("ip", "neigh", "show", str(address), "dev", "wire0").stdout


@pytest.mark.parametrize("state", ["stale", "reachable"])
@pytest.mark.parametrize("address", [FOUR, SIX])
def test_a_neighbour_that_knows_a_wrong_mac_learns_the_right_one(
    neighbour, address, state
):
    words = ("neigh", "replace", str(address), "lladdr", WRONG, "dev", "wire0")
    neighbour.run("ip", *words, "nud", state)
    assert WRONG in entry(neighbour, address)
    announce("eth0", [address])
    wait_until(lambda: MAC in entry(neighbour, address), 2)
    assert "router" not in entry(neighbour, address)


def test_a_neighbour_that_knows_nobody_still_knows_nobody(neighbour):
    announce("eth0", [FOUR, SIX])
    assert entry(neighbour, FOUR) == entry(neighbour, SIX) == ""


def test_a_device_in_another_namespace_is_announced_from_inside_it(neighbour):
    ip("neigh", "replace", str(FOUR), "lladdr", WRONG, "dev", "eth0", "nud", "stale")
    theirs = neighbour.run("cat", "/sys/class/net/wire0/address").stdout.strip()
    there = Path(net.NETNS / neighbour.netns)
    inside(there, lambda: announce("wire0", [FOUR]))
    wait_until(lambda: theirs in ip("neigh", "show", str(FOUR)), 2)


def test_the_wire_sees_a_request_a_reply_and_an_advertisement(neighbour):
    def listening():
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))

    with inside(net.NETNS / neighbour.netns, listening) as wire:
        wire.bind(("wire0", ETH_P_ALL))
        wire.settimeout(5)
        announce("eth0", [FOUR, SIX])
        frames = []
        while len(frames) < 3:
            frame = wire.recv(2000)
            if FOUR.packed in frame or SIX.packed in frame:
                frames.append(frame)
    mac = bytes.fromhex(MAC.replace(":", ""))
    arp = b"\xff" * 6 + mac + bytes.fromhex("0806 0001 0800 06 04 00")
    request = arp + b"\1" + mac + FOUR.packed + b"\0" * 6 + FOUR.packed
    reply = arp + b"\2" + mac + FOUR.packed + mac + FOUR.packed
    assert frames[:2] == [request, reply]
    assert frames[2][:14] == bytes.fromhex("333300000001") + mac + b"\x86\xdd"


def test_what_cannot_be_announced_is_refused():
    with pytest.raises(OSError, match="no device none0"):
        announce("none0", [FOUR])
    ip("link", "set", "eth0", "down")
    with pytest.raises(OSError, match="down"):
        announce("eth0", [FOUR])
