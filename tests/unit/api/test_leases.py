"""Leases from DHCP servers, as the status and the metrics tell of them."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import pytest

from underlay.api import status
from underlay.api.leases import leases
from underlay.cli.overview import print_status
from underlay.dhcp.packets import client_id_of_mac
from underlay.ipam.lease_states import STATES, state_of
from underlay.model import DhcpLease, Endpoint, Lease, Network, Uplink
from underlay.model.owner import Owner
from underlay.service.gauges import Gauges

MAC = "02:00:00:00:00:0a"
LAN = Network("n" * 64, {"parent": "eth0", "hold": "60"}, uplink=Uplink("eth0"))
WEB = Endpoint("e" * 64, LAN.id, IPv4Interface("10.55.0.100/23"), created=8.0)
NOW = 10_000.0
LEASE = DhcpLease(
    id=0,
    uplink="eth0",
    kind="name",
    value="web",
    container="web",
    mac=MAC,
    client_id=client_id_of_mac(MAC),
    hostname="web",
    network=LAN.id,
    address=WEB.ipv4,
    server=IPv4Address("10.55.0.1"),
    router=IPv4Address("10.55.0.254"),
    since=NOW - 100,
    renew=NOW + 1700,
    rebind=NOW + 3050,
    expires=NOW + 3500,
)
DUID = replace(LEASE, client_id=b"\xff\x00\x00\x00\x01\x00\x04" + b"\xab" * 16)


@pytest.fixture
def stored(records):
    """Records with a network, and an endpoint on it."""
    with records.transaction():
        records.networks.add(LAN)
        records.networks.rename(LAN.id, "lan")
        records.endpoints.add(WEB)
    return records


def save(records, *found):
    with records.transaction():
        for lease in found:
            records.dhcp_leases.save(lease)


def at_now(lease, **changes):
    """Return a lease whose times are as far from now as they are from NOW."""
    moved = {
        key: getattr(lease, key) for key in ("since", "renew", "rebind", "expires")
    }
    moved = {key: at - NOW + time.time() for key, at in (moved | changes).items()}
    return replace(lease, **moved)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"endpoint": WEB.id}, "bound"),
        ({"endpoint": WEB.id, "rebind": NOW}, "unanswered"),
        ({"endpoint": WEB.id, "rebind": 0.0, "expires": 0.0}, "bound"),
        ({"endpoint": WEB.id, "gone": 5.0}, "bound"),
        ({}, "held"),
        ({"expires": 0.0}, "held"),
        ({"rebind": NOW - 2, "expires": NOW - 1}, "ended"),
        ({"gone": 5.0}, "removed"),
        ({"address": None, "server": None}, "unserved"),
    ],
)
def test_state_of_a_lease_follows_from_its_record(records, changes, state):
    lease = replace(LEASE, **changes)
    assert state_of(lease, NOW) == state
    save(records, lease)
    assert records.counts.dhcp_leases(NOW) == {state: 1}


def test_every_fact_of_a_lease_is_listed(stored):
    save(stored, replace(LEASE, endpoint=WEB.id))
    (facts,) = leases(stored, NOW)
    reservation = facts.pop("reservation")
    assert facts == {
        "name": "web",
        "kind": "name",
        "container": "web",
        "parent": "eth0",
        "network": "lan",
        "endpoint": WEB.id,
        "address": "10.55.0.100/23",
        "mac": MAC,
        "family": 4,
        "client_id": f"01:{MAC}",
        "iaid": None,
        "hostname": "web",
        "server": "10.55.0.1",
        "router": "10.55.0.254",
        "state": "bound",
        "since": NOW - 100,
        "renew": NOW + 1700,
        "rebind": NOW + 3050,
        "expires": NOW + 3500,
        "goes_back": None,
    }
    assert set(reservation) == {"dnsmasq", "kea", "dhcpd"}


def test_lease_of_a_removed_container_tells_when_it_goes_back(stored):
    other = replace(LEASE, value="mail", network="m" * 64)  # a network that is gone
    save(stored, *(replace(lease, gone=NOW) for lease in (LEASE, other)))
    told = {f["name"]: (f["goes_back"], f["network"]) for f in leases(stored, NOW)}
    assert told == {"web": (NOW + 60, "lan"), "mail": (NOW + 120, "m" * 12)}


def test_client_without_a_lease_has_no_times_and_no_reservation(stored):
    asked = DhcpLease(0, "eth0", "name", "web", MAC, network=LAN.id)
    save(stored, asked)
    (facts,) = leases(stored, NOW)
    assert facts["state"] == "unserved"
    assert facts["address"] == facts["server"] == facts["router"] == ""
    for key in ("since", "renew", "rebind", "expires", "goes_back", "reservation"):
        assert facts[key] is None, key


@pytest.mark.parametrize(
    ("lease", "lines"),
    [
        (
            LEASE,
            {
                "dnsmasq": f"dhcp-host={MAC},10.55.0.100,web",
                "kea": f'{{ "hw-address": "{MAC}", "ip-address": "10.55.0.100",'
                ' "hostname": "web" }',
                "dhcpd": f"host web-00000a {{ hardware ethernet {MAC};"
                ' fixed-address 10.55.0.100; option host-name "web"; }',
            },
        ),
        (
            replace(DUID, hostname=""),
            {
                "dnsmasq": f"dhcp-host=id:{DUID.client_id.hex(':')},10.55.0.100",
                "kea": f'{{ "client-id": "{DUID.client_id.hex(":")}",'
                ' "ip-address": "10.55.0.100" }',
                "dhcpd": "host container-ababab { option dhcp-client-identifier"
                f" {DUID.client_id.hex(':')}; fixed-address 10.55.0.100; }}",
            },
        ),
    ],
    ids=["mac", "client id"],
)
def test_reservation_is_by_mac_and_without_an_own_mac_by_client_id(
    stored, lease, lines
):
    save(stored, lease)
    assert leases(stored, NOW)[0]["reservation"] == lines


def test_status_names_the_server_of_an_endpoint_and_the_end_of_its_lease(stored):
    assert [e["lease"] for e in status.endpoints(stored)] == [None]
    lease = at_now(replace(LEASE, endpoint=WEB.id))
    save(stored, lease)
    judge = status.health_report(stored)
    told = {"server": "10.55.0.1", "until": lease.expires}
    told |= {"told": None, "changed": None}
    assert [e["lease"] for e in status.endpoints(stored)] == [told]
    assert [e["lease"] for e in status.some_endpoints(stored, LAN.id, 5, judge)] == [
        told
    ]
    assert status.failures(stored) == []


def test_lease_that_never_ends_has_no_end_and_is_no_failure(stored):
    save(stored, replace(LEASE, endpoint=WEB.id, renew=0.0, rebind=0.0, expires=0.0))
    assert status.endpoints(stored)[0]["lease"]["until"] is None
    assert status.failures(stored) == []


def test_lease_that_no_server_renews_is_a_failure_of_its_endpoint(stored):
    late = at_now(replace(LEASE, endpoint=WEB.id), rebind=NOW - 5)
    save(stored, late)
    (endpoint,) = status.endpoints(stored)
    assert (endpoint["health"], endpoint["since"]) == ("failing", late.rebind)
    assert endpoint["error"].startswith("E-170 no DHCP server on eth0 has renewed")
    assert status.failures(stored) == [
        {
            "object": Owner(LAN.id, WEB.id).mark,
            "error": endpoint["error"],
            "since": late.rebind,
        }
    ]
    assert status.networks(stored)[0]["health"] == "ok"


def test_lease_without_a_container_is_no_failure_when_its_time_is_over(stored):
    save(stored, replace(LEASE, rebind=1.0, expires=2.0))
    assert status.failures(stored) == []


def measured(records, now=NOW):
    health = {"ok": True, "unwritten": []}
    gauges = Gauges(
        records, lambda: health, lambda: 1.0, lambda: now, by_container=False
    )
    return {
        (s.name, *s.labels.values()): s.value
        for family in gauges.collect()
        for s in family.samples
    }


def test_leases_are_counted_by_state_and_the_first_end_is_told(stored):
    none = measured(stored)
    assert [
        none["underlay_leases", family, state] for family in "46" for state in STATES
    ] == [0.0] * 12
    assert ("underlay_lease_seconds_left_min",) not in none
    others = [
        replace(LEASE, value=f"held{number}", expires=NOW + 1) for number in range(2)
    ]
    mail = replace(LEASE, value="mail", endpoint="f" * 64, expires=0.0)
    save(stored, replace(LEASE, endpoint=WEB.id), mail, *others)
    found = measured(stored)
    told = {state: found["underlay_leases", "4", state] for state in STATES}
    assert told == {**dict.fromkeys(STATES, 0.0), "bound": 2.0, "held": 2.0}
    assert found["underlay_lease_seconds_left_min",] == 3500.0
    assert measured(stored, NOW + 4000)["underlay_lease_seconds_left_min",] == -500.0


def test_address_that_the_server_changed_is_shown_beside_what_docker_believes(
    stored, capsys
):
    lease = replace(LEASE, endpoint=WEB.id)
    save(stored, lease)
    assert measured(stored)["underlay_stale_addresses",] == 0.0
    save(stored, replace(lease, address=IPv4Interface("10.55.0.7/23")))
    with stored.transaction():
        moved = Lease(0, IPv4Address("10.55.0.7"), "endpoint", 1, endpoint=WEB.id)
        stored.leases.start(replace(moved, since=NOW))
    assert measured(stored)["underlay_stale_addresses",] == 1.0
    (endpoint,) = status.endpoints(stored)
    assert endpoint["addresses"] == ["10.55.0.7/23"]
    assert endpoint["lease"]["told"] == str(WEB.ipv4)
    assert endpoint["lease"]["changed"] == NOW
    print_status({**status.status(stored), "service": None})
    line = next(x for x in capsys.readouterr().out.splitlines() if "believes" in x)
    assert line.startswith(f"{WEB.id[:12]}: 10.55.0.7/23 since ")
    assert "Docker believes 10.55.0.100/23 (lease changed by 10.55.0.1)" in line


def test_address_that_was_changed_and_then_taken_out_is_no_other_than_docker_s(
    stored, capsys
):
    own = IPv4Interface("10.55.0.7/23")
    save(stored, replace(LEASE, endpoint=WEB.id, address=own, former=(own,)))
    assert measured(stored)["underlay_stale_addresses",] == 0.0
    (endpoint,) = status.endpoints(stored)
    assert (endpoint["addresses"], endpoint["lease"]["told"]) == ([], None)
    print_status({**status.status(stored), "service": None})
    assert "believes" not in capsys.readouterr().out


def test_lease_that_no_server_renews_is_counted_as_a_failing_object(stored):
    save(stored, replace(LEASE, endpoint=WEB.id))
    assert ("underlay_failing_objects", "lan") not in measured(stored)
    assert measured(stored, NOW + 3050)["underlay_failing_objects", "lan"] == 1.0
