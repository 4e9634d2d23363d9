"""Mode routed on real engines: the host is the router of its containers."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest

from tests.docker.conftest import GATEWAY4, GATEWAY6, IPAM, LAN4
from tests.docker.routing import FOUR, GW4, POOL4, POOL6, SIX, routed, told
from tests.lab.capture import Capture
from tests.lab.service import wait_until

OTHER4, OTHER6 = "10.65.0.0/24", "fd65::/64"
OTHERS = ("--subnet", OTHER4, "--ipv6", "--subnet", OTHER6)
IPV4 = 0x0800


@pytest.fixture
def known(site):
    with told(site, POOL4, POOL6, OTHER4, OTHER6):
        yield


def defaults(site, container, family="-4"):
    shown = site.in_container(container, "ip", family, "route")
    return re.findall(r"^default .*", shown, re.MULTILINE)


def hops(site, container, address):
    """Return how many routers are on the way back from an address."""
    said = site.in_container(container, "ping", "-c1", "-W3", address)
    return 64 - int(re.search(r"ttl=(\d+)", said)[1])


@pytest.mark.usefixtures("known")
def test_routed_containers_lan_and_host_reach_each_other_and_leave_nothing(site):
    """Though Docker drops by default what it does not forward itself."""
    before = site.dump()
    assert "-P FORWARD DROP" in site.host.run("iptables", "-S", "FORWARD").stdout
    routed(site, "r", *FOUR, *SIX)
    site.run("web", "r")
    four, six, _ = site.attached("web", "r")
    for length, key in ((32, "IPPrefixLen"), (128, "GlobalIPv6PrefixLen")):
        form = f"{{{{.NetworkSettings.Networks.r.{key}}}}}"
        assert site.inspect("web", form) == str(length)
    for address in (four, six):
        site.ping_from_lan(address)
        site.host.run("ping", "-c1", "-W3", address)
    for address in (GATEWAY4, GATEWAY6, site.host.ipv4, site.host.ipv6):
        site.ping_from("web", address)
    assert hops(site, "web", GATEWAY4) == 1
    site.wait_for_passes()
    site.clear()
    assert site.dump() == before


@pytest.mark.usefixtures("known")
def test_routed_containers_of_one_and_two_networks_reach_each_other_by_the_host(site):
    routed(site, "r", *FOUR, *SIX)
    routed(site, "other", *OTHERS)
    site.run("one", "r")
    site.run("two", "r")
    site.run("far", "other")
    for name, network in (("two", "r"), ("far", "other")):
        four, six, _ = site.attached(name, network)
        assert hops(site, "one", four) == 1
        site.ping_from("one", six)


@pytest.mark.usefixtures("known")
def test_container_on_two_routed_networks_and_a_macvlan_is_reached_on_each(site):
    routed(site, "r", *FOUR, *SIX)
    routed(site, "other", *OTHERS)
    site.network("lan", "--ip-range", "10.77.0.64/27", subnet=LAN4, gateway=GATEWAY4)
    site.docker("create", "--name", "web", "--network", "r", "bb", "sleep", "1000")
    site.docker("network", "connect", "other", "web")
    site.docker("network", "connect", "lan", "web")
    site.docker("start", "web")
    assert len(defaults(site, "web")) == len(defaults(site, "web", "-6")) == 1
    for network in ("r", "other", "lan"):
        site.host.run("ping", "-c1", "-W3", site.attached("web", network)[0])
    site.docker("network", "disconnect", "lan", "web")
    site.docker("restart", "-t0", "web")
    for network in ("r", "other"):
        for address in site.attached("web", network)[:2]:
            site.ping_from_lan(address)


@pytest.mark.usefixtures("known")
def test_network_without_a_default_route_leads_to_its_own_pools_only(site):
    routed(site, "r", *FOUR, *SIX, "-o", "default_route=no")
    site.run("one", "r")
    site.run("two", "r")
    assert defaults(site, "one") == defaults(site, "one", "-6") == []
    for address in site.attached("two", "r")[:2]:
        site.ping_from("one", address)


@pytest.mark.parametrize("site", ["28.5"], indirect=True)
@pytest.mark.usefixtures("known")
def test_ipv6_only_routed_network_works_without_ipv4_anywhere(site):
    routed(site, "r", *SIX, "--ipv4=false")
    site.run("web", "r")
    four, six, _ = site.attached("web", "r")
    assert four == ""
    assert "inet " not in site.in_container("web", "ip", "addr", "show", "eth0")
    site.ping_from_lan(six)
    site.ping_from("web", GATEWAY6)
    assert site.host.run("ip", "-4", "route", "show", "proto", "157").stdout == ""


def test_routed_containers_keep_their_addresses_between_hosts_on_a_direct_path(sites):
    one, two = sites("28.5"), sites("26.1")
    with told(one, POOL4, POOL6), told(two, OTHER4, OTHER6):
        routed(one, "r", *FOUR, *SIX)
        routed(two, "r", *OTHERS)
        one.run("near", "r")
        two.run("far", "r")
        source, source6, _ = one.attached("near", "r")
        target, target6, _ = two.attached("far", "r")
        with Capture(one.lan.netns, f"p-{two.host.name}") as wire:
            assert hops(one, "near", target) == 3  # host, router, host
            one.ping_from("near", target6)
        sent = {
            str(ip_address(frame.payload[12:16]))
            for frame in wire.frames
            if frame.kind == IPV4 and frame.payload[16:20] == ip_address(target).packed
        }
        assert sent == {source}
        two.ping_from("far", source6)
        for site in (one, two):
            site.clear()
            site.assert_nothing_left()


def test_neighbour_with_a_stale_entry_reaches_proxied_containers_at_once(
    site,
):
    """The address was another host's on the LAN before it was this container's."""
    words = ("--subnet", "10.77.0.160/27", "--ipv6", "--subnet", "fd77::2:0/112")
    routed(site, "r", "-o", "proxy=eth0", *words)
    addresses = "10.77.0.170", "fd77::2:aa"
    wrong = ("lladdr", "02:00:00:00:00:99", "nud", "stale", "dev", "br0")
    for address in addresses:
        site.lan.run("ip", "neigh", "replace", address, *wrong)
    site.run("web", "r", "--ip", addresses[0], "--ip6", addresses[1])
    shown = site.host.run("cat", "/sys/class/net/eth0/address").stdout.strip()
    for address in addresses:
        wait_until(lambda a=address: site.mac_on_lan(a) == shown, 3)
        site.ping_from_lan(address)


def test_unused_pool_address_ends_at_the_host_without_a_routing_loop(newest):
    site = newest
    with told(site, POOL4, POOL6):
        routed(site, "r", *FOUR, *SIX)
        site.run("web", "r")
        for address in ("10.64.0.200", "fd64::200"):
            words = (*site.ping, "-c1", "-W1", address)
            said = site.lan.run(*words, check=False).stdout
            assert "exceeded" not in said
            assert "100% packet loss" in said


def test_routes_in_a_separate_table_are_found_by_their_rules(newest):
    site = newest
    routed(site, "r", *FOUR, "-o", "table=500")
    site.run("web", "r")
    four = site.attached("web", "r")[0]
    for words in ((), ("table", "500")):
        shown = site.host.run("ip", "route", "show", *words, "proto", "157").stdout
        assert (four in shown, f"blackhole {POOL4}" in shown) == (bool(words),) * 2
    site.host.run("ip", "rule", "add", "to", POOL4, "lookup", "500")
    try:
        with told(site, POOL4):
            site.ping_from_lan(four)
    finally:
        site.host.run("ip", "rule", "del", "to", POOL4, "lookup", "500")


def test_masquerade_lets_containers_out_where_no_return_route_exists(newest):
    site = newest
    before = site.dump()
    routed(site, "plain", *OTHERS)
    # No other test pings from these addresses: the host's connection tracking would
    # take a ping with the same id for one of theirs, which was not masqueraded.
    routed(site, "r", "--subnet", "10.66.0.0/24", "-o", "masquerade=on")
    site.run("one", "r")
    site.run("two", "r")
    site.run("three", "plain")
    with Capture(site.lan.netns, f"p-{site.host.name}") as wire:
        site.ping_from("one", GATEWAY4)
    shown = {str(ip_address(f.payload[12:16])) for f in wire.frames if f.kind == IPV4}
    assert shown == {site.host.ipv4, GATEWAY4}
    site.ping_from("one", site.attached("two", "r")[0])
    lost = site.host.exec("three", "ping", "-c1", "-W1", GATEWAY4, check=False)
    assert lost.returncode != 0
    site.wait_for_passes()
    site.clear()
    assert site.dump() == before


def test_networks_of_one_subnet_share_the_blackhole_until_the_last_is_gone(newest):
    site = newest
    for name in ("one", "two"):
        routed(site, name, *FOUR)
    site.docker("network", "rm", "one")
    shown = site.host.run("ip", "route", "show", "type", "blackhole").stdout
    assert f"{POOL4} proto 157 metric 10" in shown
    site.docker("network", "rm", "two")
    assert site.host.run("ip", "route", "show", "type", "blackhole").stdout == ""


def test_foreign_route_to_a_pool_is_not_replaced(newest):
    site = newest
    theirs = ("blackhole", POOL4, "metric", "10")
    site.host.run("ip", "route", "add", *theirs)
    try:
        done = site.docker(
            "network", "create", "-d", "underlay", *IPAM, "-o", "mode=routed", *FOUR,
            "r", check=False,
        )  # fmt: skip
        assert "E-400 the kernel refused `ip route add blackhole" in done.stderr
        assert "EEXIST" in done.stderr
        shown = site.host.run("ip", "route", "show", "type", "blackhole").stdout
        assert "proto" not in shown
    finally:
        site.host.run("ip", "route", "del", *theirs)


def test_objects_of_a_routed_network_removed_in_the_host_are_restored(newest):
    site = newest
    routed(site, "r", *FOUR, *SIX)
    site.run("web", "r")
    four, six, _ = site.attached("web", "r")
    whole = unordered(site.dump())
    taken = f"""
        ip route del {four}; ip -6 route del {six}
        ip route del blackhole {POOL4} metric 10
        dev=$(ip -o addr show to {GW4} | awk '{{print $2; exit}}')
        ip addr del {GW4}/32 dev $dev
        sysctl -qw net.ipv6.conf.all.forwarding=0
        iptables -D DOCKER-USER -m devgroup --src-group 0x756c \
            -m comment --comment underlay: -j ACCEPT
    """
    site.host.run("sh", "-ec", taken)
    wait_until(lambda: unordered(site.dump()) == whole, 10, lambda: site.service.log)


def unordered(dump):
    return {key: sorted(shown.splitlines()) for key, shown in dump.items()}


def test_bridges_that_docker_makes_are_followed_and_not_repaired(newest):
    """By the rules for routed containers, and by the chain for macvlan containers."""

    def rules_name(bridge):
        chains = newest.host.outer_run("nft", "list", "table", "ip", "underlay").stdout
        accepts = newest.host.outer_run("iptables", "-S", "DOCKER-USER").stdout
        return [bridge in text for text in (chains, accepts)]

    def is_settled():
        return newest.service.run("plan", check=False).returncode == 0

    routed(newest, "r", *FOUR)
    newest.network("lan")
    newest.run("web", "r")
    wait_until(is_settled, 10)
    before = newest.service.facts("history")
    name = "com.docker.network.bridge.name"
    newest.docker("network", "create", "-o", f"{name}=shop", "shop")
    wait_until(lambda: rules_name("shop") == [True, True], 10)
    newest.docker("network", "rm", "shop")
    wait_until(lambda: rules_name("shop") == [False, False], 10)
    wait_until(is_settled, 10)
    assert newest.service.facts("history") == before


@pytest.mark.usefixtures("known")
def test_unpublished_ports_of_routed_containers_stay_closed(site):
    """Also on a bridge that Docker makes later; to the LAN it is closed by Docker."""
    routed(site, "r", *FOUR)
    site.run("web", "r")
    site.docker("network", "create", "later")
    try:
        for name in ("bridge", "later"):
            site.run(f"on-{name}", name)
            site.docker(
                "exec", "-d", f"on-{name}", "httpd", "-f", "-p", "80", "-h", "/etc"
            )
        wait_until(lambda: site.service.run("plan", check=False).returncode == 0, 10)
        for name in ("bridge", "later"):
            address = site.attached(f"on-{name}", name)[0]
            ask = ("wget", "-T1", "-qO-", f"http://{address}/hosts")
            wait_until(lambda: site.host.run("curl", "-sf", ask[-1]).stdout, 10)
            assert site.host.exec("web", *ask, check=False).returncode != 0
            site.ping_from(f"on-{name}", site.attached("web", "r")[0])
    finally:
        site.clear()
