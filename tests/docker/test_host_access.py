"""The host and its own containers reach each other, and the LAN does not notice."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import pytest

from tests.docker.conftest import (
    GATEWAY4,
    GATEWAY6,
    IPAM,
    IPVLAN,
    LAN4,
    LAN6,
    refused,
)
from tests.docker.site import Nic
from tests.lab.capture import Capture
from tests.lab.host import ENVIRONMENT
from tests.lab.rootfs import root
from tests.lab.service import wait_until
from underlay.model.objects import Owner

RANGES = ("--ip-range", "10.77.0.64/27", "--ip-range", "fd77::1000/116")
WAYS = {
    "macvlan": (),
    "l2": ("-o", "ipvlan_mode=l2"),
    "l3": ("-o", "ipvlan_mode=l3"),
    "l3s": ("-o", "ipvlan_mode=l3s"),
}
BEYOND = ("10.86.0.0/24", "fd86::/64")
ARP = 0x0806
STRICT = "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter"


@pytest.fixture(
    params=[
        pytest.param("macvlan", marks=pytest.mark.needs("macvlan")),
        *(pytest.param(way, marks=IPVLAN.marks) for way in ("l2", "l3", "l3s")),
    ]
)
def way(request):
    return request.param


@pytest.fixture
def strict(site):
    """A host that drops what comes by another device than the answer would leave by."""
    before = site.host.run("cat", "/proc/sys/net/ipv4/conf/all/rp_filter").stdout
    site.host.run("sh", "-c", STRICT)
    yield
    site.host.run("sh", "-c", STRICT.replace("1", before.strip(), 1))


def create(site, name, way, *words):
    subnets = BEYOND if way.startswith("l3") else (LAN4, LAN6)
    gateways = () if way.startswith("l3") else (GATEWAY4, GATEWAY6)
    words = [*WAYS[way], *words]
    for subnet in subnets:
        words += ["--subnet", subnet]
    for gateway in gateways:
        words += ["--gateway", gateway]
    words += RANGES if gateways else ()
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "-o", "parent=eth0", "--ipv6",
        *words, name,
    )  # fmt: skip


@contextmanager
def serving(site, address, container=""):
    """Serve /etc over HTTP on an address of the host, or in a container."""
    url = f"[{address}]:8080" if ":" in address else f"{address}:8080"
    command = ("httpd", "-f", "-p", url, "-h", "/etc")
    if container:
        site.docker("exec", "-d", container, *command)
        yield url
        return
    shell = site.host._spawn(
        ["busybox", *command], {"PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL
    )
    try:
        yield url
    finally:
        shell.kill()
        shell.wait()


def assert_fetched(run, *words):
    def fetched():
        return run(*words, check=False).returncode == 0

    wait_until(fetched, 5, lambda: run(*words, check=False).stderr)


def assert_both_ways(site, container, network):
    four, six, _ = site.attached(container, network)
    for there, here in ((four, site.host.ipv4), (six, site.host.ipv6)):
        site.ping_from(container, here)
        site.host.run("ping", "-c1", "-W3", there)
        with serving(site, there, container) as url:
            assert_fetched(site.host.run, "curl", "-gsSf", "-m2", f"http://{url}/hosts")
        with serving(site, here) as url:
            ask = partial(site.host.exec, container)
            assert_fetched(ask, "wget", "-T2", "-O-", f"http://{url}/hosts")


def test_host_and_container_reach_each_other_on_every_address(site, way):
    before = site.dump()
    create(site, "lan", way)
    site.run("c1", "lan")
    site.run("c2", "lan")
    assert_both_ways(site, "c1", "lan")
    site.ping_from("c2", site.attached("c1", "lan")[0])
    site.ping_from("c2", site.attached("c1", "lan")[1])
    site.wait_for_passes()
    site.clear()
    assert site.dump() == before


@pytest.mark.parametrize("site", ["28.5"], indirect=True)
@pytest.mark.usefixtures("strict")
def test_host_with_strict_reverse_path_filtering_reaches_its_containers(site, way):
    before = site.dump()
    create(site, "lan", way)
    site.run("c1", "lan")
    assert_both_ways(site, "c1", "lan")
    site.ping_from_lan(site.host.ipv4)
    site.clear()
    assert site.dump() == before


def shim_of(site):
    """Return name and MAC of the shim."""
    shown = site.host.run("ip", "-o", "link").stdout
    (found,) = re.findall(
        r"^\d+: (ul-[0-9a-f]+)@.*link/ether (\S+)", shown, re.MULTILINE
    )
    return found


def test_lan_sees_no_second_owner_of_the_host_s_addresses(site):
    create(site, "lan", "macvlan")
    site.run("c1", "lan")
    own = site.host.run("cat", "/sys/class/net/eth0/address").stdout.strip()
    with Capture(site.lan.netns, f"p-{site.host.name}") as wire:
        for _ in range(5):
            site.lan.run("ip", "neigh", "flush", "all")
            for address in (site.host.ipv4, site.host.ipv6):
                site.ping_from_lan(address)
                assert site.mac_on_lan(address) == own
        # Without a sender, as before a host takes an address: the host alone answers.
        probe = ("arping", "-D", "-c1", "-w2", "-I", "br0", site.host.ipv4)
        busybox = ("chroot", str(root("26.1")), "busybox")
        done = site.lan.run(*busybox, *probe, check=False)
        assert "Unicast reply" in done.stdout, done.stdout + done.stderr
        assert_both_ways(site, "c1", "lan")
    known = {own, site.attached("c1", "lan")[2]}
    others = [f for f in wire.frames if not f.outgoing and f.source not in known]
    # The shim asks whether addresses are free, and claims none: probes without a
    # sender's address.
    assert all(is_probe(f) for f in others), others


def is_probe(frame):
    sender = frame.payload[14:18] if frame.kind == ARP else frame.payload[8:24]
    return not any(sender)


def test_shim_exists_from_the_first_network_to_the_last(site, way):
    """It is the same one all the time: containers come and go."""
    before = site.dump()
    create(site, "one", way)
    shim = shim_of(site)
    create(site, "two", way)
    site.run("c1", "one")
    site.docker("rm", "-f", "c1")
    site.docker("network", "rm", "one")
    site.service.kill()
    site.service.start()
    site.run("c2", "two")
    assert_both_ways(site, "c2", "two")
    site.docker("rm", "-f", "c2")
    wait_until(lambda: site.our_links() == [shim[0]], 5, site.our_links)
    assert shim_of(site) == shim
    site.clear()
    assert site.dump() == before


def test_shim_follows_the_host_s_address_in_the_subnet(newest):
    site = newest
    site.network("lan", subnet="10.78.0.0/24", gateway="10.78.0.1")
    site.run("c1", "lan")
    assert site.our_links() == []
    site.host.run("ip", "addr", "add", "10.78.0.9/24", "dev", "eth0")
    address = site.attached("c1", "lan")[0]
    wait_until(lambda: site.our_links() != [], 5)
    ping = ("ping", "-c1", "-W1", address)
    wait_until(lambda: site.host.run(*ping, check=False).returncode == 0, 5)
    site.host.run("ip", "addr", "del", "10.78.0.9/24", "dev", "eth0")
    wait_until(lambda: site.our_links() == [], 5)
    tables = partial(site.host.outer_run, "nft", "list", "tables")
    wait_until(lambda: "underlay" not in tables().stdout, 5)


def test_restoring_forwarding_keeps_host_and_containers_connected(newest):
    """What is set for all devices is set for the shim too."""
    site = newest
    create(site, "lan", "macvlan")
    site.run("c1", "lan")
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "-o", "mode=routed", "--ipv6",
        "--subnet", "10.64.0.0/24", "--subnet", "fd64::/64", "r",
    )  # fmt: skip
    site.run("r1", "r")
    site.docker("rm", "-f", "r1")
    site.run("c2", "lan")
    wait_until(lambda: site.service.run("plan", check=False).returncode == 0, 10)
    site.host.exec("c2", "ping", "-6", "-c3", "-W1", site.host.ipv6)


def test_host_access_off_keeps_the_host_and_its_containers_apart(newest):
    site = newest
    create(site, "lan", "macvlan", "-o", "host_access=off")
    site.run("c1", "lan")
    four = site.attached("c1", "lan")[0]
    assert site.our_links() == []
    ping = ("ping", "-c1", "-W1", four)
    assert site.host.run(*ping, check=False).returncode != 0
    site.ping_from_lan(four)


def test_host_with_a_new_address_is_reached_there(newest):
    site = newest
    create(site, "lan", "macvlan")
    site.run("c1", "lan")
    site.host.run("ip", "addr", "add", "fd77::aaaa/64", "dev", "eth0", "nodad")
    try:
        command = ("ping", "-6", "-c1", "-W1", "fd77::aaaa")
        wait_until(
            lambda: site.host.exec("c1", *command, check=False).returncode == 0, 10
        )
    finally:
        site.host.run("ip", "addr", "del", "fd77::aaaa/64", "dev", "eth0")
    wait_until(lambda: "fd77::aaaa" not in site.dump()["neighbours"], 10)


@contextmanager
def second_card(site):
    """Have a second card on the host, in a subnet of its own."""
    found = Nic(site, "nic1")
    found.plug()
    site.host.run("ip", "addr", "add", "10.98.0.10/24", "dev", found.name)
    site.host.run("ip", "addr", "add", "fd98::10/64", "dev", found.name, "nodad")
    yield found
    site.clear()
    found.unplug()


@pytest.fixture
def second(site):
    with second_card(site) as found:
        yield found


@pytest.fixture
def card(newest):
    with second_card(newest) as found:
        yield found


def multicast_joins(site, address):
    """Return the device on which a program joins that names an address of the host."""
    script = (
        "import socket as s; u = s.socket(s.AF_INET, s.SOCK_DGRAM);"
        "u.setsockopt(s.IPPROTO_IP, s.IP_ADD_MEMBERSHIP, s.inet_aton('239.9.8.7')"
        f" + s.inet_aton('{address}')); print(open('/proc/net/igmp').read())"
    )
    shown = site.host.outer_run(sys.executable, "-c", script).stdout
    device = ""
    for line in shown.splitlines():
        if line[:1].isdigit():
            device = line.split()[1]
        elif line.split()[0] == "070809EF":
            return device
    raise AssertionError(shown)


def test_container_on_docker_s_bridge_uses_the_host_s_address_on_the_segment(
    site, second
):
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "-o", f"parent={second.name}",
        "--subnet", "10.98.0.0/24", "--gateway", "10.98.0.1", "lan98",
    )  # fmt: skip
    site.run("pi1", "lan98", "--ip", "10.98.0.230")
    site.docker("network", "create", "--subnet", "10.55.0.0/24", "side")
    site.run("app", "bridge")
    site.run("app2", "side")
    site.docker("exec", "-d", "pi1", "sh", "-c", "httpd -f -v -h /etc 2>/tmp/log")

    def reaches(container):
        ping = ("ping", "-c1", "-W1", "10.98.0.230")
        return site.host.exec(container, *ping, check=False).returncode == 0

    for container in ("app", "app2"):
        wait_until(partial(reaches, container), 5)
        ask = partial(site.host.exec, container)
        assert_fetched(ask, "wget", "-T2", "-O-", "http://10.98.0.230/hosts")
    heard = site.in_container("pi1", "cat", "/tmp/log")
    assert set(re.findall(r"10\.[\d.]+", heard)) == {"10.98.0.10"}, heard
    assert multicast_joins(site, "10.98.0.10") == second.name
    # The host's address may change, as by DHCP.
    site.host.run("ip", "addr", "add", "10.98.0.11/24", "dev", second.name)
    site.host.run("ip", "addr", "del", "10.98.0.10/24", "dev", second.name)
    site.host.run("ip", "addr", "replace", "10.98.0.11/24", "dev", second.name)
    ask = ("ping", "-c1", "-W1", "10.98.0.230")
    wait_until(lambda: site.host.exec("app", *ask, check=False).returncode == 0, 10)
    rules = site.host.outer_run("nft", "list", "table", "ip", "underlay").stdout
    assert set(re.findall(r"snat to (\S+)", rules)) == {"10.98.0.11"}


GROUP = "239.255.77.77"
SAY = (
    "import socket as s, sys; u = s.socket(s.AF_INET, s.SOCK_DGRAM);"
    "at = s.if_nametoindex(sys.argv[1]).to_bytes(4, sys.byteorder);"
    "u.setsockopt(s.IPPROTO_IP, s.IP_MULTICAST_IF, bytes(8) + at);"
    f"u.sendto(b'it is me', ('{GROUP}', 7777))"
)
HEAR = (
    "import socket as s, sys; u = s.socket(s.AF_INET, s.SOCK_DGRAM);"
    f"u.bind(('{GROUP}', 7777)); u.settimeout(3);"
    "at = s.if_nametoindex(sys.argv[1]).to_bytes(4, sys.byteorder);"
    "u.setsockopt(s.IPPROTO_IP, s.IP_ADD_MEMBERSHIP,"
    f" s.inet_aton('{GROUP}') + bytes(4) + at);"
    "print('ready', flush=True); print(u.recv(99))"
)


def words_at(site, container=""):
    """Return the words before a command of the machine there."""
    if not container:
        return ("chroot", "/outer")
    net = f"--net=/proc/{site.host.pid_of(container)}/ns/net"
    return ("chroot", "/outer", "nsenter", net)


LAN = "(LAN)"  # the other end of the wire, in the place of a container


def python_at(site, place, script, device, **options):
    """Start a script on the host (""), in a container or on the LAN."""
    command = [sys.executable, "-c", script, device]
    if place == LAN:
        return site.lan.start(*command, text=True, **options)
    command = [*words_at(site, place), *command]
    return site.host._spawn(command, ENVIRONMENT, text=True, **options)


def is_heard(site, speaker, listener):
    """Tell whether multicast of one is heard by the other: place, and device."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with python_at(site, listener[0], HEAR, listener[1], **pipes) as listening:
        assert listening.stdout.readline() == "ready\n", listening.stderr.read()
        with python_at(site, speaker[0], SAY, speaker[1]) as saying:
            assert saying.wait() == 0
        return "it is me" in listening.communicate()[0]


