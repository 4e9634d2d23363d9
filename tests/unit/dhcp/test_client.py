"""What a client tells its servers, in each of its messages (RFC 2131, table 5)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from pyroute2.dhcp.dhcp4msg import dhcp4msg

from tests.unit.dhcp.messages import ADDRESS, MAC, SERVER, SERVER_MAC, XID, dice
from underlay.dhcp import packets
from underlay.dhcp.client import Client, decline, release
from underlay.dhcp.exchange import Exchange
from underlay.dhcp.frames import SERVER_PORT, unwrap
from underlay.dhcp.offers import Held
from underlay.dhcp.packets import BOOTREQUEST, MessageType, Option

CLIENT_ID = b"\0web"
CLIENT = Client(MAC, CLIENT_ID, "web")
HELD = Held(ADDRESS, SERVER, SERVER_MAC)
NOWHERE, EVERYWHERE = ip_address(0), ip_address(0xFFFFFFFF)
EVERY_MAC = "ff:ff:ff:ff:ff:ff"

REQUEST = MessageType.REQUEST
FRAMES = {
    "new": (
        Exchange.new(CLIENT, dice()).tick(0)[0], MessageType.DISCOVER, {},
    ),
    "wished": (
        Exchange.new(CLIENT, dice(), wished=ADDRESS).tick(0)[0],
        MessageType.DISCOVER, {50: ADDRESS.packed},
    ),
    "reboot": (
        Exchange.reboot(CLIENT, dice(), ADDRESS).tick(0)[0],
        REQUEST, {50: ADDRESS.packed},
    ),
    # With options 50 or 54, networkd takes it for another question.
    "renew": (Exchange.renew(CLIENT, dice(), HELD).tick(0)[0], REQUEST, {}),
    "rebind": (Exchange.rebind(CLIENT, dice(), ADDRESS).tick(0)[0], REQUEST, {}),
    "decline": (
        decline(CLIENT, dice(), ADDRESS, SERVER),
        MessageType.DECLINE, {50: ADDRESS.packed, 54: SERVER.packed},
    ),
    "release": (
        release(CLIENT, dice(), HELD), MessageType.RELEASE, {54: SERVER.packed},
    ),
}  # fmt: skip
ADDRESSED = "renew", "rebind", "release"
UNICAST = "renew", "release"
ANSWERED_TO_ALL = "new", "wished", "reboot"
every = pytest.mark.parametrize("name", FRAMES)


def read(frame):
    return packets.decode(unwrap(frame, SERVER_PORT).payload)


# the_same_name_gets_the_same_mac_address_and_client_id, containernetworking/plugins#709
@every
def test_message_is_of_the_same_client_as_all_others(name):
    frame, kind, _ = FRAMES[name]
    packet = read(frame)
    assert (packet.op, packet.xid, packet.kind) == (BOOTREQUEST, XID, kind)
    assert packet.options[Option.CLIENT_ID] == CLIENT_ID
    # Switches learn where the client is by the source of its frames.
    assert unwrap(frame, SERVER_PORT).source_mac == packet.chaddr == MAC


# containernetworking/plugins#1092
@every
def test_message_has_the_options_of_its_kind(name):
    frame, kind, expected = FRAMES[name]
    options = dict(read(frame).options)
    assert next(iter(options)) == Option.MESSAGE_TYPE
    assert {k: v for k, v in options.items() if k in (50, 54)} == expected
    asking = kind in (MessageType.DISCOVER, REQUEST)
    assert (Option.PARAMETERS in options) == asking
    assert options.get(Option.HOST_NAME) == (b"web" if asking else None)


@every
def test_message_goes_from_and_to_the_right_addresses(name):
    frame, _, _ = FRAMES[name]
    packet = read(frame)
    to = ip_address(bytes(frame[30:34]))
    assert packet.ciaddr == (ADDRESS if name in ADDRESSED else NOWHERE)
    assert unwrap(frame, SERVER_PORT).source == packet.ciaddr
    assert to == (SERVER if name in UNICAST else EVERYWHERE)
    assert frame[:6].hex(":") == (SERVER_MAC if name in UNICAST else EVERY_MAC)
    assert packet.broadcast == (name in ANSWERED_TO_ALL)


@every
def test_message_is_read_by_pyroute2(name):
    frame, kind, _ = FRAMES[name]
    told = dhcp4msg(buf=unwrap(frame, SERVER_PORT).payload).decode()
    assert (told["chaddr"], told["options"]["message_type"]) == (MAC, kind)
    # A client identifier that is no MAC is a list of bytes there.
    key = told["options"]["client_id"]["key"]
    assert bytes(key) == CLIENT_ID[1:]


def test_classless_routes_are_asked_for_before_routers():
    wanted = list(read(FRAMES["new"][0]).options[Option.PARAMETERS])
    assert wanted.index(Option.CLASSLESS_ROUTES) < wanted.index(Option.ROUTERS)


def test_answers_that_would_not_fit_a_segment_are_not_wanted():
    size = read(FRAMES["new"][0]).options[Option.LONGEST_MESSAGE]
    assert 576 <= int.from_bytes(size, "big") <= 1280


def test_server_is_told_one_name_only():
    registering = Client(MAC, CLIENT_ID, "web.lan", register=True)
    frame = Exchange.new(registering, dice()).tick(0)[0]
    options = read(frame).options
    assert options[Option.FQDN] == packets.fqdn("web.lan")
    assert Option.HOST_NAME not in options
    nameless = Exchange.new(Client(MAC, CLIENT_ID), dice()).tick(0)[0]
    assert not {Option.FQDN, Option.HOST_NAME} & read(nameless).options.keys()


@pytest.mark.parametrize("register", [False, True])
def test_client_with_a_name_that_no_host_has_is_refused(register):
    with pytest.raises(ValueError):
        Client(MAC, CLIENT_ID, "a b", register)
