"""Containers on the LAN, on three real engines, through the real docker CLI."""

from __future__ import annotations

import json

import pytest

from tests.docker.conftest import GATEWAY4, GATEWAY6, IPAM, LAN4, LAN6, refused
from tests.lab.service import GRACE_SECONDS, wait_until

RANGE = ("--ip-range", "10.77.0.64/27")


def test_container_and_lan_reach_each_other(site):
    site.network("lan", *RANGE)
    site.run("c1", "lan")
    address, _, mac = site.attached("c1", "lan")
    assert address.startswith("10.77.0.6")
    site.ping_from("c1", GATEWAY4)
    site.ping_from_lan(address)
    assert site.mac_on_lan(address) == mac
    shown = site.in_container("c1", "ip", "addr", "show", "eth0")
    assert f"inet {address}/24" in shown
    assert mac in shown
    assert f"default via {GATEWAY4}" in site.in_container("c1", "ip", "route")
    assert "eth1" not in site.in_container("c1", "ip", "link")


def test_both_families_work_and_docker_inspect_is_correct(site):
    site.dual("lan", *RANGE)
    site.run("c1", "lan", "--ip", "10.77.0.90", "--ip6", "fd77::aaaa:bbbb:cccc:90")
    address, address6, mac = site.attached("c1", "lan")
    assert (address, address6) == ("10.77.0.90", "fd77::aaaa:bbbb:cccc:90")
    for target in (GATEWAY4, GATEWAY6):
        site.ping_from("c1", target)
    for source in (address, address6):
        site.ping_from_lan(source)
        assert site.mac_on_lan(source) == mac
    (config,) = json.loads(site.docker("network", "inspect", "lan").stdout)
    assert config["IPAM"]["Driver"] == "underlay"
    (attached,) = config["Containers"].values()
    assert attached["IPv4Address"] == "10.77.0.90/24"
    assert attached["IPv6Address"] == "fd77::aaaa:bbbb:cccc:90/64"
    assert attached["MacAddress"] == mac


def test_network_without_ipv4_works(sites):
    site = sites("28.5")  # the first engine family that has --ipv4=false
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "-o", "parent=eth0",
        "--ipv4=false", "--ipv6", "--subnet", LAN6, "--gateway", GATEWAY6, "six",
    )  # fmt: skip
    site.run("c1", "six", "--ip6", "fd77::61")
    site.ping_from("c1", GATEWAY6)
    site.ping_from_lan("fd77::61")
    assert "inet " not in site.in_container("c1", "ip", "addr", "show", "eth0")
    site.clear()
    site.assert_nothing_left()


def test_containers_of_two_hosts_reach_each_other(sites):
    one, two = sites("20.10"), sites("28.5")
    one.dual("lan", "--ip-range", "10.77.0.64/28")
    two.dual("lan", "--ip-range", "10.77.0.80/28")
    one.run("c1", "lan", "--ip6", "fd77::c1")
    two.run("c2", "lan", "--ip6", "fd77::c2")
    for here, there in ((one, two), (two, one)):
        name, other = ("c1", "c2") if here is one else ("c2", "c1")
        address, address6, mac = there.attached(other, "lan")
        here.ping_from(name, address)
        here.ping_from(name, address6)
        assert mac in here.in_container(name, "ip", "neigh")
    for site in (one, two):
        site.clear()
        site.assert_nothing_left()


def test_mac_requested_by_the_user_is_used_and_a_derived_one_is_stable(site):
    site.network("lan", *RANGE)
    mac = "02:42:0a:4d:00:63"
    site.run("c1", "lan", "--mac-address", mac, "--ip", "10.77.0.99")
    assert site.attached("c1", "lan")[2] == mac
    assert mac in site.in_container("c1", "ip", "link", "show", "eth0")
    site.ping_from_lan("10.77.0.99")
    assert site.mac_on_lan("10.77.0.99") == mac
    site.run("c2", "lan", "--ip", "10.77.0.98")
    derived = site.attached("c2", "lan")[2]
    site.docker("rm", "-f", "c2")
    site.run("c3", "lan", "--ip", "10.77.0.98")
    assert site.attached("c3", "lan")[2] == derived
    site.ping_from_lan("10.77.0.98")


def test_docker_s_own_ipam_works_with_the_network_driver(site):
    site.network("lan", *RANGE, ipam=False)
    site.run("c1", "lan")
    address, _, mac = site.attached("c1", "lan")
    site.ping_from_lan(address)
    assert site.mac_on_lan(address) == mac


