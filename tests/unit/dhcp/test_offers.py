"""What a server gives: read from its messages."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dhcp.messages import GIVEN, SERVER, reply
from underlay.dhcp.offers import BadOffer, read_offer
from underlay.dhcp.packets import Option, decode_options
from underlay.model.lease_options import LeaseRoute

ROUTER, OTHER = ip_address("10.55.0.254"), ip_address("10.55.0.253")
DEFAULT = bytes((0,)) + OTHER.packed


def offer(**options):
    return read_offer(reply(options=GIVEN | {Option[k]: v for k, v in options.items()}))


def seconds(number):
    return number.to_bytes(4, "big")


def test_offer_has_what_the_server_says():
    found = offer(
        ROUTERS=ROUTER.packed + OTHER.packed, MTU=b"\x05\x14", DOMAIN=b"lan.example.\0"
    )
    assert found.address == ip_interface("10.55.0.77/23")
    assert found.server == SERVER
    assert (found.lease, found.t1, found.t2) == (3600, 1800, 3150)
    assert found.said.routers == (ROUTER, OTHER)
    assert found.said.gateway() == ROUTER
    assert (found.said.mtu, found.domain) == (1300, "lan.example")


def test_options_are_on_record_as_one_area():
    area = offer(DOMAIN=b"x" * 300).options
    assert decode_options(area) == {53: b"\2", **GIVEN, 15: b"x" * 300}


@pytest.mark.parametrize(
    ("options", "lacks"),
    [
        ({"SUBNET_MASK": None}, "a subnet mask"),
        ({"SUBNET_MASK": b"\xff\xff"}, "a subnet mask"),
        ({"SUBNET_MASK": bytes(4)}, "a subnet mask"),
        ({"SUBNET_MASK": b"\xff\0\xff\0"}, "a subnet mask"),
        ({"SUBNET_MASK": b"\0\0\0\xff"}, "a subnet mask"),
        ({"SERVER": None}, "a server identifier"),
        ({"LEASE_SECONDS": None}, "a lease time"),
        ({"LEASE_SECONDS": bytes(4)}, "a lease time"),
    ],
)
def test_offer_says_which_part_it_is_without(options, lacks):
    with pytest.raises(BadOffer, match=rf"^without {lacks}$"):
        offer(**options)


@pytest.mark.parametrize("address", [0, 0x7F000001, 0xEF010101])
def test_offer_needs_an_address_of_one_machine(address):
    with pytest.raises(BadOffer, match=r"^without an address$"):
        read_offer(reply(yiaddr=IPv4Address(address)))


@pytest.mark.parametrize(("mask", "length"), [("ffffffff", 32), ("80000000", 1)])
def test_mask_is_a_prefix_length(mask, length):
    assert offer(SUBNET_MASK=bytes.fromhex(mask)).address.network.prefixlen == length


@pytest.mark.parametrize(
    ("t1", "t2", "found"),
    [
        (100, 200, (100, 200)),
        (100, None, (100, 3150)),
        (None, 2100, (1200, 2100)),  # T1 stays before it
        (200, 100, (400 / 7, 100)),
        (3600, 3600, (1800, 3150)),
        (0, 0, (1800, 3150)),
    ],
)
def test_renewal_times_are_in_order(t1, t2, found):
    times = {"T1": t1, "T2": t2}
    given = {k: seconds(v) for k, v in times.items() if v is not None}
    read = offer(**given)
    assert (read.t1, read.t2) == pytest.approx(found)


def test_lease_for_ever_is_never_renewed():
    read = offer(LEASE_SECONDS=b"\xff" * 4, T1=seconds(60), T2=seconds(90))
    assert (read.lease, read.t1, read.t2) == (None, None, None)


def test_classless_routes_beat_the_option_for_routers():
    value = (
        DEFAULT + bytes((20, 172, 16, 47)) + ROUTER.packed + bytes((32, 10, 0, 0, 9))
    )
    read = offer(ROUTERS=ROUTER.packed, CLASSLESS_ROUTES=value + bytes(4))
    assert read.said.routes == (
        LeaseRoute(ip_network("0.0.0.0/0"), OTHER),
        LeaseRoute(
            ip_network("172.16.32.0/20"), ROUTER
        ),  # bits of the host are cut off
        LeaseRoute(ip_network("10.0.0.9/32"), None),
    )
    assert read.said.gateway() == OTHER
    assert read.said.gateway(classless=False) == ROUTER


def test_classless_routes_without_a_default_leave_no_gateway():
    read = offer(ROUTERS=ROUTER.packed, CLASSLESS_ROUTES=bytes((8, 10)) + OTHER.packed)
    assert read.said.gateway() is None


@pytest.mark.parametrize("cut", [bytes((33, 1, 2, 3, 4, 5)) + bytes(4), DEFAULT[:-1]])
def test_classless_routes_that_cannot_be_read_do_not_count(cut):
    read = offer(ROUTERS=ROUTER.packed, CLASSLESS_ROUTES=DEFAULT + cut)
    assert (read.said.routes, read.said.gateway()) == ((), ROUTER)


@pytest.mark.parametrize("value", [b"", b"\0\x43", b"\0\0\5\xdc"])
def test_mtu_that_no_link_has_does_not_count(value):
    assert offer(MTU=value).said.mtu is None


@pytest.mark.parametrize("value", [b"", b"a b", b"\x1b[2J", b"\xff", b"-x"])
def test_domain_is_a_name_or_empty(value):
    assert offer(DOMAIN=value).domain == ""


def test_routers_are_whole_addresses():
    assert offer(ROUTERS=bytes(4) + ROUTER.packed).said.routers == (ROUTER,)
    assert offer(ROUTERS=ROUTER.packed + b"\1").said.gateway() is None


@given(st.dictionaries(st.sampled_from([*Option]), st.binary(max_size=40)))
def test_any_options_are_read_or_are_a_bad_offer(options):
    options = {k: v for k, v in options.items() if k not in (0, 52, 255)}
    try:
        read_offer(reply(options=GIVEN | options))
    except BadOffer:
        return
