"""Addresses from the DHCP servers of the LAN, on real engines and by real servers."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.docker.conftest import GATEWAY4, IPAM, refused
from tests.lab.dhcp_servers import Dnsmasq, IscDhcpd, Kea, Scope, Udhcpd
from tests.lab.net import Namespace
from tests.lab.networkd import Networkd
from tests.lab.service import wait_until

LEASE_SECONDS = 10
FIELD = [Dnsmasq, Kea, IscDhcpd, Udhcpd, Networkd]
# Kea sends to MACs that no device has yet; the others are asked in the long run.
OFTEN_KEA = [
    kind if kind is Kea else pytest.param(kind, marks=pytest.mark.long)
    for kind in FIELD
]
# At the same moment: without an IPAM driver, Docker does not queue them.
STARTS = 20
# Of the VLAN that the LAN carries beside what has no tag.
OFFICE = Scope("10.50.0.0/24", "10.50.0.100", "10.50.0.199", "10.50.0.1", LEASE_SECONDS)


@pytest.fixture
def kea(lan):
    with Kea(lan.start, scope=Scope(lease_seconds=LEASE_SECONDS)) as server:
        yield server


def create(site, name, *words):
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
        "-o", "parent=eth0", *words, name,
    )  # fmt: skip


def of(server, mac):
    """Return the address that a server has on record for a MAC, "" for none."""
    return next((x.address for x in server.leases() if x.mac == mac), "")


def test_container_has_address_and_router_of_the_server_s_lease(site, kea):
    create(site, "lan")
    site.run("web", "lan")
    address, _, mac = site.attached("web", "lan")
    assert address == of(kea, mac)
    shown = site.in_container("web", "ip", "route")
    assert f"default via {GATEWAY4}" in shown
    assert f"10.77.0.0/24 dev eth0 scope link  src {address}" in shown
    site.ping_from("web", GATEWAY4)
    assert site.reached_from_lan(address)


# the_same_name_gets_the_same_mac_address_and_client_id,
# claymore666/docker-net-dhcp#408, containers/netavark#1308, jpetazzo/pipework#152
@pytest.mark.usefixtures("kea")
def test_container_keeps_its_lease_over_restart_removal_and_another_network(site):
    create(site, "lan")
    site.run("web", "lan")
    before = site.attached("web", "lan")
    wait_until(lambda: site.service.facts("status")["endpoints"][0]["container"], 10)
    site.docker("restart", "-t", "0", "web")
    assert site.attached("web", "lan") == before
    site.docker("rm", "-f", "web")
    site.docker("network", "rm", "lan")
    create(site, "lan")
    site.docker("create", "--name", "web", "--network", "lan", "bb", "sleep", "1000")
    time.sleep(1.5)  # Docker tells a new container up to 28 by an event only
    site.docker("start", "web")
    assert site.attached("web", "lan") == before


def test_container_on_a_bridge_in_the_place_of_the_card_has_a_lease(newest, kea):
    create(newest, "lan", "-o", "mode=bridge", "-o", "takeover=yes", "-o", "hold=0")
    newest.run("web", "lan")
    address, _, mac = newest.attached("web", "lan")
    assert of(kea, mac) == address
    newest.ping_from("web", GATEWAY4)
    time.sleep(LEASE_SECONDS * 1.2)
    assert of(kea, mac) == address  # renewed


# mixed_static_and_dhcp, devplayer0/docker-net-dhcp#15
def test_fixed_addresses_and_those_of_the_server_are_on_one_network(newest, kea):
    words = ("--subnet", "10.77.0.0/24", "--ip-range", "10.77.0.208/28")
    create(newest, "lan", *words, "-o", "hold=0")
    newest.run("db", "lan", "--ip", "10.77.0.210")
    newest.run("web", "lan")
    address, _, mac = newest.attached("web", "lan")
    assert of(kea, mac) == address
    assert newest.attached("db", "lan")[0] == "10.77.0.210"
    for name in ("web", "db"):
        newest.ping_from(name, GATEWAY4)
    newest.ping_from("web", "10.77.0.210")


# door_two_on_every_engine
def test_null_ipam_driver_gets_its_addresses_from_the_server(site, kea):
    """Each engine tells the driver a MAC or an identity there."""
    words = ("-o", "parent=eth0", "-o", "source=dhcp", "lan")
    create_null = ("network", "create", "-d", "underlay", "--ipam-driver", "null")
    site.docker(*create_null, *words)
    run = ("run", "-d", "--name", "web", "bb", "sleep", "1000")
    mac = "02:00:00:00:aa:08"
    site.docker(*run[:4], "--network", "lan", "--mac-address", mac, *run[4:])
    address, _, given = site.attached("web", "lan")
    assert (of(kea, mac), given) == (address, mac)
    site.ping_from("web", GATEWAY4)
    site.docker("rm", "-f", "web")
    site.docker(*run[:4], "--network", "name=lan,driver-opt=identity=shop", *run[4:])
    first = site.attached("web", "lan")
    site.docker("rm", "-f", "web")
    site.docker(
        "run", "-d", "--name", "other",
        "--network", "name=lan,driver-opt=identity=shop", *run[4:],
    )  # fmt: skip
    assert site.attached("other", "lan") == first


# a_lease_lives_through, containernetworking/plugins#1092
@pytest.mark.parametrize(
    "kind",
    [Networkd, *(pytest.param(k, marks=pytest.mark.long) for k in (IscDhcpd, Udhcpd))],
)
def test_lease_is_renewed_for_longer_than_it_lasts(newest, lan, kind):
    """By other servers than Kea, which renews leases in many tests."""
    seconds = 6
    with kind(lan.start, scope=Scope(lease_seconds=seconds)) as server:
        create(newest, "lan")
        newest.run("web", "lan")
        address, _, mac = newest.attached("web", "lan")
        time.sleep(seconds * 1.5)
        assert of(server, mac) == address
        newest.ping_from("web", GATEWAY4)
        newest.clear()


# an_address_changed_by_the_server_reaches_the_running_container_in_2_s,
# svinota/pyroute2#1436
def test_address_that_a_server_refuses_to_renew_is_another_in_2_s(newest, kea):
    """An administrator has reserved one for the container, which runs."""
    create(newest, "lan", "-o", "hold=0")
    newest.run("web", "lan")
    before, _, mac = newest.attached("web", "lan")
    newest.ping_from_lan(before)
    kea.stop()
    kea.scope = replace(kea.scope, reservations={mac: "10.77.0.207"})
    kea.start()
    is_offered = "lease 10.77.0.207 will be advertised"  # right after it refused
    wait_until(lambda: is_offered in kea.log, LEASE_SECONDS, lambda: kea.log)

    def shown():
        return newest.in_container("web", "ip", "-o", "-4", "addr", "show", "eth0")

    wait_until(lambda: " 10.77.0.207/24 " in shown(), 2, shown)
    wait_until(lambda: f" {before}/24 " not in shown(), 2, shown)
    assert newest.reached_from_lan("10.77.0.207")
    newest.ping_from("web", GATEWAY4)


# an_address_changed_by_the_server_reaches_the_running_container_in_2_s,
# claymore666/docker-net-dhcp#128, claymore666/docker-net-dhcp#104,
# containers/netavark#714
def test_address_that_the_server_changes_reaches_the_running_container(newest, lan):
    """And the one before is gone, while Docker still shows it."""
    scope = Scope(lease_seconds=LEASE_SECONDS)
    with Kea(lan.start, scope=scope) as server:
        create(newest, "lan", "-o", "hold=0")
        newest.run("web", "lan")
        address, _, mac = newest.attached("web", "lan")
        server.stop()
        (server.dir / "leases.csv").unlink(missing_ok=True)
        server.scope = replace(scope, first="10.77.0.150", last="10.77.0.160")
        server.start()

        def shown():
            return newest.in_container("web", "ip", "-o", "-4", "addr", "show", "eth0")

        # It does not know the old one, and so says nothing until that ends.
        wait_until(lambda: "10.77.0.15" in shown(), 2 * LEASE_SECONDS, shown)
        wait_until(lambda: f" {address}/" not in shown(), 5, shown)
        now = of(server, mac)
        assert f" {now}/24" in shown()
        assert newest.reached_from_lan(now)
        newest.ping_from("web", GATEWAY4)
        (endpoint,) = newest.service.facts("status")["endpoints"]
        assert endpoint["addresses"] == [f"{now}/24"]
        # Docker has no call for it.
        assert newest.attached("web", "lan")[0] == address
        assert endpoint["lease"]["told"] == f"{address}/24"
        shown = newest.service.run("status").stdout
        assert f"web: {now}/24 since " in shown
        assert f"Docker believes {address}/24" in shown
        newest.docker("restart", "-t", "0", "web")
        (endpoint,) = newest.service.facts("status")["endpoints"]
        assert endpoint["lease"]["told"] is None
        newest.clear()


# a_reservation_by_mac_is_honoured_at_the_first_start, lxc/lxc#4593, lxc/incus#1265
def test_mac_of_the_user_s_choice_gets_the_server_s_reservation(site, lan):
    """Docker tells it after the address: the first start may be refused.

    And one more, if Docker's event about the container is late.
    """
    mac = "02:00:00:00:aa:07"
    scope = Scope(reservations={mac: "10.77.0.207"})
    with Kea(lan.start, scope=scope) as server:
        create(site, "lan", "-o", "hold=0")
        words = ("--name", "web", "--network", "lan", "--mac-address", mac)
        site.docker("run", "-d", *words, "bb", "sleep", "1000", check=False)
        if site.inspect("web", "{{.State.Running}}") != "true":
            site.docker("start", "web")
        assert site.attached("web", "lan") == ["10.77.0.207", "", mac]
        assert of(server, mac) == "10.77.0.207"
        site.clear()


def test_server_is_told_a_name_that_docker_tells_after_the_start(newest, lan):
    """Engines up to 28 do not say which of two containers starts."""
    with Kea(lan.start, scope=Scope(lease_seconds=600)) as server:
        create(newest, "lan", "-o", "hold=0")
        for name in ("web", "db"):
            words = "--name", name, "--network", "lan", "bb", "sleep", "1000"
            newest.docker("create", *words)
        time.sleep(1.5)  # Docker tells new containers by an event
        newest.docker("start", "web")
        mac = newest.attached("web", "lan")[2]

        def named():
            return [x.hostname for x in server.leases() if x.mac == mac]

        wait_until(lambda: named() == ["web"], 15, lambda: server.log)
        newest.clear()


# a_lease_lives_through
def test_lease_is_asked_about_when_the_parent_s_cable_is_back(newest, lan):
    """The cable may lead to another segment now."""
    with Kea(lan.start, scope=Scope(lease_seconds=600)) as server:
        create(newest, "lan", "-o", "hold=0")
        newest.run("web", "lan")
        before = server.log.count("DHCP4_LEASE_ALLOC")
        port = f"p-{newest.host.name}"
        lan.run("ip", "link", "set", port, "down")
        time.sleep(2.5)
        lan.run("ip", "link", "set", port, "up")
        wait_until(
            lambda: server.log.count("DHCP4_LEASE_ALLOC") > before, 10,
            lambda: newest.service.log[-2000:],
        )  # fmt: skip
        newest.clear()


# a_stop_sends_nothing_and_a_removal_releases_once_after_hold,
# containernetworking/plugins#1278
def test_lease_of_a_removed_container_goes_back_to_the_server(newest, kea):
    create(newest, "lan", "-o", "hold=1")
    newest.run("web", "lan")
    mac = newest.attached("web", "lan")[2]
    assert of(kea, mac)
    newest.docker("rm", "-f", "web")
    wait_until(lambda: not of(kea, mac), 15, lambda: kea.log)


def create_by_identity(site, *words):
    """Create a network on which Docker asks for all addresses at once."""
    site.docker(
        "network", "create", "-d", "underlay", "--ipam-driver", "null",
        "-o", "source=dhcp", "-o", "parent=eth0", *words, "lan",
    )  # fmt: skip


def run_by_identity(site, name):
    network = f"name=lan,driver-opt=identity={name}"
    words = "run", "-d", "--name", name, "--network", network, "bb", "sleep", "1000"
    return site.docker(*words, check=False)


# fifty_starts_at_once, devplayer0/docker-net-dhcp#2, devplayer0/docker-net-dhcp#23,
# devplayer0/docker-net-dhcp#44
def test_starts_without_a_server_fail_in_time_and_name_the_parent(newest):
    create_by_identity(newest, "-o", "lease_timeout=2")
    with ThreadPoolExecutor(STARTS) as pool:
        names = [f"c{number}" for number in range(STARTS)]
        starting = [pool.submit(run_by_identity, newest, name) for name in names]
        while not all(one.done() for one in starting):  # no other call waits for them
            asked = time.monotonic()
            newest.docker("ps")
            assert time.monotonic() - asked < 2
    for one in starting:
        said = refused(one.result())
        assert "E-160" in said
        assert "eth0" in said


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        (Kea, STARTS),
        pytest.param(Kea, 50, marks=pytest.mark.long),
        # It pings each address for three seconds, until there are too many.
        pytest.param(Dnsmasq, 50, marks=pytest.mark.long),
    ],
)
def test_fifty_starts_at_once_have_a_lease_each(newest, lan, kind, count):
    """New ones, and then with the leases that the server knows. Often it is fewer."""
    names = [f"c{number}" for number in range(count)]

    def attached():
        return [newest.attached(name, "lan") for name in names]

    with kind(lan.start, scope=Scope(lease_seconds=600)) as server:
        create_by_identity(newest, "-o", "hold=0", "-o", "lease_timeout=60")
        with ThreadPoolExecutor(count) as pool:
            for done in pool.map(lambda name: run_by_identity(newest, name), names):
                assert done.returncode == 0, done.stderr
            found = attached()
            leases = {lease.mac: lease.address for lease in server.leases()}
            assert leases == {mac: address for address, _, mac in found}
            assert len(leases) == len(set(leases.values())) == count
            newest.docker("stop", "-t", "0", *names)
            list(pool.map(lambda name: newest.docker("start", name), names))
            assert attached() == found
        newest.clear()


def test_start_on_a_parent_without_carrier_says_so_at_once(newest, lan):
    create(newest, "lan")
    port = f"p-{newest.host.name}"
    lan.run("ip", "link", "set", port, "down")
    try:
        words = "run", "-d", "--name", "web", "--network", "lan", "bb", "sleep", "1000"
        said = refused(newest.docker(*words, check=False))
    finally:
        lan.run("ip", "link", "set", port, "up")
    assert "E-160" in said
    assert " in 1 s (" in said
    assert "eth0 has no carrier" in said


# a_server_on_this_host_answers, containers/netavark#1008
@pytest.mark.parametrize("kind", [Dnsmasq, Kea, Udhcpd])
def test_server_on_a_child_of_the_parent_gives_and_takes_back_a_lease(newest, kind):
    """The parent's frames do not reach it; what it tells one MAC leaves by the card."""
    host, lease = newest.host, Scope(lease_seconds=120)
    host.run(
        "sh", "-ec",
        "ip link add own link eth0 type macvlan mode bridge;"
        " ip addr add 10.77.0.60/24 dev own; ip link set own up",
    )  # fmt: skip
    try:
        with kind(host.outer, scope=lease, device="own") as server:
            create(newest, "lan", "-o", "hold=1")
            newest.run("web", "lan")
            address, _, mac = newest.attached("web", "lan")
            assert of(server, mac) == address
            newest.ping_from("web", GATEWAY4)
            newest.docker("rm", "-f", "web")
            wait_until(lambda: not of(server, mac), 15, lambda: server.log)
            newest.clear()
    finally:
        host.run("ip", "link", "del", "own")


