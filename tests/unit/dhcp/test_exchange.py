"""An exchange with DHCP servers: when it sends, and what it takes."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import ip_address

import pytest

from tests.unit.dhcp.messages import (
    ADDRESS,
    GIVEN,
    MAC,
    SERVER,
    SERVER_MAC,
    XID,
    dice,
    framed,
    reply,
)
from underlay.dhcp import exchange as ex
from underlay.dhcp import packets
from underlay.dhcp.client import Client
from underlay.dhcp.exchange import Exchange
from underlay.dhcp.frames import SERVER_PORT, unwrap, wrap
from underlay.dhcp.offers import Held, Leased, Refused
from underlay.dhcp.packets import BOOTREQUEST, MessageType, Option

CLIENT = Client(MAC, b"\0web")
HELD = Held(ADDRESS, SERVER, SERVER_MAC)
OTHER, OTHER_SERVER = ip_address("10.55.0.99"), ip_address("10.55.0.2")
OTHER_MAC = "02:00:00:00:00:02"
DISCOVER, REQUEST = MessageType.DISCOVER, MessageType.REQUEST
OFFER = framed(reply())
ACK = framed(reply(MessageType.ACK))
NAK = framed(reply(MessageType.NAK, {54: SERVER.packed, 56: b"no"}, yiaddr=OTHER))
FROM_OTHER = GIVEN | {Option.SERVER: OTHER_SERVER.packed}


def read(frame):
    return packets.decode(unwrap(frame, SERVER_PORT).payload)


def sent_until(exchange, end, step=0.01):
    """Return when each kind of message is sent, ticking until a time."""
    times = [round(turn * step, 3) for turn in range(int(end / step) + 1)]
    return [(now, read(frame).kind) for now in times for frame in exchange.tick(now)]


def asked(exchange):
    """Return an exchange that has sent its first message, at 10 s."""
    exchange.tick(10.0)
    return exchange


def state(exchange):
    hidden = {"heard", "servers", "_random", "_accept"}
    return {k: v for k, v in vars(exchange).items() if k not in hidden}


def starts():
    return [
        Exchange.new(CLIENT, dice()),
        Exchange.new(CLIENT, dice(), wished=ADDRESS),
        Exchange.reboot(CLIENT, dice(), ADDRESS),
        Exchange.renew(CLIENT, dice(), HELD),
        Exchange.rebind(CLIENT, dice(), ADDRESS),
        requesting(),
    ]


def requesting(**options):
    """Return an exchange that was offered an address and has asked for it."""
    exchange = asked(Exchange.new(CLIENT, dice(), **options))
    exchange.feed(OFFER, 10.4)
    (frame,) = exchange.tick(10.4)
    assert read(frame).kind == REQUEST
    return exchange


def test_discovers_are_sent_at_growing_intervals():
    exchange = Exchange.new(CLIENT, dice())
    assert exchange.due < 0
    times = [0, 1, 3, 7, 15, 31, 47]
    assert sent_until(exchange, 50) == [(t, DISCOVER) for t in times]
    assert exchange.outcome is None
    assert exchange.sent == 7
    assert exchange.due == pytest.approx(63)


@pytest.mark.parametrize(("dealt", "gap"), [(0.0, 0.9), (0.999, 1.1)])
def test_intervals_differ_by_a_tenth(dealt, gap):
    exchange = Exchange.new(CLIENT, dice(*[dealt] * 9))
    exchange.tick(0)
    assert exchange.due == pytest.approx(gap, abs=0.001)
    assert exchange.tick(exchange.due - 0.001) == []
    assert len(exchange.tick(exchange.due)) == 1


def test_messages_say_how_long_the_client_has_been_asking():
    exchange = Exchange.new(CLIENT, dice())
    seconds = [read(f).secs for now in (0, 1, 3, 7) for f in exchange.tick(now)]
    assert seconds == [0, 1, 3, 7]
    exchange.feed(OFFER, 9.0)
    # The request has the number of its DISCOVER.
    assert [read(frame).secs for frame in exchange.tick(9.0)] == [7]
    assert [read(frame).secs for frame in exchange.tick(10.0)] == [7]


def test_offer_is_requested_at_once_and_confirmed():
    exchange = asked(Exchange.new(CLIENT, dice()))
    exchange.feed(OFFER, 10.4)
    assert exchange.due == 10.4
    (frame,) = exchange.tick(10.5)
    packet = read(frame)
    assert packet.kind == REQUEST
    assert packet.xid == XID
    assert packet.options[Option.REQUESTED_ADDRESS] == ADDRESS.packed
    assert packet.options[Option.SERVER] == SERVER.packed
    assert not int(packet.ciaddr)
    assert packet.broadcast
    exchange.feed(ACK, 10.6)
    found = exchange.outcome
    assert isinstance(found, Leased)
    assert (found.held, found.asked) == (HELD, 10.5)
    assert found.offered_after == pytest.approx(0.4)
    assert (exchange.due, exchange.tick(99)) == (None, [])


def test_times_of_a_lease_count_from_the_first_request():
    exchange = requesting()
    assert len(exchange.tick(11.4)) == 1
    exchange.feed(ACK, 11.5)
    assert exchange.outcome.asked == 10.4


def test_server_s_mac_is_the_source_of_its_last_frame():
    exchange = requesting()
    exchange.feed(framed(reply(MessageType.ACK), mac=OTHER_MAC), 10.5)
    assert exchange.outcome.server_mac == OTHER_MAC


def test_time_to_an_offer_counts_from_the_last_discover():
    exchange = asked(Exchange.new(CLIENT, dice()))
    exchange.tick(11.0)
    exchange.feed(OFFER, 11.25)
    exchange.tick(11.25)
    exchange.feed(ACK, 11.3)
    assert exchange.outcome.offered_after == 0.25


def test_requests_without_an_answer_lead_to_the_next_discover():
    exchange = Exchange.new(CLIENT, dice())
    exchange.tick(0)
    exchange.feed(OFFER, 0.0)
    kinds = [(0, REQUEST), (1, REQUEST), (3, REQUEST), (7, DISCOVER), (8, DISCOVER)]
    assert sent_until(exchange, 9) == kinds
    assert exchange.heard == {ex.UNCONFIRMED: 1}
    # Late, the offer is as good.
    exchange.feed(OFFER, 9)
    exchange.tick(9)
    exchange.feed(ACK, 9)
    assert exchange.outcome.asked == 9


def test_refused_request_leads_to_the_next_discover_after_a_pause():
    exchange = requesting()
    exchange.feed(NAK, 10.5)
    assert exchange.outcome is None
    assert exchange.tick(11.4) == []
    (frame,) = exchange.tick(11.5)
    assert read(frame).kind == DISCOVER
    assert exchange.heard == {ex.REFUSED: 1}


def test_of_a_flood_of_offers_few_reasons_are_counted_apart():
    def accept(offer):
        return f"of {offer.address.ip}, this host's own"

    exchange = asked(Exchange.new(CLIENT, dice(), accept))
    for number in range(1000):
        address = ip_address("198.51.100.0") + number
        exchange.feed(framed(reply(yiaddr=address)), 10.1)
    assert len(exchange.heard) == ex.MOST_REASONS + 1
    assert exchange.heard[ex.OTHER_OFFERS] == 1000 - ex.MOST_REASONS


def test_first_acceptable_offer_is_taken():
    def accept(offer):
        return "" if offer.address.ip == OTHER else "outside the subnet"

    exchange = asked(Exchange.new(CLIENT, dice(), accept))
    exchange.feed(OFFER, 10.1)
    assert exchange.tick(10.1) == []
    exchange.feed(framed(reply(options=FROM_OTHER, yiaddr=OTHER)), 10.2)
    exchange.feed(framed(reply(yiaddr=OTHER)), 10.2)
    (frame,) = exchange.tick(10.2)
    assert read(frame).options[Option.SERVER] == OTHER_SERVER.packed
    assert exchange.heard == {"outside the subnet": 1, ex.UNASKED: 1}


def test_offer_of_another_address_waits_for_the_wished_one():
    exchange = asked(Exchange.new(CLIENT, dice(), wished=ADDRESS))
    exchange.feed(framed(reply(options=FROM_OTHER, yiaddr=OTHER)), 10.1)
    assert exchange.due == pytest.approx(10.1 + ex.WISH_SECONDS)
    assert exchange.tick(10.15) == []
    exchange.feed(OFFER, 10.15)
    exchange.feed(framed(reply(options=FROM_OTHER, yiaddr=OTHER)), 10.15)
    (frame,) = exchange.tick(10.15)
    assert read(frame).options[Option.REQUESTED_ADDRESS] == ADDRESS.packed
    assert exchange.heard == {ex.UNASKED: 1}


def test_another_address_than_wished_is_taken_a_moment_later():
    exchange = asked(Exchange.new(CLIENT, dice(), wished=ADDRESS))
    exchange.feed(framed(reply(yiaddr=OTHER)), 10.1)
    exchange.feed(framed(reply(options=FROM_OTHER, yiaddr=OTHER_SERVER)), 10.15)
    (frame,) = exchange.tick(10.2)
    packet = read(frame)
    assert (packet.kind, packet.options[50]) == (REQUEST, OTHER.packed)
    exchange.feed(framed(reply(MessageType.ACK, yiaddr=OTHER)), 10.3)
    assert exchange.outcome.offer.address.ip == OTHER


def test_confirmation_is_of_the_offered_address_by_the_chosen_server():
    exchange = requesting()
    before = state(exchange)
    exchange.feed(framed(reply(MessageType.ACK, yiaddr=OTHER)), 10.5)
    exchange.feed(framed(reply(MessageType.ACK, FROM_OTHER)), 10.5)
    unusable = GIVEN | {Option.SUBNET_MASK: None}
    exchange.feed(framed(reply(MessageType.ACK, unusable)), 10.5)
    assert state(exchange) == before
    assert exchange.heard == {
        ex.OTHER_ADDRESS: 1, ex.NOT_CHOSEN: 1, "without a subnet mask": 1,
    }  # fmt: skip


def test_confirmation_that_is_not_accepted_leads_to_another_offer():
    answers = iter(["", "no gateway"])
    exchange = requesting(accept=lambda _: next(answers))
    exchange.feed(ACK, 10.5)
    assert exchange.outcome is None
    assert exchange.due == 11.5
    assert exchange.heard == {"no gateway": 1}


# garbage, zephyrproject-rtos/zephyr#50868
def test_refusal_by_a_server_that_was_not_chosen_changes_nothing():
    nak = framed(reply(MessageType.NAK, {54: OTHER_SERVER.packed}))
    nameless = framed(reply(MessageType.NAK, {}))
    for exchange in (requesting(), asked(Exchange.renew(CLIENT, dice(), HELD))):
        before = state(exchange)
        exchange.feed(nak, 11)
        exchange.feed(nameless, 11)
        assert state(exchange) == before
        assert exchange.heard == {ex.NOT_CHOSEN: 2}


def test_reboot_asks_three_times_and_then_is_silent():
    exchange = Exchange.reboot(CLIENT, dice(), ADDRESS)
    assert sent_until(exchange, 20) == [(0, REQUEST), (1, REQUEST), (3, REQUEST)]
    assert (exchange.due, exchange.outcome) == (None, None)
    exchange.feed(ACK, 21)
    assert exchange.outcome.asked == 0
    assert exchange.outcome.offered_after is None


@pytest.mark.parametrize("start", [
    lambda: Exchange.renew(CLIENT, dice(), HELD),
    lambda: Exchange.rebind(CLIENT, dice(), ADDRESS),
], ids=["renew", "rebind"])  # fmt: skip
def test_more_time_is_asked_for_once(start):
    exchange = start()
    assert sent_until(exchange, 10) == [(0, REQUEST)]
    exchange.feed(ACK, 10)
    assert exchange.outcome.held == HELD


# svinota/pyroute2#1436, openai/softnet#186
@pytest.mark.parametrize("server", [SERVER, OTHER_SERVER])
def test_any_server_may_refuse_what_is_asked_of_all(server):
    told = {54: server.packed, 56: b"wrong\nnetwork"}
    for exchange in (
        Exchange.reboot(CLIENT, dice(), ADDRESS),
        Exchange.rebind(CLIENT, dice(), ADDRESS),
    ):
        asked(exchange).feed(framed(reply(MessageType.NAK, told)), 10.1)
        assert exchange.outcome == Refused(server, r"wrong\nnetwork")
        assert (exchange.due, exchange.tick(99)) == (None, [])


def test_own_server_may_refuse_a_renewal():
    exchange = asked(Exchange.renew(CLIENT, dice(), HELD))
    exchange.feed(NAK, 10.1)
    assert exchange.outcome == Refused(SERVER, "no")


def test_another_address_than_held_is_for_the_caller_to_judge():
    exchange = asked(Exchange.reboot(CLIENT, dice(), ADDRESS))
    exchange.feed(framed(reply(MessageType.ACK, yiaddr=OTHER)), 10.1)
    assert exchange.outcome.held.address == OTHER
    refusing = asked(Exchange.reboot(CLIENT, dice(), ADDRESS, lambda _: "outside"))
    refusing.feed(ACK, 10.1)
    assert refusing.outcome == Refused(SERVER, "outside")


# garbage, containers/netavark#618
@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (framed(reply(xid=XID + 1)), ex.FOR_OTHERS),
        (framed(reply(chaddr=OTHER_MAC)), ex.FOR_OTHERS),
        (framed(reply(op=BOOTREQUEST)), ex.FOR_OTHERS),
        (framed(reply(MessageType.DISCOVER)), ex.UNASKED),
        (framed(reply(options={53: b"\x63"})), ex.UNASKED),
        (wrap(b"noise", SERVER_MAC, SERVER, ex.Receiver(port=68)), ex.GARBAGE),
        (b"noise", None),
        (wrap(packets.encode(reply()), SERVER_MAC, SERVER), None),
    ],
    ids=["xid", "chaddr", "request", "type", "no type", "UDP", "frame", "port"],
)
def test_message_that_answers_nothing_is_counted_and_left(frame, why):
    for exchange in starts():
        asked(exchange)
        before = state(exchange)
        exchange.feed(frame, 10.5)
        assert state(exchange) == before
        assert exchange.heard == ({why: 1} if why else {})


def test_answer_before_the_question_is_not_taken():
    exchange = Exchange.reboot(CLIENT, dice(), ADDRESS)
    exchange.feed(ACK, 0)
    assert exchange.outcome is None


def test_message_after_the_end_changes_nothing():
    exchange = requesting()
    exchange.feed(ACK, 10.5)
    before = state(exchange)
    exchange.feed(NAK, 10.6)
    exchange.feed(framed(reply(MessageType.ACK, yiaddr=OTHER)), 10.7)
    assert state(exchange) == before


def mutated(generator, frame):
    """Return a frame with changed, lost or added bytes behind its Ethernet header."""
    found = bytearray(frame)
    for _ in range(generator.randint(1, 3)):
        at = generator.randrange(14, max(15, len(found)))
        match generator.randrange(4):
            case 0:
                del found[at : at + generator.randint(1, 40)]
            case 1:
                found[at:at] = generator.randbytes(generator.randint(1, 40))
            case _:
                found[at : at + 1] = generator.randbytes(1)
    return bytes(found)


# garbage, containers/netavark#618
def test_ten_thousand_broken_packets_raise_nothing_and_change_nothing():
    """Of the client's own, but for one bit of their number."""
    generator = random.Random(1)
    kinds = MessageType.OFFER, MessageType.ACK, MessageType.NAK
    exchanges = [(asked(e), state(e)) for e in starts()]
    fed = 0
    while fed < 10_000:
        packet = reply(kinds[fed % 3], xid=XID ^ (1 << generator.randrange(32)))
        payload = mutated(generator, bytes(14) + packets.encode(packet))[14:]
        frame = wrap(payload, SERVER_MAC, SERVER, ex.Receiver(port=68))
        if fed % 2:
            frame = mutated(generator, frame)
        if XID.to_bytes(4, "big") in frame:
            continue  # the change made the number right
        exchange, before = exchanges[fed % len(exchanges)]
        exchange.feed(frame, 11.0)
        assert state(exchange) == before, frame.hex()
        fed += 1
    heard = sum((exchange.heard for exchange, _ in exchanges), Counter())
    assert min(heard[ex.FOR_OTHERS], heard[ex.GARBAGE]) > 1000


