"""DHCPv6 messages, made and read; real servers read them in tests/kernel."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dhcpv6_segment import FOREVER, association, granted, option, status
from underlay.dhcp import dhcpv6
from underlay.dhcp.dhcpv6 import (
    Answer,
    BadMessage,
    Client,
    Grant,
    Message,
    MessageType,
    Option,
    Status,
    decode,
    encode,
    read_answer,
)

DUID = b"\0\4" + bytes(range(16))
ADDRESS = ip_address("fd70:1::100")
CLIENT = Client(DUID, 7, "02:00:00:00:00:aa", ip_address("fe80::aa"), "web")
MESSAGES = st.builds(
    Message,
    kind=st.integers(0, 255),
    xid=st.integers(0, 2**24 - 1),
    options=st.lists(
        st.tuples(st.integers(0, 2**16 - 1), st.binary(max_size=300)), max_size=8
    ).map(tuple),
)


def answer(*parts, **times):
    """Return what a reply with one association for the client says to it."""
    message = Message(MessageType.REPLY, 1, (association(7, *parts, **times),))
    return read_answer(message, 7)


@given(MESSAGES)
def test_message_is_read_as_it_was_made(message):
    assert decode(encode(message)) == message


def test_solicitation_is_as_the_standard_has_it():
    data = CLIENT.message(MessageType.SOLICIT, 0x123456, elapsed=1.5, address=ADDRESS)
    assert data == bytes.fromhex(
        "01123456"
        f"00010012{DUID.hex()}"
        "000800020096"
        "0003002800000007" + "00" * 8 + f"00050018{ADDRESS.packed.hex()}" + "00" * 8
        + "0006000400520027"
        "002700050003776562"
    )  # fmt: skip


@pytest.mark.parametrize("register", [False, True])
def test_only_registration_asks_the_server_to_update_the_dns(register):
    client = Client(DUID, 7, CLIENT.mac, CLIENT.address, "web", register)
    message = decode(client.message(MessageType.REQUEST, 1))
    assert message.get(Option.FQDN) == bytes((register,)) + b"\3web"


def test_name_is_not_told_when_an_address_goes_back_or_there_is_none():
    told = decode(CLIENT.message(MessageType.RELEASE, 1, server=b"s", address=ADDRESS))
    assert told.get(Option.FQDN) is None
    unnamed = Client(DUID, 7, CLIENT.mac, CLIENT.address)
    assert decode(unnamed.message(MessageType.SOLICIT, 1)).get(Option.FQDN) is None


def test_name_that_no_host_can_have_is_refused():
    with pytest.raises(ValueError, match="no name of a host"):
        Client(DUID, 7, CLIENT.mac, CLIENT.address, "-web")


@pytest.mark.parametrize(
    ("preferred", "valid", "times", "expected"),
    [
        (1800, 3600, {"t1": 100, "t2": 200}, (1800, 3600, 100, 200)),
        (1800, 3600, {}, (1800, 3600, 900, 1440)),  # the client's choice
        (1800, 3600, {"t1": 100}, (1800, 3600, 100, 1440)),
        (0, 3600, {}, (0, 3600, 1800, 2880)),
        (1800, 3600, {"t1": 9000, "t2": 9000}, (1800, 3600, 3600, 3600)),
        (FOREVER, FOREVER, {}, (None, None, None, None)),
        (1800, FOREVER, {}, (1800, None, 900, 1440)),
        (FOREVER, FOREVER, {"t1": 100, "t2": 200}, (None, None, 100, 200)),
    ],
)
def test_times_of_a_lease_are_in_order(preferred, valid, times, expected):
    found = answer(granted(ADDRESS, valid, preferred), **times)
    assert found == Answer(grants=(Grant(ADDRESS, *expected),))


@pytest.mark.parametrize(
    "part",
    [
        granted(ADDRESS, 100, 200),
        granted("fe80::1", 100),
        granted("ff02::1", 100),
        granted("::1", 100),
        granted("::", 100),
        granted("::ffff:10.0.0.1", 100),
    ],
    ids=["preferred for longer", "near", "group", "loop", "none", "IPv4"],
)
def test_unusable_address_is_none(part):
    assert answer(part) == Answer()


def test_association_with_times_in_the_wrong_order_is_ignored():
    assert answer(granted(ADDRESS, 100), t1=50, t2=20) == Answer()


def test_association_of_another_client_is_ignored():
    other = Message(MessageType.REPLY, 1, (association(8, granted(ADDRESS, 100)),))
    assert read_answer(other, 7) == Answer()


def test_status_is_read_wherever_it_is():
    assert answer(status(Status.NO_BINDING)).status == Status.NO_BINDING
    (code, value) = granted(ADDRESS, 100)
    inner = code, value + option(status(Status.NOT_ON_LINK))
    assert answer(inner).status == Status.NOT_ON_LINK
    whole = Message(MessageType.REPLY, 1, (status(Status.FAILED),))
    assert read_answer(whole, 7).status == Status.FAILED
    assert answer((Option.STATUS, b"")).status == Status.FAILED


def test_address_at_its_end_is_said_to_be_so():
    assert answer(granted(ADDRESS, 0)) == Answer(ended=True)


@given(st.binary(max_size=400))
def test_garbage_is_no_message_or_says_little(data):
    try:
        message = decode(data)
        found = read_answer(message, 7)
    except BadMessage:
        return
    assert message.server is not None
    assert all(g.valid is None or g.valid > 0 for g in found.grants)
    assert 0 <= message.preference <= 255


@given(st.data())
def test_mutated_reply_raises_nothing_else(data):
    reply = Message(
        MessageType.REPLY,
        1,
        (
            (Option.CLIENT_ID, DUID),
            (Option.SERVER_ID, b"s"),
            association(7, granted(ADDRESS, 100), status(0)),
        ),
    )
    mutated = bytearray(encode(reply))
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(
            st.integers(0, 255)
        )
    cut = bytes(mutated[: data.draw(st.integers(0, len(mutated)))])
    with suppress(BadMessage):
        read_answer(decode(cut), 7)


def test_too_long_duid_is_none():
    assert Message(7, 1, ((Option.SERVER_ID, b"x" * 131),)).server == b""
    assert Message(7, 1, ()).client == b""
    assert dhcpv6.Message(7, 1, ((Option.PREFERENCE, b""),)).preference == 0