def gets_its_address_from(site, server, router=GATEWAY4):
    """Run a container on a network `lan` that is there, and remove both."""
    site.run("web", "lan")
    address, _, mac = site.attached("web", "lan")
    assert of(server, mac) == address
    site.ping_from("web", router)
    site.clear()


# devplayer0/docker-net-dhcp#1
@pytest.mark.parametrize("kind", FIELD)
def test_a_container_gets_its_address_from(newest, lan, kind):
    with kind(lan.start, scope=Scope(lease_seconds=120)) as server:
        create(newest, "lan", "-o", "hold=0")
        gets_its_address_from(newest, server)


@pytest.mark.parametrize("kind", OFTEN_KEA)
@pytest.mark.usefixtures("bridged")
def test_a_container_on_a_bridge_gets_its_address_from(newest, lan, kind):
    with kind(lan.start, scope=Scope(lease_seconds=120)) as server:
        newest.docker(
            "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
            "-o", "bridge=br0", "-o", "hold=0", "lan",
        )  # fmt: skip
        gets_its_address_from(newest, server)


@pytest.mark.needs("vlan")
@pytest.mark.parametrize("kind", OFTEN_KEA)
def test_a_container_on_a_vlan_gets_its_address_from(newest, office, kind):
    scope = replace(OFFICE, lease_seconds=120)
    with kind(office.start, scope=scope, device="v50") as server:
        create(newest, "lan", "-o", "vlan=50", "-o", "hold=0")
        gets_its_address_from(newest, server, OFFICE.router)


