"""A bridge of ours in the place of eth0, on real engines, and eth0 given back."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_address
from threading import Thread

import pytest

from tests.docker.bridged import (
    COUNTED,
    FOUR,
    SIX,
    changes,
    lines,
    links,
    site_iptables,
)
from tests.docker.conftest import GATEWAY4, GATEWAY6, IPAM, refused
from tests.lab.capture import Capture
from tests.lab.net import enter
from tests.lab.service import wait_until
from underlay.model.objects import Owner

BRIDGE = Owner.parse("underlay::bridge/eth0").device
ARP = 0x0806
TAKE = ("-o", "mode=bridge", "-o", "parent=eth0", "-o", "takeover=yes")
# Asks 200 times a second, and tells the longest time without an answer so far.
ASK = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], 7), 2)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
last = longest = 0.0
while True:
    s.sendall(b"x")
    assert s.recv(1)
    now = time.monotonic()
    longest = max(longest, now - (last or now))
    last = now
    print(longest, flush=True)
    time.sleep(0.005)
"""
ECHO = """
import socket
for s in iter(lambda: server.accept()[0], None):
    while data := s.recv(9):
        s.sendall(data)
"""
ECHO = f"import socket; server = socket.create_server(('', 7)){ECHO}"


def taken(site, name, *words, check=True):
    return site.docker(
        "network", "create", "-d", "underlay", *IPAM, *TAKE, *FOUR, *words, name,
        check=check,
    )  # fmt: skip


def state(site):
    wait_until(lambda: "tentative" not in site.host.run("ip", "addr").stdout, 5)
    return {
        "links": links(site),
        "addresses": lines(site, "ip", "-o", "addr"),
        "routes": lines(site, "ip", "route", "show", "table", "all"),
        "routes6": lines(site, "ip", "-6", "route", "show", "table", "all"),
        "rules": lines(site, "ip", "rule"),
        "neighbours": lines(site, "ip", "neigh", "show", "nud", "permanent"),
        "sysctls": lines(site, "grep", "-rs", ".", "/proc/sys/net", unless=COUNTED),
        "iptables": site_iptables(site),
        "nft": lines(site, "nft", "list", "ruleset"),
    }


@pytest.fixture
def unharmed(request):
    """Whatever a test does, the host is afterwards as it was."""
    site = request.getfixturevalue("newest")
    before = state(site)
    yield
    site.clear()
    wait_until(lambda: changes(before, state(site)) == {}, 5,
               lambda: changes(before, state(site)))  # fmt: skip


@pytest.fixture
def longest_silence(newest, tmp_path):
    """Tell how long a TCP connection of the LAN to the host was without an answer."""
    echo = newest.host.outer(sys.executable, "-c", ECHO)
    seen = tmp_path / "seen"
    wait_until(lambda: newest.host.run("ss", "-Hltn", "sport = 7").stdout, 5)
    with seen.open("wb") as out:
        command = [
            *enter(newest.lan.netns),
            sys.executable,
            "-c",
            ASK,
            newest.host.ipv4,
        ]
        ask = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    wait_until(lambda: seen.stat().st_size, 5)

    def read():
        had = seen.stat().st_size
        wait_until(lambda: seen.stat().st_size > had + 40, 5, seen.read_text)
        return float(seen.read_text().split()[-2])

    yield read
    for process in (ask, echo):
        process.kill()
        process.wait()


def test_eth0_is_taken_over_and_given_back_on_every_engine(site):
    before = state(site)
    taken(site, "b", *SIX)
    site.run("web", "b")
    four, six, mac = site.attached("web", "b")
    for address in (four, six):
        site.ping_from_lan(address)
        assert site.mac_on_lan(address) == mac.lower()
        site.host.outer_run(*site.ping, "-c1", "-W3", address)
    for address in (GATEWAY4, GATEWAY6, site.host.ipv4, site.host.ipv6):
        site.ping_from("web", address)
    eth0 = site.host.run("cat", "/sys/class/net/eth0/address").stdout.strip()
    for address in (site.host.ipv4, site.host.ipv6):
        site.ping_from_lan(address)
        assert site.mac_on_lan(address) == eth0
    assert site.service.on_record()["networks"][0]["parent"] == "eth0"
    # Docker tells the container's name after its start; the host's end has it too.
    nothing = "nothing to do\n"
    wait_until(lambda: site.service.run("plan", check=False).stdout == nothing, 5)
    site.docker("rm", "-f", "web")
    site.docker("network", "rm", "b")
    assert changes(before, state(site)) == {}


