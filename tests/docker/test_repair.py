"""Running containers get their network back, whatever was taken from them.

The period is so long that nothing but events can have woken the pass.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docker.conftest import GATEWAY4, GATEWAY6, make_site
from tests.docker.site import PERIOD_SECONDS, RANGE, face, inside, is_settled, repairs
from tests.lab.service import wait_until

SOON_SECONDS = 10
FOREIGN = """
    nft add table netdev theirs
    nft add chain netdev theirs in '{ type filter hook ingress device lo priority 0; }'
    nft add rule netdev theirs in counter accept comment '"underlaid"'
"""
POOL4, POOL6 = "10.99.0.0/24", "fd99::/64"


@pytest.fixture(scope="module")
def calm(lan):
    """A host whose service looks only when something changes."""
    made = make_site(lan, "calm", "28.5", 9, period=PERIOD_SECONDS)
    mac = ("address", "02:00:00:00:00:b1")
    made.host.run("ip", "link", "add", "br1", *mac, "type", "bridge")
    made.host.run("ip", "link", "set", "br1", "up")
    # Another program's rules, beside which ours come and go.
    made.host.outer_run("sh", "-ec", FOREIGN)
    assert "netdev theirs" in made.dump()
    yield made
    made.host.close()


@pytest.fixture(scope="module", params=["macvlan", "routed", "bridge"])
def web(request, calm):
    """A container of a dual-stack network of each mode, at rest."""
    site, mode = calm, request.param
    if mode == "macvlan":
        site.dual("lan", *RANGE)
    else:
        words = {
            "routed": ("-o", "mode=routed", "-o", "proxy=eth0"),
            "bridge": ("-o", "bridge=br1"),
        }
        site.docker(
            "network", "create", "-d", "underlay", "--ipam-driver", "underlay",
            *words[mode], "--ipv6", "--subnet", POOL4, "--subnet", POOL6,
            "--gateway", "10.99.0.1", "--gateway", "fd99::1", "lan",
        )  # fmt: skip
    site.run("web", "lan", "--cap-add", "NET_ADMIN")
    wait_until(lambda: is_settled(site), 20, lambda: site.service.log)
    yield site, mode
    site.clear()
    site.assert_nothing_left()


def everything(site):
    return inside(site, "web", "sh", "-c", "ip addr; ip route; ip -6 route")


def ways(site):
    """Return all of the host's network, but what a new veth has."""
    found = {}
    for key, text in site.dump().items():
        text = re.sub(r"^\d+: ", "", text, flags=re.MULTILINE)
        text = re.sub(r"(ul-\w+.*link/ether) \S+", r"\1", text)
        text = re.sub(r"fe80::\S+", "fe80::", text)
        found[key] = sorted(re.sub(r"link-netnsid \d+|qlen \d+", "", text).split("\n"))
    return found


def differing(before, after):
    """Return the lines of two such dumps that are in one of them only."""
    return {
        key: set(before[key]) ^ set(after[key])
        for key in before
        if before[key] != after[key]
    }


GATEWAYS = {
    "macvlan": (GATEWAY4, GATEWAY6),
    "routed": ("10.99.0.1", "fd99::1"),
    "bridge": (),
}

TAKEN_INSIDE = {
    "the device": "ip link del eth0",
    "being up": "ip link set eth0 down",
    "the MTU": "ip link set eth0 mtu 1300",
    "the MAC": "ip link set eth0 address 02:00:00:00:00:77",
    "the IPv4 address": "ip -4 addr flush dev eth0",
    "the IPv6 address": "ip -6 addr flush dev eth0 scope global",
    "all routes": "ip -4 route flush dev eth0; ip -6 route flush dev eth0 proto boot",
    "the IPv4 default route": "ip route del default",
    "the IPv6 default route": "ip -6 route del default",
    "the next hop": "ip route replace default via {other} dev eth0",
    "everything": "ip link set eth0 down; ip addr flush dev eth0; ip link del eth0",
}


@pytest.mark.parametrize("taken", TAKEN_INSIDE)
def test_objects_removed_inside_a_container_are_restored(web, taken):
    site, mode = web
    other = "10.77.0.9" if mode == "macvlan" else "10.99.0.9"
    if mode == "routed" and taken == "the next hop":
        inside(site, "web", "ip", "route", "add", other, "dev", "eth0")
    before, host, told = face(site), ways(site), repairs(site)
    inside(site, "web", "sh", "-ec", TAKEN_INSIDE[taken].format(other=other))
    wait_until(
        lambda: repairs(site) != told and face(site) == before,
        SOON_SECONDS,
        lambda: (before, face(site), site.service.log[-3000:]),
    )
    if mode == "routed" and taken == "the next hop":
        inside(site, "web", "ip", "route", "del", other, "dev", "eth0")
    wait_until(
        lambda: ways(site) == host,
        SOON_SECONDS,
        lambda: differing(host, ways(site)),
    )
    for gateway in GATEWAYS[mode]:
        site.ping_from("web", gateway)


