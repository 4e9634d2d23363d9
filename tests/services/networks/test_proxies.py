"""The device that answers for routed containers: renamed, exchanged, missing."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, ip_address

import pytest

from tests.fakes import ETH0
from tests.worlds import FOUR, ROOM, World
from underlay.api import status
from underlay.api.facts import HealthReport
from underlay.errors import NoParent
from underlay.model import Endpoint, Network, SysctlBackup
from underlay.model.objects import Neighbour, SysctlReason
from underlay.reconcile.announcer import PAUSES_SECONDS

ROUTED = {"mode": "routed", "proxy": "eth0"}
NEW_MAC = "52:54:00:00:00:99"


@pytest.fixture
def world(records):
    return World(records, ROUTED)


def known(world):
    return world.engine.records.networks.get("n1")


def ours(world):
    """Return the container's own addresses."""
    endpoint = world.engine.records.endpoints.get("e1")
    return frozenset(a.ip for a in endpoint.addresses)


def vanish(world, name="eth0"):
    """Have a device disappear, and with it what the kernel kept for it."""
    device = world.kernel.strangers.pop(name)
    world.kernel.others = {
        key: o
        for key, o in world.kernel.others.items()
        if o.device != name or getattr(o, "sandbox", "")
    }
    return device


def appear(world, device):
    world.kernel.strangers[device.name] = device


def rename(world, name):
    appear(world, replace(vanish(world), name=name))
    settings = world.kernel.settings
    world.kernel.settings = {k.replace("eth0", name): v for k, v in settings.items()}


def calm(world):
    assert world.engine.reconcile() == []
    assert world.engine.preview() == ()


def start(world, identity, **options):
    """Have one more container come, with an IPv4 address."""
    claim = world.ipam.request_pool(str(FOUR), "", {}, 4).id
    four = world.ipam.request_address(claim, "10.0.0.202", "")
    asked = Endpoint(identity, "n1", IPv4Interface(str(four)), options=options)
    return world.engine.create_endpoint(asked)


def said(world):
    """Return what was announced since the last time, all that was due."""
    world.engine.reconciler.announcer.send_due()
    found = world.kernel.announced[:]
    world.kernel.announced.clear()
    return found


def health(world):
    records = world.engine.records
    judge = HealthReport(records, world.time())
    verdicts = [judge.of_network(known(world))]
    verdicts += [judge.of_endpoint(known(world), e) for e in records.endpoints.all()]
    return {(v.health, v.error) for v in verdicts}


def test_renamed_proxy_is_followed_with_its_entries_and_settings(world):
    world.kernel.settings["net/proxy/eth0/4"] = "1"
    rename(world, "lan0")
    calm(world)
    assert world.kernel.answered_by("lan0") == ours(world)
    (shown,) = status.networks(world.engine.records)
    assert (shown["parent"], shown["device"]) == ("", "lan0")
    assert {str(s.reason) for s in world.engine.records.host.sysctls()} >= {
        "proxy/lan0/4",
        "proxy/lan0/6",
    }


def test_container_starts_on_a_proxy_renamed_before_any_pass_saw_it(world):
    rename(world, "lan0")
    start(world, "e2")
    assert ip_address("10.0.0.202") in world.kernel.answered_by("lan0")
    calm(world)


def test_original_setting_is_remembered_through_a_proxy_rename(world):
    host = world.engine.records.host
    reason = SysctlReason("proxy", "eth0")
    host.forget_sysctls(reason)
    path = "net/ipv4/neigh/eth0/proxy_delay"
    host.note_sysctls([SysctlBackup(reason, path, "80", "0")])
    rename(world, "lan0")
    start(world, "e2")
    calm(world)
    (noted,) = [s for s in host.sysctls() if str(s.reason) == "proxy/lan0/4"]
    assert (noted.path, noted.before) == ("net/ipv4/neigh/lan0/proxy_delay", "80")


def test_two_proxies_that_swap_names_are_not_confused(world):
    other = replace(ETH0, name="eth1", mac=NEW_MAC)
    vanish(world)
    appear(world, replace(ETH0, name="eth1"))
    appear(world, replace(other, name="eth0"))
    calm(world)
    assert world.kernel.answered_by("eth1") == ours(world)
    assert world.kernel.answered_by("eth0") == frozenset()