# a_container_gets_its_address_from, claymore666/docker-net-dhcp#219,
# claymore666/docker-net-dhcp#62, claymore666/docker-net-dhcp#243,
# containernetworking/cni#17, containernetworking/cni#83
@pytest.mark.needs("ipvlan")
@pytest.mark.parametrize(("kind", "seconds"), [(Dnsmasq, 120), (Kea, LEASE_SECONDS)])
def test_ipvlan_containers_have_leases_by_their_client_ids(newest, lan, kind, seconds):
    """They have one MAC, the parent's; it is Kea's lease that has to be renewed."""
    with kind(lan.start, scope=Scope(lease_seconds=seconds)) as server:
        create(newest, "lan", "-o", "mode=ipvlan", "-o", "hold=0")
        addresses = set()
        for name in ("web", "db"):
            newest.run(name, "lan")
            addresses.add(newest.attached(name, "lan")[0])
        if kind is Kea:
            time.sleep(LEASE_SECONDS * 1.5)
        leases = server.leases()
        assert {x.address for x in leases} == addresses
        assert len(addresses) == len({x.client_id for x in leases}) == 2
        mac = newest.host.run("cat", "/sys/class/net/eth0/address").stdout.strip()
        assert {(x.mac, x.client_id[:2]) for x in leases} == {(mac, "ff")}
        for name in ("web", "db"):
            newest.ping_from(name, GATEWAY4)
        newest.clear()


