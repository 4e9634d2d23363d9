"""Leases from servers across a wire, with the sockets of this machine's kernel."""

from __future__ import annotations

import json
import random
import subprocess
import time
from contextlib import ExitStack

import pytest

from tests.kernel.conftest import MAC, ip
from tests.lab import net
from tests.lab.fake_dhcp import (
    ADDRESS,
    SERVER,
    SERVER_MAC,
    answering,
    framed,
    refusal,
    to_all,
)
from tests.lab.rootfs import root
from tests.lab.service import wait_until
from underlay.dhcp import sockets
from underlay.dhcp.client import Client, release
from underlay.dhcp.exchange import Exchange
from underlay.dhcp.frames import (
    CLIENT_PORT,
    SERVER_PORT,
    Receiver,
    unwrap,
    wrap,
)
from underlay.dhcp.offers import Held, Refused
from underlay.dhcp.packets import (
    MessageType,
    client_id_of_mac,
    decode,
)
from underlay.kernel.namespaces import run_in

UNBORN = "02:00:00:00:00:66"  # no device has it
CLIENT = Client(UNBORN, client_id_of_mac(UNBORN), "web")

pytestmark = pytest.mark.usefixtures("namespace")


def to_one(packet):
    """Return an answer to the client's MAC and its new address, as Kea sends it."""
    (frame,) = to_all(packet)
    receiver = Receiver(packet.chaddr, ADDRESS, CLIENT_PORT)
    return [wrap(unwrap(frame).payload, SERVER_MAC, SERVER, receiver)]


def tagged(packet):
    """Return an answer with the tag of VLAN 7."""
    (frame,) = to_all(packet)
    return [frame[:12] + b"\x81\0\0\x07" + frame[12:]]


def run(exchange, seconds=5.0, **options):
    return sockets.run(exchange, "eth0", sockets.since_boot() + seconds, **options)


def send(*frames, device="eth0"):
    with ExitStack() as later:
        sockets.send(frames, device, later)


def new(client=CLIENT):
    return Exchange.new(client, random.random)


def links():
    return [link["ifname"] for link in json.loads(ip("-j", "link"))]


def promiscuity():
    (link,) = json.loads(ip("-d", "-j", "link", "show", "eth0"))
    return link["promiscuity"]


# kea_unicast_reaches_an_unborn_mac, devplayer0/docker-net-dhcp#5,
# containers/netavark#690, containers/netavark#1368, containernetworking/plugins#587,
# claymore666/docker-net-dhcp#486
@pytest.mark.parametrize("answers", [to_all, to_one])
def test_mac_that_no_device_has_gets_a_lease(machine, answers):
    with answering(machine, answers) as heard:
        found = run(new())
    assert found.offer.address.with_prefixlen == f"{ADDRESS}/24"
    assert (found.offer.server, found.server_mac) == (SERVER, SERVER_MAC)
    assert 0 <= sockets.since_boot() - found.asked < 5
    # A switch learns from it where the client is.
    assert {frame[6:12].hex(":") for frame in heard} == {UNBORN}


@pytest.mark.parametrize(
    ("answers", "learning", "is_given"),
    [(to_all, "on", True), (to_one, "on", True), (to_one, "off", False)],
)
def test_switch_that_floods_nothing_leads_to_the_mac_if_it_learns(
    machine, answers, learning, is_given
):
    machine.run(
        "sh",
        "-ec",
        f"""
        ip link add br0 type bridge
        ip link set wire0 master br0
        ip link set br0 up
        bridge link set dev wire0 flood off learning {learning}
        bridge fdb replace {MAC} dev wire0 master static
        """,
    )
    with answering(machine, answers, "br0"):
        found = run(new(), 5.0 if is_given else 1.0)
    assert bool(found) is is_given


@pytest.mark.needs("macvlan")
def test_child_is_born_with_the_mac_while_it_gets_its_lease(machine):
    born = []

    def abandoned():
        if not born:
            words = f"link add child link eth0 address {UNBORN} type macvlan"
            born.append(ip(*words.split()))
            ip("link", "set", "child", "up")
        return False

    with answering(machine, lambda packet: to_one(packet) if born else []):
        found = run(new(), abandoned=abandoned)
    assert found.held.address == ADDRESS


