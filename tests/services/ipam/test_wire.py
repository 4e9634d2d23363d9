"""What a segment says decides which addresses are given, and when it is asked."""

from __future__ import annotations

import threading
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from tests.fakes import BR0, ETH0, LO, Clock, FakeKernel, engine_on
from underlay.errors import AddressInUse, AddressTaken, PoolExhausted
from underlay.ipam import conflicts
from underlay.ipam import wire as asking
from underlay.ipam.conflicts import LONGEST_SECONDS, QUARANTINE_SECONDS
from underlay.ipam.driver import MOST_QUESTIONS
from underlay.ipam.sightings import MOST, Sightings
from underlay.model import Endpoint, Network, Sighting, Subnet, Verdict

POOL, SIX = ip_network("10.0.0.0/24"), ip_network("fd00::/64")
THEIRS, OTHER = "02:00:00:00:00:66", "02:00:00:00:00:77"
PARENT = {"parent": "eth0"}


class Lan:
    """A network on eth0, and the machines there."""

    def __init__(self, records, subnet=POOL, span="", options=PARENT, **ipam):
        self.records, self.kernel, self.clock = (
            records,
            FakeKernel(LO, ETH0, BR0),
            Clock(),
        )
        self.engine = engine_on(records, self.kernel, self.clock)
        self.ipam = self.engine.parts.ipam
        self.wire, self.counted = self.ipam.wire, []
        self.wire.on_asked = lambda result, number: self.counted.append(
            (result, number)
        )
        self.claim = self.ipam.request_pool(str(subnet), span, ipam, subnet.version).id
        segment = Subnet(subnet, pooled=True)
        self.engine.create_network(Network("n1", options, subnets=(segment,)))

    def draw(self, wish="", container=""):
        return str(self.ipam.request_address(self.claim, wish, container).ip)

    def endpoint(self, wish="", name="e1"):
        given = self.ipam.request_address(self.claim, wish, "")
        return self.engine.create_endpoint(Endpoint(name, "n1", given))

    def asked(self):
        """Return what was asked since the last call."""
        found, self.kernel.asked[:] = list(self.kernel.asked), []
        return [addresses for _, addresses in found]

    def conflicts(self):
        return {str(c.address): c.mac for c in self.records.leases.conflicts()}


@pytest.fixture
def lan(records):
    return Lan(records)


def test_addresses_asked_ahead_are_drawn_without_a_question(lan):
    lan.wire.ask_due()
    (ahead,) = lan.asked()
    assert ahead == {f"10.0.0.{n}" for n in range(1, 5)}
    assert [lan.draw() for _ in range(4)] == [f"10.0.0.{n}" for n in range(1, 5)]
    assert lan.asked() == []
    # Once more behind the answer, with those that are next.
    lan.wire.ask_due()
    assert set().union(*lan.asked()) == {f"10.0.0.{n}" for n in range(1, 9)}


def test_cold_draw_asks_on_the_spot_and_for_those_behind_it(lan):
    assert lan.draw() == "10.0.0.1"
    assert lan.asked() == [{f"10.0.0.{n}" for n in range(1, 17)}]
    assert lan.draw() == "10.0.0.2"
    assert lan.asked() == []


def test_answer_counts_for_five_minutes_and_is_renewed_while_it_waits(lan):
    lan.wire.ask_due()
    lan.clock.now += asking.AGAIN_SECONDS - 1
    lan.asked()
    lan.wire.ask_due()
    assert lan.asked() == []
    lan.clock.now += asking.LOOK_SECONDS
    lan.wire.ask_due()
    assert lan.asked() == [{f"10.0.0.{n}" for n in range(1, 5)}]
    lan.clock.now += asking.FRESH_SECONDS
    assert lan.draw() == "10.0.0.1"
    assert len(lan.asked()) == 1