# a_container_gets_its_address_from
@pytest.mark.needs("ipvlan")
def test_ipvlan_container_is_refused_by_the_name_of_another_if_a_server_goes_by_macs(
    newest, lan
):
    with Udhcpd(lan.start, scope=Scope(lease_seconds=120)):
        create(newest, "lan", "-o", "mode=ipvlan", "-o", "hold=0")
        newest.run("web", "lan")
        words = "run", "-d", "--name", "db", "--network", "lan", "bb", "sleep", "1000"
        said = refused(newest.docker(*words, check=False))
        assert "E-163" in said
        newest.ping_from("web", GATEWAY4)
        newest.clear()


@pytest.fixture
def office(lan):
    """A machine on VLAN 50 of the LAN, and nowhere else."""
    with Namespace(f"{lan.tag}-v50", "") as machine:
        words = f"link add link br0 name v50 netns {machine.netns} type vlan id 50"
        lan.run("ip", *words.split())
        commands = "ip addr add 10.50.0.1/24 dev v50; ip link set v50 up"
        machine.run("sh", "-ec", commands)
        yield machine


@pytest.fixture
def vlan(office):
    with Kea(office.start, scope=OFFICE, device="v50") as server:
        yield server


# a_lease_from_the_wrong_vlan_is_impossible, containers/netavark#1307
@pytest.mark.needs("vlan")
def test_lease_of_a_vlan_goes_back_after_the_vlan_is_removed(newest, vlan):
    """As by `docker compose down`, which removes the network right away."""
    create(newest, "office", "-o", "vlan=50")
    newest.run("web", "office")
    mac = newest.attached("web", "office")[2]
    wait_until(lambda: newest.service.facts("lease", "ls")[0]["container"], 10)
    newest.docker("rm", "-f", "web")
    newest.docker("network", "rm", "office")
    shown = newest.host.run("ip", "-o", "link").stdout
    assert "vlan" not in shown
    assert "eth0.50" not in shown
    assert "DHCP4_RELEASE" not in vlan.log
    newest.service.run("lease", "release", "web")  # or two minutes later by itself
    wait_until(lambda: "DHCP4_RELEASE" in vlan.log, 10, lambda: newest.service.log)
    assert not of(vlan, mac)


