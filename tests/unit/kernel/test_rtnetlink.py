"""Netlink messages of every sort: what is not understood is skipped, never a crash."""

from __future__ import annotations

import errno
import struct
from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyroute2.netlink import NETLINK_LISTEN_ALL_NSID, SOL_NETLINK
from pyroute2.netlink.rtnl import RTM_DELNSID, RTM_NEWNSID

from underlay.kernel import (
    events,
    host_entries,
    ip,
    links,
    namespaces,
    neighbours,
    probe,
)
from underlay.kernel import rtnetlink as nl
from underlay.kernel.links import RawLink

HEADS = {16: "=BxHiII", 20: "=BBBBI", 24: "=BBBBBBBBI", 28: "=BxxxiHBB", 88: "=Bxxx"}
LINK, ADDRESS, ROUTE, NEIGHBOUR, NSID = HEADS
FOUR, SIX, MCTP, PHONET, MPLS, BRIDGE = 2, 10, 45, 35, 28, 7
DEVICE = RawLink(7, "eth0")

# What the fixtures change is the same for every example.
anew = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
sizes = st.sampled_from([0, 1, 2, 3, 4, 6, 8, 10, 15, 16, 17, 20, 36])
values = sizes.flatmap(lambda size: st.binary(min_size=size, max_size=size))
nested = st.lists(st.tuples(st.integers(0, 64), values), max_size=4).map(
    lambda pairs: b"".join(nl.attribute(kind, value) for kind, value in pairs)
)
aliases = st.sampled_from([b"underlay:", b"underlay:n1/e1\0", b"underlay: to spine1"])
attributes = st.lists(
    st.tuples(st.integers(0, 64), values | nested | aliases), max_size=8
)
families = st.sampled_from([0, FOUR, SIX, MCTP, PHONET, MPLS, BRIDGE]) | st.integers(
    0, 255
)


@st.composite
def messages(draw, kind):
    """Return a message of a kind: its head nearly right, its attributes any."""
    size = struct.calcsize(HEADS[kind])
    head = bytearray(draw(st.binary(min_size=size, max_size=size)))
    head[0] = draw(families)
    if draw(st.booleans()) and kind in (ADDRESS, NEIGHBOUR):
        head[4:8] = struct.pack("=I", DEVICE.index)
    if draw(st.booleans()) and kind == ROUTE:
        head[1:8] = draw(st.integers(0, 200)), 0, 0, 254, 157, 0, 1
    body = bytes(head)
    body += b"".join(nl.attribute(k, value) for k, value in draw(attributes))
    if draw(st.integers(0, 9)) == 0:
        body = body[: draw(st.integers(0, len(body)))]
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


@pytest.fixture
def told(monkeypatch):
    """Have the kernel answer to everything with these bytes."""
    data = bytearray()

    def exchange(_kind, _flags, answer, _body, *, strict=False):
        del strict
        for got, _, payload in nl.messages(bytes(data)):
            if got == answer:
                yield payload

    monkeypatch.setattr(nl, "exchange", exchange)
    monkeypatch.setattr(links, "link_named", lambda _: DEVICE)

    def tell(*messages):
        data[:] = b"".join(m + b"\0" * (-len(m) % 4) for m in messages)

    return tell


def everything():
    """Read all that can be read of the kernel."""
    names, eth0 = {DEVICE.index: DEVICE.name}, {ip_address("10.0.0.1")}
    yield from links.all_links()
    yield from links.our_links()
    yield from ip.addresses(names)
    yield from ip.addresses({})
    yield from ip.usable_on(0)
    yield from ip.usable_on(DEVICE.index)
    yield from ip.addresses_given_to(DEVICE.index)
    yield from ip.routes(names)
    yield from ip.routes_inside(names)
    yield from neighbours.our_neighbours(names, names)
    yield from neighbours.answered_on(DEVICE.index, DEVICE.name)
    yield ip.default_device_index()
    yield ip.neighbouring(b"\1\2\3\4")
    yield ip.route_is_local(b"\1\2\3\4")
    yield from host_entries.entries_on(DEVICE.name)
    yield probe._states(DEVICE.index, eth0)
    yield namespaces.own_nsid()


soup = st.lists(st.one_of([messages(kind) for kind in HEADS]), max_size=6)


@anew
@given(soup=soup)
def test_no_message_of_the_kernel_s_is_a_crash(told, soup):
    told(*soup)
    with suppress(OSError):
        list(everything())


@anew
@given(data=st.binary(max_size=200))
def test_no_bytes_are(told, data):
    told(data)
    list(everything())


def message(kind, *head, attributes=()):
    body = struct.pack(HEADS[kind], *head)
    body += b"".join(nl.attribute(k, value) for k, value in attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


@pytest.mark.parametrize(
    ("family", "attributes"),
    [
        (MCTP, [(2, b"\x08")]),
        (PHONET, [(2, b"\x6c")]),
        (FOUR, []),
        (FOUR, [(1, b"\x08")]),
        (SIX, [(1, bytes(4))]),
    ],
    ids=["MCTP", "Phonet", "without", "too short", "of another family"],
)
def test_an_address_that_is_none_of_ip_hides_no_other(told, family, attributes):
    other = message(ADDRESS, family, 0, 0, 0, DEVICE.index, attributes=attributes)
    web = message(
        ADDRESS, FOUR, 24, 0x80, 0, DEVICE.index, attributes=[(2, bytes([10, 0, 0, 5]))]
    )
    told(other, web)
    assert [str(a) for a in ip.usable_on(0)] == ["10.0.0.5/24"]
    assert [str(a.interface) for a in ip.addresses({7: "eth0"})] == ["10.0.0.5/24"]
    assert [s.words for s in host_entries.entries_on("eth0")] == ["10.0.0.5/24"]


def test_a_bond_tells_which_port_it_sends_by(told):
    data = nl.attribute(2, struct.pack("=I", 9))
    info = nl.attribute(1, b"bond\0") + nl.attribute(2, data)
    told(message(LINK, 0, 1, 7, 0, 0, attributes=[(3, b"bond0\0"), (18, info)]))
    (bond,) = links.all_links("bond")
    assert (bond.name, bond.active) == ("bond0", 9)


class Storm:
    """A socket on which messages come as fast as they are read, some of them lost."""

    def __init__(self, losses=0):
        self.losses, self.read = losses, 0

    def recvmsg(self, *_):
        self.read += 1
        if self.read <= self.losses:
            raise OSError(errno.ENOBUFS, "lost")
        if self.losses and self.read > 2 * events._AT_ONCE:
            raise BlockingIOError
        return message(LINK, 0, 1, 7, 0, 0), [], 0, None


def test_a_storm_that_does_not_end_is_told_of_while_it_lasts():
    storm = Storm()
    assert events.Listener(None)._drain(storm) == {""}
    assert storm.read < 2 * events._AT_ONCE


def test_after_a_loss_everything_is_read():
    storm = Storm(losses=1)
    assert events.Listener(None)._drain(storm) == {None}
    assert storm.read > 2 * events._AT_ONCE


@anew
@given(heard=st.binary(max_size=64), number=st.none() | st.binary(max_size=8))
def test_no_event_is_a_crash_whoever_sends_it(heard, number, monkeypatch):
    monkeypatch.setattr(namespaces, "own_nsid", lambda: 3)
    listener = events.Listener(None)
    level = [(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, number)]
    listener._whose(heard, level if number is not None else [])
    for kind in (RTM_NEWNSID, RTM_DELNSID):
        listener._whose(heard[:4] + struct.pack("=H", kind) + heard[6:], [])