@pytest.mark.parametrize("ahead", [True, False])
def test_address_of_another_machine_is_skipped_and_shown_in_the_history(lan, ahead):
    lan.kernel.foreign = {"10.0.0.1": THEIRS, "10.0.0.3": OTHER}
    if ahead:
        lan.wire.ask_due()
    assert [lan.draw() for _ in range(2)] == ["10.0.0.2", "10.0.0.4"]
    assert lan.conflicts() == {"10.0.0.1": THEIRS, "10.0.0.3": OTHER}
    (lease,) = lan.records.leases.history(THEIRS, 10)
    assert (str(lease.address), lease.role, lease.network) == (
        "10.0.0.1", "conflict", "n1",
    )  # fmt: skip


def test_requested_address_of_another_machine_is_refused_with_its_mac(lan):
    lan.kernel.foreign = {"10.0.0.9": THEIRS}
    with pytest.raises(AddressInUse, match=rf"E-167 10.0.0.9.*MAC {THEIRS} has it"):
        lan.draw("10.0.0.9")
    assert "underlay conflict forget 10.0.0.9" in str(
        conflicts.in_use(ip_address("10.0.0.9"), "", 0.0)
    )
    # The administrator has taken it away there: it is asked for again at once.
    lan.kernel.foreign = {}
    lan.clock.now += 1
    assert lan.draw("10.0.0.9") == "10.0.0.9"
    assert lan.conflicts() == {}
    assert lan.asked() == [{"10.0.0.9"}, {"10.0.0.9"}]


def test_restart_is_not_asked_about(lan):
    lan.endpoint("10.0.0.9")
    lan.engine.delete_endpoint("n1", "e1")
    lan.engine.dropper.finish_all()
    lan.ipam.release_address(lan.claim, "10.0.0.9")
    lan.asked()
    lan.clock.now += asking.HELD_SECONDS - 1
    assert lan.draw("10.0.0.9") == "10.0.0.9"
    assert lan.asked() == []
    lan.ipam.release_address(lan.claim, "10.0.0.9")
    lan.clock.now += asking.HELD_SECONDS + 1
    lan.draw("10.0.0.9")
    assert lan.asked() == [{"10.0.0.9"}]


@pytest.mark.parametrize("wish", ["10.0.0.9", ""])
def test_restart_is_asked_about_if_another_machine_was_heard_meanwhile(lan, wish):
    """The container was started on another host, say."""
    lan.draw("10.0.0.9", "web")
    lan.ipam.release_address(lan.claim, "10.0.0.9")
    lan.clock.now += 5
    hear(lan, ip_address("10.0.0.9"), lan.clock.now)
    lan.kernel.foreign = {"10.0.0.9": OTHER}
    lan.asked()
    if wish:
        with pytest.raises(AddressInUse, match=OTHER):
            lan.draw(wish, "web")
    else:
        assert lan.draw(wish, "web") == "10.0.0.1"
    assert lan.asked()[0] == {"10.0.0.9"}


def test_address_kept_for_a_stopped_container_is_asked_for_ahead(lan):
    lan.draw("10.0.0.9", "web")
    lan.ipam.release_address(lan.claim, "10.0.0.9")
    lan.clock.now += asking.HELD_SECONDS + 1
    lan.asked()
    lan.wire.ask_due()
    assert "10.0.0.9" in set().union(*lan.asked())
    assert lan.draw("10.0.0.9", "web") == "10.0.0.9"
    assert lan.asked() == []


def test_containers_that_start_with_the_host_are_asked_for_ahead(lan):
    """The host was off, so what they had is neither theirs nor free for certain."""
    lan.endpoint("10.0.0.9")
    lan.engine.join("n1", "e1", "/sandbox")
    lan.clock.now += 100
    lan.asked()
    boot = Clock(5.0)  # the host booted five seconds ago
    later = engine_on(lan.records, lan.kernel, lan.clock, boot).parts.ipam
    assert later.wire.must_ask(
        lan.records.pools.claim(lan.claim), ip_address("10.0.0.9")
    )
    later.wire.ask_due()
    assert "10.0.0.9" in set().union(*lan.asked())
    claim = lan.records.pools.claim(lan.claim)
    assert not later.wire.must_ask(claim, ip_address("10.0.0.9"))


