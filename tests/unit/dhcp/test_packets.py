"""DHCP messages, made and read; pyroute2's codec is the oracle."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.dhcp.dhcp4msg import dhcp4msg

from tests.unit.dhcp.messages import ADDRESS, MAC, XID, reply
from underlay.dhcp import packets
from underlay.dhcp.packets import (
    BOOTREPLY,
    BOOTREQUEST,
    BadPacket,
    MessageType,
    Option,
    Packet,
    decode,
    encode,
)

FILE_AT, SNAME_AT, OPTIONS_AT = 108, 44, 240
CODES = st.integers(1, 254).filter(lambda code: code != Option.OVERLOAD)
ADDRESSES = st.ip_addresses(v=4)
PACKETS = st.builds(
    Packet,
    op=st.sampled_from([BOOTREQUEST, BOOTREPLY]),
    xid=st.integers(0, 2**32 - 1),
    chaddr=st.binary(min_size=6, max_size=6).map(lambda mac: mac.hex(":")),
    options=st.dictionaries(CODES, st.binary(max_size=600), max_size=8),
    secs=st.integers(0, 2**16 - 1),
    broadcast=st.booleans(),
    ciaddr=ADDRESSES,
    yiaddr=ADDRESSES,
    siaddr=ADDRESSES,
    giaddr=ADDRESSES,
)


def overloaded(fields, area=b"", file=b"", sname=b""):
    """Return a message with options also in the fields of the names."""
    data = bytearray(encode(reply(options={})).ljust(600, b"\0"))
    area = bytes((53, 1, 2, Option.OVERLOAD, 1, fields)) + area + b"\xff"
    data[OPTIONS_AT:] = area
    data[FILE_AT : FILE_AT + len(file)] = file
    data[SNAME_AT : SNAME_AT + len(sname)] = sname
    return bytes(data)


@given(PACKETS)
def test_message_is_read_as_it_was_made(packet):
    data = encode(packet)
    assert decode(data) == packet
    assert list(decode(data).options) == list(packet.options)
    assert len(data) >= 300


@given(st.binary(max_size=400), PACKETS, st.integers(0, 300))
def test_bytes_that_are_no_message_raise_bad_packet_only(noise, packet, at):
    for data in (noise, encode(packet)[:at] + noise):
        try:
            decode(data)
        except BadPacket:
            continue


def test_message_is_the_same_to_pyroute2():
    sent = Packet(
        BOOTREQUEST, XID, MAC,
        {
            Option.MESSAGE_TYPE: bytes((MessageType.REQUEST,)),
            Option.REQUESTED_ADDRESS: ADDRESS.packed,
            Option.CLIENT_ID: packets.client_id_of_mac(MAC),
            Option.HOST_NAME: packets.host_name("web"),
            Option.PARAMETERS: bytes((1, 121, 3)),
        },
        secs=3, broadcast=True, ciaddr=ip_address("10.0.0.3"),
    )  # fmt: skip
    read = dhcp4msg(buf=encode(sent)).decode()
    assert (read["op"], read["htype"], read["hlen"], read["hops"]) == (1, 1, 6, 0)
    assert (read["xid"], read["secs"], read["flags"]) == (XID, 3, 0x8000)
    assert (read["chaddr"], read["ciaddr"]) == (MAC, "10.0.0.3")
    assert read["options"] == {
        "message_type": MessageType.REQUEST,
        "requested_ip": str(ADDRESS),
        "client_id": {"type": 1, "key": MAC},
        "host_name": "web",
        "parameter_list": [1, 121, 3],
    }


def test_message_of_pyroute2_is_read():
    made = dhcp4msg(
        {
            "op": BOOTREPLY, "xid": XID, "flags": 0x8000, "chaddr": MAC,
            "yiaddr": str(ADDRESS),
            "options": {"message_type": 2, "server_id": "10.55.0.1", "lease_time": 60},
        }
    ).encode()  # fmt: skip
    read = decode(bytes(made.buf))
    assert (read.op, read.xid, read.broadcast) == (BOOTREPLY, XID, True)
    assert (read.chaddr, read.yiaddr, read.kind) == (MAC, ADDRESS, MessageType.OFFER)
    assert read.server == IPv4Address("10.55.0.1")
    assert read.options[Option.LEASE_SECONDS] == b"\0\0\0\x3c"


def test_long_option_is_sent_in_parts_and_read_whole():
    value = bytes(range(256)) * 2
    data = encode(reply(options={Option.CLASSLESS_ROUTES: value}))
    first = data.index(bytes((121, 255, 0, 1)))
    assert data[first + 257 : first + 259] == bytes((121, 255))
    assert data[first + 514 : first + 516] == bytes((121, 2))
    assert decode(data).options[121] == value


def test_options_are_read_from_overloaded_fields_in_the_order_of_rfc_3396():
    file, sname = bytes((15, 2)) + b"la\xff", bytes((15, 1)) + b"n\xff"
    data = overloaded(3, bytes((15, 1)) + b".", file, sname)
    assert decode(data).options == {53: b"\2", 15: b".lan"}
    assert decode(overloaded(1, b"", file, sname)).options == {53: b"\2", 15: b"la"}
    assert decode(overloaded(2, b"", file, sname)).options == {53: b"\2", 15: b"n"}


@pytest.mark.parametrize("fields", [0, 4])
def test_fields_of_the_names_are_left_alone_unless_overloaded(fields):
    file = bytes((15, 200)) + b"no option"
    assert decode(overloaded(fields, file=file)).options == {53: b"\2"}


def test_options_may_be_padded_and_need_not_end():
    head = encode(reply(options={}))[:OPTIONS_AT]
    area = bytes((0, 0, 53, 1, 5, 0, 12, 1)) + b"a"
    assert decode(head + area).options == {53: b"\5", 12: b"a"}
    # What follows the end is no option.
    assert decode(head + area + bytes((255, 3, 200))).options == {53: b"\5", 12: b"a"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode(reply())[: OPTIONS_AT - 1],
        encode(reply())[:236] + b"\0\0\0\0" + encode(reply())[OPTIONS_AT:],
        encode(reply())[:1] + b"\6" + encode(reply())[2:],
        encode(reply())[:2] + b"\x08" + encode(reply())[3:],
        encode(reply())[:OPTIONS_AT] + bytes((12, 5)) + b"web",
        encode(reply())[:OPTIONS_AT] + bytes((12,)),
        overloaded(1, file=bytes((15, 200)) + b"cut off"),
    ],
    ids=["empty", "short", "cookie", "hardware", "mac", "cut", "no length", "file"],
)
def test_broken_message_is_a_bad_packet(data):
    with pytest.raises(BadPacket):
        decode(data)


@pytest.mark.parametrize(
    "packet",
    [
        reply(chaddr="02:00"),
        reply(chaddr="eth0"),
        reply(xid=2**32),
        reply(options={Option.OVERLOAD: b"\1"}),
        reply(options={Option.END: b""}),
        reply(options={256: b""}),
    ],
)
def test_values_that_do_not_fit_are_value_errors(packet):
    with pytest.raises(ValueError):
        encode(packet)


@pytest.mark.parametrize("value", [b"", b"\0", b"\x09", b"\1\1", b"\xff"])
def test_unknown_type_of_message_is_none(value):
    assert reply(options={Option.MESSAGE_TYPE: value}).kind is None


@pytest.mark.parametrize("value", [None, b"\x0a\x37\0", bytes(4), bytes(8)])
def test_server_identifier_is_one_address_or_none(value):
    assert reply(options={Option.SERVER: value}).server is None


def test_text_of_a_server_is_printable():
    told = reply(options={Option.MESSAGE: b"no \x1b[2J\n\xff\0"})
    assert told.message == r"no \x1b[2J\n\xff"


def test_client_identifiers_have_the_bytes_of_their_rfcs():
    uuid = UUID("00112233-4455-6677-8899-aabbccddeeff")
    duid = packets.client_id_of_duid(0x01020304, uuid)
    assert packets.client_id_of_mac(MAC) == bytes.fromhex("01 020000000009")
    assert duid == bytes.fromhex("ff 01020304 0004" + uuid.hex)
    assert packets.client_id_of_text("web-é") == b"\0web-\xc3\xa9"
    for text in ("", "x" * 61, "é" * 31):
        with pytest.raises(ValueError):
            packets.client_id_of_text(text)


def test_names_are_encoded_for_their_options():
    assert packets.host_name("web-1.lan") == b"web-1.lan"
    # A name without a dot is partial: it has no root label (RFC 4702, 2.3).
    assert packets.fqdn("web") == b"\x05\0\0\x03web"
    assert packets.fqdn("web.lan") == b"\x05\0\0\x03web\x03lan\0"


@pytest.mark.parametrize(
    "name", ["", "-web", "a_b", "w b", "x" * 64, "a..b", "a." * 127]
)
def test_text_that_names_no_host_is_refused(name):
    for encoded in (packets.host_name, packets.fqdn):
        with pytest.raises(ValueError):
            encoded(name)