def test_underlay_ipam_works_with_docker_s_own_driver(site):
    site.docker(
        "network", "create", "-d", "macvlan", *IPAM, "-o", "parent=eth0", "--subnet",
        LAN4, "--gateway", GATEWAY4, *RANGE, "lan",
    )  # fmt: skip
    site.run("c1", "lan")
    address = site.attached("c1", "lan")[0]
    site.ping_from_lan(address)


def test_aux_addresses_of_another_driver_s_network_survive_the_cleanup(newest):
    # No CreateNetwork ever tells us that they are not a container's.
    newest.docker(
        "network", "create", "-d", "bridge", *IPAM, "--subnet", "10.99.0.0/29",
        "--aux-address", "router=10.99.0.2", "lan",
    )  # fmt: skip
    newest.host.run("sleep", str(4 * GRACE_SECONDS))
    given = []
    for name in ("c1", "c2", "c3", "c4"):
        newest.run(name, "lan")
        given.append(newest.attached(name, "lan")[0])
    assert given == [f"10.99.0.{n}" for n in (3, 4, 5, 6)]


def test_host_address_is_kept_as_aux_and_leased_to_no_container(site):
    """As guides for macvlan say: the host's own, and that of a shim of the user's."""
    shim = "10.77.0.254"
    site.host.run("ip", "addr", "add", f"{shim}/32", "dev", "lo")
    try:
        aux = (f"host={site.host.ipv4}", f"shim={shim}")
        words = [word for one in aux for word in ("--aux-address", one)]
        site.network("lan", *words)
        (pool,) = site.service.on_record()["pools"]
        assert pool["aux"] == sorted([site.host.ipv4, shim])
        for address in (site.host.ipv4, shim):
            run = ("run", "--rm", "--network", "lan", "--ip", address, "bb", "true")
            said = refused(site.docker(*run, check=False))
            assert "E-140" in said
            assert "it is this host's own" in said
        site.run("c1", "lan")
        assert site.attached("c1", "lan")[0] not in (site.host.ipv4, shim)
    finally:
        site.host.run("ip", "addr", "del", f"{shim}/32", "dev", "lo")


def test_gateway_and_aux_addresses_are_never_leased_to_a_container(site):
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "-o", "parent=eth0", "--subnet",
        "10.77.0.0/29", "--gateway", "10.77.0.1", "--aux-address", "nas=10.77.0.2",
        "--aux-address", "tv=10.77.0.4", "lan",
    )  # fmt: skip
    given = []
    for name in ("c1", "c2", "c3"):
        site.run(name, "lan")
        given.append(site.attached(name, "lan")[0])
    assert given == ["10.77.0.3", "10.77.0.5", "10.77.0.6"]
    done = site.docker("run", "--rm", "--network", "lan", "bb", "true", check=False)
    told = "E-141 no address is left in 10.77.0.0/29: of 6, 3 in use, 3 reserved"
    assert f"{told} (1 gateway, 2 aux)." in done.stderr
    (pool,) = site.service.facts("pool", "ls")
    assert (pool["gateway"], pool["aux"]) == (["10.77.0.1"], ["10.77.0.2", "10.77.0.4"])


def test_address_of_a_removed_container_is_the_last_that_others_get(site):
    site.network("lan", "--ip-range", "10.77.0.64/30")
    site.run("c1", "lan")
    wait_until(
        lambda: "c1" in {e["container"] for e in site.service.facts("endpoint", "ls")},
        10,
    )
    site.docker("rm", "-f", "c1")
    given = []
    for n in range(2, 6):
        site.run(f"c{n}", "lan")
        given.append(site.attached(f"c{n}", "lan")[0])
    assert given == [f"10.77.0.{n}" for n in (65, 66, 67, 64)]


def test_internal_network_reaches_its_segment_and_has_no_way_out(site):
    site.network("inner", "--internal", *RANGE)
    site.run("c1", "inner")
    site.run("c2", "inner")
    site.ping_from("c1", site.attached("c2", "inner")[0])
    routes = site.in_container("c1", "ip", "route")
    assert "default" not in routes
    assert "eth1" not in site.in_container("c1", "ip", "link")


