"""Servers that misbehave on a real wire: what a start makes of them, and records."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.kernel.conftest import ip
from tests.lab import net
from tests.lab.fake_dhcp import (
    ADDRESS,
    GIVEN,
    SERVER,
    SERVER_MAC,
    answer,
    answering,
    framed,
    refusal,
    to_all,
)
from underlay.dhcp.frames import SERVER_PORT, unwrap
from underlay.dhcp.packets import (
    MessageType,
    Option,
    decode,
    decode_options,
    encode,
    encode_options,
)
from underlay.errors import NoDhcpServer
from underlay.ipam.dhcp_claims import EVERYWHERE, mark_of
from underlay.kernel.linux import LinuxKernel
from underlay.model import Network, Subnet
from underlay.service.settings import Settings
from underlay.service.wiring import Host, assemble

OTHER, OTHER_SERVER = IPv4Address("10.55.0.99"), IPv4Address("10.55.0.2")
OTHER_MAC = "02:00:00:00:00:02"

pytestmark = pytest.mark.needs("macvlan")


class Site:
    """A service on a real kernel, with a network whose addresses servers give."""

    def __init__(self, records):
        self.records = records
        self.parts = assemble(records, LinuxKernel(), Settings(), Host("machine-1"))
        claim = self.parts.ipam.request_pool("", "", {"source": "dhcp"}, 4)
        self.pool = claim.id
        segment = Subnet(EVERYWHERE, mark_of(claim), pooled=True, dhcp=True)
        options = {"parent": "eth0", "host_access": "off", "lease_timeout": "1"}
        self.parts.engine.create_network(Network("n1", options, subnets=(segment,)))

    def start(self):
        return self.parts.ipam.request_address(self.pool, "", "web")

    def lease(self):
        return self.records.dhcp_leases.get("eth0", "name", "web")


@pytest.fixture
def site(machine, records):
    del machine
    return Site(records)


def without(code):
    """Return the answers of a server that leaves an option out."""

    def answers(packet):
        good = answer(packet)
        options = {c: value for c, value in good.options.items() if c != code}
        return [framed(replace(good, options=options))]

    return answers


def with_(**fields):
    return lambda packet: [framed(answer(packet, **fields))]


def only_in(kind, answers):
    """Return answers of these manners to one kind of message, and good ones else."""
    return lambda packet: answers(packet) if packet.kind == kind else to_all(packet)


def to_requests(answers):
    return only_in(MessageType.REQUEST, answers)


def refusing(packet):
    return [framed(refusal(packet))]


def noise(packet):
    """Return what is no message: nothing, zeros, no cookie, a message cut off."""
    good = encode(answer(packet))
    no_cookie = good[:236] + b"\0\0\0\0" + good[240:]
    # A length of 255 with nothing behind it.
    cut_off = good[:240] + bytes((Option.SUBNET_MASK, 255))
    found = [b"", b"\0" * 300, good[:100], no_cookie, cut_off]
    return [framed(one) for one in found]


NO_LEASE = {
    "refuses everything": (refusing, "not asked for"),
    "refuses what it offered": (to_requests(refusing), "refused by the server"),
    "no mask": (without(Option.SUBNET_MASK), "without a subnet mask"),
    "no server": (without(Option.SERVER), "without a server identifier"),
    "no time": (without(Option.LEASE_SECONDS), "without a lease time"),
    "no address": (with_(yiaddr=IPv4Address(0)), "without an address"),
    "no mask at last": (
        to_requests(without(Option.SUBNET_MASK)), "without a subnet mask"
    ),
    "no server at last": (
        to_requests(without(Option.SERVER)), "from a server that was not asked"
    ),
    "another message": (with_(xid=7), "for another client"),
    "another client": (with_(chaddr=OTHER_MAC), "for another client"),
    "another address": (
        to_requests(with_(yiaddr=OTHER)), "another address than offered"
    ),
    "the host's address": (with_(yiaddr=IPv4Address("10.55.0.9")), "this host's own"),
    "noise": (noise, "no message of DHCP"),
}  # fmt: skip


# garbage, devplayer0/docker-net-dhcp#5, containers/netavark#690,
# containers/netavark#1368, containers/netavark#618, containernetworking/plugins#587
@pytest.mark.parametrize("manner", NO_LEASE)
def test_server_of_such_manners_gives_no_lease(machine, site, manner):
    answers, why = NO_LEASE[manner]
    ip("addr", "add", "10.55.0.9/24", "dev", "eth0")
    with answering(machine, answers), pytest.raises(NoDhcpServer) as refused:
        site.start()
    assert why in str(refused.value)
    assert site.records.dhcp_leases.given() == []
    assert site.records.leases.having(ADDRESS) == []
    # It is the same client when a good server answers it.
    before = site.lease()
    with answering(machine, to_all):
        assert site.start().ip == ADDRESS
    assert (site.lease().mac, site.lease().server) == (before.mac, SERVER)


def from_both(packet):
    """Return the answers of two servers at once, each with an address of its own."""
    good = answer(packet)
    options = good.options | {Option.SERVER: OTHER_SERVER.packed}
    other = replace(good, yiaddr=OTHER, options=options)
    both = [framed(good), framed(other, OTHER_MAC, OTHER_SERVER)]
    return [f for f in both if packet.server in (None, decode_of(f).server)]


def decode_of(frame):
    return decode(unwrap(frame).payload)


def test_offer_of_one_of_two_servers_is_taken_and_both_are_noted(machine, site):
    with answering(machine, from_both) as heard:
        assert site.start().ip == ADDRESS
    requests = [decode(unwrap(f, SERVER_PORT).payload) for f in heard][1:]
    assert [(r.kind, r.server) for r in requests] == [(MessageType.REQUEST, SERVER)]
    lease = site.lease()
    assert (lease.address.ip, lease.server, lease.server_mac) == (
        ADDRESS, SERVER, SERVER_MAC
    )  # fmt: skip
    assert site.parts.keeper.servers.answering() == {"eth0": 2}


@pytest.mark.parametrize("seconds", [30, 1, 0xFFFFFFFF])
def test_lease_of_an_unusual_time_is_recorded_as_it_is(machine, site, seconds):
    options = {Option.LEASE_SECONDS: seconds.to_bytes(4, "big")}
    with answering(machine, told(options)):
        assert site.start().ip == ADDRESS
    lease = site.lease()
    if seconds == 0xFFFFFFFF:
        assert (lease.renew, lease.rebind, lease.expires) == (0.0, 0.0, 0.0)
        return
    assert lease.expires - lease.since == pytest.approx(seconds)
    assert 0.44 * seconds < lease.renew - lease.since <= seconds / 2
    assert lease.rebind - lease.since == pytest.approx(seconds * 7 / 8)


def told(options):
    """Return the answers of a server that says more, or something else."""

    def answers(packet):
        good = answer(packet)
        return [framed(replace(good, options=good.options | options))]

    return answers


# Codes that are of no standard option.
LONG = {code: bytes(range(256)) + bytes((code,)) for code in (224, 225, 226, 227)}


def test_options_that_fill_the_frame_are_read_and_recorded_whole(machine, site):
    with answering(machine, told(LONG)):
        assert site.start().ip == ADDRESS
    found = decode_options(site.lease().options)
    assert LONG.items() <= found.items()


def overloaded(packet):
    """Return an answer whose mask is in `file`, and whose time is in `sname`."""
    good = answer(packet)
    places = (Option.SUBNET_MASK, 108, 128), (Option.LEASE_SECONDS, 44, 64)
    moved = {code for code, _, _ in places}
    rest = {c: value for c, value in good.options.items() if c not in moved}
    data = bytearray(encode(replace(good, options=rest)))
    for code, at, size in places:
        area = encode_options({code: good.options[code]})
        data[at : at + size] = area.ljust(size, b"\0")
    # The options begin behind the cookie.
    data[240:240] = bytes((Option.OVERLOAD, 1, 3))
    return [framed(bytes(data))]


def test_options_in_the_fields_of_names_are_read_and_recorded(machine, site):
    with answering(machine, overloaded):
        assert str(site.start()) == f"{ADDRESS}/24"
    assert GIVEN.items() <= decode_options(site.lease().options).items()


def test_frame_of_more_than_two_kilobytes_is_no_answer(machine, site):
    for run, device in ((net.enter(machine.netns), "wire0"), ([], "eth0")):
        subprocess.run([*run, *f"ip link set {device} mtu 9000".split()], check=True)
    long = {224: b"x" * 3000}
    with answering(machine, told(long)), pytest.raises(NoDhcpServer):
        site.start()
    assert site.records.dhcp_leases.given() == []


# a_lease_lives_through, svinota/pyroute2#1436
@pytest.mark.parametrize("answers", [refusing, with_(yiaddr=OTHER)])
def test_known_address_is_not_taken_from_a_server_that_gives_another(
    machine, site, answers
):
    """A reboot is answered badly; then a new lease is asked for, and offered well."""
    with answering(machine, to_all):
        site.start()
    first = site.lease()
    asked = []

    def badly_at_first(packet):
        asked.append(packet.kind)
        return answers(packet) if len(asked) == 1 else to_all(packet)

    with answering(machine, badly_at_first):
        assert site.start().ip == ADDRESS
    assert asked == [MessageType.REQUEST, MessageType.DISCOVER, MessageType.REQUEST]
    assert site.lease().address == first.address
    assert [h.address for h in site.records.leases.having(OTHER)] == []