@pytest.mark.needs("macvlan")
@pytest.mark.parametrize("answers", [to_all, to_one])
def test_server_on_a_child_of_the_device_is_asked_by_the_shim(machine, answers):
    """The segment hears each message once; Kea's answer leaves by the device."""
    with net.Namespace(f"{machine.netns}s", "") as container:
        words = "link eth0 type macvlan mode bridge"
        net.ip(
            f"link add shim0 {words}",
            "link set shim0 up",
            f"link add own netns {container.netns} {words}",
        )
        container.run("ip", "link", "set", "own", "up")
        with (
            answering(machine, lambda _: []) as on_the_wire,
            answering(container, answers, "own") as heard,
        ):
            assert run(new(), 0.5) is None
            assert not heard
            found = run(new(), shim="shim0")
            wait_until(lambda: len(on_the_wire) == 4, 5)
    assert found.held.address == ADDRESS
    kinds = [decode(unwrap(f, SERVER_PORT).payload).kind for f in heard]
    assert kinds == [MessageType.DISCOVER, MessageType.REQUEST]


@pytest.mark.usefixtures("machine")
def test_shim_that_is_missing_is_no_error():
    exchange = new()
    assert run(exchange, 1.5, shim="nosuch0") is None
    assert exchange.sent == 2


@pytest.mark.needs("macvlan")
@pytest.mark.usefixtures("machine")
def test_shim_that_goes_down_meanwhile_is_no_error():
    ip("link", "add", "shim0", "link", "eth0", "type", "macvlan", "mode", "bridge")
    ip("link", "set", "shim0", "up")
    began = time.monotonic()

    def abandoned():
        if time.monotonic() - began > 1.3:
            ip("link", "set", "shim0", "down")
        return False

    exchange = new()
    assert run(exchange, 3.6, shim="shim0", abandoned=abandoned) is None
    assert exchange.sent == 3


DROP_ALL = """
    nft add table inet t
    nft "add chain inet t i { type filter hook input priority 0; policy drop; }"
    nft "add chain inet t o { type filter hook output priority 0; policy drop; }"
"""


# renewal_works_when_the_container_drops_everything
@pytest.mark.needs("macvlan", "nftables")
def test_container_that_drops_everything_renews_on_its_own_device(machine):
    held = Held(ADDRESS, SERVER, SERVER_MAC)
    with net.Namespace(f"{machine.netns}c", DROP_ALL) as container:
        words = f"address {UNBORN} netns {container.netns} type macvlan"
        net.ip(f"link add child link eth0 {words}")
        commands = f"ip link set child up\nip addr add {ADDRESS}/24 dev child"
        container.run("sh", "-ec", commands)

        def renew():
            exchange = Exchange.renew(CLIENT, random.random, held)
            return sockets.run(exchange, "child", sockets.since_boot() + 5)

        with answering(machine, to_one) as heard:
            found = run_in(net.NETNS / container.netns, renew)
    assert found.held == held
    # By unicast both ways: from the address, to the server's MAC.
    assert [unwrap(frame, SERVER_PORT).source for frame in heard] == [ADDRESS]
    assert heard[0][:12].hex(":") == f"{SERVER_MAC}:{UNBORN}"


@pytest.mark.usefixtures("machine")
def test_device_passes_the_mac_until_the_exchange_ends():
    before, seen, there = promiscuity(), [], links()

    def abandoned():
        seen.append(promiscuity())
        # A child of another kind than those of the device would be refused.
        assert links() == there
        return len(seen) == 3

    assert run(new(), abandoned=abandoned) is None
    # A veth has no filter, so that it has to pass everything.
    assert {*seen} == {before + 1}
    assert promiscuity() == before
    # Its own MAC it passes anyway.
    own, seen = Client(MAC, b"\0web"), []
    assert run(new(own), abandoned=abandoned) is None
    assert {*seen} == {before}


# a_lease_from_the_wrong_vlan_is_impossible, containers/netavark#1307
def test_answer_with_the_tag_of_a_vlan_is_not_heard(machine):
    exchange = new()
    with answering(machine, tagged) as heard:
        assert run(exchange, 0.5) is None
        wait_until(lambda: heard, 5)
    assert not exchange.heard


