"""Exchanges of DHCPv6 with real servers, from a device as containers have it."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab.dhcpv6_servers import Dnsmasq, IscDhcpd, Kea
from tests.lab.net import NETNS, Lan, Namespace
from tests.lab.service import wait_until
from underlay.dhcp import dhcpv6_exchange, sockets
from underlay.dhcp.dhcpv6 import Client
from underlay.dhcp.dhcpv6_exchange import Exchange, Held, Leased
from underlay.dhcp.offers import Refused
from underlay.kernel.namespaces import run_in

ROUTER, MAC, IAID = "fd70:1::1", "02:00:00:00:aa:01", 0x01020304
DUID = bytes.fromhex("0004") + bytes(range(16))
# Nothing gets in or out by the IP of the device's namespace.
RULES = """
table inet t {
    chain i { type filter hook input priority 0; policy drop; }
    chain o { type filter hook output priority 0; policy drop; }
}
"""


@pytest.fixture(scope="module")
def lan():
    with Lan() as lan:
        lan.run("ip", "addr", "add", f"{ROUTER}/64", "dev", "br0", "nodad")
        yield lan


@pytest.fixture(scope="module")
def room(lan):
    """A namespace with one device on the LAN, as that of a container."""
    commands = f"""
        ip link add eth0 address {MAC} type veth peer name p-six netns {lan.netns}
        echo 1 > /proc/sys/net/ipv6/conf/eth0/optimistic_dad
        echo 1 > /proc/sys/net/ipv6/conf/eth0/use_optimistic
        ip link set eth0 up
    """
    with Namespace(f"{lan.tag}-six", commands) as room:
        lan.run("ip", "link", "set", "p-six", "master", "br0", "up")
        tentative = ("ip", "-6", "addr", "show", "dev", "br0", "tentative")
        there = ("ip", "-6", "addr", "show", "dev", "br0", "scope", "link")
        wait_until(lambda: lan.run(*there).stdout, 10)
        wait_until(lambda: not lan.run(*tentative).stdout, 10)
        yield room


class Device:
    def __init__(self, room):
        self.path = Path(NETNS) / room.netns

    def client(self):
        mac, address = sockets.speaker("eth0")
        return Client(DUID, IAID, mac, address, "web")

    def run(self, make, seconds=8):
        """Return what came of an exchange that `make` makes of the client."""

        def ask():
            exchange = make(self.client())
            deadline = sockets.since_boot() + seconds
            return sockets.run(exchange, "eth0", deadline), exchange

        return run_in(self.path, ask)

    def new(self, wished=None):
        found, exchange = self.run(
            lambda c: Exchange.new(c, random.random, wished=wished)
        )
        assert isinstance(found, Leased), (found, exchange.heard)
        return found

    def tell(self, make, leased):
        held = Held(leased.grant.address, leased.server)
        with ExitStack() as later:
            run_in(
                self.path,
                lambda: sockets.send(
                    [make(self.client(), random.random, held)], "eth0", later
                ),
            )


@pytest.fixture
def device(room):
    return Device(room)


@pytest.fixture(params=[Kea, Dnsmasq, IscDhcpd])
def server(request, lan, device):
    assert device.path.exists()
    with request.param(lan.start) as server:
        yield server


def of_client(server):
    return [x.address for x in server.leases() if x.duid == DUID.hex()]


def test_server_gives_renews_rebinds_and_takes_back_an_address(device, server):
    first = device.new()
    address = first.grant.address
    assert of_client(server) == [str(address)], server.log
    assert [x.iaid for x in server.leases()] == [IAID]
    held = Held(address, first.server)
    for make in (Exchange.renew, Exchange.rebind):
        found, exchange = device.run(lambda c, m=make: m(c, random.random, held))
        assert isinstance(found, Leased), (exchange.heard, server.log)
        assert found.grant.address == address
        assert 0 < found.grant.renew <= found.grant.rebind <= found.grant.valid
    assert device.new().grant.address == address
    device.tell(dhcpv6_exchange.release, first)
    wait_until(lambda: not of_client(server), 5, lambda: server.log)


@pytest.mark.usefixtures("server")
def test_declined_address_is_given_to_no_client(device):
    first = device.new()
    device.tell(dhcpv6_exchange.decline, first)
    other = device.new()
    assert other.grant.address != first.grant.address
    device.tell(dhcpv6_exchange.release, other)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("server", [Kea], indirect=True)
def test_address_of_another_link_is_refused(device):
    first = device.new()
    held = Held(first.grant.address + 0x10000, first.server)
    found, exchange = device.run(lambda c: Exchange.rebind(c, random.random, held), 4)
    assert not isinstance(found, Leased) or found.grant.address == first.grant.address
    assert exchange.sent
    device.tell(dhcpv6_exchange.release, first)


@pytest.mark.usefixtures("server")
def test_firewall_that_drops_everything_is_not_in_the_way(lan, room, device):
    lan.run("ip", "-6", "neigh", "flush", "dev", "br0")
    room.run("sh", "-ec", f"nft -f - <<'E'\n{RULES}\nE")
    try:
        first = device.new()
    finally:
        room.run("nft", "flush", "ruleset")
    device.tell(dhcpv6_exchange.release, first)
    assert not isinstance(first, Refused)
