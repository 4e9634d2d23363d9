"""Addresses of DHCPv6 servers, on real engines and by real servers."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.docker.conftest import GATEWAY4, IPAM, make_site
from tests.docker.site import derived, inside
from tests.lab import dhcp_servers
from tests.lab.dhcpv6_servers import Dnsmasq, IscDhcpd, Kea, Scope
from tests.lab.net import Lan
from tests.lab.rootfs import ENGINES
from tests.lab.routers import Radvd
from tests.lab.service import wait_until

PREFIX, ROUTER = "fd70:1", "fd70:1::1"
RANGE = ("--ip-range", "10.77.0.224/28")
SECONDS = 20
SHORT = Scope(preferred_seconds=8, lease_seconds=16)
# A router that says: ask a server for addresses (M), the prefix is on the link, and
# hosts may make addresses in it (A), which containers here do not.
CONFIG = """
interface br0 {
    AdvSendAdvert on;
    AdvManagedFlag on;
    MinRtrAdvInterval 3;
    MaxRtrAdvInterval 4;
    AdvDefaultLifetime 60;
    prefix fd70:1::/64 { AdvOnLink on; AdvAutonomous on; };
};
"""


@pytest.fixture(scope="module")
def lan():
    """A LAN of its own: advertisements are for every host on it."""
    with Lan() as made:
        made.run("ip", "addr", "add", f"{ROUTER}/64", "dev", "br0", "nodad")
        yield made


@pytest.fixture(scope="module")
def sites(lan):
    """One site for each engine, made when first asked for."""
    made = {}

    def get(engine):
        if engine not in made:
            name, index = f"na{engine.replace('.', '')}", [*ENGINES].index(engine) + 1
            made[engine] = make_site(lan, name, engine, index)
        return made[engine]

    yield get
    for site in made.values():
        site.host.close()


@pytest.fixture
def router(request, lan):
    """A router that is there only after the host: that has its own default route."""
    request.getfixturevalue({"site", "newest"}.intersection(request.fixturenames).pop())
    # Servers speak from the link-local address: not before it is known to be free.
    words = ("ip", "-6", "addr", "show", "dev", "br0", "scope", "link")
    wait_until(lambda: "fe80" in lan.run(*words, "-tentative").stdout, 10)
    with Radvd(lan.start, CONFIG) as made:
        yield made


@pytest.fixture
def kea(lan, router):
    assert router.processes
    with Kea(lan.start, scope=SHORT) as server:
        yield server


def create(site, *words, name="lan"):
    site.network(name, "-o", "ipv6=dhcp", *RANGE, *words)


def shown(site, name, *more):
    words = ("ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global", *more)
    return inside(site, name, *words)


def addresses(site, name, *more):
    found = shown(site, name, "-tentative", *more)
    return re.findall(rf"inet6 ({PREFIX}:[0-9a-f:]+)/128", found)


def address(site, name, besides=""):
    """Return the one address of a server that a container has, as soon as it does."""

    def is_there():
        found = addresses(site, name)
        return len(found) == 1 and found != [besides]

    wait_until(
        is_there, SECONDS,
        lambda: inside(site, name, "ip", "-6", "addr") + site.service.log[-4000:],
    )  # fmt: skip
    return addresses(site, name)[0]


def state(site):
    return Path(site.service.env["UNDERLAY_STATE_DIR"])


def plan(site):
    return site.service.run("plan", check=False).stdout


def assert_in_order(site):
    wait_until(lambda: plan(site) == "nothing to do\n", SECONDS, lambda: plan(site))
    assert site.service.on_record()["troubles"] == []


def repairs(site, name="web"):
    return [r for r in site.service.on_record()["repairs"] if r["container"] == name]


@pytest.mark.usefixtures("router")
# claymore666/docker-net-dhcp#152, claymore666/docker-net-dhcp#608
# slaac_suffix_dhcp_follow_the_prefix
def test_container_has_the_same_address_again_after_restart_and_removal(site, kea):
    create(site)
    before = repairs(site)
    site.run("web", "lan")
    site.run("db", "lan")
    web = address(site, "web")
    assert address(site, "db") != web
    assert {lease.address for lease in kea.leases()} == {web, address(site, "db")}
    assert [x.hostname for x in kea.leases() if x.address == web] == ["web"]
    wait_until(lambda: site.reached_from_lan(web), SECONDS)
    site.ping_from("web", ROUTER)
    assert "default via fe80::" in inside(site, "web", "ip", "-6", "route")
    assert shown(site, "web").count("inet6") == 1
    assert_in_order(site)
    assert repairs(site) == before
    site.docker("restart", "-t", "0", "web")
    assert address(site, "web") == web
    site.docker("rm", "-f", "web")
    site.run("web", "lan")
    assert address(site, "web") == web
    assert len(kea.leases()) == 2
    wait_until(lambda: web in site.service.run("status").stdout, SECONDS)


def leased(server, wanted):
    """Return whether a server has an address on record."""
    return wanted in {lease.address for lease in server.leases()}


def of_web(site):
    """Return what `underlay lease ls` has of the container's address."""
    found = site.service.facts("lease", "ls")
    return next(f for f in found if (f["container"], f["family"]) == ("web", 6))