@pytest.mark.usefixtures("machine")
def test_frame_that_the_host_sends_is_not_heard():
    exchange = new()

    def abandoned():
        if exchange.sent:  # a program on this host answers by the same device
            question = decode(unwrap(exchange._frame(), SERVER_PORT).payload)
            send(*to_all(question))
        return False

    assert run(exchange, 0.5, abandoned=abandoned) is None
    assert not exchange.heard


def test_exchange_ends_at_its_deadline(machine):
    exchange, began = new(), time.monotonic()
    with answering(machine, lambda _: []) as heard:
        assert run(exchange, 1.5) is None
        assert 1.4 < time.monotonic() - began < 4
        assert exchange.sent == 2
        wait_until(lambda: len(heard) == 2, 5)


@pytest.mark.usefixtures("machine")
def test_exchange_that_is_abandoned_ends_soon():
    began = time.monotonic()
    assert run(new(), 10, abandoned=lambda: time.monotonic() > began + 0.2) is None
    assert time.monotonic() - began < 5


def test_refusal_ends_a_reboot(machine):
    with answering(machine, lambda packet: [framed(refusal(packet))]):
        found = run(Exchange.reboot(CLIENT, random.random, ADDRESS))
    assert found == Refused(SERVER, "not here")


@pytest.mark.needs("nftables")
@pytest.mark.usefixtures("machine")
def test_frame_that_a_filter_of_the_host_drops_is_sent_again():
    words = "type filter hook egress device eth0 priority 0; policy drop;"
    rules = f"add table netdev t\nadd chain netdev t c {{ {words} }}\n"
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    exchange = new()
    assert run(exchange, 1.5) is None
    assert exchange.sent == 2


def test_missing_device_is_an_os_error():
    for device in ("nosuch0", "x" * 20):
        with pytest.raises(OSError):
            sockets.run(new(), device, sockets.since_boot() + 5)
        with pytest.raises(OSError):
            send(b"x" * 60, device=device)


def test_device_that_goes_down_is_an_os_error():
    def abandoned():
        ip("link", "set", "eth0", "down")
        return False

    for _ in range(2):  # going down, and down
        with pytest.raises(OSError):
            run(new(), abandoned=abandoned)


CONFIG = f"""
start {ADDRESS}
end {ADDRESS}
interface wire0
lease_file {{folder}}/leases
pidfile {{folder}}/pid
option subnet 255.255.255.0
option router {SERVER}
option lease 60
"""


@pytest.fixture
def udhcpd(machine, tmp_path):
    """The server of busybox, which knows clients by their MACs only."""
    config = tmp_path / "udhcpd.conf"
    config.write_text(CONFIG.format(folder=tmp_path))
    (tmp_path / "leases").touch()
    busybox = root("26.1") / "usr/bin/busybox"
    with (tmp_path / "log").open("wb") as log:
        machine.start(busybox, "udhcpd", "-f", config, stdout=log, stderr=log)
    return lambda: (tmp_path / "log").read_text()


def test_udhcpd_gives_confirms_renews_and_takes_back_a_lease(udhcpd):
    """As in a sandbox, on the device with the client's MAC and then its address."""
    client = Client(MAC, client_id_of_mac(MAC), "web")
    # It looks for two seconds whether the address is in use.
    first = run(new(client), 12)
    assert first, udhcpd()
    assert first.held.address == ADDRESS
    assert first.offer.said.gateway() == SERVER
    assert first.offer.lease == 60
    again = run(Exchange.reboot(client, random.random, ADDRESS))
    assert again.held == first.held
    ip("addr", "add", f"{ADDRESS}/24", "dev", "eth0")
    for exchange in (
        Exchange.renew(client, random.random, first.held),
        Exchange.rebind(client, random.random, ADDRESS),
    ):
        renewed = run(exchange)
        assert renewed.held == first.held, udhcpd()
        assert renewed.asked > again.asked
    send(release(client, random.random, first.held))
    ip("addr", "flush", "dev", "eth0")
    # There is one address: another client gets it only if it was given back.
    other = run(new(), 12)
    assert other, udhcpd()
    assert other.held.address == ADDRESS