@pytest.mark.parametrize("joined", [True, False])
def test_conflict_found_behind_the_answer_fails_join_or_the_endpoint(lan, joined):
    lan.wire.ask_due()
    lan.endpoint()
    if joined:
        lan.engine.join("n1", "e1", "/sandbox")
    lan.kernel.foreign = {"10.0.0.1": THEIRS}
    lan.wire.ask_due()
    assert lan.conflicts() == {"10.0.0.1": THEIRS}
    if not joined:
        with pytest.raises(AddressInUse, match=THEIRS):
            lan.engine.join("n1", "e1", "/sandbox")
        lan.engine.delete_endpoint("n1", "e1")
        lan.engine.dropper.finish_all()
    lan.ipam.release_address(lan.claim, "10.0.0.1")
    assert lan.conflicts() == {"10.0.0.1": THEIRS}


def test_quarantine_doubles_and_ends_when_the_segment_is_silent(lan):
    lan.kernel.foreign = {"10.0.0.1": THEIRS}
    lan.wire.ask_due()
    pauses = []
    for _ in range(12):
        pause = 0.0
        lan.asked()
        while "10.0.0.1" not in set().union(*lan.asked()):
            pause += asking.LOOK_SECONDS
            lan.clock.now += asking.LOOK_SECONDS
            lan.wire.ask_due()
        pauses.append(pause)
    assert pauses[:4] == [
        QUARANTINE_SECONDS,
        *(QUARANTINE_SECONDS * n for n in (1, 2, 4)),
    ]
    assert pauses[-1] == LONGEST_SECONDS
    lan.kernel.foreign = {}
    lan.clock.now += LONGEST_SECONDS
    lan.wire.ask_due()
    assert lan.conflicts() == {}
    # The next conflict about it lasts longer from the start.
    with lan.records.transaction():
        claim = lan.records.pools.claim(lan.claim)
        lan.wire.conflicts.record(claim, {ip_address("10.0.0.1"): THEIRS})
    lan.clock.now += QUARANTINE_SECONDS
    lan.wire.ask_due()
    assert lan.conflicts()
    lan.clock.now += QUARANTINE_SECONDS
    lan.wire.ask_due()
    assert lan.conflicts() == {}


def test_exhausted_pool_names_the_addresses_of_other_machines(records):
    lan = Lan(records, span="10.0.0.8/30")
    lan.kernel.foreign = {"10.0.0.9": THEIRS, "10.0.0.10": OTHER}
    assert [lan.draw() for _ in range(2)] == ["10.0.0.8", "10.0.0.11"]
    with pytest.raises(PoolExhausted, match="2 in use by other machines"):
        lan.draw()


def test_segment_full_of_machines_ends_the_search(lan):
    lan.kernel.foreign = {f"10.0.0.{n}": THEIRS for n in range(1, 255)}
    with pytest.raises(AddressInUse):
        lan.draw()
    assert len(lan.asked()) == MOST_QUESTIONS


def hear(lan, address, at, kind="claim"):
    lan.wire.sightings.note("eth0", Sighting(address, OTHER, "eth0", kind), at)


def first(count):
    return [f"10.0.0.{n}" for n in range(1, count + 1)]


def test_addresses_that_another_host_asks_for_at_once_are_left_to_it(
    lan,
):
    lan.kernel.rivals = {address: [OTHER] for address in first(16)}
    assert lan.draw() == "10.0.0.33"
    assert lan.asked() == [set(first(16)), {"10.0.0.33"}]
    assert lan.conflicts() == {}
    assert lan.counted == [("used", 0), ("contested", 16), ("free", 0),
                           ("used", 0), ("contested", 0), ("free", 1)]  # fmt: skip
    # The next call asks for them again: the other host may not have taken them.
    assert lan.draw() == "10.0.0.1"


