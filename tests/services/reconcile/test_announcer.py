"""How often an address is announced, and when that ends."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_address

import pytest

from underlay.model import Endpoint, LearnedState
from underlay.reconcile.announcer import ALWAYS, AT_ONCE, PAUSES_SECONDS, Announcer

FOUR, SIX = ip_address("10.0.0.5"), ip_address("fd00::5")
GATEWAYS = ip_address("10.0.0.1"), ip_address("fd00::1")
WEB = Endpoint(
    "e1",
    "n1",
    IPv4Interface("10.0.0.5/24"),
    IPv6Interface("fd00::5/64"),
    sandbox="/run/docker/netns/web",
    learned=LearnedState("eth0", 1500),
)
TIMES = 1 + len(PAUSES_SECONDS)


@dataclass
class Wire:
    """A kernel that only announces: what answers, and what was announced when."""

    now: float = 1000.0
    answered: set = field(default_factory=set)
    fails: int = 0
    told: list = field(default_factory=list)
    waited: list = field(default_factory=list)

    def announce(self, sandbox, device, addresses, gateways, seconds):
        self.told.append((self.now, sandbox, frozenset(addresses)))
        self.waited.append(seconds)
        if self.fails:
            raise OSError(self.fails, device)
        heard = {g.version for g in gateways if seconds}
        return frozenset(
            a for a in addresses if a in self.answered and a.version in heard
        )

    def pass_time(self, announcer, seconds=120):
        for _ in range(seconds * 4):
            announcer.send_due()
            self.now += 0.25


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def announcer(wire):
    return Announcer(wire, lambda: wire.now)


def test_announcements_continue_for_a_minute_with_growing_pauses_without_an_answer(
    wire, announcer
):
    announcer.schedule(WEB, gateways=GATEWAYS)
    wire.pass_time(announcer)
    assert [at - 1000 for at, *_ in wire.told] == [0, 1, 3, 7, 15, 30, 60]
    assert announcer._numbers == {}


@pytest.mark.parametrize("gateways", [(), GATEWAYS[:1]])
def test_address_without_a_gateway_of_its_family_is_announced_to_the_end(
    wire, announcer, gateways
):
    wire.answered = {FOUR, SIX}
    announcer.schedule(WEB, gateways=gateways)
    wire.pass_time(announcer)
    assert len(wire.told) == TIMES
    assert wire.told[-1][2] == ({SIX} if gateways else {FOUR, SIX})


def test_announcements_stop_once_the_gateway_has_answered(wire, announcer):
    wire.answered = {FOUR, SIX}
    announcer.schedule(WEB, gateways=GATEWAYS)
    wire.pass_time(announcer)
    assert len(wire.told) == ALWAYS
    # Nothing waits for an answer that changes nothing.
    assert [bool(seconds) for seconds in wire.waited] == [False, False, True]


def test_unconfirmed_addresses_are_announced_alone_until_confirmed(wire, announcer):
    wire.answered = {FOUR}
    announcer.schedule(WEB, gateways=GATEWAYS)
    wire.pass_time(announcer, 10)
    assert [told for *_, told in wire.told[ALWAYS:]] == [{SIX}]
    wire.answered = {SIX}
    wire.pass_time(announcer)
    assert len(wire.told) == ALWAYS + 2


def test_rescheduled_endpoint_restarts_its_announcements(wire, announcer):
    wire.answered = {FOUR, SIX}
    announcer.schedule(WEB, gateways=GATEWAYS)
    wire.pass_time(announcer, 2)
    announcer.schedule(WEB, gateways=GATEWAYS)
    wire.pass_time(announcer)
    assert [at - 1000 for at, *_ in wire.told] == [0, 1, 2, 3, 5]


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EINVAL])
def test_endpoint_that_left_is_not_announced(wire, announcer, code):
    wire.fails = code
    announcer.schedule(WEB, gateways=GATEWAYS)
    wire.pass_time(announcer)
    assert len(wire.told) == 1
    assert announcer._numbers == {}


def test_device_that_is_down_is_announced_when_it_comes_up(wire, announcer):
    wire.fails, wire.answered = errno.ENETDOWN, {FOUR, SIX}
    announcer.schedule(WEB, gateways=GATEWAYS)
    wire.pass_time(announcer, 5)
    wire.fails = 0
    wire.pass_time(announcer)
    assert [at - 1000 for at, *_ in wire.told] == [0, 1, 3, 7]


def test_clock_jump_causes_no_announcement_burst(wire, announcer):
    announcer.schedule(WEB)
    announcer.send_due()
    wire.now += 3600
    announcer.send_due()
    assert len(wire.told) == 2


def test_new_endpoints_are_announced_before_earlier_ones(wire, announcer):
    for n in range(3 * AT_ONCE):
        announcer.schedule(Endpoint(f"old{n}", "n1", WEB.ipv4, sandbox=f"/old/{n}",
                                learned=WEB.learned))  # fmt: skip
    announcer.send_due()
    wire.now += 1
    announcer.schedule(WEB)
    wire.told.clear()
    announcer.send_due()
    assert WEB.sandbox in {sandbox for _, sandbox, _ in wire.told[:AT_ONCE]}
    assert len(wire.told) == 3 * AT_ONCE + 1
