"""A device taken over by a bridge of ours: refusals and deaths on the fake kernel."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Interface, ip_address, ip_network
from time import time as wall_clock

import pytest

from tests.fakes import ETH0, LO, Clock, Death, FakeKernel, engine_on, ipam_on
from tests.worlds import WEB
from underlay.api import status
from underlay.errors import (
    BadParent,
    KernelRefused,
    NetworkDiffers,
    NoParent,
    TakeoverFailed,
    TakeoverImpossible,
    TakeoverNotConfirmed,
)
from underlay.model import BridgeTakeover, Device, HostEntry, Network, Subnet
from underlay.model.objects import BridgePort, ForwardAccept, Owner
from underlay.reconcile.scheduling import REPAIR_SECONDS, REPAIRS
from underlay.records import Records

SUBNET = Subnet(ip_network("10.0.0.0/24"))
OPTIONS = {"mode": "bridge", "parent": "eth0", "takeover": "yes"}
ON = Network("n1", OPTIONS, False, (SUBNET,))
BRIDGE = Owner.parse("underlay::bridge/eth0").device
FACTS = (
    HostEntry("address", "10.0.0.5/24", "aa"),
    HostEntry("route", "0.0.0.0/0 via 10.0.0.1 metric 0 table 254", "bb", "10.0.0.1"),
)


def host(*devices):
    kernel = FakeKernel(LO, ETH0, *devices)
    kernel.on_devices["eth0"] = list(FACTS)
    return kernel


def entries_by_device(kernel):
    return {d: sorted(s.words for s in on) for d, on in kernel.on_devices.items() if on}


WORDS = sorted(f.words for f in FACTS)


def life(engine):
    return [
        lambda: engine.create_network(ON),
        lambda: engine.create_endpoint(WEB),
        engine.reconcile,
        lambda: engine.delete_network("n1"),
        engine.reconcile,
    ]


def test_takeover_steps_print_what_is_moved_as_iproute2_commands(records, caplog):
    caplog.set_level("INFO")
    engine = engine_on(records, host())
    for verb in life(engine):
        verb()
    steps = [r.step for r in caplog.records if r.message == "step"]
    eth0 = "/sys/class/net/eth0"
    assert steps == [
        f"ip link add name {BRIDGE} address $(cat {eth0}/address) mtu $(cat {eth0}/mtu)"
        " up type bridge",
        f"ip link set eth0 master {BRIDGE}",
        f"ip addr replace 10.0.0.5/24 dev {BRIDGE}; ip addr del 10.0.0.5/24 dev eth0",
        f"ip route replace {FACTS[1].words} dev {BRIDGE};"
        f" ip route del {FACTS[1].words} dev eth0",
        "ip link set eth0 nomaster",
        f"ip addr replace 10.0.0.5/24 dev eth0; ip addr del 10.0.0.5/24 dev {BRIDGE}",
        f"ip route replace {FACTS[1].words} dev eth0;"
        f" ip route del {FACTS[1].words} dev {BRIDGE}",
        f"ip link del {BRIDGE}",
    ]


@pytest.mark.parametrize("moment", ["refuse_at", "die_before", "die_after"])
@pytest.mark.parametrize("step", range(1, 14))
def test_refusal_or_death_at_any_takeover_step_loses_nothing_of_the_host(
    tmp_path, moment, step
):
    kernel = host()
    setattr(kernel, moment, step)
    records = Records(tmp_path / "underlay.db")
    engine = engine_on(records, kernel)
    for verb in life(engine):
        try:
            verb()
        except (KernelRefused, Death):
            break
    assert kernel.steps >= step
    records.close()
    records = Records(tmp_path / "underlay.db")
    kernel.calm()
    engine = engine_on(records, kernel)
    engine.reconcile()
    assert engine.reconcile() == []
    assert engine.preview() == ()
    on = BRIDGE if records.networks.all() else "eth0"
    assert entries_by_device(kernel) == {on: WORDS}
    assert (BRIDGE in kernel.links) == bool(records.networks.all())
    assert bool(records.host.takeovers()) == bool(records.networks.all())
    records.close()


def test_device_s_addresses_and_routes_are_recorded_before_a_takeover_changes_it(
    tmp_path,
):
    kernel = host()
    kernel.die_before = 1
    records = Records(tmp_path / "underlay.db")
    with pytest.raises(Death):
        engine_on(records, kernel).create_network(ON)
    records.close()
    records = Records(tmp_path / "underlay.db")
    (found,) = records.host.takeovers()
    assert (found.state, found.entries) == ("trying", FACTS)
    records.close()


@pytest.fixture
def between(records, monkeypatch):
    """Have something happen once, between two transactions of a take-over.

    Before the 1st gap it is noted, before the 2nd it is done, in which its next hops
    are asked; then it is confirmed.
    """

    def happen(what, gap=1):
        due = [what] + [lambda: None] * (gap - 1)

        def then():
            if due:
                due.pop()()

        monkeypatch.setattr(records, "check_there", then)

    return happen


GAPS = pytest.mark.parametrize("gap", [1, 2])


def test_a_take_over_that_another_process_begins_meanwhile_is_refused(records):
    kernel = host()
    engine = engine_on(records, kernel)
    other = BridgeTakeover("eth0", BRIDGE, "trying")

    def probe(_device, _addresses):
        with records.transaction():
            records.host.note_takeover(other)
        return frozenset()

    kernel.probe = probe
    with pytest.raises(TakeoverFailed, match="the host was busy"):
        engine.create_network(ON)
    assert entries_by_device(kernel) == {"eth0": WORDS}


@GAPS
def test_pass_during_a_takeover_does_not_revert_it(records, between, gap):
    kernel = host()
    engine = engine_on(records, kernel)
    between(engine.reconcile, gap)
    engine.create_network(ON)
    assert [t.state for t in records.host.takeovers()] == ["on"]
    assert entries_by_device(kernel) == {BRIDGE: WORDS}
    engine.delete_network("n1")
    assert entries_by_device(kernel) == {"eth0": WORDS}


@GAPS
def test_pass_of_another_process_during_a_takeover_has_it_refused_and_reverted(
    records, between, gap
):
    kernel = host()
    between(engine_on(records, kernel).reconcile, gap)
    with pytest.raises(TakeoverFailed, match="the host was busy"):
        engine_on(records, kernel).create_network(ON)
    assert entries_by_device(kernel) == {"eth0": WORDS}
    assert records.host.takeovers() == records.networks.all() == []


@GAPS
def test_takeover_bridge_is_kept_while_a_network_is_being_created_on_it(
    records, between, gap
):
    kernel = host()
    engine = engine_on(records, kernel)
    engine.create_network(ON)
    between(lambda: engine.delete_network("n1"), gap)
    steps = kernel.steps
    engine.create_network(replace(ON, id="n2"))
    assert kernel.steps == steps
    assert [t.state for t in records.host.takeovers()] == ["on"]
    assert entries_by_device(kernel) == {BRIDGE: WORDS}
    engine.delete_network("n2")
    assert entries_by_device(kernel) == {"eth0": WORDS}
    assert records.host.takeovers() == []


def test_address_removed_from_the_device_during_a_takeover_does_not_come_back(
    records, between
):
    kernel = host()
    engine = engine_on(records, kernel)

    def taken_away():
        del kernel.on_devices["eth0"][1]
        engine.reconcile()

    between(taken_away)
    engine.create_network(ON)
    engine.reconcile()
    assert entries_by_device(kernel) == {BRIDGE: [FACTS[0].words]}


@GAPS
@pytest.mark.parametrize("silent", [False, True])
def test_address_added_to_the_device_during_a_takeover_is_not_lost(
    records, between, silent, gap
):
    """It is not on record, so it is not touched before all else is done."""
    kernel = host()
    engine = engine_on(records, kernel)
    kernel.silent |= {BRIDGE} if silent else set()
    between(lambda: kernel.on_devices["eth0"].append(STRAY), 1 if silent else gap)
    with suppress(TakeoverFailed):
        engine.create_network(ON)
    engine.reconcile()
    there = "eth0" if silent else BRIDGE
    assert entries_by_device(kernel) == {there: sorted((*WORDS, STRAY.words))}


OTHERS = {
    "is on it with devices of its own": {"parent": "eth0"},
    "it answers for the containers of network": {"mode": "routed", "proxy": "eth0"},
}


def other(options):
    segments = (Subnet(ip_network("10.9.0.0/24"), ip_address("10.9.0.1"), pooled=True),)
    return Network("n2", options, subnets=segments)


@pytest.mark.parametrize("words", OTHERS)
def test_child_added_to_the_device_during_a_takeover_stays_there(
    records, between, words
):
    kernel = host()
    engine = engine_on(records, kernel)
    between(lambda: engine.create_network(other(OTHERS[words])))
    with pytest.raises(TakeoverImpossible, match=words):
        engine.create_network(ON)
    assert entries_by_device(kernel) == {"eth0": WORDS}
    assert [n.id for n in records.networks.all()] == ["n2"]
    assert records.host.takeovers() == []


@pytest.mark.parametrize("options", OTHERS.values())
def test_macvlan_network_on_a_device_taken_over_meanwhile_is_refused(
    records, between, options
):
    kernel = host()
    engine = engine_on(records, kernel)
    between(lambda: engine.create_network(ON))
    with pytest.raises(BadParent, match="it is a port of"):
        engine.create_network(other(options))
    assert [n.id for n in records.networks.all()] == ["n1"]


def test_takeover_bridge_found_by_a_moving_default_route_is_made_again(
    records, monkeypatch
):
    kernel = host()
    engine = engine_on(records, kernel)
    engine.create_network(ON)
    kernel.default = BRIDGE
    in_use = records.networks.active

    def last_one_goes(mode):
        engine.delete_network("n1")
        kernel.default = "eth0"
        return in_use(mode)

    monkeypatch.setattr(records.networks, "active", last_one_goes)
    auto = {**ON.options, "parent": "auto"}
    engine.create_network(replace(ON, id="n2", options=auto))
    assert [t.state for t in records.host.takeovers()] == ["on"]
    assert entries_by_device(kernel) == {BRIDGE: WORDS}


@GAPS
def test_child_added_while_next_hops_are_probed_has_the_takeover_refused(
    records, between, gap
):
    """Or has come before: one of the two stands, and nothing is lost."""
    kernel = host()
    engine = engine_on(records, kernel)

    def come():
        with suppress(BadParent):
            engine.create_network(other(OTHERS["is on it with devices of its own"]))

    between(come, gap)
    with suppress(TakeoverImpossible):
        engine.create_network(ON)
    (network,) = records.networks.all()
    assert network.id == {1: "n2", 2: "n1"}[gap]
    assert entries_by_device(kernel) == {BRIDGE if gap == 2 else "eth0": WORDS}


def test_manual_reversal_while_next_hops_are_probed_has_the_takeover_refused(
    records, between
):
    kernel = host()
    between(lambda: unplug(kernel), 2)
    with pytest.raises(TakeoverFailed, match="the host was busy"):
        engine_on(records, kernel).create_network(ON)
    assert entries_by_device(kernel) == {"eth0": WORDS}
    assert records.networks.all() == records.host.takeovers() == []


UNASKED = {"mode": "bridge", "parent": "eth0"}


def test_macvlan_s_parent_option_alone_takes_no_device_over(records):
    kernel = host()
    engine = engine_on(records, kernel)
    with pytest.raises(
        TakeoverNotConfirmed, match="E-152 mode=bridge with parent=eth0 "
    ):
        engine.create_network(replace(ON, options=UNASKED))
    assert kernel.steps == 0
    assert entries_by_device(kernel) == {"eth0": WORDS}
    assert records.networks.all() == records.host.takeovers() == []


def test_further_network_needs_the_takeover_option_and_is_warned_that_nothing_moves(
    records,
):
    kernel, engine, _ = taken_over(records)
    steps, now = kernel.steps, entries_by_device(kernel)
    with pytest.raises(
        TakeoverNotConfirmed, match=r"joins it, and nothing moves\. If you"
    ):
        engine.create_network(replace(ON, id="n2", options=UNASKED))
    assert (kernel.steps, entries_by_device(kernel)) == (steps, now)


def test_network_from_before_the_takeover_option_keeps_working(records):
    kernel, engine, time = taken_over(records)
    engine.delete_endpoint("n1", "e1")
    with records.transaction():
        known = replace(records.networks.get("n1"), options=UNASKED)
        records.networks.remove("n1")
        records.networks.add(known)
    engine.create_endpoint(WEB)
    unplug(kernel)
    look(engine, time)
    assert kernel.device("eth0").master == BRIDGE
    assert engine.preview() == ()
    # As after a boot, in which the host's network service has configured eth0.
    boot_without(kernel)
    kernel.strangers["eth0"] = ETH0
    kernel.on_devices["eth0"] = list(FACTS)
    look(engine, time, "")
    assert entries_by_device(kernel) == {BRIDGE: WORDS}
    engine.delete_endpoint("n1", "e1")
    engine.delete_network("n1")
    assert entries_by_device(kernel) == {"eth0": WORDS}


class Patient(FakeKernel):
    """A kernel whose next hops take as long as something else does."""

    def probe(self, device, addresses):
        if device == BRIDGE:
            self.meanwhile()
        return super().probe(device, addresses)


@pytest.fixture
def patient():
    kernel = Patient(LO, ETH0, replace(ETH0, name="eth1", mac="52:54:00:00:00:02"))
    kernel.on_devices["eth0"] = list(FACTS)
    return kernel


def test_takeover_without_next_hops_probes_none(records, patient):
    """Not even where there is no bridge to ask behind: it is made by the next pass."""

    def meanwhile():
        raise KernelRefused(step="ip neigh show", why="no device", hint="")

    patient.on_devices["eth0"] = list(FACTS[:1])
    patient.meanwhile = meanwhile
    engine = engine_on(records, patient)
    engine.create_network(ON)
    engine.create_network(replace(ON, id="n2"))
    assert {n.id for n in records.networks.all()} == {"n1", "n2"}


def test_repeated_network_request_is_no_second_takeover(records):
    kernel = host()
    engine = engine_on(records, kernel)
    engine.create_network(ON)
    steps = kernel.steps
    engine.create_network(ON)
    assert kernel.steps == steps
    with pytest.raises(NetworkDiffers):
        engine.create_network(replace(ON, internal=True))
    assert entries_by_device(kernel) == {BRIDGE: WORDS}


def test_other_requests_are_served_while_next_hops_are_probed(records, patient):
    engine = engine_on(records, patient)
    beside = Network("n2", {"parent": "eth1", "host_access": "off"}, False, (SUBNET,))

    def serve():
        engine.create_network(beside)
        engine.create_endpoint(replace(WEB, id="e2", network="n2"))
        engine.reconcile()

    def meanwhile():
        with ThreadPoolExecutor() as others:
            others.submit(serve).result(timeout=20)

    patient.meanwhile = meanwhile
    engine.create_network(ON)
    assert {n.id for n in records.networks.all()} == {"n1", "n2"}
    assert engine.preview() == ()
    assert entries_by_device(patient) == {BRIDGE: WORDS}


def test_process_death_while_next_hops_are_probed_leaves_a_recoverable_host(
    tmp_path, patient
):
    def meanwhile():
        raise Death

    patient.meanwhile = meanwhile
    records = Records(tmp_path / "underlay.db")
    with pytest.raises(Death):
        engine_on(records, patient).create_network(ON)
    assert entries_by_device(patient) == {BRIDGE: WORDS}
    records.close()
    records = Records(tmp_path / "underlay.db")
    assert engine_on(records, patient).reconcile() == []
    assert entries_by_device(patient) == {"eth0": WORDS}
    assert patient.links == {}
    assert records.host.takeovers() == records.networks.all() == []
    records.close()


@GAPS
def test_unexpected_error_reverts_a_takeover_at_once(records, between, gap):
    kernel = host()
    engine = engine_on(records, kernel)

    def fault():
        raise OSError(errno.EINTR, "dump interrupted")

    between(fault, gap)
    with pytest.raises(OSError, match="dump interrupted"):
        engine.create_network(ON)
    assert records.host.takeovers() == []
    assert entries_by_device(kernel) == {"eth0": WORDS}


def test_auto_finds_the_takeover_bridge_whatever_its_port_is_called(records):
    kernel, engine, _ = taken_over(records)
    kernel.strangers["lan0"] = replace(kernel.strangers.pop("eth0"), name="lan0")
    kernel.default = BRIDGE
    steps = kernel.steps
    auto = {**OPTIONS, "parent": "auto"}
    engine.create_network(replace(ON, id="n2", options=auto))
    assert kernel.steps == steps
    assert records.networks.get("n2").uplink.parent == BRIDGE


def test_device_with_a_pending_restoration_is_not_taken_over(records):
    kernel = Stubborn(LO, ETH0)
    kernel.on_devices["eth0"] = list(FACTS)
    engine = engine_on(records, kernel)
    kernel.silent.add(BRIDGE)
    kernel.refused = "nomaster"
    with pytest.raises(TakeoverFailed):
        engine.create_network(ON)
    assert [t.state for t in records.host.takeovers()] == ["trying"]
    with pytest.raises(TakeoverImpossible, match="is not undone yet"):
        engine.create_network(ON)
    kernel.refused = "nothing"
    with pytest.raises(TakeoverFailed):
        engine.create_network(ON)
    assert entries_by_device(kernel) == {"eth0": WORDS}
    assert records.host.takeovers() == records.networks.all() == []


def test_silent_gateway_reverts_the_takeover(records):
    kernel = host()
    kernel.silent.add(BRIDGE)
    with pytest.raises(TakeoverFailed, match=r"10.0.0.1 did not answer behind"):
        engine_on(records, kernel).create_network(ON)
    assert entries_by_device(kernel) == {"eth0": WORDS}
    assert kernel.links == {}
    assert records.host.takeovers() == records.networks.all() == []


def test_network_refused_after_the_device_was_inspected_leaves_it_alone(records):
    kernel = host()
    engine = engine_on(records, kernel)
    kernel.refuse_at = 2
    with pytest.raises(KernelRefused):
        engine.create_network(ON)
    assert entries_by_device(kernel) == {"eth0": WORDS}
    assert kernel.device("eth0").master == ""


def child(kind):
    return Device("c0", kind, ETH0.mac, 1500, parent="eth0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda k: k.wireless.add("eth0"), "it is wireless"),
        (lambda k: k.strangers.update(eth0=replace(ETH0, master="bond0")), "of bond0"),
        (lambda k: k.strangers.update(c0=child("macvtap")), "c0 .macvtap. is on it"),
        (lambda k: k.strangers.update(c0=child("ipvlan")), "c0 .ipvlan. is on it"),
        (lambda k: k.on_devices["eth0"].append(
            HostEntry("address", "10.9.0.1/24", "cc", obstacle="it has a lifetime")),
         "of its address 10.9.0.1/24, it has a lifetime.*-o bridge=<name>"),
    ],
)  # fmt: skip
def test_device_that_cannot_be_taken_over_is_refused_untouched(records, change, words):
    kernel = host()
    change(kernel)
    with pytest.raises(TakeoverImpossible, match=words):
        engine_on(records, kernel).create_network(ON)
    assert kernel.steps == 0
    assert records.host.takeovers() == []


def test_proxy_of_routed_containers_is_not_taken_over(records):
    kernel = host()
    engine, ipam = engine_on(records, kernel), ipam_on(records, kernel=kernel)
    subnet = ip_network("10.9.0.0/24")
    claim = ipam.request_pool(str(subnet), "", {}, 4)
    ipam.request_gateway(claim.id, "10.9.0.1")
    options = {"mode": "routed", "proxy": "eth0"}
    segments = (Subnet(subnet, ip_address("10.9.0.1"), pooled=True),)
    engine.create_network(Network("n0", options, subnets=segments))
    with pytest.raises(
        TakeoverImpossible, match="answers for the containers of network n0"
    ):
        engine.create_network(ON)


def test_parent_of_macvlan_networks_is_not_taken_over_and_vice_versa(records):
    kernel = host()
    engine = engine_on(records, kernel)
    lan = replace(ON, id="n0", options={"parent": "eth0"})
    engine.create_network(lan)
    with pytest.raises(TakeoverImpossible, match="network n0 is on it"):
        engine.create_network(ON)
    engine.delete_network("n0")
    engine.create_network(ON)
    with pytest.raises(BadParent, match="use mode=bridge and takeover=yes with"):
        engine.create_network(lan)


@pytest.mark.parametrize(
    ("parent", "words"),
    [("br0", "it is a bridge itself. Use -o bridge=br0"), ("eth0.5", "no VLAN eth0.5")],
)
def test_device_kind_that_mode_bridge_does_not_make_is_refused(records, parent, words):
    kernel = host(replace(ETH0, name="br0", kind="bridge"))
    options = {"mode": "bridge", "parent": parent, "takeover": "yes"}
    with pytest.raises(BadParent, match=words):
        engine_on(records, kernel).create_network(replace(ON, options=options))
    assert kernel.steps == 0


def test_existing_vlan_can_be_taken_over(records):
    kernel = host(Device("office", "vlan", ETH0.mac, 1500, parent="eth0", vlan=5))
    engine = engine_on(records, kernel)
    for number, options in enumerate(({"parent": "eth0.5"}, {"parent": "office"})):
        options = {"mode": "bridge", "takeover": "yes", **options}
        engine.create_network(replace(ON, id=f"n{number}", options=options))
    assert [t.parent for t in records.host.takeovers()] == ["office"]
    assert entries_by_device(kernel)["eth0"] == WORDS


def test_missing_takeover_device_is_waited_for(records):
    kernel = host()
    engine = engine_on(records, kernel)
    engine.create_network(ON)
    kernel.links.clear()
    kernel.others.clear()
    kernel.on_devices.clear()
    del kernel.strangers["eth0"]
    engine.reconcile()
    kernel.strangers["eth0"] = ETH0
    kernel.on_devices["eth0"] = list(FACTS)
    engine.reconcile()
    assert engine.preview() == ()
    assert entries_by_device(kernel) == {BRIDGE: WORDS}


@pytest.mark.parametrize("looked", [True, False])
def test_start_without_bridge_and_parent_is_refused_by_the_parent_s_name(
    records, looked
):
    kernel = host()
    engine = engine_on(records, kernel)
    engine.create_network(replace(ON, options={**OPTIONS, "missing_parent": "fail"}))
    if looked:
        engine.reconcile()
    kernel.strangers.pop("eth0")
    kernel.links.pop(BRIDGE)
    with pytest.raises(NoParent, match="'eth0'"):
        engine.create_endpoint(WEB)


# --- passes ---


class Stubborn(FakeKernel):
    """A kernel that refuses steps of which the words have `refused` in them."""

    refused = "nothing"

    def apply(self, step):
        if self.refused in str(step):
            self.steps += 1
            raise KernelRefused(step=step, why="Device or resource busy", hint="")
        super().apply(step)


def taken_over(records):
    """Return a kernel and an engine with eth0 taken over, and their clock."""
    kernel, time = Stubborn(LO, ETH0), Clock(wall_clock())
    kernel.on_devices["eth0"] = list(FACTS)
    engine = engine_on(records, kernel, time)
    engine.create_network(ON)
    engine.create_endpoint(WEB)
    engine.reconcile()
    return kernel, engine, time


def unplug(kernel):
    kernel._unplug(next(o for o in kernel.others.values() if isinstance(o, BridgePort)))


def nowhere(_):
    """Watch nothing."""


def look(engine, time, *places):
    return engine.reconciler.run_pass(set(places), time(), nowhere)


def told(records):
    (found,) = status.networks(records)
    return found["health"], found["error"]


STRAY = HostEntry("address", "10.0.0.9/24", "dd")


def test_manually_unplugged_takeover_port_is_restored_and_logged(records):
    kernel, engine, time = taken_over(records)
    unplug(kernel)
    look(engine, time)
    assert kernel.device("eth0").master == BRIDGE
    (entry,) = records.repairs.latest(9)
    assert entry.mark == Owner.parse("underlay::bridge/eth0").mark
    assert (entry.at, entry.before, entry.error) == (time(), "", "")
    assert entry.step == f"ip link set eth0 master {BRIDGE}"
    assert {r["health"] for r in status.parents(records)} == {"repaired"}


def test_later_moves_to_the_takeover_bridge_are_logged_with_their_origin(records):
    kernel, engine, time = taken_over(records)
    kernel.on_devices["eth0"].append(STRAY)
    look(engine, time)
    (entry,) = records.repairs.latest(9)
    assert entry.before == "ip addr add 10.0.0.9/24 dev eth0"
    assert entry.step == (
        f"ip addr replace 10.0.0.9/24 dev {BRIDGE}; ip addr del 10.0.0.9/24 dev eth0"
    )


def test_refused_takeover_backs_off_without_blocking_others(records, monkeypatch):
    kernel, engine, time = taken_over(records)
    unplug(kernel)
    kernel.refused = "ip link set eth0 master"
    notes = []
    monkeypatch.setattr(type(records.host), "note_takeover", lambda *_: notes.append(1))
    began, steps = time(), kernel.steps
    while time() < began + 100:
        look(engine, time)
        time.now += 0.25
    assert kernel.steps - steps <= 8
    assert notes == []
    (failure,) = records.repairs.failures()
    assert (failure.mark, failure.since) == ("underlay::bridge/eth0", began)
    assert told(records)[0] == "failing"
    assert told(records)[1].startswith("E-400 the kernel refused `ip link set eth0 m")
    kernel.links.pop(Owner("n1", "e1").device)
    kernel.links.pop(Owner("n1", "e1").host_end.device)
    look(engine, time)
    assert Owner("n1", "e1").device in kernel.links
    # Something has changed in the host: soon is soon enough.
    kernel.refused = "nothing"
    time.now += 1
    look(engine, time, "")
    assert kernel.device("eth0").master == BRIDGE
    assert records.repairs.failures() == []


def test_network_service_that_keeps_readdressing_the_device_is_reported(records):
    kernel, engine, time = taken_over(records)
    began, before = time(), kernel.steps
    while time() < began + 120:
        on_eth0 = kernel.on_devices["eth0"]
        on_eth0.extend([] if STRAY in on_eth0 else [STRAY])
        again = look(engine, time)
        time.now += min(again or 0.25, 0.25)
    moved = kernel.steps - before
    assert REPAIRS < moved <= REPAIRS + 120 / REPAIR_SECONDS
    error = told(records)[1]
    assert error.startswith("E-403 `ip addr replace 10.0.0")
    # It has stopped.
    for _ in range(2):
        time.now += REPAIR_SECONDS
        look(engine, time)
    assert STRAY not in kernel.on_devices["eth0"]
    assert told(records)[1] == ""


@pytest.mark.parametrize("refused", ["master", "ip addr replace"])
def test_steps_after_a_refused_takeover_step_are_not_run(records, refused):
    kernel, engine, _ = taken_over(records)
    unplug(kernel)
    kernel.on_devices["eth0"].append(STRAY)
    before = entries_by_device(kernel)
    kernel.refused = refused
    (failed,) = engine.reconcile()
    assert refused in str(failed)
    assert entries_by_device(kernel) == before


@pytest.mark.parametrize("refused", ["nomaster", "ip addr replace", "ip route"])
def test_takeover_bridge_that_cannot_be_emptied_is_not_deleted(records, refused):
    kernel, engine, _ = taken_over(records)
    engine.delete_endpoint("n1", "e1")
    kernel.refused = refused
    engine.delete_network("n1")
    (failed,) = engine.reconcile()
    assert refused in str(failed)
    assert BRIDGE in kernel.links
    assert sorted(w for on in entries_by_device(kernel).values() for w in on) == WORDS
    kernel.refused = "nothing"
    assert engine.reconcile() == []
    assert entries_by_device(kernel) == {"eth0": WORDS}
    assert kernel.links == {}


def test_route_lost_with_its_address_is_added_on_the_bridge(records):
    kernel, engine, time = taken_over(records)
    needed = HostEntry("route", "10.8.0.0/16 via 10.0.0.8 metric 0 table 254", "ee")
    kernel.on_devices["eth0"] += [STRAY, needed]
    kernel.die_after = kernel.steps + 1
    with pytest.raises(Death):
        look(engine, time)
    kernel.calm()
    kernel.on_devices["eth0"].remove(needed)
    look(engine_on(records, kernel, time), time)
    assert entries_by_device(kernel) == {
        BRIDGE: sorted([*WORDS, STRAY.words, needed.words])
    }


# --- a device that is missing ---

HOST_END, DEVICE = Owner("n1", "e1").host_end.device, Owner("n1", "e1").device


def lose_device(kernel):
    """Have eth0 disappear, with what stood on it."""
    kernel.strangers.pop("eth0")
    kernel.on_devices.pop("eth0", None)


def boot_without(kernel):
    """Have a host that came up and has nothing but its records."""
    lose_device(kernel)
    kernel.on_devices.clear()
    kernel.others.clear()
    kernel.links.clear()


WAITED_FOR = f"device eth0 ({ETH0.mac}) is missing; waiting for it to appear"


def test_waiting_container_is_served_when_its_bridge_takes_the_device_over(records):
    kernel, engine, time = taken_over(records)
    engine.delete_endpoint("n1", "e1")
    boot_without(kernel)
    engine.create_endpoint(WEB)
    look(engine, time, "")
    assert set(kernel.links) == {DEVICE, HOST_END}
    assert kernel.links[HOST_END].master is None
    assert engine.preview() == ()
    assert told(records) == ("pending", WAITED_FOR)
    (endpoint,) = status.endpoints(records)
    assert (endpoint["health"], endpoint["error"]) == ("pending", WAITED_FOR)
    # First the card is there, and then what the host's network service gives it.
    kernel.strangers["eth0"] = ETH0
    look(engine, time, "")
    assert kernel.device("eth0").master == BRIDGE
    assert kernel.links[HOST_END].master == BRIDGE
    assert entries_by_device(kernel) == {}
    kernel.on_devices["eth0"] = [STRAY]
    look(engine, time, "")
    assert entries_by_device(kernel) == {BRIDGE: [STRAY.words]}
    assert engine.preview() == ()
    assert told(records)[1] == ""


def test_card_of_other_networks_is_not_taken_over_in_place_of_a_missing_one(
    records,
):
    kernel, engine, time = taken_over(records)
    other = Device("eth1", "", "52:54:00:00:00:02", 1500)
    kernel.strangers["eth1"] = other
    beside = Network("n2", {"parent": "eth1", "host_access": "off"}, False, (SUBNET,))
    engine.create_network(beside)
    engine.reconcile()
    # The other card alone is there, and is called eth0 this time.
    boot_without(kernel)
    kernel.strangers["eth0"] = replace(kernel.strangers.pop("eth1"), name="eth0")
    kernel.on_devices["eth0"] = [STRAY]
    for _ in range(2):
        look(engine, time, "")
        assert entries_by_device(kernel) == {"eth0": [STRAY.words]}
        assert kernel.device("eth0").master == ""
        assert [n["health"] for n in status.networks(records)] == [
            "pending",
            "repaired",
        ]
    # And then both have their own names.
    kernel.strangers["eth1"], kernel.strangers["eth0"] = other, ETH0
    look(engine, time, "")
    assert kernel.device("eth0").master == BRIDGE
    assert records.networks.get("n2").uplink.parent == "eth1"


@pytest.mark.parametrize("wish", ["eth0", "auto", f"mac:{ETH0.mac}"])
def test_awaited_takeover_device_has_a_name_and_an_address_however_requested(
    records, wish
):
    kernel, engine, time = taken_over(records)
    kernel.default = BRIDGE if wish == "auto" else "eth0"
    again = replace(ON, id="n2", options={**OPTIONS, "parent": wish})
    engine.create_network(again)
    boot_without(kernel)
    look(engine, time, "")
    assert {n["error"] for n in status.networks(records)} == {WAITED_FOR}


def test_network_of_an_older_version_waits_for_its_takeover_device(records):
    kernel, engine, time = taken_over(records)
    with records.transaction():
        network = records.networks.get("n1")
        unknown = replace(network.uplink, base_device=None)
        records.networks.move(replace(network, uplink=unknown))
    look(engine, time, "")
    lose_device(kernel)
    look(engine, time, "")
    assert told(records) == ("pending", WAITED_FOR)


def accepts(kernel):
    return {o.match for o in kernel.others.values() if isinstance(o, ForwardAccept)}


def test_renamed_takeover_device_and_new_containers_stay_ports(records):
    kernel, engine, time = taken_over(records)
    before = dict(kernel.links)
    kernel.strangers["lan0"] = replace(kernel.strangers.pop("eth0"), name="lan0")
    look(engine, time, "")
    assert kernel.links == before
    assert accepts(kernel) == {f"-i {BRIDGE} -o {BRIDGE}"}
    assert told(records)[1] == ""
    engine.create_endpoint(replace(WEB, id="e2", ipv4=IPv4Interface("10.0.0.7/24")))
    assert kernel.links[Owner("n1", "e2").host_end.device].master == BRIDGE


def test_running_container_keeps_its_port_while_the_takeover_device_is_missing(records):
    kernel, engine, time = taken_over(records)
    before = dict(kernel.links)
    held = entries_by_device(kernel)
    lose_device(kernel)
    for _ in range(20):
        look(engine, time, "")
        time.now += 1
    assert (kernel.links, entries_by_device(kernel)) == (before, held)
    # Where bridged frames pass the firewall, they reach each other by that.
    assert accepts(kernel) == {f"-i {BRIDGE} -o {BRIDGE}"}
    assert records.repairs.failures() == []
    assert told(records) == ("pending", WAITED_FOR)
    kernel.strangers["eth0"] = ETH0
    kernel.on_devices["eth0"] = list(FACTS[:1])
    look(engine, time, "")
    assert engine.preview() == ()
    assert kernel.device("eth0").master == BRIDGE
    assert (kernel.links, entries_by_device(kernel)) == (before, held)


def test_unused_takeover_bridge_goes_with_its_device_and_what_was_on_it(records):
    kernel, engine, time = taken_over(records)
    engine.delete_endpoint("n1", "e1")
    lose_device(kernel)
    engine.delete_network("n1")
    assert kernel.links == {}
    assert entries_by_device(kernel) == {}
    assert records.host.takeovers() == []
    kernel.strangers["eth0"] = ETH0
    steps = kernel.steps
    look(engine, time, "")
    assert kernel.steps == steps


def test_pending_restoration_waits_for_the_device(records):
    kernel, engine, time = taken_over(records)
    engine.delete_endpoint("n1", "e1")
    kernel.die_before = kernel.steps + 1
    with pytest.raises(Death):
        engine.delete_network("n1")
    kernel.calm()
    lose_device(kernel)
    look(engine, time, "")
    assert kernel.links == {}
    assert engine.preview() == ()
    kernel.strangers["eth0"] = ETH0
    look(engine, time, "")
    assert entries_by_device(kernel) == {"eth0": WORDS}
    assert records.host.takeovers() == []


def test_takeover_bridge_that_cannot_be_made_blocks_no_container_start(records):
    kernel, engine, time = taken_over(records)
    engine.delete_endpoint("n1", "e1")
    boot_without(kernel)
    kernel.strangers["eth0"] = ETH0
    kernel.refused = f"ip link add name {BRIDGE}"
    engine.create_endpoint(WEB)
    look(engine, time, "")
    (endpoint,) = status.endpoints(records)
    assert endpoint["error"] == (
        "there is no bridge in the place of eth0 now; waiting for it"
    )
    assert told(records)[0] == "failing"
    assert told(records)[1].startswith("E-400")
    kernel.refused = "nothing"
    time.now += 1
    look(engine, time, "")
    assert kernel.links[HOST_END].master == BRIDGE
    assert engine.preview() == ()


@pytest.mark.parametrize("moment", ["refuse_at", "die_before", "die_after"])
def test_refusal_or_death_at_any_step_still_takes_the_returning_device_over(
    records, moment
):
    kernel, engine, time = taken_over(records)
    bridged = set(kernel.links)
    for step in range(1, 99):
        boot_without(kernel)
        look(engine, time, "")
        kernel.strangers["eth0"] = ETH0
        kernel.on_devices["eth0"] = list(FACTS)
        kernel.steps = 0
        setattr(kernel, moment, step)
        with suppress(Death):
            look(engine, time, "")
        reached = kernel.steps >= step
        kernel.calm()
        engine = engine_on(records, kernel, time)
        assert engine.reconcile() == []
        assert engine.preview() == ()
        assert entries_by_device(kernel) == {BRIDGE: WORDS}
        assert kernel.links[HOST_END].master == BRIDGE
        assert set(kernel.links) == bridged
        if not reached:
            assert step > 4
            return
