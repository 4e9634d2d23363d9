"""An exchange with DHCPv6 servers: when it sends, and what it takes."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dhcpv6_segment import (
    CLIENT,
    DUID,
    MAC,
    SERVER,
    association,
    framed,
    granted,
    status,
)
from underlay.dhcp import dhcpv6
from underlay.dhcp import dhcpv6_exchange as ex
from underlay.dhcp.dhcpv6 import Client, Message, MessageType, Option, Status
from underlay.dhcp.dhcpv6_exchange import Exchange, Held, Leased
from underlay.dhcp.dhcpv6_frames import SERVER_PORT, unwrap
from underlay.dhcp.offers import Refused

ADDRESS, OTHER = ip_address("fd70:1::100"), ip_address("fd70:1::200")
WEB = Client(b"\0\4" + b"w" * 16, 7, MAC, CLIENT, "web")
HELD = Held(ADDRESS, DUID)
OTHER_DUID = b"\0\3\0\1\2\0\0\0\0\2"
SOLICIT, REQUEST = MessageType.SOLICIT, MessageType.REQUEST


def middle():
    """A random number without a deviation of the times."""
    return 0.5


def read(frame):
    return dhcpv6.decode(unwrap(frame, SERVER_PORT).payload)


def sent_until(exchange, end, step=0.01):
    """Return when each kind of message is sent, ticking until a time."""
    times = [round(turn * step, 3) for turn in range(int(end / step) + 1)]
    return [(now, read(frame).kind) for now in times for frame in exchange.tick(now)]


def answer(exchange, kind, *parts, server=DUID, more=(), **changes):
    """Return a frame that answers what an exchange has sent."""
    message = Message(
        kind,
        changes.get("xid", exchange._xid),
        (
            (Option.CLIENT_ID, changes.get("client", WEB.duid)),
            (Option.SERVER_ID, server),
            association(7, *parts),
            *more,
        ),
    )
    return framed(message)


def advertise(exchange, address=ADDRESS, **facts):
    return answer(exchange, MessageType.ADVERTISE, granted(address, 3600), **facts)


def reply(exchange, address=ADDRESS, **facts):
    return answer(exchange, MessageType.REPLY, granted(address, 3600), **facts)


def soliciting(**facts):
    exchange = Exchange.new(WEB, middle, **facts)
    exchange.tick(0.0)
    return exchange


def requesting():
    exchange = soliciting()
    exchange.feed(advertise(exchange), 0.1)
    (frame,) = exchange.tick(1.0)
    assert read(frame).kind == REQUEST
    return exchange


def test_silent_servers_are_asked_again_later_each_time():
    assert sent_until(Exchange.new(WEB, middle), 8) == [
        (0, SOLICIT), (1, SOLICIT), (3, SOLICIT), (7, SOLICIT)
    ]  # fmt: skip


def test_question_for_more_time_is_asked_once_of_its_server_three_times_of_all():
    renew, rebind = MessageType.RENEW, MessageType.REBIND
    assert sent_until(Exchange.renew(WEB, middle, HELD), 9) == [(0, renew)]
    times = [(0, rebind), (1, rebind), (3, rebind)]
    assert sent_until(Exchange.rebind(WEB, middle, HELD), 9) == times
    (frame,) = Exchange.renew(WEB, middle, HELD).tick(0)
    assert read(frame).server == DUID
    (frame,) = Exchange.rebind(WEB, middle, HELD).tick(0)
    assert read(frame).server == b""


def test_first_question_waits_for_all_offers_and_takes_the_preferred_one():
    exchange = soliciting()
    exchange.feed(advertise(exchange), 0.1)
    more = [(Option.PREFERENCE, b"\7")]
    exchange.feed(advertise(exchange, OTHER, server=OTHER_DUID, more=more), 0.2)
    assert exchange.tick(0.9) == []
    (frame,) = exchange.tick(1.0)
    assert (read(frame).kind, read(frame).server) == (REQUEST, OTHER_DUID)
    assert OTHER.packed in frame


def test_of_equal_offers_that_of_the_wished_address_is_taken():
    exchange = soliciting(wished=ADDRESS)
    exchange.feed(advertise(exchange, OTHER, server=OTHER_DUID), 0.1)
    exchange.feed(advertise(exchange), 0.2)
    (frame,) = exchange.tick(1.0)
    assert read(frame).server == DUID


def test_server_that_wants_to_be_taken_at_once_is():
    exchange = soliciting()
    exchange.feed(advertise(exchange, more=[(Option.PREFERENCE, b"\xff")]), 0.1)
    (frame,) = exchange.tick(0.1)
    assert read(frame).kind == REQUEST


def test_offer_after_the_first_question_is_taken_at_once():
    exchange = soliciting()
    exchange.tick(1.0)
    exchange.feed(advertise(exchange), 1.5)
    (frame,) = exchange.tick(1.5)
    assert read(frame).kind == REQUEST


def test_confirmed_offer_is_a_lease_from_the_request_on():
    exchange = requesting()
    exchange.feed(reply(exchange), 1.2)
    leased = exchange.outcome
    assert isinstance(leased, Leased)
    assert (leased.grant.address, leased.server) == (ADDRESS, DUID)
    assert (leased.server_address, leased.asked) == (SERVER, 1.0)
    assert exchange.tick(99.0) == []


def test_unconfirmed_offer_leads_to_another_question():
    exchange = requesting()
    kinds = [kind for _, kind in sent_until(exchange, 9)]
    assert kinds == [REQUEST, REQUEST, SOLICIT, SOLICIT]
    assert exchange.heard[ex.UNCONFIRMED] == 1


def test_offer_that_is_not_confirmed_for_want_of_addresses_leads_to_another_question():
    exchange = requesting()
    none = answer(exchange, MessageType.REPLY, status(Status.NONE_LEFT))
    exchange.feed(none, 1.2)
    assert exchange.heard[ex.NONE_LEFT] == 1
    assert exchange.tick(2.1) == []
    (frame,) = exchange.tick(2.3)
    assert read(frame).kind == SOLICIT


@pytest.mark.parametrize(
    "parts",
    [
        [status(Status.NO_BINDING)],
        [status(Status.NOT_ON_LINK)],
        [granted(ADDRESS, 0)],
    ],
    ids=["unknown", "of another link", "ended"],
)
def test_lease_that_holds_no_more_is_refused(parts):
    exchange = Exchange.rebind(WEB, middle, HELD)
    exchange.tick(0.0)
    exchange.feed(answer(exchange, MessageType.REPLY, *parts), 0.1)
    assert isinstance(exchange.outcome, Refused)


def test_another_address_in_place_of_the_ended_one_is_taken():
    exchange = Exchange.renew(WEB, middle, HELD)
    exchange.tick(0.0)
    parts = granted(ADDRESS, 0), granted(OTHER, 100)
    exchange.feed(answer(exchange, MessageType.REPLY, *parts), 0.1)
    assert exchange.outcome.grant.address == OTHER


def test_of_two_addresses_the_client_s_own_is_taken():
    exchange = Exchange.renew(WEB, middle, HELD)
    exchange.tick(0.0)
    parts = granted(OTHER, 100), granted(ADDRESS, 100)
    exchange.feed(answer(exchange, MessageType.REPLY, *parts), 0.1)
    assert exchange.outcome.grant.address == ADDRESS


def test_server_with_a_problem_of_its_own_is_as_silent():
    exchange = Exchange.renew(WEB, middle, HELD)
    exchange.tick(0.0)
    exchange.feed(answer(exchange, MessageType.REPLY, status(Status.FAILED)), 0.1)
    assert exchange.outcome is None


def test_address_that_is_not_accepted_is_not_asked_for():
    exchange = soliciting(accept=lambda a: "no" if a == ADDRESS else "")
    exchange.feed(advertise(exchange), 0.1)
    (frame,) = exchange.tick(1.0)
    assert read(frame).kind == SOLICIT
    assert exchange.heard["no"] == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"xid": 5}, ex.FOR_OTHERS),
        ({"client": b"other"}, ex.FOR_OTHERS),
        ({"server": OTHER_DUID}, ex.NOT_CHOSEN),
        ({"server": b""}, ex.GARBAGE),
    ],
)
def test_reply_that_is_not_for_the_question_is_not_taken(changes, why):
    exchange = requesting()
    exchange.feed(reply(exchange, **changes), 1.2)
    assert exchange.outcome is None
    assert exchange.heard[why] == 1


def test_message_of_another_kind_is_not_taken():
    exchange = soliciting()
    exchange.feed(reply(exchange), 0.1)
    assert exchange.heard[ex.UNASKED] == 1
    exchange = requesting()
    exchange.feed(advertise(exchange), 1.1)
    assert exchange.heard[ex.UNASKED] == 1


def test_message_says_how_long_the_client_has_been_asking():
    exchange = soliciting()
    (frame,) = exchange.tick(1.0)
    assert read(frame).get(Option.ELAPSED) == (100).to_bytes(2, "big")


@given(st.binary(max_size=300), st.integers(0, 2**24 - 1))
def test_garbage_changes_nothing(data, xid):
    exchange = requesting()
    before = exchange.due, exchange.outcome
    exchange.feed(data, 1.1)
    message = Message(7, xid, ((1, data[:200]), (2, data[200:]), (3, data)))
    exchange.feed(framed(message), 1.1)
    assert (exchange.due, exchange.outcome) == before