CROWD = """
    awk 'BEGIN { for (i = 0; i < 20000; i++) {
        printf "route add 11.0.%d.%d/32 dev eth0 proto 12\\n", i / 256, i % 256
        printf "route add fd11::%x dev eth0 proto 12\\n", i } }' | ip -batch -
"""
MOST_KB = 10_000


def held(site):
    """Return the kilobytes (RSS) of the service that answers Docker."""
    status = Path(f"/proc/{site.service.pids()[-1]}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1])


def test_container_with_routing_daemon_routes_is_repaired(web):
    """The service keeps nothing of them."""
    site, _ = web
    before, had = face(site), held(site)
    inside(site, "web", "sh", "-ec", CROWD)
    for family in "-4", "-6":
        way = ("ip", family, "route", "show", "default")
        default = inside(site, "web", *way)
        if not default:
            continue  # of a network without a gateway
        inside(site, "web", "ip", family, "route", "del", "default")
        wait_until(
            lambda way=way, default=default: inside(site, "web", *way) == default,
            SOON_SECONDS,
            lambda: site.service.log[-3000:],
        )
    site.service.run("reconcile")
    assert held(site) - had < MOST_KB
    for family in "-4", "-6":
        inside(site, "web", "ip", family, "route", "flush", "proto", "12")
    wait_until(lambda: face(site) == before, SOON_SECONDS)


# What is taken in the host; those that give no event are left to the command.
TAKEN_IN_HOST = {
    "macvlan": {
        "the shim": "ip link del {ul}",
        "the shim being up": "ip link set {ul} down",
        "the way to the container": "ip route flush proto 157",
        "the IPv6 way to the container": "ip -6 route flush proto 157",
        "the shim's filters": "nft delete table netdev underlay",
        "a rule of the filters": "nft insert rule netdev underlay egress-{ul} accept",
        "a neighbour of the shim": "ip neigh flush dev {ul} nud permanent",
        "the shim's answers": "echo 0 >/proc/sys/net/ipv6/conf/{ul}/proxy_ndp",
        "the shim's forwarding": "echo 0 >/proc/sys/net/ipv6/conf/{ul}/forwarding",
    },
    "routed": {
        "the pair": "ip link del {ul}",
        "the host's end being up": "ip link set {ul} down",
        "the gateway": "ip -4 addr flush dev {ul}; ip -6 addr del fd99::1/128 dev {ul}",
        "the ways to containers and pools": "ip route flush proto 157",
        "the IPv6 ways": "ip -6 route flush proto 157",
        "the return path filter": "echo 1 >/proc/sys/net/ipv4/conf/{ul}/rp_filter",
        "forwarding": "echo 0 >/proc/sys/net/ipv4/ip_forward",
        "the rule in Docker's chain": "iptables -D DOCKER-USER -m devgroup"
        " --src-group 0x756c -m comment --comment underlay: -j ACCEPT",
        "answers of the proxy": "ip neigh del proxy {four} dev eth0",
    },
    "bridge": {
        "the pair": "ip link del {ul}",
        "the port being up": "ip link set {ul} down",
        "being a port": "ip link set {ul} nomaster",
    },
}
SILENT = {"answers of the proxy"}


@pytest.mark.parametrize(
    ("web", "taken"),
    [(mode, taken) for mode in TAKEN_IN_HOST for taken in TAKEN_IN_HOST[mode]],
    indirect=["web"],
)
def test_objects_removed_in_the_host_are_restored(web, taken):
    site, mode = web
    ours = re.search(r"ul-\w+", site.host.run("ip", "-br", "link").stdout)[0]
    before, host, told = face(site), ways(site), repairs(site)
    four = site.attached("web", "lan")[0]
    command = TAKEN_IN_HOST[mode][taken].format(ul=ours, four=four)
    # By the machine's programs: those of the host may lack nft.
    site.host.outer_run("sh", "-ec", command)
    if taken in SILENT:
        site.service.run("reconcile")
    wait_until(
        lambda: repairs(site) != told and ways(site) == host and face(site) == before,
        SOON_SECONDS,
        lambda: (differing(host, ways(site)), face(site), site.service.log[-2000:]),
    )
    for gateway in GATEWAYS[mode]:
        site.ping_from("web", gateway)


def test_additions_of_the_container_s_owner_are_left_alone(web):
    site, _ = web
    own = """
        ip link add own0 type veth peer name own1
        ip link set own0 addrgenmode none up
        ip addr add 192.0.2.9/24 dev own0
        ip addr add 192.0.2.77/32 dev eth0
        ip route add 198.51.100.0/24 dev own0
        ip link set eth0 txqueuelen 77
    """
    inside(site, "web", "sh", "-ec", own)
    told = repairs(site)
    wait_until(lambda: "tentative" not in everything(site), SOON_SECONDS)
    before = everything(site)
    site.service.run("reconcile")
    assert everything(site) == before
    assert repairs(site) == told
    # Nor when something else is repaired beside it.
    inside(site, "web", "ip", "link", "set", "eth0", "mtu", "1300")
    wait_until(lambda: repairs(site) != told, SOON_SECONDS)
    wait_until(lambda: everything(site) == before, SOON_SECONDS)
    inside(site, "web", "ip", "link", "del", "own0")
    inside(site, "web", "ip", "addr", "del", "192.0.2.77/32", "dev", "eth0")


def test_default_route_moved_to_another_device_is_left_there(web):
    site, mode = web
    inside(site, "web", "ip", "link", "add", "vpn0", "type", "veth")
    inside(site, "web", "ip", "link", "set", "vpn0", "up")
    inside(site, "web", "ip", "addr", "add", "192.0.2.9/24", "dev", "vpn0")
    inside(site, "web", "ip", "route", "replace", "default", "dev", "vpn0")
    told, before = repairs(site), face(site)
    inside(site, "web", "ip", "link", "set", "lo", "mtu", "65000")  # an event
    site.service.run("reconcile")
    assert (repairs(site), face(site)) == (told, before)
    gateway = {"macvlan": GATEWAY4}.get(mode, "10.99.0.1")
    inside(site, "web", "ip", "route", "replace", "default", "via", gateway)
    inside(site, "web", "ip", "link", "del", "vpn0")
    site.service.run("reconcile")
    assert repairs(site) == told


def test_docker_moves_the_default_route_between_networks_undisturbed(web):
    site, mode = web
    before = face(site)
    site.docker("network", "create", "side")
    for _ in range(5):
        site.docker("network", "connect", "side", "web")
        site.docker("network", "disconnect", "side", "web")
    site.docker("network", "rm", "side")
    wait_until(lambda: face(site) == before, SOON_SECONDS, lambda: face(site))
    for gateway in GATEWAYS[mode]:
        site.ping_from("web", gateway)


def test_docker_s_own_changes_without_a_driver_call_are_detected(calm):
    site = calm

    def name():
        return [e["container"] for e in site.service.on_record()["endpoints"]]

    site.network("lan", *RANGE)
    try:
        site.run("web", "lan")
        wait_until(lambda: name() == ["web"], SOON_SECONDS, name)
        site.docker("rename", "web", "shop")
        wait_until(lambda: name() == ["shop"], SOON_SECONDS, name)
        site.host.stop_dockerd()
        site.host.start_dockerd()
        site.docker("start", "shop")
        wait_until(lambda: name() == ["shop"], SOON_SECONDS, name)
        site.docker("rename", "shop", "web")
        wait_until(lambda: name() == ["web"], SOON_SECONDS, name)
    finally:
        site.clear()
    site.assert_nothing_left()


def test_program_that_reverts_every_repair_is_reported_and_slowed_down(newest):
    site = newest
    site.network("lan", *RANGE)
    site.run("web", "lan", "--cap-add", "NET_ADMIN")
    wait_until(lambda: is_settled(site), SOON_SECONDS)

    def told():
        return site.service.on_record()["endpoints"][0]

    before = face(site)
    undo = "until test -e /stop; do ip addr flush dev eth0; sleep 0.4; done"
    site.docker("exec", "-d", "web", "sh", "-c", undo)
    # It may take away the address, too, before the route by it is made.
    wait_until(lambda: told()["error"].startswith("E-403"), 60, told)
    assert told()["health"] == "failing"
    site.docker("exec", "web", "touch", "/stop")
    wait_until(lambda: face(site) == before, 2 * SOON_SECONDS)
    # The last repair may have been one too many: the next look is ten seconds later.
    wait_until(lambda: told()["health"] == "repaired", 3 * SOON_SECONDS, told)


def test_container_with_repair_off_is_left_as_it_is(newest):
    site = newest
    site.dual("lan", "-o", "repair=off", *RANGE)
    site.run("web", "lan")
    wait_until(lambda: is_settled(site), SOON_SECONDS)
    inside(site, "web", "ip", "link", "set", "eth0", "mtu", "1300")
    site.service.run("reconcile")
    assert "mtu 1300" in "".join(face(site))
    inside(site, "web", "ip", "link", "del", "eth0")
    site.service.run("reconcile")
    assert face(site) is None


def test_neighbour_with_a_stale_entry_reaches_a_new_container_at_once(site):
    """Engines before 28 announce nothing: the service does."""
    site.dual("lan", *RANGE)
    site.run("old", "lan", "--ip", "10.77.0.90", "--ip6", "fd77::90")
    for address in ("10.77.0.90", "fd77::90"):
        site.ping_from_lan(address)
    site.docker("rm", "-f", "old")
    stale = ("lladdr", "02:00:00:00:00:99", "nud", "stale", "dev", "br0")
    for address in ("10.77.0.90", "fd77::90"):
        site.lan.run("ip", "neigh", "replace", address, *stale)
    mac = "02:42:00:00:00:90"
    site.run("new", "lan", "--ip", "10.77.0.90", "--ip6", "fd77::90",
             "--mac-address", mac)  # fmt: skip
    for address in ("10.77.0.90", "fd77::90"):
        wait_until(lambda a=address: site.mac_on_lan(a) == mac, 5)