def troubles(site):
    return " ".join(t["error"] for t in site.service.on_record()["troubles"])


def test_lease_is_renewed_for_longer_than_it_lasts_and_without_the_service(newest, kea):
    create(newest)
    newest.run("web", "lan")
    web = address(newest, "web")
    newest.service.kill()
    time.sleep(SHORT.preferred_seconds * 0.9)  # over T2
    newest.service.start()
    time.sleep(SHORT.lease_seconds * 1.2)
    assert addresses(newest, "web", "-deprecated") == [web]
    assert leased(kea, web)
    assert_in_order(newest)
    assert repairs(newest) == []
    assert newest.reached_from_lan(web)


def test_another_address_reaches_the_running_container_and_the_old_one_goes(
    newest, kea
):
    create(newest)
    newest.run("web", "lan")
    before = address(newest, "web")
    kea.forget(first="fd70:1::2000", last="fd70:1::2fff")
    now = address(newest, "web", besides=before)
    assert now.startswith("fd70:1::2")
    assert before not in shown(newest, "web")
    wait_until(lambda: newest.reached_from_lan(now), SECONDS)
    assert_in_order(newest)
    held = newest.service.facts("history", now)
    assert [(t["container"], t["until"]) for t in held] == [("web", None)]
    old, *_ = newest.service.facts("history", before)
    assert old["until"]


def test_lease_goes_back_after_the_hold_of_a_removed_container(site, kea):
    create(site, "-o", "hold=1")
    site.run("web", "lan")
    web = address(site, "web")
    site.docker("stop", "-t", "0", "web")
    time.sleep(3)
    assert leased(kea, web)
    site.docker("rm", "web")
    wait_until(lambda: not leased(kea, web), 15, lambda: kea.log)


@pytest.mark.usefixtures("router")
def test_lease_that_ends_is_kept_or_dropped_as_the_network_says(newest, lan):
    with Kea(lan.start, scope=SHORT) as server:
        create(newest)
        newest.network(
            "drops", "-o", "ipv6=dhcp", "-o", "when_lost=drop",
            subnet="10.78.0.0/24", gateway="10.78.0.1",
        )  # fmt: skip
        newest.run("web", "lan")
        newest.run("db", "drops")
        web, db = address(newest, "web"), address(newest, "db")
        assert "valid_lft forever" in shown(newest, "web")
        assert "valid_lft forever" not in shown(newest, "db")
        server.stop()
        wait_until(lambda: db not in shown(newest, "db"), 2 * SHORT.lease_seconds)
        wait_until(lambda: "E-170" in troubles(newest), SECONDS)
        assert web in shown(newest, "web")
        server.start()
        for name, had in (("web", web), ("db", db)):
            newest.service.run("lease", "renew", name)
            assert address(newest, name) == had
        wait_until(lambda: troubles(newest) == "", SECONDS, lambda: troubles(newest))
        assert_in_order(newest)


