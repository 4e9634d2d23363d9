"""The way out of a container: gateways outside the subnet, none, and its network."""

from __future__ import annotations

import re

import pytest

from tests.docker.conftest import GATEWAY4, GATEWAY6, LAN4, LAN6
from tests.lab.service import wait_until

OUTSIDE4, OUTSIDE6 = "10.99.9.1", "fe80::99:1"
BEYOND4, BEYOND6 = "10.88.0.1", "fd88::1"  # what only a router knows the way to
SIX = ("--ipv6", "--subnet", LAN6, "--ip-range", "fd77::1000/116")
RANGE = ("--ip-range", "10.77.0.64/27")


@pytest.fixture(scope="module", autouse=True)
def router(lan):
    """Give the router an address off the subnets, and something behind it."""
    added = [
        f"{OUTSIDE4}/32 dev br0",
        f"{OUTSIDE6}/64 dev br0 nodad",
        f"{BEYOND4}/32 dev lo",
        f"{BEYOND6}/128 dev lo",
    ]
    for words in added:
        lan.run("ip", "address", "add", *words.split())
    yield
    for words in added:
        lan.run("ip", "address", "del", *words.removesuffix(" nodad").split())


def create(site, name, *words):
    site.docker(
        "network", "create", "-d", "underlay", "--ipam-driver", "underlay",
        "-o", "parent=eth0", *words, name,
    )  # fmt: skip


def defaults(site, container, family="-4"):
    shown = site.in_container(container, "ip", family, "route", "show", "default")
    return re.findall(r"^default .*", shown, re.MULTILINE)


def answers(site, container, address):
    words = ("ping", "-6", "-c1", "-W1", address)
    return site.host.exec(container, *words, check=False).returncode == 0


def pool(site, subnet):
    return site.service.facts("pool", "show", subnet)


def test_gateway_outside_the_subnet_is_the_way_out_and_uses_no_address(site):
    create(
        site, "lan", "--subnet", LAN4, *RANGE, *SIX,
        "-o", f"gateway={OUTSIDE4},{OUTSIDE6}",
    )  # fmt: skip
    assert (pool(site, LAN4)["gateway"], pool(site, LAN6)["gateway"]) == ([], [])
    site.run("web", "lan")
    assert [OUTSIDE4 in line for line in defaults(site, "web")] == [True]
    assert [OUTSIDE6 in line for line in defaults(site, "web", "-6")] == [True]
    site.ping_from("web", BEYOND4)
    # Its IPv6 address serves only once duplicate detection has let it.
    wait_until(lambda: answers(site, "web", BEYOND6), 10)


def test_network_without_a_gateway_has_its_segment_and_every_pool_address(
    site,
):
    create(site, "lan", "--subnet", "10.77.0.64/30", "-o", "gateway=none")
    assert pool(site, "10.77.0.64/30")["gateway"] == []
    site.run("one", "lan")
    site.run("two", "lan")  # the second and last address of a /30
    assert defaults(site, "one") == []
    site.ping_from("one", site.attached("two", "lan")[0])


def test_single_network_of_several_gives_the_default_route(site):
    """The one that Docker would have chosen says no."""
    create(
        site, "aaa", "--subnet", LAN4, "--gateway", GATEWAY4, *RANGE,
        *SIX, "--gateway", GATEWAY6, "-o", "default_route=no",
    )  # fmt: skip
    create(site, "zzz", "--subnet", "10.79.0.0/24", *(
        "--ipv6", "--subnet", "fd79::/64", "-o", f"gateway={OUTSIDE4},{OUTSIDE6}",
    ))  # fmt: skip
    site.docker("create", "--name", "web", "--network", "aaa", "bb", "sleep", "1000")
    site.docker("network", "connect", "zzz", "web")
    site.docker("start", "web")
    assert [OUTSIDE4 in line for line in defaults(site, "web")] == [True]
    assert [OUTSIDE6 in line for line in defaults(site, "web", "-6")] == [True]
    site.ping_from("web", GATEWAY4)
    site.docker("network", "disconnect", "zzz", "web")
    assert defaults(site, "web") == defaults(site, "web", "-6") == []


def test_several_networks_with_default_routes_leave_exactly_one(site):
    for name, own in (("aaa", 79), ("zzz", 80)):
        create(
            site, name, "--subnet", f"10.{own}.0.0/24", "--ipv6", "--subnet",
            f"fd{own}::/64", "-o", f"gateway=10.99.{own}.1,fe80::{own}:1",
        )  # fmt: skip
    create(site, "lan", "--subnet", LAN4, "--gateway", GATEWAY4, *RANGE)
    site.run("web", "aaa")
    site.docker("network", "connect", "zzz", "web")
    site.docker("network", "connect", "lan", "web")
    assert (len(defaults(site, "web")), len(defaults(site, "web", "-6"))) == (1, 1)
    site.docker("network", "disconnect", "aaa", "web")
    assert (len(defaults(site, "web")), len(defaults(site, "web", "-6"))) == (1, 1)
    site.docker("restart", "-t0", "web")
    assert (len(defaults(site, "web")), len(defaults(site, "web", "-6"))) == (1, 1)


