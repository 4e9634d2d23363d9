"""Which ports of a container answer: on the LAN, on the host, and beside it."""

from __future__ import annotations

import re
import subprocess
import time

import pytest

from tests.docker.conftest import GATEWAY4, GATEWAY6
from tests.docker.ports import (
    MODES,
    PYTHON,
    SERVE,
    TCP,
    UDP,
    Listeners,
    create,
    scan_ports,
    watched_meanwhile,
)
from tests.lab.host import ENVIRONMENT
from tests.lab.net import enter
from tests.lab.service import wait_until

EVERY = sorted([*(f"{p}/tcp" for p in TCP if p != 8080), *(f"{p}/udp" for p in UDP)])
PORTS = ("-p", "8080:80", "-p", "53:53/udp", "-p", "127.0.0.1:9000:9000")


@pytest.fixture
def listening(request):
    """Have containers listen on ports, in both IP families; ends with the test."""
    on = "site" if "site" in request.fixturenames else "newest"
    found = Listeners(request.getfixturevalue(on))
    sockets = [("tcp", "::", port, False) for port in TCP if port != 8080]
    sockets += [("udp", "::", port, False) for port in UDP]
    yield lambda container: found.start(container, sockets)
    found.stop()


def scan(site, where, address, seconds=1.0):
    """Return the ports of an address that answer: on the LAN, the host, in a peer."""
    return scan_ports(site, where, address, TCP, UDP, seconds)


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
def test_nothing_answers_from_a_closed_container(newest, listening, mode):
    create(newest, mode)
    closed = ("--network", "name=lan,driver-opt=policy=closed")
    newest.docker("run", "-d", "--name", "web", *closed, *PORTS, "bb", "sleep", "1000")
    newest.run("peer", "lan", *PORTS)
    listening("web")
    listening("peer")
    web, peer = (newest.attached(name, "lan")[:2] for name in ("web", "peer"))
    # The other one is open, and -p 8080:80 has a meaning there too.
    wait_until(lambda: scan(newest, "lan", peer[0]) == OPEN, 5)
    for address in web:
        assert found(newest, address) == {"lan": [], "peer": [], "host": []}
    for address in peer:
        for where in ("lan", "web", "host"):
            assert scan(newest, where, address) == OPEN
    newest.clear()
    newest.assert_nothing_left()


@pytest.mark.parametrize("mode", MODES)
def test_egress_and_ping(newest, listening, mode):
    create(
        newest, mode, "-o", "policy=published", "-o", "egress=none", "-o", "ping=off"
    )
    newest.run("web", "lan", *PORTS)
    near = ("--network", "name=lan,driver-opt=egress=subnet")
    newest.docker("run", "-d", "--name", "peer", *near, *PORTS, "bb", "sleep", "1000")
    listening("web")
    listening("peer")
    web, peer = (newest.attached(name, "lan")[:2] for name in ("web", "peer"))
    shown = ["53/udp", "80/tcp", "8080/tcp"]
    wait_until(lambda: scan(newest, "lan", web[0]) == shown, 5)
    for address in web:
        assert scan(newest, "lan", address) == shown
        assert scan(newest, "peer", address) == shown
        assert not newest.reached_from_lan(address)
    for address in peer:
        assert scan(newest, "web", address) == []
    with pytest.raises(subprocess.CalledProcessError):
        newest.ping_from("web", GATEWAY4)
    if mode != "routed":
        newest.ping_from("peer", GATEWAY4)
        newest.ping_from("peer", GATEWAY6)
    newest.clear()
    newest.assert_nothing_left()


def test_ports_are_reached_from_allowed_networks_only(newest, listening):
    create(newest, "macvlan", "-o", "policy=published", "-o", "allow_from=10.77.0.1")
    newest.run("web", "lan", *PORTS)
    newest.run("peer", "lan")
    listening("web")
    four, six, _ = newest.attached("web", "lan")
    shown = ["53/udp", "80/tcp", "8080/tcp"]
    wait_until(lambda: scan(newest, "lan", four) == shown, 5)
    assert found(newest, four) == {"lan": shown, "peer": [], "host": ["9000/tcp"]}
    assert found(newest, six) == {"lan": [], "peer": [], "host": []}
    newest.clear()
    newest.assert_nothing_left()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("starts", [6, pytest.param(100, marks=pytest.mark.long)])