@pytest.mark.usefixtures("unharmed")
def test_connection_to_the_host_survives_takeover_and_return(newest, longest_silence):
    taken(newest, "b")
    newest.run("web", "b")
    address, _, _ = newest.attached("web", "b")
    newest.ping_from_lan(address)
    newest.service.kill()
    newest.ping_from_lan(address)
    newest.service.start()
    newest.ping_from_lan(address)
    newest.docker("rm", "-f", "web")
    newest.docker("network", "rm", "b")
    assert longest_silence() < 1


@pytest.mark.usefixtures("unharmed")
def test_single_machine_answers_for_the_host_s_address(newest):
    taken(newest, "b")
    newest.run("web", "b")
    newest.lan.run("ip", "neigh", "flush", "all")
    with Capture(newest.lan.netns, "br0") as wire:
        newest.ping_from_lan(newest.host.ipv4)
        newest.ping_from_lan(newest.attached("web", "b")[0])
    own = ip_address(newest.host.ipv4).packed
    answers = [
        frame.source
        for frame in wire.frames
        # An ARP reply, of which the sender's address is that of the host.
        if frame.kind == ARP and frame.payload[7] == 2 and frame.payload[14:18] == own
    ]
    assert answers == [newest.mac_on_lan(newest.host.ipv4)]


@pytest.fixture
def deaf(newest):
    """A host that hears nothing by way of a bridge, until `hear` or the test's end."""
    chain = "{ type filter hook input priority 0; policy drop; }"
    newest.host.outer_run("nft", "add", "table", "bridge", "deaf")
    newest.host.outer_run("nft", "add", "chain", "bridge", "deaf", "silence", chain)

    def hear():
        newest.host.outer_run("nft", "delete", "table", "bridge", "deaf", check=False)

    yield hear
    hear()


@pytest.mark.usefixtures("unharmed", "deaf")
def test_silent_gateway_is_reported_and_everything_is_restored(newest):
    done = taken(newest, "b", check=False)
    assert "E-151 eth0 was not taken over: 10.77.0.1, fd77::1 did not" in refused(done)
    assert newest.host.ipv4 in newest.host.run("ip", "addr", "show", "eth0").stdout


@pytest.mark.usefixtures("unharmed")
def test_service_killed_during_a_takeover_repairs_the_host_when_restarted(newest, deaf):
    creating = Thread(target=taken, args=(newest, "b"), kwargs={"check": False})
    creating.start()
    look = ("ip", "addr", "show", "dev", BRIDGE)
    wait_until(
        lambda: newest.host.ipv4 in newest.host.run(*look, check=False).stdout, 10
    )
    # It waits for the gateway now, with everything moved.
    newest.service.kill()
    deaf()
    newest.service.start()
    wait_until(lambda: newest.reached_from_lan(newest.host.ipv4), 5)
    wait_until(lambda: newest.host.run(*look, check=False).returncode, 5)
    creating.join()


@pytest.mark.usefixtures("unharmed")
def test_address_from_dhcp_has_the_takeover_refused(newest):
    def lives(how):
        address = f"{newest.host.ipv4}/24"
        newest.host.run("ip", "addr", "change", address, "dev", "eth0", *how)

    lives(("valid_lft", "600", "preferred_lft", "600"))
    done = taken(newest, "b", check=False)
    lives(("valid_lft", "forever", "preferred_lft", "forever"))
    assert "E-150 eth0 cannot become a port of a bridge" in refused(done)
    assert "it has a lifetime, as one from a DHCP server" in done.stderr
