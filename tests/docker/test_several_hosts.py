"""Several hosts on one LAN draw from one range, without a server between them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.docker.conftest import GATEWAY4
from tests.lab.dhcp_servers import Kea, Scope
from tests.lab.service import wait_until

ENGINES = ("20.10", "26.1", "28.5")
STARTS = 8


@pytest.fixture
def hosts(sites):
    found = [sites(engine) for engine in ENGINES]
    yield found
    for site in found:
        site.clear()
        site.assert_nothing_left()


def started(hosts, count=STARTS, at_once=2):
    """Start containers on all hosts at once; return each one's address and MAC.

    So many each, and `at_once` on each of them.
    """
    jobs = [(site, f"c{n}") for n in range(count) for site in hosts]

    def start(job):
        site, name = job
        site.run(name, "lan")

    with ThreadPoolExecutor(at_once * len(hosts)) as pool:
        list(pool.map(start, jobs))
    return [site.attached(name, "lan") for site, name in jobs]


def assert_all_differ(found):
    for what in (0, 2):
        each = [container[what] for container in found]
        assert len(set(each)) == len(each), sorted(each)


def assert_reached(site, found):
    """Some of them answer on the LAN, with their own MACs."""
    for address, _, mac in found[:: STARTS - 1]:
        site.ping_from_lan(address)
        assert site.mac_on_lan(address) == mac


def conflicts(site):
    """Return the addresses of containers that other machines have too."""
    told = json.loads(site.service.run("conflict", "ls", "--json").stdout)
    mine = {a.split("/")[0] for e in site.service.on_record()["endpoints"]
            for a in e["addresses"]}  # fmt: skip
    return {one["address"] for one in told} & mine


@contextmanager
def cut_off(site):
    """Its switch forwards nothing from and to a host, which sees no difference."""
    index = site.host.run("cat", "/sys/class/net/eth0/iflink").stdout.strip()
    links = json.loads(site.lan.run("ip", "-j", "link").stdout)
    (port,) = (link["ifname"] for link in links if link["ifindex"] == int(index))
    site.lan.run("bridge", "link", "set", "dev", port, "state", "disabled")
    try:
        yield
    finally:
        site.lan.run("bridge", "link", "set", "dev", port, "state", "forwarding")


def test_slices_of_one_range_give_no_address_and_no_mac_twice(hosts):
    for number, site in enumerate(hosts, start=1):
        part = f"slice={number}/{len(hosts)}"
        site.network("lan", "--ip-range", "10.77.0.192/27", "--ipam-opt", part)
    found = started(hosts)
    assert_all_differ(found)
    assert_reached(hosts[0], found)


def test_one_range_gives_no_address_and_no_mac_twice(hosts):
    """It is so small that all hosts begin with its first address, and all at once."""
    for site in hosts:
        site.network("lan", "--ip-range", "10.77.0.192/27")
    found = started(hosts)
    assert_all_differ(found)
    assert [conflicts(site) for site in hosts] == [set()] * len(hosts)
    assert_reached(hosts[0], found)


# two_hosts_one_lan_same_compose_file
@pytest.mark.parametrize("client_id", ["mac", "duid"])
def test_same_containers_on_several_hosts_are_different_clients_of_a_server(
    hosts, lan, client_id
):
    """As of one Compose file: even their identities are the same on each host."""
    words = ("--ipam-driver", "null", "-o", "source=dhcp", "-o", "hold=0")
    with Kea(lan.start, scope=Scope(lease_seconds=600)) as server:
        for site in hosts:
            site.docker(
                "network", "create", "-d", "underlay", *words, "-o", "parent=eth0",
                "-o", f"client_id={client_id}", "lan",
            )  # fmt: skip
            for name in ("web", "db"):
                site.run(name, f"name=lan,driver-opt=identity={name}")
        found = [site.attached(name, "lan") for site in hosts for name in ("web", "db")]
        assert_all_differ(found)
        leases = server.leases()
        assert {(x.address, x.mac) for x in leases} == {(a, mac) for a, _, mac in found}
        sort = {"mac": "01", "duid": "ff"}[client_id]
        assert {x.client_id[:2] for x in leases} == {sort}
        assert len({x.client_id for x in leases}) == len(found)
        for site in hosts:
            site.clear()


def test_host_that_was_cut_off_reports_what_it_gave_twice(hosts):
    for site in hosts:
        site.network("lan", "--ip-range", "10.77.0.192/27")
    away = hosts[0]
    with cut_off(away):
        found = started(hosts)
    homes = {}
    for (address, *_), site in zip(found, hosts * STARTS, strict=True):
        homes.setdefault(address, set()).add(site)
    twice = {address for address, sites in homes.items() if len(sites) > 1}
    assert twice  # all began with the first address of the range
    assert all(sites & {away} for sites in homes.values() if len(sites) > 1)
    for site in hosts:  # each container says something
        for n in range(STARTS):
            site.host.exec(f"c{n}", "ping", "-c1", "-W1", GATEWAY4, check=False)
    for site in hosts:
        mine = {a for a in twice if site in homes[a]}
        wait_until(lambda s=site, m=mine: conflicts(s) == m, 20,
                   lambda s=site, m=mine: (conflicts(s), m))  # fmt: skip


@pytest.mark.long
def test_hundreds_of_starts_on_several_hosts_give_no_address_twice(hosts):
    for site in hosts:
        site.network("lan", subnet="10.77.0.0/22", gateway="10.77.0.1")
    found = started(hosts, count=200, at_once=10)
    assert_all_differ(found)
    assert [conflicts(site) for site in hosts] == [set()] * len(hosts)
    # One by one: with many at once, 20.10 loses count of the network's endpoints.
    for n in range(200):
        hosts[0].docker("rm", "-f", f"c{n}")
