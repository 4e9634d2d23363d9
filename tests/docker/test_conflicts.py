"""Machines on the LAN that have an address which a container is to have, or has."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from ipaddress import ip_address

import pytest

from tests.docker.conftest import GATEWAY4, IPAM, LAN4, refused
from tests.docker.site import Nic, inside
from tests.lab.capture import Capture
from tests.lab.dhcp_servers import Dnsmasq, Kea, Scope
from tests.lab.net import Namespace
from tests.lab.service import wait_until
from underlay.kernel import arp_nd

# What a container had just now is not asked for: each test has addresses of its own.
RANGE4, RANGE6 = "10.77.0.232/29", "fd77::e8/125"
FIRST4, SECOND4 = "10.77.0.232", "10.77.0.233"
FIRST6, SECOND6 = "fd77::e8", "fd77::e9"
THEIRS = "02:00:00:00:66:01"

pytestmark = pytest.mark.needs("macvlan")


@pytest.fixture
def own(newest):
    """The newest engine, with nothing kept in the ranges by earlier tests."""
    for address in (FIRST4, SECOND4, FIRST6, SECOND6):
        newest.service.run("unreserve", address, check=False)
    return newest


@contextmanager
def machine(site, *addresses):
    """Yield a machine on the LAN that has addresses."""
    lan = site.lan
    commands = f"""
        ip link add eth0 address {THEIRS} type veth peer name foreign netns {lan.netns}
        ip link set eth0 up
    """
    with Namespace(f"{lan.tag}-m", commands) as found:
        try:
            lan.run("ip", "link", "set", "foreign", "master", "br0", "up")
            for address in addresses:
                take(found, address)
            # Its IPv6 hears the LAN a moment after the link is up.
            time.sleep(1.5)
            yield found
        finally:
            lan.run("ip", "link", "del", "foreign", check=False)


def take(machine, address):
    length, nodad = ("64", ("nodad",)) if ":" in address else ("24", ())
    machine.run("ip", "addr", "add", f"{address}/{length}", "dev", "eth0", *nodad)


def conflicts(site):
    found = json.loads(site.service.run("conflict", "ls", "--json").stdout)
    return {c["address"]: c["mac"] for c in found}


def dual(site, *words):
    ranges = ("--ip-range", RANGE4, "--ip-range", RANGE6)
    site.dual("lan", *ranges, *words)


def metric(site, name):
    found = re.search(
        rf"^{re.escape(name)} (\S+)$", site.service.metrics(), re.MULTILINE
    )
    return float(found[1]) if found else 0.0


def probes_for(wire, address):
    """Return how many ARP probes for an address came by a wire."""
    there = ip_address(address).packed
    arps = [f for f in wire.frames if f.kind == arp_nd.ARP and not f.outgoing]
    return sum(f.payload[14:18] == bytes(4) and f.payload[24:28] == there for f in arps)


# a_used_address_is_never_drawn, claymore666/docker-net-dhcp#524
def test_addresses_of_another_machine_are_skipped_named_and_freed(own):
    site = own
    # It is there first: the addresses that are next are asked for at once.
    with machine(site, FIRST4, FIRST6):
        dual(site)
        site.run("web", "lan")
        assert site.attached("web", "lan")[:2] == [SECOND4, SECOND6]
        assert conflicts(site) == {FIRST4: THEIRS, FIRST6: THEIRS}
        assert metric(site, "underlay_conflicts") == 2
        assert THEIRS in site.service.run("history", FIRST4).stdout
        words = ("run", "-d", "--network", "lan", "--ip", FIRST4, "bb", "true")
        error = refused(site.docker(*words, check=False))
        assert f"E-167 {FIRST4} is in use on the network" in error
        assert THEIRS in error
    freed = site.service.run("conflict", "forget", FIRST4).stdout
    assert freed == f"{FIRST4} is free; {THEIRS} had it\n"
    site.run("db", "lan", "--ip", FIRST4, "--ip6", FIRST6)
    assert conflicts(site) == {}


def test_late_answer_counts(own):
    """After 150 ms: a machine that sleeps, or Wi-Fi."""
    site, span, first, second = own, "10.77.0.216/29", "10.77.0.216", "10.77.0.217"
    with machine(site) as foreign:
        mac = bytes.fromhex(THEIRS.replace(":", ""))
        done = threading.Event()

        def answer():
            with Capture(foreign.netns, "eth0") as wire:
                while not done.wait(0.001):
                    asked = [
                        f for f in wire.frames if ip_address(first).packed in f.payload
                    ]
                    if not asked:
                        continue
                    time.sleep(0.15)
                    to = bytes.fromhex(asked[0].source.replace(":", ""))
                    reply = arp_nd.arp(
                        mac, ip_address(first), arp_nd.REPLY, to, ip_address(first)
                    )
                    wire._socket.send(reply)
                    return

        late = threading.Thread(target=answer)
        late.start()
        try:
            site.network("lan", "--ip-range", span)
            site.run("web", "lan")
            assert site.attached("web", "lan")[0] == second
        finally:
            done.set()
            late.join()
        assert conflicts(site) == {first: THEIRS}


# a_used_address_is_never_drawn, claymore666/docker-net-dhcp#528
def test_sibling_on_docker_s_own_macvlan_network_is_heard(own):
    """It is a child of the same parent: only the shim hears it."""
    site, span, first, second = own, "10.77.0.224/29", "10.77.0.224", "10.77.0.225"
    theirs = ("network", "create", "-d", "macvlan", "-o", "parent=eth0")
    site.docker(*theirs, "--subnet", LAN4, "--gateway", GATEWAY4, "theirs")
    site.run("sibling", "theirs", "--ip", first)
    site.network("lan", "--ip-range", span)
    site.run("web", "lan")
    assert site.attached("web", "lan")[0] == second
    assert list(conflicts(site)) == [first]
    inside(site, "sibling", "ip", "addr", "add", f"{second}/24", "dev", "eth0")
    with suppress(subprocess.CalledProcessError):  # there is no such machine
        site.host.exec("sibling", "ping", "-c1", "-W1", "-I", second, "10.77.0.99")
    wait_until(lambda: second in conflicts(site), 10)


# a_used_address_is_never_drawn, claymore666/docker-net-dhcp#524
def test_impostor_of_a_running_container_is_reported_and_answered(own):
    site = own
    dual(site)
    site.run("web", "lan", "--ip", SECOND4, "--ip6", SECOND6)
    mac = site.attached("web", "lan")[2]

    def health():
        (found,) = site.service.on_record()["endpoints"]
        return found["health"]

    wait_until(lambda: health() in ("ok", "repaired"), 10)
    with (
        machine(site) as foreign,
        Capture(site.lan.netns, f"p-{site.host.name}") as wire,
    ):
        take(foreign, SECOND4)
        take(foreign, SECOND6)
        for _ in range(20):
            foreign.run(*site.ping, "-c1", "-W1", GATEWAY4, check=False)
            foreign.run(
                *site.ping, "-6", "-c1", "-W1", "-I", SECOND6, "fd77::1", check=False
            )
            if len(conflicts(site)) == 2:
                break
        assert conflicts(site) == {SECOND4: THEIRS, SECOND6: THEIRS}
        assert health() == "failing"
        wait_until(lambda: announced(wire, SECOND4, mac), 5)
    assert site.service.log.count("address in use by another machine") >= 2
    (failure, *_) = site.service.on_record()["troubles"]
    assert failure["error"].startswith("E-167")


# a_used_address_is_never_drawn, claymore666/docker-net-dhcp#524
@pytest.mark.parametrize("kind", [Dnsmasq, Kea])
def test_lease_that_a_machine_claims_twice_is_declined_and_replaced(own, lan, kind):
    with kind(lan.start, scope=Scope(lease_seconds=600)) as server:
        own.docker(
            "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
            "-o", "parent=eth0", "-o", "hold=0", "lan",
        )  # fmt: skip
        own.run("web", "lan")
        assert_declined_and_replaced(own, server)
        own.clear()


def test_lease_without_an_ipam_driver_is_declined_and_replaced(site, lan):
    with Kea(lan.start, scope=Scope(lease_seconds=600)) as server:
        site.docker(
            "network", "create", "-d", "underlay", "--ipam-driver", "null",
            "-o", "source=dhcp", "-o", "parent=eth0", "-o", "hold=0", "lan",
        )  # fmt: skip
        words = ("--network", "name=lan,driver-opt=identity=web")
        site.docker("run", "-d", "--name", "web", *words, "bb", "sleep", "1000")
        assert_declined_and_replaced(site, server)
        site.clear()


def assert_declined_and_replaced(site, server):
    """Have a machine claim the address of a container twice."""
    before = len(site.service.log)
    address, _, mac = site.attached("web", "lan")

    def endpoint():
        (found,) = site.service.facts("status")["endpoints"]
        return found

    wait_until(lambda: endpoint()["health"] in ("ok", "repaired"), 10)

    def shown():
        return site.in_container("web", "ip", "-o", "-4", "addr", "show", "eth0")

    with (
        machine(site, address) as foreign,
        Capture(site.lan.netns, f"p-{site.host.name}") as wire,
    ):
        time.sleep(3.5)  # until the container's start is announced
        # It asks for a machine that is not there: three times in three seconds.
        foreign.run(*site.ping, "-c1", "-W4", "10.77.0.99", check=False)
        wait_until(lambda: "DHCPDECLINE" in server.log, 5, lambda: server.log)
        wait_until(lambda: f" {address}/" not in shown(), 15, shown)
        assert announced(wire, address, mac)
        (now,) = endpoint()["addresses"]
        assert f" {now} " in shown()
        assert now.partition("/")[0] in [
            one.address for one in server.leases() if one.mac == mac
        ]
        assert site.reached_from_lan(now.partition("/")[0])
        site.ping_from("web", GATEWAY4)
        assert conflicts(site) == {address: THEIRS}
        wait_until(lambda: endpoint()["health"] in ("ok", "repaired"), 10, endpoint)
    said = site.service.log[before:]
    assert said.count("address in use by another machine") >= 1
    assert "lease declined: another machine claims the address" in said


def announced(wire, address, mac):
    there = ip_address(address).packed
    return [
        f for f in wire.frames
        if f.kind == arp_nd.ARP and f.source == mac and not f.outgoing
        and f.payload[14:18] == f.payload[24:28] == there
    ]  # fmt: skip


# no_wait_for_a_probed_pool
def test_draw_waits_for_nothing_where_the_segment_was_asked_ahead(own):
    site, first = own, "10.77.0.208"  # no container had it just now
    took = (
        'underlay_call_seconds_sum{method="IpamDriver.RequestAddress",outcome="done"}'
    )
    with Capture(site.lan.netns, f"p-{site.host.name}") as wire:
        site.network("lan", "--ip-range", "10.77.0.208/29")
        wait_until(lambda: probes_for(wire, first) >= 3, 20)
        time.sleep(0.5)
        before, spent = probes_for(wire, first), metric(site, took)
        site.run("web", "lan")
        assert site.attached("web", "lan")[0] == first
        assert metric(site, took) - spent < 0.1
        # From the parent and from the shim, three times each.
        assert before == 6
        # Once more, behind the answer; and one says that it is leased.
        wait_until(lambda: probes_for(wire, first) == 2 * before + 1, 5)
        spent = metric(site, took)
        site.docker("restart", "-t0", "web")
        assert metric(site, took) - spent < 0.1


def test_probe_off_neither_asks_nor_hears(own):
    site = own
    with (
        Capture(site.lan.netns, f"p-{site.host.name}") as wire,
        machine(site, FIRST4) as foreign,
    ):
        site.network("lan", "--ip-range", RANGE4, "--ipam-opt", "probe=off")
        site.run("web", "lan", "--ip", SECOND4)
        take(foreign, SECOND4)
        foreign.run(*site.ping, "-c2", "-W1", "-I", SECOND4, GATEWAY4, check=False)
        time.sleep(2)
        assert probes_for(wire, FIRST4) == probes_for(wire, SECOND4) == 0
    assert conflicts(site).keys().isdisjoint({FIRST4, SECOND4})


def test_parent_without_carrier_is_not_asked_and_the_log_says_so(own):
    site = own
    nic = Nic(site, "wan0")
    nic.plug()
    try:
        site.lan.run("ip", "link", "set", "p-wan0", "down")
        site.docker(
            "network", "create", "-d", "underlay", "--ipam-driver", "underlay",
            "-o", "parent=wan0", "--subnet", "10.78.0.0/24", "wan",
        )  # fmt: skip
        site.run("web", "wan")
        assert "wan0 has no carrier" in site.service.log
        assert metric(site, 'underlay_conflict_probes_total{result="unasked"}') > 0
    finally:
        site.clear()
        nic.unplug()
