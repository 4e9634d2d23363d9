"""Forwarding that is switched on for containers lets nothing else pass."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from tests.fakes import ETH0, FakeKernel
from tests.worlds import ROUTED, life, parts, steps_of
from underlay.errors import ForwardingUnfiltered, KernelRefused, UnderlayError
from underlay.model import FAMILIES, Device
from underlay.model.objects import NftChain, Sysctl, SysctlReason
from underlay.model.steps import Create
from underlay.networks import reboot
from underlay.networks.forwarding import chain, is_door

FOUR, SIX = "net/forwarding/4", "net/forwarding/6"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "underlay.db"


@pytest.fixture
def kernel():
    return FakeKernel()


def doors(kernel):
    """Return the tables in which what is not for containers is not forwarded."""
    return {o.family for o in kernel.others.values() if is_door(o)}


def lose(kernel, *kinds):
    kernel.others = {k: o for k, o in kernel.others.items() if not isinstance(o, kinds)}


@pytest.mark.parametrize("name", ["docker0", "shop"])
def test_forwarding_stays_on_while_docker_has_a_bridge_of_that_family(
    path, kernel, name
):
    """Whatever it is called: com.docker.network.bridge.name."""
    kernel.strangers[name] = Device(name, "bridge", "02:00:00:00:00:01", 1500)
    kernel.host_addresses[name] = (ip_interface("172.17.0.1/16"),)
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, ROUTED):
        verb()
    assert kernel.settings[FOUR] == "1"
    assert kernel.settings[SIX] == "0"
    # No other program shut the door for strangers.
    assert doors(kernel) == {"ip"}
    assert engine.reconcile() == []
    assert engine.preview() == ()
    kernel.strangers.pop(name)
    kernel.host_addresses.pop(name)
    assert engine.reconcile() == []
    assert kernel.settings[FOUR] == "0"
    assert engine.records.host.sysctls() == []
    assert engine.reconcile() == []
    assert doors(kernel) == set()


@pytest.mark.parametrize("name", ["br0", "br-lan"])
def test_forwarding_is_put_back_beside_a_bridge_that_leads_out(path, kernel, name):
    kernel.strangers[name] = Device(name, "bridge", "02:00:00:00:00:01", 1500)
    kernel.strangers["nic"] = Device("nic", "", ETH0.mac, 1500, master=name)
    kernel.host_addresses[name] = (ip_interface("192.168.7.9/24"),)
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, ROUTED):
        verb()
    assert kernel.settings[FOUR] == "0"


def test_forward_filter_accepts_only_container_traffic_and_leaves_the_rest_to_others():
    made = chain(6, {"docker0", 'a"b'}, {"docker0", "br0"})
    assert (made.family, made.hook) == ("ip6", "filter hook forward priority 0")
    assert made.rules == (
        "iifgroup 30060 accept",
        "oifgroup 30060 accept",
        'iifname { "docker0" } accept',
        'oifname { "docker0" } accept',
        'iifname "br0" oifname "br0" accept',
        "drop",
    )


def test_forward_filter_is_active_before_forwarding_and_until_it_is_off(path, kernel):
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, ROUTED)
    verbs[0]()
    steps = steps_of(kernel, verbs[1])
    kinds = [(type(s.object), getattr(s.object, "value", "")) for s in steps]
    assert kinds.index((NftChain, "")) < kinds.index((Sysctl, "1"))
    assert doors(kernel) == {"ip", "ip6"}
    for verb in verbs[2:]:
        verb()
    assert doors(kernel) == set()
    assert "1" not in kernel.settings.values()


def test_host_that_routed_before_keeps_its_forwarding(path, kernel):
    kernel.settings |= {FOUR: "1", SIX: "1"}
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, ROUTED)[:2]:
        verb()
    assert engine.reconcile() == []
    assert doors(kernel) == set()


def test_forwarding_stays_off_where_the_forward_filter_fails(path, kernel):
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, ROUTED)
    verbs[0]()
    apply = kernel.apply

    def without_nft(step):
        if isinstance(step.object, NftChain) and isinstance(step, Create):
            raise KernelRefused(step=step, why="no such program: nft", hint="")
        apply(step)

    kernel.apply = without_nft
    with pytest.raises(
        ForwardingUnfiltered, match=r"E-404.*no such program.*ip_forward=1"
    ):
        verbs[1]()
    assert "1" not in map(kernel.settings.get, (FOUR, SIX))
    assert engine.records.host.sysctls() == []
    # Nor by a pass, when what shut the door is gone later.
    kernel.apply = apply
    verbs[1]()
    kernel.apply = without_nft
    lose(kernel, NftChain)
    kernel.settings |= {FOUR: "0", SIX: "0"}
    assert engine.reconcile() != []
    assert "1" not in map(kernel.settings.get, (FOUR, SIX))
    kernel.apply = apply
    assert engine.reconcile() == []
    assert kernel.settings[FOUR] == kernel.settings[SIX] == "1"


def test_forwarding_already_on_means_a_start_changes_nothing(path, kernel):
    """As on a host without nft whose containers ran before there was a door."""
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, ROUTED)
    for verb in verbs[:2]:
        verb()
    lose(kernel, NftChain)
    apply = kernel.apply

    def without_nft(step):
        if is_door(step.object):
            raise KernelRefused(step=step, why="no such program: nft", hint="")
        apply(step)

    kernel.apply = without_nft
    assert {str(s)[:13] for s in engine.reconcile()} == {"nft add chain"}
    for verb in verbs[2:4]:
        verb()
    assert len(engine.records.endpoints.all()) == 2


def test_pass_with_an_old_snapshot_does_not_delay_a_start(path, kernel):
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, ROUTED)
    verbs[0]()
    shut, before = (
        engine.reconciler.builder.forwarding.shut,
        engine.reconciler.builder.forwarding.changes,
    )

    def meanwhile(reasons):
        shut(reasons)
        engine.reconciler.builder.forwarding.update(
            (), before
        )  # as seen before the chain was made

    engine.reconciler.builder.forwarding.shut = meanwhile
    verbs[1]()
    assert kernel.settings[FOUR] == kernel.settings[SIX] == "1"


def test_pass_with_an_old_snapshot_does_not_enable_forwarding_for_the_next_network(
    path, kernel
):
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, ROUTED)
    for verb in verbs[:2]:
        verb()
    observe = kernel.observe

    def overtaken(names=None):
        seen = observe(names)
        if names is None:
            kernel.observe = observe
            for verb in verbs[4:6]:
                verb()
        return seen

    kernel.observe = overtaken
    engine.preview()
    assert doors(kernel) == set()
    for verb in verbs[:2]:
        verb()
    assert kernel.settings[FOUR] == kernel.settings[SIX] == "1"
    assert doors(kernel) == {"ip", "ip6"}


def test_endpoints_of_the_last_boot_require_no_forwarding(path, kernel):
    """Whether it had a sandbox or not; what was noted is of that boot, too."""
    engine, ipam = parts(path, kernel)
    reboot.forget_last_boot(engine.records, kernel)
    for verb in life(engine, ipam, ROUTED)[:4]:
        verb()
    engine.join("n1", "e1", "/run/a")
    assert len(engine.records.endpoints.not_joined()) == 1
    kernel.links, kernel.others = {}, {}
    kernel.settings = {SIX: "1"}  # by the administrator
    kernel.booted = "boot-2"
    engine, _ = parts(path, kernel)
    reboot.forget_last_boot(engine.records, kernel)
    assert engine.records.host.sysctls() == []
    assert engine.reconcile() == []
    assert kernel.settings.get(FOUR, "0") == "0"
    assert kernel.settings[SIX] == "1"
    assert doors(kernel) == set()


def test_verb_reads_no_bridges_while_other_networks_already_forward(path, kernel):
    """Links are as many as there are: the first start and the last end look at them."""
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, ROUTED)
    for verb in verbs[:2]:
        verb()

    def look(*_kinds):
        raise AssertionError("looked at links")

    kernel.container_bridges = look
    for verb in verbs[2:5]:
        verb()


def beside_docker(kernel):
    """Have a bridge of other people's containers there, with an IPv4 address."""
    kernel.strangers["shop"] = Device("shop", "bridge", "02:00:00:00:00:01", 1500)
    kernel.host_addresses["shop"] = (ip_interface("172.17.0.1/16"),)