def test_missing_proxy_takes_only_the_proxy_entries_of_containers(world):
    before = world.kernel.links, world.kernel.rooms, world.kernel.others
    links, rooms, others = map(dict, before)
    eth0 = vanish(world)
    calm(world)
    assert (world.kernel.links, world.kernel.rooms) == (links, rooms)
    lost = others.keys() - world.kernel.others.keys()
    assert {type(others[key]) for key in lost} == {Neighbour}
    appear(world, eth0)
    calm(world)
    assert world.kernel.others == others


def test_container_starts_without_the_proxy_and_gets_its_entries_when_it_appears(
    world,
):
    said(world)
    eth0 = vanish(world)
    start(world, "e2")
    calm(world)
    why = "proxy device eth0 (52:54:00:00:00:01) is missing"
    assert health(world) == {("pending", f"{why}; waiting for it to appear")}
    assert said(world) == []
    appear(world, eth0)
    calm(world)
    everybody = ours(world) | {ip_address("10.0.0.202")}
    assert world.kernel.answered_by("eth0") == everybody
    assert {verdict for verdict, _ in health(world)} == {"repaired"}
    assert said(world) == [("", "eth0", everybody)]


def test_containers_docked_before_the_proxy_appears_are_announced_when_it_does(
    records,
):
    world = World(records, ROUTED, docked=False)
    eth0 = vanish(world)
    world.start(*(world.ipam.request_address(c, "", "") for c in world.claims()))
    calm(world)
    assert said(world) == []
    assert records.endpoints.get("e1").learned.mtu == 1500
    appear(world, eth0)
    calm(world)
    assert said(world) == [("", "eth0", ours(world))]


@pytest.mark.parametrize("of", ["network", "endpoint"])
def test_start_without_the_proxy_is_refused_if_so_configured(records, of):
    asked = {"missing_parent": "fail"}
    world = World(records, {**ROUTED, **(asked if of == "network" else {})})
    vanish(world)
    with pytest.raises(NoParent, match="eth0"):
        start(world, "e2", **(asked if of == "endpoint" else {}))
    assert records.endpoints.get("e2") is None


def forget_identity(world):
    network = known(world)
    unknown = replace(network.uplink, base_device=None)
    world.engine.records.networks.move(replace(network, uplink=unknown))


def test_network_record_without_the_proxy_identity_learns_it_in_a_pass(world):
    forget_identity(world)
    calm(world)
    assert known(world).uplink.base_device.mac == ETH0.mac
    rename(world, "lan0")
    calm(world)
    assert world.kernel.answered_by("lan0") == ours(world)


def test_network_record_without_the_proxy_identity_waits_for_its_name(world):
    eth0 = vanish(world)
    forget_identity(world)
    calm(world)
    why = "proxy device eth0 is missing; waiting for it to appear"
    assert health(world) == {("pending", why)}
    appear(world, eth0)
    calm(world)
    assert world.kernel.answered_by("eth0") == ours(world)


def test_a_new_container_is_announced_on_the_proxy_with_growing_pauses(world):
    assert said(world) == [("", "eth0", ours(world))]
    for pause in PAUSES_SECONDS:
        world.time.now += pause
        assert said(world) == [("", "eth0", ours(world))]
    world.time.now += 100.0
    assert said(world) == []


def test_removed_and_restored_proxy_entries_are_announced(world):
    said(world)
    world.time.now += 100.0
    said(world)
    kept = world.kernel.others
    world.kernel.others = {
        k: o for k, o in kept.items() if not isinstance(o, Neighbour)
    }
    calm(world)
    assert said(world) == [("", "eth0", ours(world))]


def test_a_new_mac_of_the_proxy_is_announced_for_all_it_answers_for(world):
    start(world, "e2")
    world.engine.join("n1", "e2", ROOM)
    world.time.now += 100.0
    said(world)
    world.kernel.strangers["eth0"] = replace(ETH0, mac=NEW_MAC)
    calm(world)
    assert said(world) == [("", "eth0", ours(world))]
    calm(world)
    assert said(world) == []


def test_routed_network_has_no_neighbours_on_its_proxy(world):
    """It stands on no device, so the device is free for whatever stands there alone."""
    alone = {"parent": "eth0", "macvlan_mode": "passthru", "host_access": "off"}
    world.engine.create_network(Network("n2", alone))
    mine = world.engine.records.endpoints.get("e1").mac
    asked = Endpoint("e9", "n2", IPv4Interface("10.9.0.5/24"))
    assert world.engine.create_endpoint(asked).mac != mine
    calm(world)
    on_it = world.engine.records.networks.on_parent("eth0")
    assert [n.id for n in on_it] == ["n2"]
