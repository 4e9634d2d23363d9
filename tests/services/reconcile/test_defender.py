"""Another machine claims the address of a running container."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, ip_address, ip_network

import pytest

from tests.fakes import ETH0, Clock, FakeKernel, engine_on
from underlay.api import status
from underlay.ipam.conflicts import QUARANTINE_SECONDS
from underlay.model import Endpoint, LearnedState, Network, Sighting, Subnet
from underlay.model.objects import Owner
from underlay.reconcile.defender import (
    DEFEND_SECONDS,
    MOST_KNOWN,
    SAME_SECONDS,
    STARTING_SECONDS,
    Defender,
)

POOL = ip_network("10.0.0.0/24")
WEB = ip_address("10.0.0.5")
THEIRS, OTHER = "02:00:00:00:00:66", "02:00:00:00:00:77"


class Lan:
    """A container with WEB that runs on eth0, and what its segment says."""

    def __init__(self, records, options=None, **ipam):
        self.records, self.kernel, self.clock = records, FakeKernel(), Clock()
        self.engine = engine_on(records, self.kernel, self.clock)
        self.ipam = self.engine.parts.ipam
        self.wire, self.announcer = self.ipam.wire, self.engine.reconciler.announcer
        self.defender = Defender(records, self.wire, self.announcer, self.clock)
        claim = self.ipam.request_pool(str(POOL), "", ipam, 4).id
        segment = Subnet(POOL, pooled=True)
        given = options or {"parent": "eth0"}
        self.engine.create_network(Network("n1", given, subnets=(segment,)))
        self.ipam.request_address(claim, str(WEB), "")
        web = Endpoint("e1", "n1", IPv4Interface(f"{WEB}/24"))
        self.mac = self.engine.create_endpoint(web).mac
        self.engine.join("n1", "e1", "/sandbox")
        self.kernel.dock(Owner("n1", "e1").device, "/sandbox", "eth0")
        joined = records.endpoints.get("e1")
        with records.transaction():
            learned = replace(joined, learned=LearnedState("eth0", 1500))
            records.endpoints.save_learned(learned)
        self.listening = self.defender.follow()

    def hear(self, mac=THEIRS, address=WEB, device="eth0"):
        self.defender.hear([Sighting(address, mac, device)])
        self.announcer.send_due()

    def health(self):
        (facts,) = status.endpoints(self.records)
        return facts["health"], facts["error"]

    def conflicts(self):
        return [(c.address, c.mac) for c in self.records.leases.conflicts()]


@pytest.fixture
def lan(records):
    return Lan(records)


def test_impostor_is_recorded_shown_logged_and_answered(lan, caplog):
    lan.hear()
    assert lan.conflicts() == [(WEB, THEIRS)]
    health, error = lan.health()
    assert health == "failing"
    assert error.startswith(f"E-167 {WEB} is in use on the network: the machine with")
    assert THEIRS in error
    (failure,) = status.failures(lan.records)
    assert failure["object"] == Owner("n1", "e1").mark
    assert lan.kernel.announced == [("/sandbox", "eth0", frozenset({WEB}))]
    lan.clock.now += DEFEND_SECONDS
    lan.hear()
    assert caplog.text.count("address in use by another machine") == 1


def test_container_defends_its_address_once_in_ten_seconds(lan):
    for _ in range(100):
        lan.hear()
        lan.clock.now += 0.1
    lan.announcer.send_due()
    assert len(lan.kernel.announced) == 1
    lan.clock.now += DEFEND_SECONDS
    lan.hear()
    assert len(lan.kernel.announced) == 2


def test_address_is_contested_by_a_second_claim_within_ten_seconds(lan):
    """Not by the same one heard on two devices, and once for each defence."""
    contested = []
    lan.defender.on_contested = contested.append
    for device in lan.listening:
        lan.hear(device=device)
        lan.clock.now += SAME_SECONDS / 4
    assert contested == []
    for _ in range(3):
        lan.clock.now += 1
        lan.hear()
    assert contested == ["e1"]
    lan.clock.now += DEFEND_SECONDS
    lan.hear()
    lan.clock.now += 1
    lan.hear(mac=ETH0.mac)
    assert contested == ["e1"]
    lan.hear(mac=OTHER)
    assert contested == ["e1", "e1"]


@pytest.mark.parametrize(
    ("mac", "address"),
    [
        ("own", WEB),
        (ETH0.mac, WEB),  # proxy ARP of the host, say
        (THEIRS, ip_address("10.0.0.6")),
        (THEIRS, ip_address("10.9.0.5")),
    ],
)
def test_own_macs_and_other_addresses_are_no_conflict(lan, mac, address):
    lan.hear(lan.mac if mac == "own" else mac, address)
    assert lan.conflicts() == []
    assert lan.health()[0] == "ok"


def test_same_address_on_another_segment_is_no_conflict(lan):
    lan.hear(device="eth1")
    assert lan.conflicts() == []


def test_endpoint_is_healthy_after_ten_silent_minutes(lan):
    lan.hear()
    lan.clock.now += QUARANTINE_SECONDS - 1
    lan.hear()  # still there
    lan.clock.now += QUARANTINE_SECONDS - 1
    lan.wire.ask_due()
    assert lan.health()[0] == "failing"
    lan.clock.now += 1
    lan.wire.look()
    lan.wire.ask_due()
    assert lan.conflicts() == []
    assert lan.health()[0] == "ok"


def test_reconciler_does_not_call_a_conflict_over(lan):
    lan.hear()
    lan.engine.reconcile()
    assert lan.health()[0] == "failing"


def test_address_of_a_container_that_stops_stays_out_of_use(lan):
    lan.hear()
    lan.engine.delete_endpoint("n1", "e1")
    lan.engine.dropper.finish_all()
    (claim,) = lan.records.pools.claims_of("n1")
    lan.ipam.release_address(claim.id, str(WEB))
    assert lan.conflicts() == [(WEB, THEIRS)]
    drawn = {str(lan.ipam.request_address(claim.id, "", "").ip) for _ in range(8)}
    assert str(WEB) not in drawn


def test_candidate_that_a_machine_claims_is_not_drawn_unasked(lan):
    lan.wire.ask_due()
    lan.clock.now += 1
    lan.hear(address=ip_address("10.0.0.1"))
    lan.kernel.foreign = {"10.0.0.1": THEIRS}
    (claim,) = lan.records.pools.claims_of("n1")
    assert str(lan.ipam.request_address(claim.id, "", "").ip) == "10.0.0.2"


def test_parent_and_shim_are_listened_to_for_the_families_of_the_pools(lan):
    assert lan.listening["eth0"] == {4}
    assert len(lan.listening) == 2


def test_nothing_is_listened_to_with_probe_off(records):
    lan = Lan(records, probe="off")
    assert lan.listening == {}
    lan.hear()
    assert lan.conflicts() == []


def test_holders_are_looked_up_once_for_each_state_of_the_records(lan, monkeypatch):
    """Thousands of ARP requests come from the same few machines."""
    looked, live = [], lan.records.leases.live
    monkeypatch.setattr(
        lan.records.leases, "live", lambda *a: looked.append(a) or live(*a)
    )
    other = ip_address("10.0.0.99")
    for _ in range(50):
        lan.hear(address=other)
    assert len(looked) == 1
    lan.engine.leave("e1")
    lan.hear(address=other)
    assert len(looked) == 2


def test_host_answers_a_probe_for_an_address_that_it_has_leased(lan):
    """Its container may not be up yet. A probe is no claim: nothing is recorded."""
    held = []
    lan.wire.hold = lambda *words: held.append(words)

    def ask(mac, address=WEB):
        lan.defender.hear([Sighting(address, mac, "eth0", kind="probe")])

    ask(THEIRS)
    assert held == [("eth0", WEB)]
    assert lan.conflicts() == []
    for mac in (lan.mac, ETH0.mac):  # its own, and its kernel's
        ask(mac)
    free = ip_address("10.0.0.6")
    ask(THEIRS, free)
    assert held == [("eth0", WEB)]
    # What another machine asks for is not what it was when it was found free.
    assert lan.wire.sightings.since("eth0", free, -1) == THEIRS


def test_probes_are_answered_once_at_a_time_and_while_a_container_may_start(lan):
    """Switches and scanners probe for years what answers by itself."""
    held = []
    lan.wire.hold = lambda *words: held.append(words)

    def flood():
        macs = [f"02:00:00:00:01:{n:02x}" for n in range(100)]
        devices = lan.listening
        lan.defender.hear([Sighting(WEB, m, d, "probe") for m in macs for d in devices])

    flood()
    assert held == [("eth0", WEB)]
    lan.clock.now += STARTING_SECONDS
    flood()
    assert len(held) == 1


def test_memory_of_whose_addresses_are_is_bounded(lan):
    """A machine may make up any number of them while the records do not change."""
    lan.defender._segments["eth0"].networks.clear()
    (claim,) = lan.records.pools.claims_of("n1")
    whole = replace(claim.pool, subnet=ip_network("10.0.0.0/8"))
    lan.defender._segments["eth0"].networks[whole] = {"n1"}
    for first in range(0, 3 * MOST_KNOWN, 256):
        made_up = [ip_address("10.1.0.0") + first + n for n in range(256)]
        lan.defender.hear([Sighting(address, THEIRS, "eth0") for address in made_up])
    assert len(lan.defender._known) <= MOST_KNOWN + 256


def test_new_network_is_asked_for_at_once_and_a_known_one_is_not_again(lan):
    """A look at all networks costs as many questions to the records."""
    looks = []
    lan.wire.look = lambda: looks.append(1)
    lan.defender.follow()
    assert looks == []
    claim = lan.ipam.request_pool("10.9.0.0/24", "", {}, 4)
    segment = Subnet(claim.pool.subnet, pooled=True)
    lan.engine.create_network(Network("n2", {"parent": "eth0"}, subnets=(segment,)))
    lan.defender.follow()
    assert looks == [1]