def without_nft(kernel, monkeypatch):
    """Have every chain refused, until the patch is undone."""
    apply = kernel.apply

    def refusing(step):
        if isinstance(step.object, NftChain) and isinstance(step, Create):
            raise KernelRefused(step=step, why="no such program: nft", hint="")
        apply(step)

    monkeypatch.setattr(kernel, "apply", refusing)


def is_untouched(engine, kernel):
    """Tell whether nothing of ours is noted, failing, or to be done."""
    return (
        engine.records.host.sysctls() == []
        and engine.records.repairs.failures() == []
        and doors(kernel) == set()
        and engine.preview() == ()
    )


@pytest.mark.parametrize("meanwhile", ["0", "1"])
def test_a_refused_start_leaves_no_forwarding_on_record(
    path, kernel, monkeypatch, meanwhile
):
    """Beside other people's containers too; nor does the administrator's own door."""
    beside_docker(kernel)
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, ROUTED)
    verbs[0]()
    without_nft(kernel, monkeypatch)
    with pytest.raises(ForwardingUnfiltered):
        verbs[1]()
    assert is_untouched(engine, kernel)
    kernel.settings[FOUR] = meanwhile  # as E-404 advises
    verbs[5]()
    monkeypatch.undo()
    assert engine.reconcile() == []
    assert is_untouched(engine, kernel)
    assert kernel.settings[FOUR] == meanwhile