def test_endpoint_may_refuse_the_default_route_for_itself(newest):
    create(newest, "lan", "--subnet", LAN4, "--gateway", GATEWAY4, *RANGE)
    newest.docker(
        "run", "-d", "--name", "web",
        "--network", "name=lan,driver-opt=default_route=no", "bb", "sleep", "1000",
    )  # fmt: skip
    assert defaults(newest, "web") == []
    newest.ping_from("web", GATEWAY4)


def test_extra_routes_lead_past_the_gateway_and_are_repaired(site):
    """The gateway is none: what is behind the router is reached by the routes alone."""
    create(
        site, "lan", "--subnet", LAN4, *RANGE, *SIX, "-o", "gateway=none",
        "-o", f"route=10.88.0.0/16 via {GATEWAY4}, fd88::/64 via {GATEWAY6}",
    )  # fmt: skip
    site.run("web", "lan")
    site.ping_from("web", BEYOND4)
    wait_until(lambda: answers(site, "web", BEYOND6), 10)
    assert defaults(site, "web") == []
    for words in (
        f"route del {BEYOND4.replace('.1', '.0')}/16",
        "-6 route del fd88::/64",
    ):
        sandbox = f"/proc/{site.host.pid_of('web')}/ns/net"
        site.host.run("nsenter", f"--net={sandbox}", "ip", *words.split())
    wait_until(lambda: answers(site, "web", BEYOND6), 10)
    site.ping_from("web", BEYOND4)


def test_endpoint_has_routes_of_its_own_on_engines_that_take_its_options(site):
    create(site, "lan", "--subnet", LAN4, *RANGE, "-o", "gateway=none")
    way = f"driver-opt=route=10.88.0.0/16 via {GATEWAY4}"
    site.docker("run", "-d", "--name", "web", "--network", f"name=lan,{way}", "bb",
                "sleep", "1000")  # fmt: skip
    site.ping_from("web", BEYOND4)


def test_network_gives_the_default_route_of_one_family_only(site):
    create(site, "lan", "--subnet", LAN4, *RANGE, *SIX, "--gateway", GATEWAY4,
           "--gateway", GATEWAY6, "-o", "default_route=6")  # fmt: skip
    site.run("web", "lan")
    assert defaults(site, "web") == []
    # Older engines choose one network for both families, by IPv4.
    expected = [True] if site.host.engine == "28.5" else []
    assert [GATEWAY6 in line for line in defaults(site, "web", "-6")] == expected


def test_routed_container_without_a_default_route_reaches_what_its_route_names(site):
    site.docker(
        "network", "create", "-d", "underlay", "--ipam-driver", "underlay",
        "-o", "mode=routed", "-o", "proxy=eth0", "-o", "default_route=no",
        "--subnet", "10.77.0.96/27", "--gateway", "10.77.0.97",
        "-o", "route=10.88.0.0/16 via 10.77.0.97", "far",
    )  # fmt: skip
    site.run("web", "far")
    assert defaults(site, "web") == []
    site.ping_from("web", BEYOND4)


@pytest.fixture
def default_route(site):
    """Set the next hop of the host's default route, None for no such route."""

    def put(hop):
        site.host.run("ip", "route", "del", "default", check=False)
        if hop:
            site.host.run("ip", "route", "add", "default", "via", hop)

    yield put
    put(GATEWAY4)


@pytest.mark.parametrize("router", ["10.77.0.254", None])
def test_gateway_is_not_guessed(site, default_route, router):
    """Where a router is not the first address, a guess would give that to nothing."""
    default_route(router)
    before = len(site.service.log)
    create(site, "lan", "--subnet", LAN4)
    is_told = "the host has no router in this subnet" in site.service.log[before:]
    assert is_told is (router is None)
    assert pool(site, LAN4)["gateway"] == ([router] if router else [])
    site.run("web", "lan")
    ways = site.in_container("web", "ip", "route")
    assert ("default" in ways) is bool(router)
    assert not router or f"default via {router} " in ways


def test_network_without_a_router_spends_no_address(site, default_route):
    default_route(None)
    create(site, "lan", "--subnet", "10.77.0.120/30")
    site.run("one", "lan")
    site.run("two", "lan")
    found = {site.attached(name, "lan")[0] for name in ("one", "two")}
    assert found == {"10.77.0.121", "10.77.0.122"}