def test_only_accepted_addresses_come_of_broken_answers():
    generator = random.Random(2)
    for turn in range(3000):
        frame = (OFFER, ACK, NAK)[turn % 3]
        exchange = starts()[turn % 6]
        exchange._accept = lambda offer: "" if offer.address.ip == ADDRESS else "other"
        asked(exchange).feed(mutated(generator, frame), 11.0)
        exchange.tick(12.0)
        match exchange.outcome:
            case Leased(offer=offer):
                assert offer.address.ip == ADDRESS


def test_every_server_that_answers_the_client_is_noted():
    exchange = asked(Exchange.new(CLIENT, dice()))
    stranger = framed(reply(options={54: ip_address("10.55.0.3").packed}, xid=7))
    for frame in (stranger, OFFER, framed(reply(options=FROM_OTHER))):
        exchange.feed(frame, 10.001)
    assert exchange.servers == {SERVER, OTHER_SERVER}


def test_machine_that_claims_to_be_many_servers_is_not_noted_for_ever():
    exchange = asked(Exchange.new(CLIENT, dice()))
    for number in range(ex.MOST_SERVERS * 2):
        claimed = GIVEN | {Option.SERVER: (OTHER_SERVER + number).packed}
        exchange.feed(framed(reply(options=claimed)), 10.001)
    assert len(exchange.servers) == ex.MOST_SERVERS


@pytest.mark.parametrize(
    ("exchange", "kind"),
    [
        (Exchange.new(CLIENT, dice()), "new"),
        (Exchange.reboot(CLIENT, dice(), ADDRESS), "reboot"),
        (Exchange.renew(CLIENT, dice(), HELD), "renew"),
        (Exchange.rebind(CLIENT, dice(), ADDRESS), "rebind"),
    ],
)
def test_exchange_tells_what_it_asks_for(exchange, kind):
    assert exchange.kind == kind