@pytest.mark.usefixtures("router")
def test_container_runs_without_a_server_and_the_status_says_so(site, lan):
    create(site)
    site.run("web", "lan")
    wait_until(
        lambda: "E-173" in troubles(site) and "eth0" in troubles(site), SECONDS
    )  # fmt: skip
    assert site.inspect("web", "{{.State.Running}}") == "true"
    with Kea(lan.start, scope=SHORT) as server:
        said = site.service.run("lease", "renew", "web").stdout
        assert "web has fd70:1::" in said
        web = address(site, "web")
        assert leased(server, web)
        assert troubles(site) == ""


def test_firewall_of_the_container_that_drops_everything_is_not_in_the_way(newest, kea):
    create(newest)
    newest.run("web", "lan")
    web = address(newest, "web")
    pid = newest.host.pid_of("web")
    rules = (
        "add table inet t;"
        "add chain inet t i { type filter hook input priority 0; policy drop; };"
        "add chain inet t o { type filter hook output priority 0; policy drop; }"
    )
    newest.host.outer_run("nsenter", f"--net=/proc/{pid}/ns/net", "nft", rules)
    newest.lan.run("ip", "neigh", "flush", "all")
    time.sleep(SHORT.lease_seconds * 1.2)
    assert leased(kea, web)
    assert addresses(newest, "web") == [web]
    assert troubles(newest) == ""


@pytest.mark.parametrize("when_lost", ["keep", "drop"])
def test_address_that_another_machine_has_is_declined(newest, kea, when_lost):
    """The kernel finds that out first, and removes an address with an end."""
    taken = SHORT.first
    newest.lan.run("ip", "addr", "add", f"{taken}/128", "dev", "br0", "nodad")
    try:
        create(newest, "-o", f"when_lost={when_lost}")
        newest.run("web", "lan")
        web = address(newest, "web")
        assert web != taken
        assert "DHCP6_DECLINE_LEASE" in kea.log
        assert taken not in shown(newest, "web")
        assert_in_order(newest)
    finally:
        newest.lan.run("ip", "addr", "del", f"{taken}/128", "dev", "br0")


def test_lease_is_shown_with_lines_that_reserve_its_address(newest, kea):
    create(newest, "-o", "hostname=register")
    newest.run("web", "lan")
    web = address(newest, "web")
    facts = of_web(newest)
    assert (facts["address"], facts["state"]) == (f"{web}/128", "bound")
    (lease,) = kea.leases()
    assert (facts["client_id"].replace(":", ""), facts["iaid"]) == lease[1:3]
    shown = newest.service.run("lease", "show", "web").stdout
    assert f'"ip-addresses": ["{web}"]' in shown
    path = "/run/underlay/hosts/containers"

    def listed():
        return newest.host.run("cat", path, check=False).stdout

    wait_until(lambda: f"{web} web web.lan\n" in listed(), SECONDS, listed)
    (endpoint,) = newest.service.facts("status")["endpoints"]
    assert f"{web}/128" in endpoint["addresses"]
    assert endpoint["lease6"]["server"].startswith("fe80::")
    newest.docker("stop", "-t", "0", "web")
    said = newest.service.run("lease", "release", "web").stdout
    assert f"{web}/128 of web went back to fe80::" in said
    wait_until(lambda: kea.leases() == [], 5, lambda: kea.log)


def test_device_made_again_in_a_running_container_has_the_same_address(newest, kea):
    create(newest)
    newest.run("web", "lan", "--cap-add", "NET_ADMIN")
    before = address(newest, "web")
    inside(newest, "web", "ip", "link", "del", "eth0")
    wait_until(lambda: any("link add" in r["step"] for r in repairs(newest)), SECONDS)
    assert address(newest, "web") == before
    wait_until(lambda: newest.reached_from_lan(before), SECONDS)
    assert leased(kea, before)
    assert_in_order(newest)


