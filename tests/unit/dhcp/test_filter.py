"""The filter for answers of DHCP servers, as this machine's kernel runs it."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dhcp.messages import ADDRESS, MAC, SERVER, SERVER_MAC
from underlay.dhcp.frames import CLIENT_PORT, FILTER, Receiver, unwrap, wrap
from underlay.dhcp.sockets import attach

ANSWER = wrap(b"m" * 300, SERVER_MAC, SERVER, Receiver(MAC, ADDRESS, CLIENT_PORT))


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


def test_answer_to_a_client_passes_the_filter():
    assert passed(ANSWER)
    longer = changed(14, b"\x46")  # a header with options
    assert passed(longer[:34] + b"\1\1\1\0" + longer[34:])


@pytest.mark.parametrize(
    "frame",
    [
        wrap(b"to a server", MAC),
        changed(12, b"\x86\xdd"),
        changed(12, b"\x81\0\0\x07\x08\0"),
        changed(20, b"\x20\0"),
        changed(20, b"\0\1"),
        changed(23, b"\6"),
        ANSWER[:30],
        b"x",
    ],
    ids=["server", "IPv6", "VLAN", "fragment", "last", "TCP", "cut", "noise"],
)
def test_other_frames_do_not_pass_the_filter(frame):
    assert not passed(frame)


@given(st.integers(12, 40), st.binary(min_size=1, max_size=4))
def test_every_frame_that_is_an_answer_passes_the_filter(at, value):
    frame = changed(at, value)
    assert passed(frame) or not unwrap(frame)
