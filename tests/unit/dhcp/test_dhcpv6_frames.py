"""Frames of DHCPv6, and the filter that finds them, as this kernel runs it."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dhcpv6_segment import CLIENT, MAC, SERVER, SERVER_MAC, framed
from underlay.dhcp.dhcpv6 import Message, MessageType, encode
from underlay.dhcp.dhcpv6_frames import (
    FILTER,
    SERVER_PORT,
    answer_to,
    link_local_of,
    unwrap,
    wrap,
)
from underlay.dhcp.sockets import attach

REPLY = Message(MessageType.REPLY, 1, ((1, b"client"),))
ANSWER = framed(REPLY)


def checksum(frame):
    """Return 0 if the checksum of a frame is right: the sum of all that it covers."""
    body = frame[54:]
    data = frame[22:54] + len(body).to_bytes(4, "big") + bytes((0, 0, 0, frame[20]))
    data += body + b"\0" * (len(body) % 2)
    words = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
    return sum(words) % 0xFFFF


def solicitation(target=CLIENT, source=SERVER, hops=255):
    group = ip_address("ff02::1:ff00:aa").packed
    ip = bytes.fromhex(f"60000000 0018 3a {hops:02x}") + source.packed + group
    body = bytes.fromhex("87000000 00000000") + target.packed
    ether = "3333ff0000aa" + SERVER_MAC.replace(":", "") + "86dd"
    return bytes.fromhex(ether) + ip + body


def passed(frame):
    """Return whether the kernel lets a frame through, on a socket of any kind."""
    out, into = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with out, into:
        attach(into, FILTER)
        into.setblocking(False)
        try:
            out.send(frame)
            return into.recv(2000) == frame
        except OSError:
            return False


def changed(at, value):
    return ANSWER[:at] + value + ANSWER[at + len(value) :]


@pytest.mark.parametrize("payload", [b"hello", b"hell"])
def test_frame_to_all_servers_has_a_right_checksum(payload):
    frame = wrap(payload, MAC, CLIENT)
    assert frame[:6] == bytes.fromhex("333300010002")
    assert frame[38:54] == ip_address("ff02::1:2").packed
    assert checksum(frame) == 0
    found = unwrap(frame, SERVER_PORT)
    assert (found.source_mac, found.source, found.payload) == (MAC, CLIENT, payload)


def test_answer_is_unwrapped_with_its_sender():
    datagram = unwrap(ANSWER)
    assert (datagram.source_mac, datagram.source) == (SERVER_MAC, SERVER)
    assert datagram.payload == encode(REPLY)
    assert unwrap(ANSWER + b"padding").payload == encode(REPLY)


@pytest.mark.parametrize(
    "frame",
    [
        wrap(b"to a server", MAC, CLIENT),
        changed(12, b"\x08\x00"),
        changed(12, b"\x81\0\0\x07\x86\xdd"),
        changed(20, b"\6"),
        changed(20, b"\x2c"),
        b"x",
    ],
    ids=["server", "IPv4", "VLAN", "TCP", "fragment", "noise"],
)
def test_other_frames_do_not_pass_the_filter(frame):
    assert not passed(frame)
    assert unwrap(frame) is None


def test_answer_and_solicitation_pass_the_filter():
    assert passed(ANSWER)
    assert passed(solicitation())
    assert not passed(solicitation()[:54] + b"\x88" + solicitation()[55:])


@given(st.integers(12, 61), st.binary(min_size=1, max_size=4))
def test_every_frame_that_is_an_answer_passes_the_filter(at, value):
    frame = changed(at, value)
    assert unwrap(frame) is None or passed(frame)


@given(st.binary(max_size=200))
def test_garbage_is_nothing(data):
    unwrap(data)
    answer_to(data, MAC, CLIENT)
    unwrap(ANSWER[:14] + data)
    answer_to(solicitation()[:14] + data, MAC, CLIENT)


def test_solicitation_for_the_client_is_answered():
    answer = answer_to(solicitation(), MAC, CLIENT)
    mac = bytes.fromhex(MAC.replace(":", ""))
    assert answer[:12] == bytes.fromhex(SERVER_MAC.replace(":", "")) + mac
    assert answer[22:54] == CLIENT.packed + SERVER.packed
    solicited_and_override = b"\x60\0\0\0"
    assert answer[54:56] + answer[58:62] == b"\x88\0" + solicited_and_override
    assert answer[62:] == CLIENT.packed + b"\2\1" + mac
    assert checksum(answer) == 0


@pytest.mark.parametrize(
    "frame",
    [
        solicitation(target=SERVER),
        solicitation(source=ip_address("::")),
        solicitation(hops=64),
        ANSWER,
    ],
    ids=["for another", "asks whether it is free", "from afar", "no solicitation"],
)
def test_nothing_else_is_answered(frame):
    assert answer_to(frame, MAC, CLIENT) is None


def test_link_local_address_follows_from_the_mac():
    assert link_local_of("02:42:ac:11:00:02") == ip_address("fe80::42:acff:fe11:2")