@pytest.mark.parametrize("site", ["28.5"], indirect=True)
def test_multicast_passes_between_containers_and_the_lan(site, way):
    """Macvlan bridge and ipvlan l2, as docs/modes.md says; l3 and l3s have none."""
    create(site, "lan", way)
    site.run("c1", "lan")
    site.run("c2", "lan")
    one, two, lan = ("c1", "eth0"), ("c2", "eth0"), (LAN, "br0")
    passes = not way.startswith("l3")
    assert is_heard(site, lan, one) == passes
    if passes:
        assert is_heard(site, one, lan)
        assert is_heard(site, one, two)


def test_multicast_passes_between_host_and_containers_as_the_docs_say(newest, card):
    site, nic = newest, card
    create(site, "lan", "macvlan")
    site.run("c1", "lan")
    host, shim, container = ("", "eth0"), ("", shim_of(site)[0]), ("c1", "eth0")
    assert not is_heard(site, container, host)
    assert not is_heard(site, host, container)
    assert is_heard(site, container, shim)
    site.clear()
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "-o", "mode=bridge",
        "-o", "takeover=yes", "-o", f"parent={nic.name}", "--subnet", "10.98.0.0/24",
        "--gateway", "10.98.0.1", "lan98",
    )  # fmt: skip
    site.run("c1", "lan98")
    bridge = ("", Owner.parse(f"underlay::bridge/{nic.name}").device)
    assert is_heard(site, container, bridge)
    assert is_heard(site, bridge, container)


def test_virtual_address_in_a_container_is_reached_through_the_container_s_own(newest):
    site = newest
    create(site, "lan", "macvlan")
    site.run("c1", "lan", "--cap-add", "NET_ADMIN")
    site.run("app", "bridge")
    own, virtual = site.attached("c1", "lan")[0], "10.77.0.99"
    site.host.exec("c1", "ip", "addr", "add", f"{virtual}/32", "dev", "eth0")
    site.host.run("ip", "route", "add", virtual, "via", own, "src", site.host.ipv4)
    site.host.run("ping", "-c1", "-W3", virtual)
    site.ping_from("app", virtual)
    wait_until(lambda: site.service.run("plan", check=False).returncode == 0, 10)
    assert virtual in site.host.run("ip", "route", "show", virtual).stdout


def test_host_access_that_a_mode_does_not_support_is_refused(newest):
    words = ("-o", "parent=eth0", "-o", "macvlan_mode=vepa", "-o", "host_access=on")
    create = ("network", "create", "-d", "underlay", *IPAM, "--subnet", LAN4)
    said = refused(newest.docker(*create, *words, "lan", check=False))
    assert (
        "E-101 host_access='on' is not valid: only off is possible, because macvlan"
        in said
    )
