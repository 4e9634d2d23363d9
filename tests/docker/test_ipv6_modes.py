"""IPv6 addresses that containers make from router advertisements, on real engines."""

from __future__ import annotations

import json
import re
import socket
from contextlib import suppress

import pytest

from tests.docker.conftest import GATEWAY4, GATEWAY6, IPAM, LAN6, make_site
from tests.docker.site import inside
from tests.lab import capture
from tests.lab.dhcp_servers import Kea
from tests.lab.net import Lan
from tests.lab.rootfs import ENGINES
from tests.lab.routers import Radvd
from tests.lab.service import wait_until

OLD, NEW = "fd70:1", "fd70:2"
RANGE = ("--ip-range", "10.77.0.224/28")
SECONDS = 20
SUFFIX = "driver-opt=suffix=::53"
# As short as radvd does it. A prefix that is gone is deprecated at once.
CONFIG = """
interface br0 {{
    AdvSendAdvert on;
    MinRtrAdvInterval 3;
    MaxRtrAdvInterval 4;
    AdvDefaultLifetime 60;
    {prefixes}
}};
"""
PREFIX = (
    "prefix {}::/64 {{ AdvOnLink on; AdvAutonomous on; AdvValidLifetime 600;"
    " AdvPreferredLifetime {}; }};"
)


class Router:
    """The LAN's router: it has an address in each prefix, and advertises one."""

    def __init__(self, lan):
        self.lan, self.radvd = lan, None
        for prefix in (OLD, NEW):
            lan.run("ip", "addr", "add", f"{prefix}::1/64", "dev", "br0", "nodad")
        self.advertise(OLD)

    def advertise(self, prefix, gone=""):
        prefixes = [PREFIX.format(prefix, 300)]
        prefixes += [PREFIX.format(gone, 0)] if gone else []
        if self.radvd:
            self.radvd.close()
        config = CONFIG.format(prefixes="\n    ".join(prefixes))
        self.radvd = Radvd(self.lan.start, config)
        self.radvd.start()

    def close(self):
        self.radvd.close()
        for prefix in (OLD, NEW):
            self.lan.run("ip", "addr", "del", f"{prefix}::1/64", "dev", "br0")


@pytest.fixture(scope="module")
def lan():
    """A LAN of its own: advertisements are for every host on it."""
    with Lan() as made:
        yield made


@pytest.fixture(scope="module")
def sites(lan):
    """One site for each engine, made when first asked for."""
    made = {}

    def get(engine):
        if engine not in made:
            name, index = f"six{engine.replace('.', '')}", [*ENGINES].index(engine) + 1
            made[engine] = make_site(lan, name, engine, index)
        return made[engine]

    yield get
    for site in made.values():
        site.host.close()


@pytest.fixture
def router(request, lan):
    """A router that is there only after the host: that has its own default route."""
    request.getfixturevalue({"site", "newest"}.intersection(request.fixturenames).pop())
    made = Router(lan)
    yield made
    made.close()


def create(site, mode, *words):
    site.network("lan", "-o", f"ipv6={mode}", *RANGE, *words)


def addresses(site, name, prefix=OLD, state="-deprecated"):
    """Return the addresses of a container in a prefix that are so."""
    shown = inside(
        site, name, "ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global",
        "-tentative", state,
    )  # fmt: skip
    return re.findall(rf"inet6 ({prefix}:[0-9a-f:]+)/64", shown)


def address(site, name, prefix=OLD):
    """Return the one address that a container has in a prefix, as soon as it does."""
    wait_until(
        lambda: len(addresses(site, name, prefix)) == 1, SECONDS,
        lambda: inside(site, name, "ip", "-6", "addr") + site.service.log[-3000:],
    )  # fmt: skip
    return addresses(site, name, prefix)[0]


def plan(site):
    return site.service.run("plan", check=False).stdout


def assert_in_order(site):
    """Nothing is to be done: the kernel does it all."""
    wait_until(lambda: plan(site) == "nothing to do\n", SECONDS, lambda: plan(site))
    assert site.service.on_record()["troubles"] == []


def repairs(site):
    return [r for r in site.service.on_record()["repairs"] if r["container"] == "web"]


def noted(site, name):
    """Return the addresses from routers that the service shows for a container."""
    found = site.service.on_record()["endpoints"]
    return next(e["router_addresses"] for e in found if e["container"] == name)


# slaac_suffix_dhcp_follow_the_prefix
@pytest.mark.usefixtures("router")
def test_container_makes_the_same_address_again_after_restart_and_removal(site):
    create(site, "slaac")
    before = repairs(site)
    site.run("web", "lan")
    site.run("db", "lan")
    web = address(site, "web")
    assert address(site, "db") != web
    wait_until(lambda: site.reached_from_lan(web), SECONDS)
    site.ping_from("web", f"{OLD}::1")
    assert "default via fe80::" in inside(site, "web", "ip", "-6", "route")
    wait_until(lambda: noted(site, "web") == [f"{web}/64"], SECONDS)
    assert_in_order(site)
    assert repairs(site) == before
    site.docker("restart", "-t", "0", "web")
    assert address(site, "web") == web
    site.docker("rm", "-f", "web")
    site.run("web", "lan")
    assert address(site, "web") == web
    wait_until(lambda: web in site.service.run("status").stdout, SECONDS)