@pytest.mark.needs("vlan")
@pytest.mark.parametrize("words", [("parent=eth0.50",), ("parent=eth0", "vlan=50")])
def test_container_on_a_vlan_has_its_lease_of_the_vlan_s_server(
    newest, kea, vlan, words
):
    """Never of the one that answers what has no tag."""
    asked = (*words, "hold=0", "lease_timeout=3")
    newest.docker(
        "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
        *(word for one in asked for word in ("-o", one)), "office",
    )  # fmt: skip
    newest.run("web", "office")
    address, _, mac = newest.attached("web", "office")
    newest.ping_from("web", "10.50.0.1")
    time.sleep(LEASE_SECONDS * 1.2)
    assert of(vlan, mac) == address
    assert address.startswith("10.50.0.")
    vlan.stop()
    start = "run", "-d", "--name", "db", "--network", "office", "bb", "sleep", "1000"
    assert "E-160" in refused(newest.docker(*start, check=False))
    assert kea.leases() == []
    newest.clear()


def test_new_network_without_a_server_is_failing_until_one_answers(newest, lan):
    create(newest, "lan", "-o", "hold=0")

    def troubles():
        return newest.service.facts("status")["troubles"]

    wait_until(troubles, 15, lambda: newest.service.log)
    (trouble,) = troubles()
    assert trouble["error"].startswith("E-160 no DHCP server gave an address on eth0")
    shown = newest.service.run("status").stdout
    assert "failing since" in shown
    (network,) = newest.service.facts("status")["networks"]
    assert network["health"] == "failing"
    # What a container is given there ends it, before the segment is asked again.
    with Kea(lan.start, scope=Scope(lease_seconds=600)):
        newest.run("web", "lan")
        wait_until(lambda: not troubles(), 10, troubles)
        newest.clear()


def test_new_network_with_a_server_is_healthy_and_the_log_says_who_offers_what(
    newest, kea
):
    before = len(newest.service.log)
    create_by_identity(newest, "-o", "hold=0")
    said = r'"DHCP server answers" network=\S+ server=10.77.0.1 offers=10.77.0.1\d\d'
    wait_until(lambda: re.search(said, newest.service.log[before:]), 10)
    assert kea.leases() == []
    assert newest.service.facts("status")["troubles"] == []
