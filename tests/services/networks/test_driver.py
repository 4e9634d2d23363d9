"""The network verbs on a kernel that does as it is told."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, ip_address, ip_network

import pytest

from tests.fakes import ETH0, Clock, FakeKernel, engine_on
from tests.worlds import DEVICE, LAN, WEB
from underlay.errors import (
    AddressNotAllocated,
    BadMac,
    EndpointDiffers,
    KernelLacks,
    MacTaken,
    NetworkDiffers,
    NoParent,
    UnknownEndpoint,
    UnknownNetwork,
)
from underlay.model import Endpoint, Subnet
from underlay.model.objects import NftElements, Owner
from underlay.networks.creation_log import log_created


@pytest.fixture
def kernel():
    return FakeKernel()


@pytest.fixture
def engine(records, kernel):
    return engine_on(records, kernel)


def test_an_endpoint_has_its_device_from_creation_to_deletion(engine, kernel):
    engine.create_network(LAN)
    assert kernel.links == {}
    made = engine.create_endpoint(WEB)
    assert kernel.links[DEVICE].mac == made.mac != ""
    assert engine.join("n1", "e1", "/run/sandbox").device == DEVICE
    engine.leave("e1")
    engine.delete_endpoint("n1", "e1")
    assert kernel.links == {}
    engine.delete_network("n1")
    assert engine.records.networks.all() == []


def test_repeated_request_gets_the_same_answer(engine, kernel):
    engine.create_network(LAN)
    engine.create_network(LAN)
    first = engine.create_endpoint(WEB)
    steps = kernel.steps
    assert engine.create_endpoint(WEB).mac == first.mac
    assert kernel.steps == steps
    engine.join("n1", "e1", "/run/a")
    assert engine.join("n1", "e1", "/run/a").device == DEVICE


def test_network_without_a_policy_says_once_that_it_is_open(engine, caplog):
    caplog.set_level("INFO")
    for _ in range(3):
        engine.create_network(LAN)
    said = [r for r in caplog.records if "no policy is given" in r.message]
    assert [r.levelname for r in said] == ["INFO"]


@pytest.mark.parametrize("policy", ["open", "published", "closed"])
def test_network_with_a_policy_says_nothing_of_it(caplog, policy):
    caplog.set_level("INFO")
    options = {**LAN.options, "policy": policy}
    log_created(replace(LAN, options=options), is_new=True)
    assert "network created" in caplog.messages
    assert not [text for text in caplog.messages if "policy" in text]


@pytest.mark.parametrize(
    "said", [{"policy": "closed"}, {"egress": "none"}, {"ping": "off"}], ids=str
)
def test_policy_on_a_host_without_nftables_is_refused_and_never_open(
    engine, kernel, said
):
    kernel.has_nft = kernel.can_guard = False
    named = ", ".join(f"{key}={value}" for key, value in said.items())
    with pytest.raises(KernelLacks, match=f"E-126 .*{named}.*install.* nftables"):
        engine.create_network(replace(LAN, options={**LAN.options, **said}))
    engine.create_network(LAN)
    with pytest.raises(KernelLacks, match=f"E-126 .*{named}"):
        engine.create_endpoint(replace(WEB, options=said))
    assert kernel.links == {}
    assert engine.create_endpoint(WEB)


def test_ports_of_a_second_network_come_with_join(engine, kernel):
    """Up to engine 27, CreateEndpoint lacks them there."""
    options = {**LAN.options, "policy": "published"}
    engine.create_network(replace(LAN, options=options))
    engine.create_endpoint(WEB)
    engine.join("n1", "e1", "/run/sandbox", "8080:80/tcp")
    engine.join("n1", "e1", "/run/sandbox", "9090:90/tcp")  # the first ones stay
    assert engine.reconcile() == []
    (found,) = (o for o in kernel.others.values() if isinstance(o, NftElements))
    ports = {words.rpartition(" ")[2] for name, words in found.elements if "4" in name}
    assert ports == {"80", "8080"}


def test_reused_id_with_other_settings_is_refused(engine):
    engine.create_network(LAN)
    with pytest.raises(NetworkDiffers, match="internal was false, now true"):
        engine.create_network(replace(LAN, internal=True))
    engine.create_endpoint(WEB)
    with pytest.raises(EndpointDiffers, match="ipv4 was"):
        engine.create_endpoint(replace(WEB, ipv4=IPv4Interface("10.0.0.6/24")))


def test_unknown_network_or_endpoint_is_refused_by_creating_verbs(engine):
    with pytest.raises(UnknownNetwork):
        engine.create_endpoint(WEB)
    engine.create_network(LAN)
    with pytest.raises(UnknownEndpoint):
        engine.join("n1", "e1", "/run/a")


def test_teardown_of_an_unknown_endpoint_succeeds(engine):
    engine.leave("e9")
    engine.delete_endpoint("n9", "e9")
    engine.delete_network("n9")


def test_a_network_removed_with_endpoints_leaves_no_device(engine, kernel):
    engine.create_network(LAN)
    engine.create_endpoint(WEB)
    engine.delete_network("n1")
    assert kernel.links == {}


def test_parent_is_resolved_once_and_kept(engine):
    engine.create_network(replace(LAN, options={"parent": "auto"}))
    assert engine.records.networks.get("n1").uplink.parent == "eth0"


def test_error_for_a_missing_parent_names_it(engine, kernel):
    options = {**LAN.options, "missing_parent": "fail"}
    engine.create_network(replace(LAN, options=options))
    del kernel.strangers["eth0"]
    with pytest.raises(NoParent, match="device 'eth0' does not exist"):
        engine.create_endpoint(WEB)


def test_mac_of_another_container_on_the_parent_is_refused(engine):
    engine.create_network(LAN)
    engine.create_network(replace(LAN, id="n2"))
    engine.create_endpoint(replace(WEB, mac="02:00:00:00:00:07", container="web"))
    other = Endpoint("e2", "n2", mac="02:00:00:00:00:07")
    with pytest.raises(MacTaken, match="container web of network n1"):
        engine.create_endpoint(other)
    with pytest.raises(BadMac):
        engine.create_endpoint(replace(other, mac="01:00:5e:00:00:01"))


def test_address_has_the_same_mac_over_restarts_and_two_addresses_have_two(engine):
    engine.create_network(LAN)
    first = engine.create_endpoint(WEB).mac
    engine.delete_endpoint("n1", "e1")
    assert engine.create_endpoint(replace(WEB, id="e2")).mac == first
    other = replace(WEB, id="e3", ipv4=IPv4Interface("10.0.0.6/24"))
    assert engine.create_endpoint(other).mac != first


def test_endpoint_without_an_address_has_a_mac(engine):
    engine.create_network(replace(LAN, subnets=()))
    assert engine.create_endpoint(Endpoint("e1", "n1")).mac


def test_addresses_of_docker_s_own_ipam_have_lease_history(records, kernel):
    clock = Clock()
    engine = engine_on(records, kernel, clock)
    engine.create_network(LAN)
    engine.create_endpoint(WEB)
    clock.now += 60
    engine.delete_endpoint("n1", "e1")
    (tenure,) = records.leases.history("10.0.0.5", 9)
    assert (tenure.address, tenure.endpoint) == (ip_address("10.0.0.5"), "e1")
    assert tenure.until - tenure.since == 60


def test_parent_mac_in_use_is_refused_for_a_container(engine):
    engine.create_network(LAN)
    with pytest.raises(MacTaken, match="eth0 itself"):
        engine.create_endpoint(replace(WEB, mac=ETH0.mac))


def died(engine, kernel, sandbox="/run/gone"):
    """An endpoint whose sandbox dockerd lost without a word."""
    engine.join("n1", "e1", sandbox)
    kernel.links.clear()


@pytest.mark.parametrize("flavour", ["bridge", "passthru"])
def test_dead_endpoint_gives_way_to_a_restart_of_its_container(engine, kernel, flavour):
    options = {"parent": "eth0", "macvlan_mode": flavour}
    engine.create_network(replace(LAN, options=options))
    mac = ETH0.mac if flavour == "passthru" else "02:00:00:00:00:07"
    asked = replace(WEB, mac=mac)
    engine.create_endpoint(asked)
    died(engine, kernel)
    engine.create_endpoint(replace(asked, id="e2"))
    assert [e.id for e in engine.records.endpoints.all()] == ["e2"]


def test_dead_endpoint_without_conflicts_is_left_to_the_cleanup(engine, kernel):
    engine.create_network(LAN)
    engine.create_endpoint(WEB)
    died(engine, kernel)
    engine.create_endpoint(replace(WEB, id="e2", ipv4=IPv4Interface("10.0.0.6/24")))
    assert len(engine.records.endpoints.all()) == 2


def test_live_endpoint_blocks_another_container_with_its_mac(engine, kernel):
    engine.create_network(LAN)
    engine.create_endpoint(replace(WEB, mac="02:00:00:00:00:07"))
    again = replace(WEB, id="e2", mac="02:00:00:00:00:07")
    with pytest.raises(MacTaken):
        engine.create_endpoint(again)  # not joined yet
    engine.join("n1", "e1", "/run/a")
    with pytest.raises(MacTaken):
        engine.create_endpoint(again)  # joined, the device is still in the host
    kernel.links.clear()
    kernel.sandboxes.add("/run/a")
    with pytest.raises(MacTaken):
        engine.create_endpoint(again)  # moved into a sandbox that lives


def test_join_after_a_leave_succeeds(engine):
    engine.create_network(LAN)
    engine.create_endpoint(WEB)
    engine.join("n1", "e1", "/run/a")
    engine.leave("e1")
    assert engine.records.endpoints.get("e1").left
    engine.join("n1", "e1", "/run/b")
    known = engine.records.endpoints.get("e1")
    assert (known.left, known.sandbox) == (False, "/run/b")


def test_address_not_leased_by_the_driver_s_ipam_is_refused(engine):
    pooled = Subnet(ip_network("10.0.0.0/24"), pooled=True)
    engine.create_network(replace(LAN, subnets=(pooled,)))
    with pytest.raises(AddressNotAllocated, match=r"10\.0\.0\.5 was not assigned"):
        engine.create_endpoint(WEB)


def test_mac_may_be_reused_on_another_parent(engine, kernel):
    kernel.strangers["eth1"] = replace(ETH0, name="eth1", mac="52:54:00:00:00:02")
    engine.create_network(LAN)
    engine.create_network(replace(LAN, id="n2", options={"parent": "eth1"}))
    engine.create_endpoint(replace(WEB, mac="02:00:00:00:00:07"))
    engine.create_endpoint(Endpoint("e2", "n2", mac="02:00:00:00:00:07"))


def test_device_of_a_dead_endpoint_that_returned_to_the_host_is_deleted(
    records, kernel
):
    clock = Clock()
    engine = engine_on(records, kernel, clock)
    engine.create_network(LAN)
    asked = replace(WEB, mac="02:00:00:00:00:07")
    engine.create_endpoint(asked)
    engine.join("n1", "e1", "/run/gone")  # stopped: Docker moved the device back
    clock.now += 60
    engine.create_endpoint(replace(asked, id="e2"))
    assert list(kernel.links) == [Owner("n1", "e2").device]