def test_machine_that_asks_for_everything_is_named(lan):
    """As if it were about to take all addresses: the pool is not exhausted."""
    lan.kernel.rivals = {f"10.0.0.{n}": [OTHER] * 99 for n in range(1, 255)}
    with pytest.raises(AddressInUse, match=OTHER):
        lan.draw()


def test_last_addresses_are_asked_for_again_where_another_host_asks_too(records):
    lan = Lan(records, span="10.0.0.8/30")
    lan.kernel.rivals = {f"10.0.0.{n}": [OTHER] for n in range(8, 12)}
    assert lan.draw() == "10.0.0.8"
    assert lan.asked() == [{f"10.0.0.{n}" for n in range(8, 12)}, {"10.0.0.8"}]


def test_address_that_another_host_asks_for_ahead_is_asked_for_at_once(lan):
    lan.wire.ask_due()
    lan.asked()
    address = ip_address("10.0.0.1")
    lan.clock.now += 1
    hear(lan, address, lan.clock.now)
    assert lan.draw() == "10.0.0.1"
    assert lan.asked() == [set(first(16))]


@pytest.mark.parametrize("is_kept", [False, True])
def test_address_that_no_other_replaces_is_asked_for_until_another_host_insists(
    records, is_kept
):
    lan = Lan(records)
    address, words = "10.0.0.9", ("10.0.0.9", "")
    if is_kept:
        given = lan.draw(address, "web")
        lan.ipam.release_address(lan.claim, given)
        lan.clock.now += asking.HELD_SECONDS + asking.FRESH_SECONDS
        words = ("", "web")
    lan.asked()
    lan.kernel.rivals = {address: [OTHER] * (asking.MOST_ROUNDS - 1)}
    assert lan.draw(*words) == address
    assert lan.asked() == [{address}] * asking.MOST_ROUNDS
    lan.ipam.release_address(lan.claim, address)
    lan.clock.now += asking.HELD_SECONDS + asking.FRESH_SECONDS
    lan.kernel.rivals = {address: [OTHER] * asking.MOST_ROUNDS}
    if is_kept:
        assert lan.draw(*words) == "10.0.0.1"
    else:
        with pytest.raises(AddressInUse, match=OTHER):
            lan.draw(*words)
    assert lan.conflicts() == {address: OTHER}


def test_address_that_is_probed_all_the_time_and_free_is_given(lan, monkeypatch):
    """Switches probe what they track."""
    ask, address = lan.kernel.ask, ip_address("10.0.0.9")

    def probed(*question):
        found = ask(*question)
        lan.clock.now += 1
        lan.wire.sightings.note(
            "eth0", Sighting(address, OTHER, "eth0"), lan.clock.now + 1
        )
        return found

    monkeypatch.setattr(lan.kernel, "ask", probed)
    assert lan.draw("10.0.0.9") == "10.0.0.9"
    assert lan.asked() == [{"10.0.0.9"}] * 2


def test_address_that_the_host_s_kernel_knows_in_use_is_not_drawn(lan):
    """Also with probe=off, and though the machine does not answer."""
    lan.kernel.neighbours = {"10.0.0.1": THEIRS, "10.0.0.2": "", "10.0.0.3": ETH0.mac}
    assert lan.draw() == "10.0.0.3"
    assert lan.conflicts() == {"10.0.0.1": THEIRS}
    roles = {
        str(t.address): t.role for t in lan.records.leases.live_of_claim(lan.claim)
    }
    assert roles["10.0.0.2"] == "aux"
    # An administrator may route to a container, and name it.
    lan.kernel.neighbours = {"10.0.0.9": "", "10.0.0.4": OTHER}
    assert lan.draw("10.0.0.9") == "10.0.0.9"
    lan.kernel.rivals = {"10.0.0.5": [OTHER]}
    assert lan.draw() == "10.0.0.5"


