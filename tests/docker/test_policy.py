"""Which ports of a container answer: on the LAN, on the host, and beside it."""

from __future__ import annotations

import subprocess

import pytest

from tests.docker.conftest import GATEWAY4, GATEWAY6
from tests.docker.ports import MODES, Listeners, create, scan_ports
from tests.lab.service import wait_until

TCP, UDP = [22, 80, 443, 8080, 9000], [53, 5353]
EVERY = sorted([*(f"{p}/tcp" for p in TCP if p != 8080), *(f"{p}/udp" for p in UDP)])
PORTS = ("-p", "8080:80", "-p", "53:53/udp", "-p", "127.0.0.1:9000:9000")


@pytest.fixture
def listening(site):
    """Have containers listen on ports, in both IP families; ends with the test."""
    found = Listeners(site)
    sockets = [("tcp", "::", port, False) for port in TCP if port != 8080]
    sockets += [("udp", "::", port, False) for port in UDP]
    yield lambda container: found.start(container, sockets)
    found.stop()


def scan(site, where, address):
    """Return the ports of an address that answer: on the LAN, the host, in a peer."""
    return scan_ports(site, where, address, TCP, UDP)


OPEN = sorted([*EVERY, "8080/tcp"])


def found(site, address):
    """Return what of an address answers on the LAN, in a container, and on the host."""
    return {where: scan(site, where, address) for where in ("lan", "peer", "host")}


@pytest.mark.parametrize("mode", MODES)
def test_only_published_ports_answer(site, listening, mode):
    create(site, mode, "-o", "policy=published")
    site.run("web", "lan", *PORTS)
    site.run("peer", "lan")
    listening("web")
    four, six, _ = site.attached("web", "lan")
    wait_until(lambda: "8080/tcp" in scan(site, "lan", four), 5)
    shown = ["53/udp", "80/tcp", "8080/tcp"]
    # -p 127.0.0.1:9000:9000 is for the host alone, and IPv4.
    here = [*shown, "9000/tcp"]
    assert found(site, four) == {"lan": shown, "peer": shown, "host": here}
    assert found(site, six) == {"lan": shown, "peer": shown, "host": shown}
    site.ping_from("web", GATEWAY4)
    site.ping_from("web", GATEWAY6)
    site.ping_from_lan(four)
    site.ping_from_lan(six)
    site.clear()
    site.assert_nothing_left()


@pytest.mark.parametrize("mode", MODES)
def test_nothing_answers_from_a_closed_container(site, listening, mode):
    create(site, mode)
    closed = ("--network", "name=lan,driver-opt=policy=closed")
    site.docker("run", "-d", "--name", "web", *closed, *PORTS, "bb", "sleep", "1000")
    site.run("peer", "lan", *PORTS)
    listening("web")
    listening("peer")
    web, peer = (site.attached(name, "lan")[:2] for name in ("web", "peer"))
    # The other one is open, and -p 8080:80 has a meaning there too.
    wait_until(lambda: scan(site, "lan", peer[0]) == OPEN, 5)
    for address in web:
        assert found(site, address) == {"lan": [], "peer": [], "host": []}
    for address in peer:
        for where in ("lan", "web", "host"):
            assert scan(site, where, address) == OPEN
    site.clear()
    site.assert_nothing_left()


@pytest.mark.parametrize("mode", MODES)
def test_egress_and_ping(site, listening, mode):
    create(site, mode, "-o", "policy=published", "-o", "egress=none", "-o", "ping=off")
    site.run("web", "lan", *PORTS)
    near = ("--network", "name=lan,driver-opt=egress=subnet")
    site.docker("run", "-d", "--name", "peer", *near, *PORTS, "bb", "sleep", "1000")
    listening("web")
    listening("peer")
    web, peer = (site.attached(name, "lan")[:2] for name in ("web", "peer"))
    shown = ["53/udp", "80/tcp", "8080/tcp"]
    wait_until(lambda: scan(site, "lan", web[0]) == shown, 5)
    for address in web:
        assert scan(site, "lan", address) == shown
        assert scan(site, "peer", address) == shown
        assert not site.reached_from_lan(address)
    for address in peer:
        assert scan(site, "web", address) == []
    with pytest.raises(subprocess.CalledProcessError):
        site.ping_from("web", GATEWAY4)
    if mode != "routed":
        site.ping_from("peer", GATEWAY4)
        site.ping_from("peer", GATEWAY6)
    site.clear()
    site.assert_nothing_left()


def test_ports_are_reached_from_allowed_networks_only(site, listening):
    create(site, "macvlan", "-o", "policy=published", "-o", "allow_from=10.77.0.1")
    site.run("web", "lan", *PORTS)
    site.run("peer", "lan")
    listening("web")
    four, six, _ = site.attached("web", "lan")
    shown = ["53/udp", "80/tcp", "8080/tcp"]
    wait_until(lambda: scan(site, "lan", four) == shown, 5)
    assert found(site, four) == {"lan": shown, "peer": [], "host": ["9000/tcp"]}
    assert found(site, six) == {"lan": [], "peer": [], "host": []}
    site.clear()
    site.assert_nothing_left()
