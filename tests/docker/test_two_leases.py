"""One container on two networks, each with a DHCP server of its own."""

from __future__ import annotations

import pytest

from tests.docker.conftest import GATEWAY4, IPAM
from tests.lab.dhcp_servers import Kea, Scope
from tests.lab.net import Namespace
from tests.lab.service import wait_until

ROUTER = "10.99.0.1"
OTHER = Scope("10.99.0.0/24", "10.99.0.100", "10.99.0.199", ROUTER, 600)

pytestmark = pytest.mark.needs("macvlan")


@pytest.fixture
def servers(newest, lan):
    """The one of the LAN, and one behind a second card of the host."""
    host = newest.host
    commands = f"""
        ip link add eth0 type veth peer name wan0 netns {host.netns}
        ip addr add {ROUTER}/24 dev eth0
        ip link set eth0 up
    """
    with Namespace(f"{lan.tag}-wan", commands) as machine:
        host.run("ip", "link", "set", "wan0", "up")
        with (
            Kea(lan.start, scope=Scope(lease_seconds=600)) as one,
            Kea(machine.start, scope=OTHER, device="eth0") as other,
        ):
            for name, parent in (("lan", "eth0"), ("wan", "wan0")):
                newest.docker(
                    "network", "create", "-d", "underlay", *IPAM,
                    "--ipam-opt", "source=dhcp", "-o", f"parent={parent}",
                    "-o", "hold=0", name,
                )  # fmt: skip
            yield {"lan": one, "wan": other}
            newest.clear()
        host.run("ip", "link", "del", "wan0")


def routes(site):
    shown = site.in_container("web", "ip", "route").splitlines()
    return [route for route in shown if route.startswith("default")]


def has_its_leases(site, servers):
    macs = set()
    for name, server in servers.items():
        address, _, mac = site.attached("web", name)
        (lease,) = server.leases()
        assert (lease.address, lease.mac) == (address, mac)
        macs.add(mac)
    assert len(macs) == 2


# containers/netavark#1456, containers/netavark#1437, containernetworking/plugins#217
@pytest.mark.parametrize(("first", "router"), [("lan", GATEWAY4), ("wan", ROUTER)])
def test_two_dhcp_networks_in_one_container(newest, servers, first, router):
    """It has one default route, by the network with the higher gw-priority."""
    networks = [f"name={n},gw-priority={int(n == first)}" for n in servers]
    words = [word for network in networks for word in ("--network", network)]
    newest.docker("run", "-d", "--name", "web", *words, "bb", "sleep", "1000")
    has_its_leases(newest, servers)
    (route,) = routes(newest)
    assert f"default via {router} " in route
    for there in (GATEWAY4, ROUTER):
        newest.ping_from("web", there)
    newest.docker("restart", "-t", "0", "web")
    has_its_leases(newest, servers)
    (route,) = routes(newest)
    assert f"default via {router} " in route


def test_second_dhcp_network_is_connected_to_a_running_container(newest, servers):
    newest.run("web", "lan")
    wait_until(lambda: newest.service.facts("lease", "ls")[0]["container"], 10)
    newest.docker("network", "connect", "wan", "web")
    has_its_leases(newest, servers)
    assert len(routes(newest)) == 1
    for there in (GATEWAY4, ROUTER):
        newest.ping_from("web", there)
    newest.docker("network", "disconnect", "lan", "web")
    wait_until(lambda: ROUTER in str(routes(newest)), 5, lambda: routes(newest))
    newest.ping_from("web", ROUTER)