def test_devices_of_the_host_are_looked_at_once_a_second(lan, monkeypatch):
    """However many foreign MACs are heard, and however many devices there are."""
    looks, devices = [], lan.kernel.devices

    def look():
        looks.append(lan.clock.now)
        return devices()

    monkeypatch.setattr(lan.kernel, "devices", look)
    assert not any(lan.wire.is_ours(f"02:00:00:00:01:{n:02x}") for n in range(50))
    assert lan.wire.is_ours(ETH0.mac)
    assert len(looks) == 1
    lan.clock.now += asking.MACS_SECONDS
    lan.kernel.strangers["new"] = replace(ETH0, name="new", mac=OTHER)
    assert lan.wire.is_ours(OTHER)


def test_lease_ends_again_if_another_host_has_leased_the_address_meanwhile(lan):
    """Each has found it free, and says so: at least one hears the other."""
    lan.wire.ask_due()
    address, said = ip_address("10.0.0.1"), [OTHER]

    def catch_up():  # after the lease
        if said and lan.records.leases.live(1, address):
            hear(lan, address, lan.clock.now, "hold")
            said.clear()

    lan.wire.catch_up = catch_up
    lan.clock.now += 1
    assert lan.draw() == "10.0.0.2"
    assert lan.conflicts() == {"10.0.0.1": OTHER}
    (ended,) = (t for t in lan.records.leases.history("10.0.0.1", 9) if t.until)
    assert ended.role == "endpoint"


@pytest.mark.parametrize("wish", ["", "10.0.0.1"])
def test_lease_that_ends_again_was_not_told_and_keeps_nothing(lan, wish):
    """The other host keeps its lease: it must not hear that this one has it too."""
    lan.wire.ask_due()
    address, held = ip_address("10.0.0.1"), []
    lan.wire.hold = lambda *words: held.append(words)

    def catch_up():  # the other host was a moment earlier
        if lan.records.leases.live(1, address):
            hear(lan, address, lan.clock.now, "hold")

    lan.wire.catch_up = catch_up
    lan.clock.now += 1
    if wish:
        with pytest.raises(AddressInUse):
            lan.draw(wish, "web")
        assert held == []
    else:
        assert lan.draw(wish, "web") == "10.0.0.2"
        assert held == [("eth0", ip_address("10.0.0.2"))]
    assert lan.records.reservations.get("default", address) is None


def test_reservation_stays_if_another_host_is_earlier(lan):
    given = lan.draw("10.0.0.9", "web")
    lan.ipam.release_address(lan.claim, given)
    address = ip_address(given)
    before = lan.records.reservations.get("default", address)
    lan.clock.now += 1
    lan.wire.catch_up = lambda: hear(lan, address, lan.clock.now, "hold")
    with pytest.raises(AddressInUse):
        lan.draw(given, "web")
    assert lan.records.reservations.get("default", address) == before


@pytest.mark.parametrize("options", [{"probe": "off"}, {}])
def test_only_a_network_whose_segment_is_asked_waits_for_what_is_said(records, options):
    lan, heard = Lan(records, **options), []
    lan.wire.catch_up = lambda: heard.append(1)
    lan.draw()
    assert bool(heard) == (not options)


@pytest.mark.parametrize("wish", ["", "10.0.0.1"])
def test_address_that_another_host_has_just_leased_is_not_free_though_silent(lan, wish):
    address = ip_address("10.0.0.1")
    lan.wire.ask_due()
    hear(lan, address, lan.clock.now, "hold")
    lan.kernel.rivals = {"10.0.0.1": [OTHER]}
    lan.clock.now += asking.START_SECONDS - 1
    if wish:
        with pytest.raises(AddressInUse):
            lan.draw(wish)
    else:
        assert lan.draw() == "10.0.0.2"
    assert lan.conflicts() == {"10.0.0.1": OTHER}
    lan.clock.now += 2  # it never came up
    assert lan.draw("10.0.0.1") == "10.0.0.1"


