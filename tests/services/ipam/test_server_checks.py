"""A new network whose segment no DHCP server serves is failing until one does."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.disks import unwritable
from tests.fakes import ETH0, Clock, FakeKernel, engine_on
from underlay.api import status
from underlay.errors import RecordsUnwritable
from underlay.ipam.dhcp_claims import EVERYWHERE
from underlay.ipam.server_checks import (
    AGAIN_SECONDS,
    MOST_AGAIN_SECONDS,
    Offers,
    ServerChecks,
)
from underlay.model import Network, Subnet
from underlay.model.owner import Owner

SILENCE = Offers({}, "3 messages", "no answer")
ANSWER = Offers({IPv4Address("10.55.0.1"): IPv4Address("10.55.0.100")}, "1 message", "")
MARK = Owner("n1", end="dhcp").mark


class Lan:
    """A parent, and what is heard on it."""

    def __init__(self, records):
        self.records, self.kernel, self.clock = records, FakeKernel(), Clock()
        self.engine = engine_on(records, self.kernel, self.clock)
        self.said, self.asked = SILENCE, []
        self.checks = self.new()
        self.checks.begin()

    def new(self):
        servers = self.engine.parts.keeper.servers
        return ServerChecks(self.records, servers, self.clock, self.clock, self.ask)

    def ask(self, device, network, _abandoned, _enough):
        self.asked.append((device.name, network.id))
        return self.said

    def network(self, name="n1", **options):
        asked = {"parent": "eth0", "source": "dhcp", **options}
        segment = Subnet(EVERYWHERE, dhcp=True)
        self.engine.create_network(Network(name, asked, subnets=(segment,)))

    @property
    def failures(self):
        return [f["object"] for f in status.failures(self.records)]

    def health(self):
        return [network["health"] for network in status.networks(self.records)]


@pytest.fixture
def lan(records):
    return Lan(records)


def test_new_network_without_a_server_is_failing_until_one_answers(lan, caplog):
    lan.network()
    assert lan.checks.look() == AGAIN_SECONDS
    (failure,) = status.failures(lan.records)
    assert failure["object"] == MARK
    assert failure["error"].startswith("E-160 no DHCP server gave an address on eth0")
    assert lan.health() == ["failing"]
    lan.said = ANSWER
    lan.clock.now += AGAIN_SECONDS
    assert lan.checks.look() is None
    assert (lan.failures, lan.health()) == ([], ["ok"])
    assert caplog.text.count("no DHCP server answers for the network") == 1


def test_new_network_with_a_server_is_asked_about_once(lan, caplog):
    caplog.set_level("INFO")
    lan.said = ANSWER
    lan.network()
    assert lan.checks.look() is None
    lan.clock.now += 3600
    assert lan.checks.look() is None
    assert lan.asked == [("eth0", "n1")]
    (told,) = (r for r in caplog.records if r.message == "DHCP server answers")
    assert (str(told.server), str(told.offers)) == ("10.55.0.1", "10.55.0.100")


def test_silent_segment_is_asked_more_and_more_seldom(lan):
    lan.network()
    pauses = []
    for _ in range(9):
        pauses.append(lan.checks.look())
        lan.clock.now += pauses[-1]
    assert pauses[:3] == [AGAIN_SECONDS, 2 * AGAIN_SECONDS, 4 * AGAIN_SECONDS]
    assert pauses[-1] == MOST_AGAIN_SECONDS


def test_failure_ends_also_when_the_disk_was_full_at_the_first_answer(lan):
    lan.network()
    lan.checks.look()
    lan.said = ANSWER
    lan.clock.now += AGAIN_SECONDS
    with unwritable(lan.records), pytest.raises(RecordsUnwritable):
        lan.checks.look()
    lan.checks.look()
    assert lan.failures == []


def test_parent_that_cannot_be_asked_on_keeps_no_other_from_being_asked(lan):
    lan.kernel.strangers["eth1"] = replace(ETH0, name="eth1", mac="02:00:00:00:00:e1")
    lan.network("n1")
    lan.network("n2", parent="eth1")
    ask = lan.ask

    def fail(device, network, *more):
        if device.name == "eth0":
            raise OSError(errno.ENETDOWN, "Network is down")
        return ask(device, network, *more)

    lan.checks.ask = fail
    lan.checks.look()
    assert lan.asked == [("eth1", "n2")]
    errors = {f["object"]: f["error"] for f in status.failures(lan.records)}
    assert "eth0: Network is down" in errors[MARK]


def test_lease_of_a_container_ends_the_failure_at_once(lan):
    lan.network()
    lan.checks.look()
    lan.checks.note_answer("eth1")
    lan.checks.look()
    assert lan.failures == [MARK]
    lan.checks.note_answer("eth0")
    assert lan.checks.look() is None
    assert lan.failures == []


def test_networks_of_one_parent_are_asked_about_together(lan):
    for name in ("n1", "n2"):
        lan.network(name)
    lan.checks.look()
    assert len(lan.asked) == 1
    assert len(lan.failures) == 2


def test_failure_of_a_removed_network_ends(lan):
    lan.network()
    lan.checks.look()
    lan.engine.delete_network("n1")
    lan.checks.look()
    assert lan.failures == []


def test_pass_leaves_the_failure_as_it_is(lan):
    lan.network()
    lan.checks.look()
    lan.engine.reconcile()
    assert lan.failures == [MARK]


def test_next_service_asks_about_failing_networks_and_no_others(lan):
    lan.network("n1")
    lan.checks.look()
    lan.said = ANSWER
    lan.network("n2", parent="eth0")
    lan.checks.look()
    lan.asked.clear()
    later = lan.new()
    later.begin()
    later.look()
    assert lan.asked == [("eth0", "n1")]
    assert lan.failures == []


def test_parent_without_carrier_is_not_asked_on(lan):
    lan.kernel.strangers["eth0"] = replace(ETH0, link_fault="no carrier")
    lan.network()
    assert lan.checks.look() == AGAIN_SECONDS
    assert (lan.asked, lan.failures) == ([], [])
    lan.kernel.strangers["eth0"] = ETH0
    lan.clock.now += AGAIN_SECONDS
    lan.checks.look()
    assert lan.failures == [MARK]
