"""DHCP messages in frames: made, read, and found by a filter."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.dhcp.dhcp4socket import AsyncDHCP4Socket

from tests.unit.dhcp.messages import ADDRESS, MAC, SERVER, SERVER_MAC
from underlay.dhcp import frames
from underlay.dhcp.frames import ALL_SERVERS, CLIENT_PORT, SERVER_PORT, Receiver

CLIENT = Receiver(MAC, ADDRESS, CLIENT_PORT)
MACS = st.binary(min_size=6, max_size=6).map(lambda mac: mac.hex(":"))
ADDRESSES = st.ip_addresses(v=4)
IP_AT, UDP_AT = 14, 34


def answer(payload=b"payload"):
    return bytearray(frames.wrap(payload, SERVER_MAC, SERVER, CLIENT))


def summed(frame, start=IP_AT):
    """Return a frame with the right checksum of its IP header, whatever is in that."""
    frame[24:26] = b"\0\0"
    header = frame[start : start + (frame[start] & 15) * 4]
    frame[24:26] = struct.pack("!H", ones_complement(bytes(header)))
    return bytes(frame)


def ones_complement(data):
    """Return the Internet checksum, by the remainder instead of carries."""
    data += b"\0" * (len(data) % 2)
    number = int.from_bytes(data, "big")
    return 0xFFFF - ((number - 1) % 0xFFFF + 1 if number else 0)


@given(st.binary(max_size=1200), MACS, ADDRESSES, MACS, ADDRESSES)
def test_frame_is_read_as_it_was_made(payload, mac, address, to_mac, to):
    receiver = Receiver(to_mac, to, CLIENT_PORT)
    frame = frames.wrap(payload, mac, address, receiver)
    assert frames.unwrap(frame) == frames.Datagram(mac, address, payload)
    # Ethernet fills a short frame up.
    assert frames.unwrap(frame.ljust(60, b"\0")) == frames.unwrap(frame)
    assert frames.unwrap(frame, SERVER_PORT) is None


@given(st.binary(max_size=120), ADDRESSES, ADDRESSES)
def test_checksums_of_a_frame_are_right(payload, address, to):
    frame = frames.wrap(payload, MAC, address, Receiver(SERVER_MAC, to))
    assert ones_complement(frame[IP_AT:UDP_AT]) == 0
    pseudo = frame[26:34] + struct.pack("!BBH", 0, 17, 8 + len(payload))
    assert ones_complement(pseudo + frame[UDP_AT:]) == 0
    assert frame[40:42] != b"\0\0"  # which would mean that there is none


def test_frame_to_all_servers_is_the_same_to_pyroute2():
    frame = frames.wrap(b"x" * 301, MAC)
    ethernet = b"\xff" * 6 + bytes.fromhex("020000000009 0800")
    assert frame[:IP_AT] == ethernet
    assert frame[26:34] == bytes(4) + b"\xff" * 4
    assert struct.unpack_from("!HHH", frame, UDP_AT) == (68, 67, 309)
    assert frame[IP_AT:][:8] == struct.pack("!BBHHH", 0x45, 0, 329, 0, 0x4000)
    assert AsyncDHCP4Socket.csum(frame[IP_AT:UDP_AT]) == 0


def test_servers_are_asked_by_default():
    assert frames.wrap(b"", MAC) == frames.wrap(b"", MAC, receiver=ALL_SERVERS)
    assert frames.unwrap(frames.wrap(b"m", MAC), SERVER_PORT).payload == b"m"
    from_server = answer()[UDP_AT : UDP_AT + 4]
    assert from_server == struct.pack("!HH", SERVER_PORT, CLIENT_PORT)


def test_header_with_options_is_passed_over():
    frame = answer(b"message")
    frame[IP_AT] = 0x46
    frame[UDP_AT:UDP_AT] = b"\1\1\1\0"
    frame[16:18] = struct.pack("!H", 24 + 8 + 7)
    assert frames.unwrap(summed(frame)).payload == b"message"


def test_datagram_that_is_shorter_than_its_packet_ends_there():
    frame = answer(b"message")
    frame[38:40] = struct.pack("!H", 8 + 2)
    assert frames.unwrap(bytes(frame)).payload == b"me"


def changed(at, value):
    frame = answer()
    frame[at : at + len(value)] = value
    return summed(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(answer())[:41],
        bytes(answer())[:-1],
        changed(12, b"\x86\xdd"),
        changed(12, b"\x81\0"),
        changed(IP_AT, b"\x65"),
        changed(IP_AT, b"\x44"),
        changed(16, b"\0\x1b"),
        changed(20, b"\x20\0"),
        changed(20, b"\0\1"),
        changed(23, b"\6"),
        changed(36, b"\0\x43"),
        changed(38, b"\0\7"),
        changed(38, b"\0\xff"),
        bytes(answer()[:22]) + b"\1" + bytes(answer()[23:]),
    ],
    ids=[
        "empty", "headers cut", "cut", "IPv6", "VLAN", "version", "no header",
        "no room", "first fragment", "last fragment", "TCP", "port", "short UDP",
        "long UDP", "checksum",
    ],
)  # fmt: skip
def test_anything_but_a_whole_datagram_to_the_port_is_left_out(frame):
    assert frames.unwrap(frame) is None


@given(st.binary(max_size=400), st.integers(0, 60))
def test_noise_is_no_datagram_and_raises_nothing(noise, at):
    frames.unwrap(noise)
    frames.unwrap(bytes(answer()[:at]) + noise)