@pytest.mark.parametrize("how", ["ahead", "asked", "again", "many", "off"])
def test_host_tells_its_segment_that_it_has_leased_an_address(records, how):
    lan = Lan(records, **({"probe": "off"} if how == "off" else {}))
    held = []
    lan.wire.hold = lambda *words: held.append(words)
    if how == "many":  # so many calls wait that this one does not
        lan.wire._waiting = threading.Semaphore(0)
    if how == "ahead":
        lan.wire.ask_due()
    given = lan.draw()
    if how == "again":
        lan.ipam.release_address(lan.claim, given)
        held.clear()
        lan.draw(given)
    assert held == [("eth0", ip_address(given))] * (how != "off")


def test_address_taken_while_it_was_asked_for_is_not_given_twice(lan, monkeypatch):
    ask = lan.kernel.ask

    def meanwhile(*question):
        monkeypatch.undo()
        lan.draw("10.0.0.1")
        return ask(*question)

    monkeypatch.setattr(lan.kernel, "ask", meanwhile)
    assert lan.draw() == "10.0.0.2"
    monkeypatch.setattr(lan.kernel, "ask", meanwhile)
    lan.ipam.release_address(lan.claim, "10.0.0.1")
    lan.clock.now += asking.FRESH_SECONDS
    with pytest.raises(AddressTaken):
        lan.draw("10.0.0.1")


def test_answer_to_one_of_two_questions_at_once_is_not_forgotten(lan, monkeypatch):
    """The background may ask while a call does, and only one of them hears it."""
    ask = lan.kernel.ask

    def meanwhile(*question):
        monkeypatch.undo()
        lan.clock.now += 0.1
        lan.kernel.foreign = {"10.0.0.1": THEIRS}
        with pytest.raises(AddressInUse):
            lan.draw("10.0.0.1")
        lan.kernel.foreign = {}
        return ask(*question)

    monkeypatch.setattr(lan.kernel, "ask", meanwhile)
    lan.wire.ask_due()
    assert lan.conflicts() == {"10.0.0.1": THEIRS}


def test_dead_parent_is_not_asked_and_that_is_said_and_counted(lan, caplog):
    down = replace(ETH0, link_fault="down")
    lan.kernel.strangers["eth0"] = down
    assert lan.draw() == "10.0.0.1"
    assert "segment not asked for an address" in caplog.text
    assert {result for result, _ in lan.counted} == {"unasked"}
    lan.kernel.strangers["eth0"] = ETH0
    lan.draw()
    assert lan.counted[-1] == ("free", 16)


@pytest.mark.parametrize(
    ("options", "ipam"),
    [
        (PARENT, {"probe": "off"}),
        ({"mode": "ipvlan", "ipvlan_mode": "l3", "parent": "eth0"}, {}),
        ({}, {}),
    ],
)
def test_no_segment_is_asked_without_one_or_with_probe_off(records, options, ipam):
    lan = Lan(records, options=options or {"mode": "macvlan"}, **ipam)
    if not options:
        lan.engine.delete_network("n1")  # the pool is of another driver's network now
    lan.wire.ask_due()
    assert lan.draw() == "10.0.0.1"
    assert lan.asked() == []
    assert lan.wire.watched() == {}


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan", "bridge"])
def test_modes_with_a_segment_ask_on_it_and_macvlan_on_its_shim_too(records, mode):
    device = BR0.name if mode == "bridge" else ETH0.name
    own = "bridge" if mode == "bridge" else "parent"
    lan = Lan(records, options={"mode": mode, own: device})
    lan.draw()
    ((devices, _),) = lan.kernel.asked
    assert devices[0] == device
    assert len(devices) == (2 if mode == "macvlan" else 1)


