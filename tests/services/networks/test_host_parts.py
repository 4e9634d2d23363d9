"""What containers have in the host, beside devices: failures at every step of it."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from ipaddress import (
    IPv4Interface,
    IPv6Interface,
    ip_address,
    ip_interface,
    ip_network,
)

import pytest

from tests.fakes import ETH0, Clock, Death, FakeKernel, engine_on
from tests.worlds import (
    HERE,
    MACVLAN,
    ROUTED,
    WAYS,
    life,
    network,
    parts,
    segment,
    steps_of,
)
from underlay.errors import GatewayTaken, KernelRefused
from underlay.model import Endpoint, Network
from underlay.model.objects import (
    ForwardAccept,
    Link,
    Neighbour,
    NftChain,
    Owner,
    Route,
    Sysctl,
)
from underlay.model.steps import Amend, Create, Delete
from underlay.records import Records


def endpoint(identity, net, last, length=(24, 64)):
    return Endpoint(
        identity,
        net,
        IPv4Interface(f"10.0.0.{last}/{length[0]}"),
        IPv6Interface(f"fd00::{last}/{length[1]}"),
    )


STEPS = {  # counted by a test below
    "routed": 61, "macvlan": 33, "ipvlan": 30,
    "macvlan-guarded": 40, "routed-guarded": 45,
}  # fmt: skip


@pytest.fixture
def kernel():
    found = FakeKernel()
    found.host_addresses = {"eth0": HERE}
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "underlay.db"


def state(kernel):
    links = {replace(x, peer=None) for x in kernel.links.values()}
    settings = {(k, v) for k, v in kernel.settings.items() if v != "0"}
    return links, set(kernel.others), settings


def rebuilt(path):
    """Return what a pass makes of the records on an empty host."""
    kernel = FakeKernel()
    kernel.host_addresses = {"eth0": HERE}
    assert parts(path, kernel)[0].reconcile() == []
    return state(kernel)


@pytest.mark.parametrize("way", WAYS)
def test_network_lifecycle_takes_as_many_steps_as_are_made_to_fail(path, kernel, way):
    for verb in life(*parts(path, kernel), WAYS[way]):
        verb()
    assert kernel.steps == STEPS[way]
    assert state(kernel) == (set(), set(), set())


def failures():
    return [
        pytest.param(way, moment, step, id=f"{way}-{moment}-{step}")
        for way, steps in STEPS.items()
        for moment in ("refuse_at", "die_before", "die_after")
        for step in range(1, steps + 1)
    ]


@pytest.mark.parametrize(("way", "moment", "step"), failures())
def test_failure_at_any_step_of_a_lifecycle_is_repaired_by_a_pass(
    path, kernel, way, moment, step
):
    setattr(kernel, moment, step)
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, WAYS[way]):
        try:
            verb()
        except KernelRefused:
            break
        except Death:
            break
    assert kernel.steps >= step
    kernel.calm()
    engine, _ = parts(path, kernel)
    assert engine.reconcile() == []
    assert engine.preview() == ()
    assert state(kernel) == rebuilt(path)
    for known in engine.records.networks.all():
        engine.delete_network(known.id)
    assert state(kernel) == (set(), set(), set())


@pytest.mark.parametrize(
    ("way", "first", "shared"), [("routed", 1, ForwardAccept), ("macvlan", 0, Link)]
)
def test_objects_shared_with_another_cost_the_next_no_step(
    path, kernel, way, first, shared
):
    """What containers share, as for routed ones; or networks, as on a parent."""
    verbs = life(*parts(path, kernel), WAYS[way])
    taken = [steps_of(kernel, verb) for verb in verbs]
    counts = [sum(isinstance(s.object, shared) for s in steps) for steps in taken]
    assert counts[first] > counts[first + 2]


def test_host_end_of_a_veth_is_reconciled_after_docker_moved_the_other(path, kernel):
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, ROUTED)[:2]:
        verb()
    engine.join("n1", "e1", "/run/a")
    owner = Owner("n1", "e1")
    kernel.links.pop(owner.device)  # moved into the sandbox
    route = next(k for k, o in kernel.others.items() if isinstance(o, Route))
    gone = kernel.others.pop(route)
    assert engine.reconcile() == []
    assert kernel.others[route] == gone
    kernel.links.clear()
    kernel.others = {k: o for k, o in kernel.others.items() if not o.device}
    # A veth is made in the host whole, and half of it would be unowned.
    assert engine.reconcile() == []
    assert kernel.links == {}


def test_settings_are_noted_before_they_are_changed_and_put_back_after_the_last(
    path, kernel
):
    kernel.settings["net/forwarding/4"] = "7"
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, ROUTED)
    for verb in verbs[:4]:
        verb()
    noted = {s.path: s.before for s in engine.records.host.sysctls()}
    assert noted["net/forwarding/4"] == "7"
    assert kernel.settings["net/forwarding/4"] == "1"
    verbs[4]()
    verbs[5]()
    assert kernel.settings["net/forwarding/4"] == "1"
    verbs[6]()
    assert kernel.settings["net/forwarding/4"] == "7"
    assert engine.records.host.sysctls() == []


def test_required_sysctl_changed_by_another_program_is_set_again(path, kernel):
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, ROUTED)[:2]:
        verb()
    kernel.settings["net/forwarding/6"] = "0"
    (step,) = engine.preview()
    assert isinstance(step, Amend)
    assert isinstance(step.object, Sysctl)
    assert engine.reconcile() == []
    assert kernel.settings["net/forwarding/6"] == "1"


def test_lost_sysctl_notes_are_made_again_by_a_pass(path, kernel):
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, ROUTED)[:2]:
        verb()
    for reason in {s.reason for s in engine.records.host.sysctls()}:
        engine.records.host.forget_sysctls(reason)
    kernel.settings.clear()
    assert engine.reconcile() == []
    assert kernel.settings["net/forwarding/4"] == "1"


def test_host_routes_to_containers_follow_the_host_s_address(path, kernel):
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, MACVLAN)[:2]:
        verb()
    kernel.host_addresses["eth0"] = (
        ip_interface("10.0.0.99/24"),
        ip_interface("fd00::99/64"),
    )
    assert engine.reconcile() == []
    sources = {o.source for o in kernel.others.values() if isinstance(o, Route)}
    assert sources == {ip_address("10.0.0.99"), ip_address("fd00::99")}
    proxies = [o for o in kernel.others.values() if isinstance(o, Neighbour)]
    assert ip_address("fd00::99") in {o.address for o in proxies if not o.mac}


@pytest.mark.parametrize(
    "here", [(), (ip_interface("192.168.7.1/24"), ip_interface("fd07::1/64"))]
)
def test_host_without_an_address_on_the_segment_has_no_shim(path, kernel, here):
    kernel.host_addresses = {"eth0": here}
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, MACVLAN)[:2]:
        verb()
    assert [link.owner for link in kernel.links.values()] == [Owner("n1", "e1")]
    assert kernel.others == {}


def test_parent_in_a_vrf_has_no_shim(path, kernel):
    kernel.strangers["eth0"] = replace(ETH0, master="vrf-blue")
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, MACVLAN)[:2]:
        verb()
    assert [link.owner for link in kernel.links.values()] == [Owner("n1", "e1")]
    assert engine.preview() == ()


def chain_of_the_shim(kernel):
    (found,) = [
        o
        for o in kernel.others.values()
        if isinstance(o, NftChain) and o.family == "ip"
    ]
    return found


def test_bridge_traffic_through_the_shim_has_the_host_s_address_of_the_segment(
    path, kernel
):
    kernel.host_addresses = {"eth0": (ip_interface("10.7.0.9/24"), *HERE)}
    # A bridge with a wire in it is a LAN's, which the host routes for: that keeps its
    # source. A name may mean something to nft.
    for name in ("docker0", "br-lan", "a b"):
        kernel.strangers[name] = replace(ETH0, name=name, kind="bridge")
    kernel.strangers["eth9"] = replace(ETH0, name="eth9", master="br-lan")
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, MACVLAN)
    for verb in verbs[:2]:
        verb()
    assert engine.reconcile() == []
    shim = Owner.parse("underlay::shim/eth0").device
    found = chain_of_the_shim(kernel)
    assert found.hook == "nat hook postrouting priority 99"  # before Docker's
    begin = f'iifname {{ "docker0" }} oifname "{shim}"'
    assert found.rules == (
        f"{begin} ip daddr 10.7.0.0/24 snat to 10.7.0.9",
        f"{begin} ip daddr 10.0.0.0/24 snat to 10.0.0.9",
        f"{begin} snat to 10.7.0.9",
    )
    kernel.host_addresses = {"eth0": (ip_interface("10.0.0.99/24"),)}
    assert engine.reconcile() == []
    assert chain_of_the_shim(kernel).rules[-1] == f"{begin} snat to 10.0.0.99"
    kernel.strangers["vms"] = replace(ETH0, name="vms", kind="bridge")
    assert engine.reconcile() == []
    assert '{ "docker0", "vms" }' in chain_of_the_shim(kernel).rules[-1]
    for verb in verbs[4:6]:
        verb()
    assert not any(isinstance(o, NftChain) for o in kernel.others.values())


def test_shim_that_the_lan_could_hear_is_not_made_without_nftables(path, kernel):
    kernel.has_nft = False
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, MACVLAN)[:2]:
        verb()
    assert [link.owner for link in kernel.links.values()] == [Owner("n1", "e1")]


def test_a_shim_is_up_only_when_its_filters_are_there(path, kernel):
    engine, ipam = parts(path, kernel)
    create, *_ = life(engine, ipam, MACVLAN)
    taken = [str(step) for step in steps_of(kernel, create)]
    up = next(i for i, s in enumerate(taken) if s.startswith("ip link set ul-"))
    filters = [i for i, s in enumerate(taken) if s.startswith("nft add chain netdev")]
    assert len(filters) == 2
    assert max(filters) < up
    assert any(f"link add link {ETH0.name}" in step for step in taken)


class Guarding(FakeKernel):
    """A kernel that sets no shim up without both of its filters."""

    def apply(self, step):
        super().apply(step)
        device = Owner.parse("underlay::shim/eth0").device
        on_it = [o for o in self.others.values() if o.device == device]
        guards = [o for o in on_it if isinstance(o, NftChain)]
        if isinstance(step, Amend) and step.object.device == device:
            assert len(guards) == 2, str(step)


@pytest.mark.parametrize("step", range(1, STEPS["macvlan"] // 2))
def test_a_shim_whose_filter_is_refused_is_not_set_up(path, step):
    kernel = Guarding()
    kernel.host_addresses = {"eth0": HERE}
    engine, ipam = parts(path, kernel)
    create, start, *_ = life(engine, ipam, MACVLAN)
    kernel.refuse_at = step
    with suppress(KernelRefused):
        create()
        start()
    engine.reconcile()
    engine.reconcile()
    assert all(link.up for link in kernel.links.values() if link.up_after_filters)


@pytest.mark.parametrize("left", range(3))
@pytest.mark.parametrize("moment", ["refuse_at", "die_before"])
def test_a_shim_that_was_left_down_is_set_up_after_its_filters(path, moment, left):
    kernel = Guarding()
    kernel.host_addresses = {"eth0": HERE}
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, MACVLAN)[:2]:
        verb()
    shim = Owner.parse("underlay::shim/eth0").device
    for key in [k for k, o in kernel.others.items() if o.device == shim][left:]:
        kernel.others.pop(key)
    kernel.links[shim] = replace(kernel.links[shim], up=False)
    setattr(kernel, moment, kernel.steps + 2)
    with suppress(Death):
        engine.reconcile()
    kernel.calm()
    engine, _ = parts(path, kernel)
    assert engine.reconcile() == []
    assert kernel.links[shim].up


def test_leftover_object_without_owner_is_deleted_after_a_second_check(path, kernel):
    engine, _ = parts(path, kernel)
    stray = Route(ip_network("10.9.0.0/24"), None, 10)
    kernel.apply(Create(stray))
    assert engine.reconcile() == []
    assert kernel.others == {}


@pytest.mark.parametrize("what", ["a leftover", "a setting"])
def test_full_snapshot_holds_up_no_verb(path, kernel, monkeypatch, what):
    engine, ipam = parts(path, kernel)
    create, start, *_ = life(engine, ipam, ROUTED)
    create()
    start()
    assert engine.reconcile() == []
    if what == "a leftover":
        kernel.apply(Create(Route(ip_network("10.9.0.0/24"), None, 10)))
    else:
        for setting in engine.records.host.sysctls():
            kernel.settings[setting.path] = setting.before
    assert engine.preview() != ()
    observe, waited = kernel.observe, []

    def write():
        with engine.records.transaction():
            pass

    def observe_beside_a_writer(names=None):
        if names is None:
            verb = threading.Thread(target=write, daemon=True)
            verb.start()
            verb.join(2)
            waited.append(verb.is_alive())
        return observe(names)

    monkeypatch.setattr(kernel, "observe", observe_beside_a_writer)
    engine.reconcile()
    assert engine.preview() == ()
    assert waited
    assert not any(waited)


def test_a_setting_that_drifted_is_written_once(path, kernel):
    engine, ipam = parts(path, kernel)
    create, start, *_ = life(engine, ipam, MACVLAN)
    create()
    start()
    assert engine.reconcile() == []
    drifted = [k for k in kernel.settings if "ul-" in k]
    assert drifted
    for setting in drifted:
        kernel.settings[setting] = "7"
    before = kernel.steps
    assert engine.reconcile() == []
    assert kernel.steps == before + len(drifted)
    assert len(engine.records.repairs.latest(100)) == len(drifted)


def test_leftover_object_needed_again_meanwhile_is_left_alone(
    path, kernel, monkeypatch
):
    engine, _ = parts(path, kernel)
    stray = Route(ip_network("10.9.0.0/24"), None, 10)
    kernel.apply(Create(stray))
    exclusive = engine.records.exclusive

    def late(*given):
        with engine.records.transaction():
            engine.records.repairs.note_failure("somebody", "writes", 0.0)
        return exclusive(*given)

    with monkeypatch.context() as patched:
        patched.setattr(engine.records, "exclusive", late)
        assert engine.reconcile() == []
    assert stray.key in kernel.others
    assert engine.reconcile() == []
    assert kernel.others == {}


@pytest.mark.parametrize(("where", "words"), [("own", "has it"), ("answered", "LAN")])
def test_gateway_address_of_another_machine_is_not_taken(path, kernel, where, words):
    getattr(kernel, where).add("fd00::1")
    engine, ipam = parts(path, kernel)
    with pytest.raises(GatewayTaken, match=f"gateway fd00::1 .*{words}"):
        life(engine, ipam, ROUTED)[0]()
    assert state(kernel) == (set(), set(), set())


def test_gateway_of_another_routed_network_is_shared(path, kernel):
    engine, ipam = parts(path, kernel)
    create, start, again, *_ = life(engine, ipam, ROUTED)
    create()
    start()
    kernel.own = {"10.0.0.1", "fd00::1"}
    again()
    assert len(engine.records.networks.all()) == 2


def test_networks_of_one_subnet_in_two_tables_have_a_blackhole_in_each(path, kernel):
    kernel.host_addresses = {}
    engine, ipam = parts(path, kernel)
    for number, table in enumerate(("100", "200")):
        claim = ipam.request_pool("10.0.0.0/24", "", {}, 4).id
        ipam.request_gateway(claim, "10.0.0.1")
        four = segment("10.0.0.0/24", "10.0.0.1")
        options = {"mode": "routed", "table": table}
        engine.create_network(Network(f"n{number}", options, subnets=(four,)))
    tables = {o.table for o in kernel.others.values() if isinstance(o, Route)}
    assert tables == {100, 200}
    engine.delete_network("n0")
    tables = {o.table for o in kernel.others.values() if isinstance(o, Route)}
    assert tables == {200}


def test_host_reaches_the_containers_in_its_own_subnets_only(path, kernel):
    """Of a network with two subnets, the host may be in one of them only."""
    engine, _ = parts(path, kernel)
    here, there = segment("10.0.0.0/24", "10.0.0.1"), segment("10.9.0.0/24", "10.9.0.1")
    unpooled = tuple(replace(s, pooled=False) for s in (there, here))
    engine.create_network(Network("n1", MACVLAN, subnets=unpooled))
    assert Owner.parse("underlay::shim/eth0").device in kernel.links
    for number, address in enumerate(("10.9.0.5/24", "10.0.0.5/24")):
        engine.create_endpoint(Endpoint(f"e{number}", "n1", IPv4Interface(address)))
    routes = [o for o in kernel.others.values() if isinstance(o, Route)]
    assert [str(route.destination) for route in routes] == ["10.0.0.5/32"]
    assert engine.preview() == ()


def test_missing_shim_is_made_again_by_the_next_start(path, kernel):
    engine, ipam = parts(path, kernel)
    create, start, again, third, *_ = life(engine, ipam, MACVLAN)
    create()
    start()
    shim = Owner.parse("underlay::shim/eth0").device
    kernel.links.pop(shim)
    again()
    third()
    assert shim in kernel.links


@pytest.mark.parametrize("asked", [False, True])
def test_verbs_fail_for_host_access_only_if_that_was_required(path, kernel, asked):
    engine, ipam = parts(path, kernel)
    options = {**MACVLAN, "host_access": "on"} if asked else MACVLAN
    create, start, *_ = life(engine, ipam, options)
    shim, apply = Owner.parse("underlay::shim/eth0").device, kernel.apply

    def refusing(step):
        if step.object.device == shim:
            raise KernelRefused(step=step, why="File exists (EEXIST)", hint="")
        apply(step)

    kernel.apply = refusing
    if asked:
        with pytest.raises(KernelRefused):
            create()
        assert engine.records.networks.all() == []
        kernel.apply = apply
        engine.create_network(network("n1", **options))
        kernel.links.pop(shim)
        kernel.apply = refusing
        with pytest.raises(KernelRefused):
            engine.create_endpoint(endpoint("e1", "n1", 5))
        return
    create()
    start()
    assert Owner("n1", "e1").device in kernel.links
    assert engine.reconcile() != []
    failing = {t.mark for t in engine.records.repairs.failures()}
    assert Owner.parse("underlay::shim/eth0").mark in failing
    kernel.apply = apply
    assert engine.reconcile() == []
    assert engine.records.repairs.failures() == []


def test_sysctl_that_cannot_be_restored_stops_no_pass_and_is_logged(path, kernel):
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, ROUTED)
    verbs[0]()
    verbs[1]()
    apply = kernel.apply

    def read_only(step):
        if isinstance(step.object, Sysctl):
            raise KernelRefused(step=step, why="Read-only (EROFS)", hint="")
        apply(step)

    kernel.apply = read_only
    verbs[4]()
    kernel.others.clear()
    assert all(isinstance(step.object, Sysctl) for step in engine.reconcile())
    assert [o for o in kernel.others.values() if isinstance(o, Route)] != []
    (failure, *_) = engine.records.repairs.failures()
    assert "EROFS" in failure.text
    kernel.apply = apply
    assert engine.reconcile() == []
    assert engine.records.repairs.failures() == []


def test_host_end_of_an_unknown_container_is_left_alone(path, kernel):
    """Records that are older than a container must not cost it its network."""
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, ROUTED)[:2]:
        verb()
    owner = Owner("n1", "e1")
    kernel.links.pop(owner.device)  # in its sandbox
    kernel.carrying.add(owner.host_end.device)
    lost = engine_on(Records(path.with_name("lost.db")), kernel, Clock())
    assert lost.reconcile() != []
    assert owner.host_end.device in kernel.links
    (failure,) = lost.records.repairs.failures()
    assert "E-401" in failure.text


def meanwhile(kernel, act):
    """Have something done once, when a pass has looked at the host."""
    observe = kernel.observe

    def overtaken(names=None):
        seen = observe(names)
        if names is None:
            kernel.observe = observe
            act()
        return seen

    kernel.observe = overtaken


@pytest.mark.parametrize("options", [ROUTED, MACVLAN], ids=["routed", "macvlan"])
def test_changes_of_a_verb_beside_a_pass_are_no_repairs(tmp_path, options):
    """A start, and a removal: each after the look of a pass at the host."""
    kernel = FakeKernel()
    kernel.host_addresses = {"eth0": HERE}
    engine, ipam = parts(tmp_path / "underlay.db", kernel)
    verbs = life(engine, ipam, options)
    verbs[0]()
    for verb in (verbs[1], verbs[4]):
        meanwhile(kernel, verb)
        assert engine.reconcile() == []
        assert [str(entry.step) for entry in engine.records.repairs.latest(99)] == []
        assert engine.preview() == ()


def test_rule_that_a_verb_is_just_making_is_not_deleted(tmp_path):
    """Nor is one made for an endpoint that left: programs run outside of the lock."""
    kernel = FakeKernel()
    engine, ipam = parts(tmp_path / "underlay.db", kernel)
    verbs = life(engine, ipam, ROUTED)
    verbs[0]()
    verbs[1]()
    executor = engine.reconciler.executor
    rules = [
        o for o in kernel.others.values() if isinstance(o, ForwardAccept | NftChain)
    ]
    made = [Create(o) for o in rules if o.owner]
    assert made
    assert all(map(executor._is_due, made))
    verbs[4]()
    verbs[5]()
    assert not any(map(executor._is_due, made))
    assert not any(executor._is_due(Delete(o)) for o in rules)