def test_running_container_is_connected_and_disconnected(site):
    site.network("lan", *RANGE)
    links = site.our_links()
    site.docker("run", "-d", "--name", "c1", "bb", "sleep", "1000")
    for _ in range(3):
        site.docker("network", "connect", "--ip", "10.77.0.88", "lan", "c1")
        site.ping_from_lan("10.77.0.88")
        assert site.live()[2] == 1
        site.docker("network", "disconnect", "lan", "c1")
        wait_until(lambda: site.live()[1:] == ([], 0), 5, site.live)
        assert site.our_links() == links


def test_container_on_two_networks_of_one_parent_works(site):
    site.network("lan", *RANGE)
    site.network("lab", subnet="10.78.0.0/24", gateway="10.78.0.1")
    site.run("c1", "lan")
    site.docker("network", "connect", "lab", "c1")
    site.run("c2", "lab")
    site.ping_from("c1", site.attached("c2", "lab")[0])
    site.ping_from("c1", GATEWAY4)
    assert site.in_container("c1", "ip", "route").count("default") == 1
    assert len(site.service.facts("network", "ls")) == 2


def test_two_networks_of_one_subnet_share_its_addresses(site):
    site.network("lan", *RANGE)
    site.network("twin", *RANGE)
    given = set()
    for n, network in enumerate(("lan", "twin", "lan", "twin")):
        site.run(f"c{n}", network)
        given.add(site.attached(f"c{n}", network)[0])
    assert len(given) == 4
    site.docker("rm", "-f", "c0", "c2")
    site.docker("network", "rm", "lan")
    done = site.docker(
        "run", "--rm", "--network", "twin", "--ip", GATEWAY4, "bb", "true", check=False
    )
    assert "E-140 10.77.0.1 is taken: it is the gateway of network twin" in done.stderr
    site.ping_from_lan(site.attached("c1", "twin")[0])


def test_network_survives_restart_kill_stop_and_start_of_its_containers(site):
    site.network("lan", *RANGE)
    site.run("c1", "lan", "--ip", "10.77.0.77", "--restart", "always")
    site.ping_from_lan("10.77.0.77")
    site.docker("restart", "-t", "0", "c1")
    site.ping_from_lan("10.77.0.77")
    pid = site.host.pid_of("c1")
    site.host.run("kill", "-9", str(pid))
    wait_until(lambda: site.inspect("c1", "{{.RestartCount}}") == "1", 10)
    wait_until(lambda: site.reached_from_lan("10.77.0.77"), 10)
    site.docker("stop", "-t", "0", "c1")
    wait_until(lambda: site.live()[1:] == ([], 0), 5, site.live)
    site.docker("start", "c1")
    site.ping_from_lan("10.77.0.77")
    found = [h for h in site.service.facts("history", "10.77.0.77") if not h["until"]]
    assert len(found) == 1


def test_mtu_option_works_by_either_name(site):
    site.network("lan", "-o", "mtu=1400")
    site.network(
        "lab", "-o", "com.docker.network.driver.mtu=1300", subnet="10.78.0.0/24",
        gateway="10.78.0.1",
    )  # fmt: skip
    site.run("c1", "lan", "--ip", "10.77.0.77")
    site.run("c2", "lab")
    assert "mtu 1400" in site.in_container("c1", "ip", "link", "show", "eth0")
    assert "mtu 1300" in site.in_container("c2", "ip", "link", "show", "eth0")


@pytest.mark.parametrize("flavour", ["private", "vepa"])
def test_macvlan_private_and_vepa_keep_siblings_apart(newest, flavour):
    newest.network("lan", "-o", f"macvlan_mode={flavour}", *RANGE)
    newest.run("c1", "lan")
    newest.run("c2", "lan")
    newest.ping_from("c1", GATEWAY4)
    there = newest.attached("c2", "lan")[0]
    done = newest.docker("exec", "c1", "ping", "-c1", "-W1", there, check=False)
    assert done.returncode != 0


def test_passthru_gives_the_container_the_parent_and_its_mac(site):
    host = site.host
    host.run("ip", "link", "add", "wide0", "type", "veth", "peer", "name", "far0")
    try:
        host.run("ip", "link", "set", "wide0", "up")
        before = host.run("ip", "-br", "link", "show", "wide0").stdout.split()[2]
        site.docker(
            "network", "create", "-d", "underlay", *IPAM, "-o", "parent=wide0",
            "-o", "macvlan_mode=passthru", "--subnet", "10.79.0.0/24", "whole",
        )  # fmt: skip
        site.run("c1", "whole")
        assert site.attached("c1", "whole")[2] == before
        done = site.docker("run", "--network", "whole", "bb", "true", check=False)
        assert "has macvlan_mode=passthru, which serves one container" in done.stderr
        site.clear()
        after = host.run("ip", "-br", "link", "show", "wide0").stdout.split()[2]
        assert after == before
    finally:
        host.run("ip", "link", "del", "wide0")