def test_start_refused_half_way_leaves_no_forwarding_on_record(tmp_path):
    """Whichever step of it: what others have there did not need forwarding before."""
    refused = []
    for nth in range(1, 24):
        kernel = FakeKernel()
        beside_docker(kernel)
        engine, ipam = parts(tmp_path / f"{nth}.db", kernel)
        verbs = life(engine, ipam, ROUTED)
        verbs[0]()
        kernel.refuse_after = kernel.steps + nth
        try:
            verbs[1]()
        except UnderlayError:
            kernel.calm()
            refused.append(nth)
            assert kernel.settings.get(FOUR, "0") == "0"
            assert engine.reconcile() == []
            assert is_untouched(engine, kernel), nth
    assert len(refused) > 3


def test_forwarding_enabled_first_by_the_administrator_stays_theirs(
    path, kernel, monkeypatch
):
    """It was noted as off by a start that died, or could not take its note back."""
    beside_docker(kernel)
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, ROUTED)
    verbs[0]()
    without_nft(kernel, monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(ForwardingUnfiltered):
        patch.setattr(engine.records.host, "forget_sysctls", lambda _reason: None)
        verbs[1]()
    monkeypatch.undo()
    assert engine.records.host.sysctls() != []
    kernel.settings |= {FOUR: "1", SIX: "1"}
    for verb in verbs[1:4]:
        verb()
        assert engine.reconcile() == []
        assert doors(kernel) == set()
    reasons = {SysctlReason("forwarding", family=family) for family in FAMILIES}
    assert engine._builder.sysctls.note(reasons) == set()
    for verb in verbs[4:]:
        verb()
    assert engine.reconcile() == []
    assert (kernel.settings[FOUR], kernel.settings[SIX]) == ("1", "1")
    assert is_untouched(engine, kernel)


def test_unused_forwarding_note_is_forgotten_by_a_pass(path, kernel, monkeypatch):
    """Its process may have died before it set anything."""
    beside_docker(kernel)
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, ROUTED)
    verbs[0]()
    without_nft(kernel, monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(ForwardingUnfiltered):
        patch.setattr(engine.records.host, "forget_sysctls", lambda _reason: None)
        verbs[1]()
    monkeypatch.undo()
    engine, _ = parts(path, kernel)
    assert engine.records.host.sysctls() != []
    assert engine.reconcile() == []
    assert is_untouched(engine, kernel)
    assert kernel.settings.get(FOUR, "0") == "0"


def test_forwarding_disabled_by_the_administrator_stays_off(path, kernel):
    beside_docker(kernel)
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, ROUTED):
        verb()
    assert (kernel.settings[FOUR], doors(kernel)) == ("1", {"ip"})
    kernel.settings[FOUR] = "0"
    assert engine.reconcile() == []
    assert kernel.settings[FOUR] == "0"
    assert is_untouched(engine, kernel)