def connection(site, address, port=7777):
    """Return a TCP connection of the LAN to a container, which says all again."""
    server = "nc", "-l", "-p", str(port), "-e", "cat"
    site.docker("exec", "-d", "web", *server)
    made = []

    def connect():
        with suppress(OSError):
            made.append(socket.create_connection((address, port), SECONDS))
        return made

    wait_until(lambda: capture.inside(site.lan.netns, connect), SECONDS)
    return made[0]


def echo(line):
    line.send(b"here?")
    return line.recv(5) == b"here?"


# slaac_suffix_dhcp_follow_the_prefix, containers/netavark#1072
def test_suffix_stays_while_the_router_changes_its_prefix_without_the_service(
    site, router
):
    create(site, "suffix")
    site.run("web", f"name=lan,{SUFFIX}")
    assert address(site, "web") == f"{OLD}::53"
    line = connection(site, f"{OLD}::53")
    router.advertise(NEW, gone=OLD)
    assert address(site, "web", NEW) == f"{NEW}::53"
    wait_until(lambda: addresses(site, "web") == [], SECONDS)
    assert addresses(site, "web", OLD, "deprecated") == [f"{OLD}::53"]
    assert echo(line)  # what began with it may go on with it
    line.close()
    wait_until(lambda: noted(site, "web") == [f"{NEW}::53/64"], SECONDS)
    site.service.kill()
    router.advertise(OLD, gone=NEW)
    assert address(site, "web") == f"{OLD}::53"
    wait_until(lambda: addresses(site, "web", NEW) == [], SECONDS)
    wait_until(lambda: site.reached_from_lan(f"{OLD}::53"), SECONDS)
    site.service.start()
    wait_until(lambda: noted(site, "web") == [f"{OLD}::53/64"], SECONDS)
    assert_in_order(site)
    assert address(site, "web") == f"{OLD}::53"


def history(site, address):
    return json.loads(site.service.run("history", address, "--json").stdout)


@pytest.mark.usefixtures("router")
def test_history_has_the_addresses_that_containers_made(newest):
    create(newest, "suffix")
    newest.run("web", f"name=lan,{SUFFIX}")
    assert address(newest, "web") == f"{OLD}::53"
    wait_until(lambda: noted(newest, "web"), SECONDS)
    (had,) = [h for h in history(newest, f"{OLD}::53") if not h["until"]]
    assert (had["container"], had["role"]) == ("web", "slaac")
    newest.service.kill()
    newest.docker("rm", "-f", "web")
    newest.service.start()
    wait_until(
        lambda: all(h["until"] for h in history(newest, f"{OLD}::53")), 3 * SECONDS
    )


# In bridge, containers are strict: the test that finds the machine leaves them, too.
@pytest.mark.parametrize("words", [(), ("-o", "mode=bridge", "-o", "takeover=yes")])
def test_suffix_that_a_machine_has_is_a_trouble_until_the_machine_gives_it_up(
    newest, router, words
):
    machine = ("addr", "add", f"{OLD}::54/64", "dev", "br0", "nodad")
    router.lan.run("ip", *machine)
    try:
        create(newest, "suffix", *words)
        newest.run("web", "name=lan,driver-opt=suffix=::54")
        wait_until(lambda: newest.service.on_record()["troubles"], SECONDS)
        (trouble,) = newest.service.on_record()["troubles"]
        assert f"E-167 {OLD}::54 is in use on the network" in trouble["error"]
        assert addresses(newest, "web") == []
    finally:
        router.lan.run("ip", "addr", "del", f"{OLD}::54/64", "dev", "br0")
    assert address(newest, "web") == f"{OLD}::54"
    wait_until(lambda: newest.service.on_record()["troubles"] == [], SECONDS)
    assert_in_order(newest)


@pytest.mark.usefixtures("router")
def test_second_container_with_a_suffix_does_not_start(newest):
    create(newest, "suffix")
    newest.run("web", f"name=lan,{SUFFIX}")
    refused = newest.docker(
        "run", "-d", "--name", "db", "--network", f"name=lan,{SUFFIX}", "bb", "true",
        check=False,
    )  # fmt: skip
    assert "E-172" in refused.stderr
    newest.docker("restart", "-t", "0", "web")
    assert address(newest, "web") == f"{OLD}::53"


@pytest.mark.parametrize("mode", ["slaac", "suffix"])
@pytest.mark.usefixtures("router")
def test_device_made_again_in_a_running_container_makes_the_same_addresses(site, mode):
    create(site, mode)
    site.run("web", "lan", "--cap-add", "NET_ADMIN")
    before = address(site, "web")
    wait_until(lambda: noted(site, "web") == [f"{before}/64"], SECONDS)
    inside(site, "web", "ip", "link", "del", "eth0")
    wait_until(lambda: noted(site, "web") != [f"{before}/64"], SECONDS)
    assert address(site, "web") == before
    wait_until(lambda: site.reached_from_lan(before), SECONDS)
    assert_in_order(site)