@pytest.mark.usefixtures("router")
def test_lease_is_asked_about_when_the_parent_s_cable_is_back(newest, lan):
    """The cable may lead to another segment now."""
    with Kea(lan.start, scope=Scope(lease_seconds=600)) as server:
        create(newest)
        newest.run("web", "lan")
        web, before = address(newest, "web"), server.log.count("DHCP6_LEASE")
        port = f"p-{newest.host.name}"
        lan.run("ip", "link", "set", port, "down")
        time.sleep(2.5)
        lan.run("ip", "link", "set", port, "up")
        wait_until(
            lambda: server.log.count("DHCP6_LEASE") > before, 15,
            lambda: newest.service.log[-2000:] + server.log[-2000:],
        )  # fmt: skip
        assert address(newest, "web") == web
        newest.clear()


@pytest.mark.parametrize("kind", [Dnsmasq, IscDhcpd])
def test_container_has_an_address_of_each_server_of_the_field(
    request, newest, lan, kind
):
    if kind is IscDhcpd:  # dnsmasq is a router itself
        request.getfixturevalue("router")
    with kind(lan.start) as server:
        create(newest, "-o", "hold=1")
        newest.run("web", "lan")
        web = address(newest, "web")
        assert leased(server, web)
        wait_until(lambda: newest.reached_from_lan(web), SECONDS)
        newest.ping_from("web", ROUTER)
        newest.docker("rm", "-f", "web")
        wait_until(lambda: not leased(server, web), 15, lambda: server.log)


def test_containers_with_a_lease_of_ipv4_or_none_have_one_of_ipv6(newest, lan, kea):
    with dhcp_servers.Kea(lan.start):
        newest.docker(
            "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
            "-o", "parent=eth0", "-o", "ipv6=dhcp", "-o", "hold=0", "lan",
        )  # fmt: skip
        newest.docker(
            "network", "create", "-d", "underlay", "--ipam-driver", "null",
            "-o", "parent=eth0", "-o", "ipv6=dhcp", "bare",
        )  # fmt: skip
        newest.run("web", "lan")
        newest.run("db", "bare")
        web, db = address(newest, "web"), address(newest, "db")
        newest.ping_from("web", GATEWAY4)
        assert {lease.address for lease in kea.leases()} == {web, db}
        found = newest.service.facts("lease", "ls")
        assert sorted((f["name"], f["family"]) for f in found) == [
            ("db", 6), ("web", 4), ("web", 6)
        ]  # fmt: skip
        newest.clear()


def test_container_on_a_bridge_in_the_place_of_the_card_has_a_lease(newest, kea):
    create(newest, "-o", "mode=bridge", "-o", "takeover=yes")
    newest.run("web", "lan")
    web = address(newest, "web")
    wait_until(lambda: newest.reached_from_lan(web), SECONDS)
    time.sleep(SHORT.lease_seconds * 1.2)
    assert leased(kea, web)  # renewed


@derived
def test_lost_records_lead_to_the_same_address(newest, kea):
    create(newest)
    newest.run("web", "lan")
    web = address(newest, "web")
    newest.service.stop()
    for file in state(newest).glob("underlay.db*"):
        file.unlink()
    newest.service.start()
    wait_until(
        lambda: (f := newest.service.facts("lease", "ls")) and f[0]["endpoint"],
        SECONDS, lambda: newest.service.log[-3000:],
    )  # fmt: skip
    wait_until(lambda: of_web(newest)["address"] == f"{web}/128", SECONDS)
    assert addresses(newest, "web") == [web]
    assert len(kea.leases()) == 1
    assert_in_order(newest)


@pytest.mark.needs("ipvlan")
@pytest.mark.usefixtures("router")
def test_ipvlan_containers_have_addresses_of_their_own(newest, kea):
    """One identity for both families, where the client id is no MAC."""
    create(newest, "-o", "mode=ipvlan")
    newest.run("web", "lan")
    newest.run("db", "lan")
    assert address(newest, "web") != address(newest, "db")
    assert len(kea.leases()) == 2
