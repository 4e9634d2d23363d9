"""What a lease outlives, and what its container may do meanwhile, on a real engine."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.docker.conftest import GATEWAY4, IPAM
from tests.docker.site import Nic, is_settled
from tests.lab.dhcp_servers import Dnsmasq, Kea, Scope, Udhcpd
from tests.lab.service import wait_until

LEASE_SECONDS = 8
SCOPE = Scope(lease_seconds=LEASE_SECONDS)
# Of the LAN that has got other numbers.
OTHER_ROUTER = "10.99.0.1"
OTHER = Scope("10.99.0.0/24", "10.99.0.100", "10.99.0.199", OTHER_ROUTER, LEASE_SECONDS)
DROP_ALL = """
    nft add table inet t
    nft "add chain inet t i { type filter hook input priority 0; policy drop; }"
    nft "add chain inet t o { type filter hook output priority 0; policy drop; }"
"""

pytestmark = pytest.mark.needs("macvlan")


def create(site, *words):
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
        "-o", "parent=eth0", "-o", "hold=0", *words, "lan",
    )  # fmt: skip


def listed(server):
    return {lease.mac: lease.address for lease in server.leases()}


def in_sandbox(site, container):
    """The words before a command of this machine that is to run in a sandbox."""
    return "nsenter", f"--net=/proc/{site.host.pid_of(container)}/ns/net"


def has(site, container):
    """Return the addresses that a container has in fact, with their lengths."""
    words = *in_sandbox(site, container), "ip", "-o", "-4", "addr", "show", "eth0"
    shown = site.host.run(*words).stdout
    return [line.split()[3] for line in shown.splitlines()]


@pytest.fixture
def kea(lan):
    with Kea(lan.start, scope=SCOPE) as server:
        yield server


def drops_everything(site, name):
    site.run(name, "lan")
    site.host.outer_run(*in_sandbox(site, name), "sh", "-ec", DROP_ALL)


def has_a_client_of_its_own(site, name):
    """It has port 68, and a lease of its own, which is of another client."""
    site.run(name, "lan")
    named = "-C", "-x", "0x3d:006f776e"
    client = "udhcpc", "-f", "-i", "eth0", *named, "-s", "/bin/true"
    site.docker("exec", "-d", name, *client)


def runs_as_a_user(site, name):
    site.run(name, "lan", "--user", "1000", "--cap-drop", "ALL", "--read-only")


def is_paused(site, name):
    site.run(name, "lan")
    time.sleep(2)  # until a pass has seen its device
    site.docker("pause", name)


# claymore666/docker-net-dhcp#317, claymore666/docker-net-dhcp#332
def test_renewal_works_when_the_container_drops_everything_or_is_paused(newest, kea):
    """As well if it has a DHCP client of its own, or runs as a user."""
    create(newest)
    before = {}
    for manner in drops_everything, has_a_client_of_its_own, runs_as_a_user, is_paused:
        name = manner.__name__
        manner(newest, name)
        address, _, mac = newest.attached(name, "lan")
        before[mac] = address
    time.sleep(LEASE_SECONDS * 1.5)
    leases = {(lease.mac, lease.client_id): lease.address for lease in kea.leases()}
    assert {
        mac: leases.get((mac, f"01{mac.replace(':', '')}")) for mac in before
    } == before
    # Its client has bound port 68, and got a lease by it.
    assert "006f776e" in {client for _, client in leases}
    newest.docker("unpause", "is_paused")
    newest.clear()


@pytest.fixture
def web(newest, kea):
    """Return the address and the MAC of a container, which may not change."""
    create(newest)
    newest.run("web", "lan", "--restart", "always")
    address, _, mac = newest.attached("web", "lan")
    wait_until(lambda: health(newest) in ("ok", "repaired"), 10)
    yield address, mac
    assert newest.attached("web", "lan") == [address, "", mac]
    assert has(newest, "web") == [f"{address}/24"]
    assert listed(kea).get(mac) == address
    newest.ping_from("web", GATEWAY4)
    newest.clear()


def health(site):
    (endpoint,) = site.service.on_record()["endpoints"]
    return endpoint["health"]


@contextmanager
def frozen(service):
    """The host sleeps, as far as the service can tell."""
    pids = service.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)


@contextmanager
def dead(service):
    service.kill()
    yield
    service.start()


# a_lease_lives_through, containernetworking/plugins#235,
# containernetworking/plugins#767, jpetazzo/pipework#111, jpetazzo/pipework#133,
# lxc/incus#1106, Sanne/incus-spawn#247
@pytest.mark.parametrize("away", [frozen, dead])
def test_lease_lives_through_a_service_that_is_away_for_longer(newest, kea, web, away):
    """It has ended meanwhile, and is asked for at once."""
    address, mac = web
    with away(newest.service):
        wait_until(lambda: mac not in listed(kea), LEASE_SECONDS * 1.5)
    wait_until(lambda: listed(kea).get(mac) == address, 5, lambda: kea.log[-2000:])


# a_lease_lives_through, claymore666/docker-net-dhcp#406
def test_lease_lives_through_the_death_of_the_engine(newest, kea, web):
    """Nothing is asked of Docker for a renewal; then it starts the container again."""
    address, mac = web
    newest.host.kill_dockerd()
    try:
        time.sleep(LEASE_SECONDS * 1.2)
        assert listed(kea).get(mac) == address
    finally:
        newest.host.start_dockerd()
    running = "{{.State.Running}}"
    wait_until(lambda: newest.inspect("web", running) == "true", 20)


# a_lease_lives_through
@pytest.mark.long
def test_lease_lives_through_the_death_of_an_engine_that_restores_containers(
    newest, kea
):
    newest.host.stop_dockerd()
    newest.host.start_dockerd("--live-restore")
    try:
        create(newest)
        newest.run("web", "lan")
        address, _, mac = newest.attached("web", "lan")
        newest.host.kill_dockerd()
        time.sleep(LEASE_SECONDS * 0.6)
        newest.host.start_dockerd("--live-restore")
        time.sleep(LEASE_SECONDS * 0.6)
        assert listed(kea).get(mac) == address
        assert newest.attached("web", "lan") == [address, "", mac]
        assert has(newest, "web") == [f"{address}/24"]
    finally:
        newest.clear()
        newest.host.stop_dockerd()
        newest.host.start_dockerd()


OWN_SERVERS = {
    "dnsmasq": (Dnsmasq, ()),
    "the only dnsmasq": (Dnsmasq, ("--dhcp-authoritative",)),
    "udhcpd": (Udhcpd, ()),
}
SLOWER = "the only dnsmasq", "udhcpd"


# a_lease_lives_through
@pytest.mark.parametrize(
    "other", ["dnsmasq", *(pytest.param(x, marks=pytest.mark.long) for x in SLOWER)]
)
def test_lease_lives_through_another_server_in_the_place_of_its_own(newest, lan, other):
    """It knows of no lease, and is asked for the address that the container has.

    If dnsmasq does not know that it is the only server, it pings the address before it
    offers it: it is in use, so the container has to move.
    """
    with Kea(lan.start, scope=SCOPE):
        create(newest)
        newest.run("web", "lan")
        address, _, mac = newest.attached("web", "lan")
    kind, words = OWN_SERVERS[other]
    scope = replace(SCOPE, lease_seconds=120)
    with kind(lan.start, *words, scope=scope) as server:

        def is_served():
            now = listed(server).get(mac)
            return now and has(newest, "web") == [f"{now}/24"]

        wait_until(is_served, 3 * LEASE_SECONDS, lambda: server.log[-2000:])
        has_moved = listed(server)[mac] != address
        assert has_moved == (other == "dnsmasq")
        newest.ping_from("web", GATEWAY4)
        assert newest.reached_from_lan(listed(server)[mac])
        newest.clear()


# a_lease_lives_through
def test_container_lives_through_other_numbers_of_its_lan(newest, lan):
    """Its address, router and routes are those of the new server; no other are left."""
    with Kea(lan.start, scope=SCOPE) as server:
        create(newest)
        newest.run("web", "lan")
        address, _, mac = newest.attached("web", "lan")
        server.stop()
        lan.run("ip", "addr", "add", f"{OTHER_ROUTER}/24", "dev", "br0")
        lan.run("ip", "addr", "del", f"{GATEWAY4}/24", "dev", "br0")
        server.scope = OTHER
        try:
            server.start()

            def routes():
                return newest.in_container("web", "ip", "route")

            wait_until(lambda: OTHER_ROUTER in routes(), 3 * LEASE_SECONDS, routes)
            wait_until(lambda: "10.77." not in routes(), 5, routes)
            now = listed(server)[mac]
            assert has(newest, "web") == [f"{now}/24"]
            assert now.startswith("10.99.0.")
            newest.ping_from("web", OTHER_ROUTER)
            assert newest.reached_from_lan(now)
            assert (
                address
                not in newest.service.facts("status")["endpoints"][0]["addresses"]
            )
            newest.docker("restart", "-t", "0", "web")
            assert newest.attached("web", "lan") == [now, "", mac]
            newest.clear()
        finally:
            lan.run("ip", "addr", "add", f"{GATEWAY4}/24", "dev", "br0")
            lan.run("ip", "addr", "del", f"{OTHER_ROUTER}/24", "dev", "br0")


# a_lease_lives_through
def test_lease_lives_through_another_name_of_the_parent(newest, kea):
    """The network follows the device, and its containers are the same clients."""
    nic = Nic(newest, "wan0")
    nic.plug()
    try:
        newest.docker(
            "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
            "-o", "parent=wan0", "-o", "hold=0", "lan",
        )  # fmt: skip
        newest.run("web", "lan")
        before = newest.attached("web", "lan")
        wait_until(lambda: newest.service.facts("lease", "ls")[0]["container"], 10)
        nic.rename("wan9")
        wait_until(lambda: "parent changed" in newest.service.log, 10)
        wait_until(lambda: is_settled(newest), 10)
        newest.docker("restart", "-t", "0", "web")
        assert newest.attached("web", "lan") == before
        address, _, mac = before
        assert listed(kea) == {mac: address}
        newest.ping_from("web", GATEWAY4)
        newest.docker("rm", "-f", "web")
        wait_until(lambda: not listed(kea), 5, lambda: kea.log)
    finally:
        newest.clear()
        nic.unplug()