def test_routed_network_has_no_segment():
    routed = Network("n1", {"mode": "routed", "proxy": "eth0"})
    assert asking.devices_of(routed) == ()


def test_ipv6_is_asked_as_well(records):
    lan = Lan(records, SIX)
    lan.kernel.foreign = {"fd00::1": THEIRS}
    assert lan.draw() == "fd00::2"
    assert lan.conflicts() == {"fd00::1": THEIRS}


def test_macs_of_this_host_and_its_containers_are_no_conflict(lan):
    mac = lan.endpoint("10.0.0.50").mac
    lan.kernel.foreign = {"10.0.0.1": mac, "10.0.0.2": ETH0.mac}
    assert [lan.draw() for _ in range(2)] == ["10.0.0.1", "10.0.0.2"]
    # The device of one that has ended may still answer.
    lan.engine.delete_endpoint("n1", "e1")
    lan.engine.dropper.finish_all()
    lan.ipam.release_address(lan.claim, "10.0.0.50")
    lan.kernel.foreign = {"10.0.0.60": mac}
    assert lan.draw("10.0.0.60") == "10.0.0.60"
    lan.clock.now += asking.HELD_SECONDS + 1
    lan.kernel.foreign = {"10.0.0.61": mac}
    with pytest.raises(AddressInUse):
        lan.draw("10.0.0.61")


def test_candidate_heard_from_another_machine_is_asked_for_again(lan):
    lan.wire.ask_due()
    lan.asked()
    lan.clock.now += 1
    lan.wire.sightings.note(
        "eth0", Sighting(ip_address("10.0.0.1"), THEIRS, "eth0"), lan.clock()
    )
    lan.kernel.foreign = {"10.0.0.1": THEIRS}
    assert lan.draw() == "10.0.0.2"
    assert len(lan.asked()) == 1


def test_too_many_waiting_calls_are_answered_at_once_and_asked_about_later(lan):
    for _ in range(asking.MOST_WAITING):
        assert lan.wire._waiting.acquire(blocking=False)
    assert lan.draw() == "10.0.0.1"
    assert lan.asked() == []
    lan.kernel.foreign = {"10.0.0.1": THEIRS}
    lan.wire.ask_due()
    assert lan.conflicts() == {"10.0.0.1": THEIRS}


def test_question_of_one_network_does_not_delay_another(lan, monkeypatch):
    """Nor does it hold the records: FakeKernel refuses a wait under the lock."""
    other = lan.ipam.request_pool("10.1.0.0/24", "", {"probe": "off"}, 4).id
    begun, answer = threading.Event(), threading.Event()

    def slow(*_question):
        lan.kernel.assert_may_wait()
        begun.set()
        assert answer.wait(10)
        return Verdict()

    monkeypatch.setattr(lan.kernel, "ask", slow)
    first = threading.Thread(target=lan.draw)
    first.start()
    assert begun.wait(10)
    assert str(lan.ipam.request_address(other, "", "").ip) == "10.1.0.1"
    answer.set()
    first.join()


def test_gateway_is_no_conflict_though_another_machine_has_it(lan):
    lan.kernel.foreign = {"10.0.0.1": THEIRS}
    lan.wire.ask_due()
    lan.ipam.request_gateway(lan.claim, "10.0.0.1")
    assert lan.conflicts() == {}
    lan.wire.ask_due()
    assert lan.conflicts() == {}


def test_memory_of_sightings_is_bounded():
    seen = Sightings()
    first = ip_address("10.0.0.0")
    for n in range(MOST + 1):
        seen.note("eth0", Sighting(first + n, THEIRS, "eth0", "hold"), 1.0)
    assert seen.since("eth0", first, 0.0) == ""
    assert seen.since("eth0", first + 1, 0.0) == THEIRS
    assert seen.since("eth0", first + 1, 1.0) == ""
    assert seen.since("eth1", first + 1, 0.0) == ""