@pytest.mark.usefixtures("router")
def test_ipv6_switched_off_in_a_container_that_hears_routers_is_switched_on_again(
    newest,
):
    create(newest, "suffix")
    newest.run("web", f"name=lan,{SUFFIX}")
    assert address(newest, "web") == f"{OLD}::53"
    off = "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6"
    newest.host.outer_run(
        "nsenter", f"--net=/proc/{newest.host.pid_of('web')}/ns/net", "sh", "-c", off
    )
    assert address(newest, "web") == f"{OLD}::53"
    assert any("disable_ipv6=0" in repair["step"] for repair in repairs(newest))


@pytest.mark.usefixtures("router")
def test_network_without_a_default_route_takes_none_from_routers(newest):
    create(newest, "slaac", "-o", "default_route=4")
    newest.run("web", "lan")
    address(newest, "web")
    assert "default" not in inside(newest, "web", "ip", "-6", "route")
    newest.ping_from("web", f"{OLD}::1")


@pytest.mark.usefixtures("router")
def test_containers_without_an_ipv4_address_have_ipv6_from_routers(newest):
    newest.docker(
        "network", "create", "-d", "underlay", "--ipam-driver", "null",
        "-o", "parent=eth0", "-o", "ipv6=slaac", "lan",
    )  # fmt: skip
    newest.run("web", "lan")
    web = address(newest, "web")
    wait_until(lambda: newest.reached_from_lan(web), SECONDS)


@pytest.mark.usefixtures("router")
def test_containers_with_a_lease_have_ipv6_from_routers(newest, lan):
    with Kea(lan.start):
        newest.docker(
            "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
            "-o", "parent=eth0", "-o", "ipv6=suffix", "-o", "hold=0", "lan",
        )  # fmt: skip
        newest.run("web", f"name=lan,{SUFFIX}")
        assert address(newest, "web") == f"{OLD}::53"
        newest.ping_from("web", GATEWAY4)
        newest.ping_from("web", f"{OLD}::1")
        newest.clear()


@pytest.mark.usefixtures("router")
def test_two_networks_of_one_parent_give_a_container_two_addresses(newest):
    create(newest, "slaac")
    far = {"subnet": "10.78.0.0/24", "gateway": "10.78.0.1"}
    newest.network("other", "-o", "ipv6=slaac", **far)
    newest.run("web", "lan")
    newest.docker("network", "connect", "other", "web")
    first = address(newest, "web")

    def second():
        shown = inside(newest, "web", "ip", "-6", "-o", "addr", "show", "dev", "eth1")
        return re.findall(rf"inet6 ({OLD}:[0-9a-f:]+)/64", shown)

    wait_until(lambda: len(second()) == 1, SECONDS)
    assert second() != [first]


@pytest.mark.usefixtures("router")
def test_container_on_a_bridge_in_the_place_of_the_card_hears_routers(newest):
    newest.network(
        "lan", "-o", "mode=bridge", "-o", "takeover=yes", "-o", "ipv6=slaac", *RANGE
    )
    newest.run("web", "lan")
    web = address(newest, "web")
    wait_until(lambda: newest.reached_from_lan(web), SECONDS)
    # It is strict by default, and its own link-local address is one of a secret.
    way = inside(newest, "web", "ip", "-6", "route", "show", "default")
    router = re.search(r"via (fe80\S+)", way)[1]
    newest.ping_from("web", f"{router}%eth0")
    assert_in_order(newest)


@pytest.mark.usefixtures("router")
def test_strict_container_also_sends_from_addresses_of_routers_beside_dockers(newest):
    six = ("--ipv6", "--subnet", LAN6, "--gateway", GATEWAY6)
    newest.network("lan", "-o", "mode=bridge", "-o", "takeover=yes", *RANGE, *six)
    newest.run("web", "lan")
    web = address(newest, "web")
    inside(newest, "web", "ping", "-c1", "-W3", "-I", web, f"{OLD}::1")
    newest.lan.run("ip", "neigh", "flush", "all")
    assert newest.reached_from_lan(web)
    assert_in_order(newest)


@pytest.mark.usefixtures("router")
def test_file_of_names_has_the_addresses_from_routers(newest):
    create(newest, "suffix")
    newest.run("web", f"name=lan,{SUFFIX}")
    path = "/run/underlay/hosts/containers"

    def listed():
        return newest.host.run("cat", path, check=False).stdout

    wait_until(lambda: f"{OLD}::53 web web.lan\n" in listed(), SECONDS, listed)


@pytest.mark.needs("ipvlan")
@pytest.mark.usefixtures("router")
def test_ipvlan_containers_make_addresses_of_their_own(newest):
    create(newest, "slaac", "-o", "mode=ipvlan")
    newest.run("web", "lan")
    newest.run("db", "lan")
    assert address(newest, "web") != address(newest, "db")