def test_no_closed_port_answers_from_the_first_packet_on(site, mode, starts):
    """Nor at a stop, a restart, a kill of the service and its next start."""
    create(site, mode, "-o", "policy=published")
    site.run("peer", "lan")
    site.run("first", "lan")
    address = site.attached("first", "lan")[0]
    site.docker("rm", "-f", "first")

    def start():
        for turn in range(starts):
            site.docker(
                "run", "-d", "--name", "web", "--network", "lan", "--ip", address,
                "-p", "80", "bb", "sh", "-c", SERVE,
            )  # fmt: skip
            time.sleep(0.3)
            if turn % 3 == 0:
                site.docker("restart", "-t0", "web")
            if turn % 3 == 1:
                site.service.kill()
                time.sleep(0.3)
                site.service.start()
            site.docker("rm", "-f", "web")

    found = watched_meanwhile(site, address, start)
    assert found == {where: ["80/tcp"] for where in ("lan", "peer", "host")}
    site.clear()
    site.assert_nothing_left()


@pytest.mark.parametrize("mode", MODES)
def test_connections_and_flows_outlive_repairs_and_restarts(newest, listening, mode):
    create(newest, mode, "-o", "policy=published")
    newest.run("web", "lan", *PORTS)
    listening("web")
    address = newest.attached("web", "lan")[0]
    wait_until(lambda: "8080/tcp" in scan(newest, "lan", address), 5)
    flow = (
        "import socket, sys, time\n"
        "t = socket.create_connection((sys.argv[1], 80)); t.settimeout(5)\n"
        "u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(3)\n"
        "u.connect((sys.argv[1], 53))\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    u.send(b'?'); assert u.recv(9)[:1] == b'!'\n"
        "    print('alive', flush=True)\n"
    )
    process = subprocess.Popen(
        [*enter(newest.lan.netns), *PYTHON[2:], flow, address],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def is_alive():
        process.stdin.write("go\n")
        process.stdin.flush()
        return process.stdout.readline() == "alive\n"

    with process:
        assert process.stdout.readline() == "ready\n"
        assert is_alive()
        families = ("netdev", "bridge", "inet")
        tables = newest.host.outer_run("nft", "list", "tables").stdout
        (gate,) = re.findall(r"table (\w+ underlay-ul-\w+)", tables)
        assert gate.split()[0] == families[MODES.index(mode)]
        newest.host.outer_run("nft", "flush", "chain", *gate.split(), "judged")
        closed = ["53/udp", "80/tcp", "8080/tcp"]
        wait_until(lambda: scan(newest, "lan", address, 0.5) == closed, 5)
        assert is_alive()
        newest.service.kill()
        assert is_alive()
        assert scan(newest, "lan", address) == closed
        newest.service.start()
        assert is_alive()
        newest.host.outer_run("nft", "delete", "table", *gate.split())
        wait_until(lambda: scan(newest, "lan", address, 0.5) == closed, 5)
        assert is_alive()
        process.stdin.close()
    newest.clear()
    newest.assert_nothing_left()


def test_container_that_undoes_its_gate_stays_closed(newest):
    """The gate on the parent is out of its reach; its own comes back, and is told."""
    create(newest, "macvlan", "-o", "policy=published")
    newest.run("web", "lan", "-p", "80", "--cap-add", "NET_ADMIN", "--init")
    newest.run("peer", "lan")
    newest.docker("exec", "web", "sh", "-c", SERVE.replace("-f", ""))
    address = newest.attached("web", "lan")[0]
    net = f"--net=/proc/{newest.host.pid_of('web')}/ns/net"
    undo = "while true; do nft flush ruleset; sleep 0.02; done"
    words = ["nsenter", net, "chroot", "/outer", "sh", "-c", undo]
    loop = newest.host._spawn(words, ENVIRONMENT)
    try:
        found = watched_meanwhile(newest, address, lambda: time.sleep(3))
        assert found == {where: ["80/tcp"] for where in ("lan", "peer", "host")}

        def told():
            facts = newest.service.on_record()
            return [e for e in facts["endpoints"] if "E-403" in str(e)]

        wait_until(told, 10, lambda: newest.service.on_record()["endpoints"])
    finally:
        loop.kill()
        loop.wait()
    gate = ("nsenter", net, "chroot", "/outer", "nft", "list", "tables")
    wait_until(lambda: "underlay-ul-" in newest.host.run(*gate).stdout, 90)
    newest.clear()
    newest.assert_nothing_left()