def test_published_ports_are_open_and_explained(site):
    before = site.service.log.count("no policy is given")
    site.network("lan", *RANGE)
    assert site.service.log.count("no policy is given") == before + 1
    site.docker(
        "run", "-d", "--name", "c1", "--network", "lan", "-p", "8080:80",
        "--ip", "10.77.0.77", "bb", "httpd", "-f", "-h", "/etc",
    )  # fmt: skip
    (endpoint,) = site.service.facts("endpoint", "ls")
    (port,) = endpoint["ports"]
    assert port["text"] == "8080/tcp leads to 80: open as every port is"
    fetch = ("chroot", str(site.host._root), "curl", "-m", "3", "-sI")
    # httpd answers, on its own port: there is no index page.
    assert "404" in site.lan.run(*fetch, "http://10.77.0.77/").stdout


def test_parent_is_found_by_default_route_and_by_mac(site):
    mac = site.host.run("cat", "/sys/class/net/eth0/address").stdout.strip()
    for n, wish in enumerate(("auto", f"mac:{mac}")):
        subnet = ("--subnet", f"10.8{n}.0.0/24")
        site.docker(
            "network", "create", "-d", "underlay", *IPAM, "-o", f"parent={wish}",
            *subnet, f"net{n}",
        )  # fmt: skip
    assert {n["parent"] for n in site.service.facts("network", "ls")} == {"eth0"}


def test_container_names_are_learned_from_docker_and_kept_in_the_history(site):
    site.network("lan", *RANGE)
    site.run("named", "lan", "--ip", "10.77.0.70")

    def named():
        facts = site.service.on_record()
        return (
            [n["name"] for n in facts["networks"]],
            [e["container"] for e in facts["endpoints"]],
        )

    wait_until(lambda: named() == (["lan"], ["named"]), 10, named)
    site.docker("rm", "-f", "named")

    def had():
        (row,) = site.service.facts("history", "named")
        return row

    # The address is free when the device is gone, a little after `docker rm`.
    wait_until(lambda: had()["until"], 5, had)
    assert (had()["address"], had()["network"]) == ("10.77.0.70", "lan")
    assert had()["until"] > had()["since"]
    assert "10.77.0.70" in site.service.run("history", had()["mac"]).stdout


def test_thirty_containers_start_and_stop_in_parallel(site):
    site.network("lan", "--ip-range", "10.77.0.128/26")
    script = (
        "for n in $(seq 30); do docker run -d --name p$n --network lan bb sleep 1000"
        " >/dev/null & done; wait"
    )
    site.host.run("sh", "-c", script, timeout=120)
    given = [site.attached(f"p{n}", "lan")[0] for n in range(1, 31)]
    assert len(set(given)) == 30
    assert all(given)
    names = [f"p{n}" for n in range(1, 31)]
    site.host.run("docker", "rm", "-f", *names, timeout=120)


COMPOSE = """
services:
  web:
    image: bb
    command: sleep 1000
    stop_grace_period: 0s
    networks:
      lan: {ipv4_address: 10.77.0.72}
networks:
  lan:
    driver: underlay
    driver_opts: {parent: eth0, mtu: "1400"}
    ipam:
      driver: underlay
      config: [{subnet: 10.77.0.0/24, gateway: 10.77.0.1}]
"""


@pytest.mark.parametrize("engine", ["26.1", "28.5"])  # Debian ships compose for these
def test_compose_starts_a_service_on_the_lan(sites, engine):
    site = sites(engine)
    site.host.run("sh", "-c", "cat > /tmp/compose.yaml", input=COMPOSE)
    compose = ("compose", "-p", "shop", "-f", "/tmp/compose.yaml")
    site.docker(*compose, "up", "-d", "--pull", "never")
    try:
        site.ping_from_lan("10.77.0.72")
        shown = site.in_container("shop-web-1", "ip", "link", "show", "eth0")
        assert "mtu 1400" in shown
    finally:
        site.docker(*compose, "down")
    site.clear()
    site.assert_nothing_left()
