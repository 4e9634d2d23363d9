"""Leases of DHCPv6 servers: from the first question to the end of the container."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from tests.dhcpv6_host import HOLD, LEASE, Host
from tests.disks import unwritable
from underlay.api import leases, status
from underlay.errors import NoDhcpv6Server
from underlay.ipam.contested_leases import DECLINED_SECONDS
from underlay.ipam.lease_keeper import LEAST_AGAIN_SECONDS
from underlay.model import DhcpLease
from underlay.service.hosts_file import entries

FIRST, SECOND = "fd70:1::100", "fd70:1::101"


@pytest.fixture
def host(tmp_path, monkeypatch):
    made = Host(tmp_path / "underlay.db", monkeypatch)
    yield made
    made.records.close()


@pytest.fixture
def dropping(tmp_path, monkeypatch):
    made = Host(tmp_path / "underlay.db", monkeypatch, when_lost="drop")
    yield made
    made.records.close()


def failing(host, monkeypatch):
    """Have the status take the time of the host."""
    monkeypatch.setattr(status, "_now", host.clock)


def test_running_container_gets_an_address_that_a_pass_puts_in(host):
    web = host.start()
    assert host.server.said == []
    host.pass_time()
    assert host.server.said == ["solicit", "request"]
    assert list(host.addresses(web)) == [FIRST]
    assert host.changes == [True]
    assert host.engine.reconcile() == []
    assert host.records.repairs.latest(9) == []
    assert host.endpoint(web).all_addresses[1:] == (host.lease(web).address,)


def test_container_whose_name_docker_has_not_told_asks_no_server(host):
    host.start(name="")
    host.pass_time(100)
    assert host.server.said == []


def test_container_with_ipv6_off_asks_no_server(host):
    key = "com.docker.network.endpoint.sysctls"
    host.start(**{key: "net.ipv6.conf.IFNAME.disable_ipv6=1"})
    host.pass_time(100)
    assert host.server.said == []


def test_device_that_cannot_speak_yet_is_waited_for(host):
    host.segment.is_ready = False
    web = host.start()
    host.pass_time(10)
    assert host.server.said == []
    assert host.lease(web).silent == 0
    host.segment.is_ready = True
    host.pass_time(10)
    assert list(host.addresses(web)) == [FIRST]


def test_same_name_is_the_same_client_after_restart_removal_and_on_another_network(
    host,
):
    web = host.start()
    host.pass_time()
    before = host.lease(web)
    host.stop(web)
    assert host.server.said == ["solicit", "request"]
    again = host.start()
    # It has the address at once, while servers are asked whether it holds.
    host.look()
    assert list(host.addresses(again)) == [FIRST]
    host.pass_time()
    assert host.server.said[2:] == ["rebind"]
    host.stop(again)
    host.engine.delete_network("n1")
    host.create_network("n2")
    last = host.start(network="n2")
    host.pass_time()
    assert host.lease(last).client_id == before.client_id
    assert list(host.addresses(last)) == [FIRST]
    assert len(host.server.leases) == 1


def test_two_networks_of_a_container_are_two_clients(host):
    host.create_network("n2")
    first, second = host.start(network="n1"), host.start(network="n2")
    host.pass_time()
    assert host.lease(first).client_id != host.lease(second).client_id
    assert list(host.addresses(second)) == [SECOND]


def test_client_id_of_ipv4_by_rfc_4361_is_that_of_ipv6_too(host):
    shared = b"\xff\0\0\0\7\0\4" + b"w" * 16
    web = host.start()
    stored = DhcpLease(0, "eth0", "name", "db", "m", shared, endpoint="e2")
    with host.records.transaction():
        host.records.dhcp_leases.save(stored)
    db = host.start(name="db")
    assert host.lease(db).client_id == shared
    assert host.lease(web).client_id[:1] == b"\xff"


def test_lost_records_lead_to_the_same_client(host, tmp_path, monkeypatch):
    web = host.start()
    other = Host(tmp_path / "other.db", monkeypatch)
    assert host.lease(web).client_id == other.lease(other.start()).client_id
    other.records.close()


def test_lease_is_renewed_at_its_time_and_the_kernel_told_of_its_end(dropping):
    host = dropping
    web = host.start()
    host.pass_time()
    asked = host.lease(web)
    ends = host.addresses(web)[FIRST].lifetimes
    assert (ends.preferred, ends.valid) == (LEASE / 2, LEASE)
    host.pass_time(LEASE / 4 + 2)  # it was asked for a second after the start
    assert host.server.said[2:] == ["renew"]
    assert host.lease(web).expires > asked.expires
    assert host.changes[1:] == [False]
    now = host.addresses(web)[FIRST].lifetimes
    assert now.since > ends.since
    assert host.records.repairs.latest(9) == []


def test_address_that_is_kept_after_its_time_never_ends_in_the_kernel(host):
    web = host.start()
    host.pass_time()
    ends = host.addresses(web)[FIRST].lifetimes
    assert ends.preferred == LEASE / 2
    assert ends.valid == float("inf")


def test_silent_server_is_asked_on_and_the_address_kept(host, monkeypatch):
    failing(host, monkeypatch)
    web = host.start()
    host.pass_time()
    host.server.is_there = False
    host.pass_time(LEASE * 2)
    said = host.server.said[2:]
    assert said[0] == "renew"
    assert {"rebind", "solicit"} <= set(said)
    assert list(host.addresses(web)) == [FIRST]
    (trouble,) = host.troubles
    assert "has renewed fd70:1::100" in trouble
    assert "keeps the address" in trouble
    host.server.is_there = True
    host.pass_time(LEASE)
    assert host.troubles == []
    assert list(host.addresses(web)) == [FIRST]


def test_address_is_dropped_at_its_end_and_put_in_when_it_is_given_again(
    dropping, monkeypatch
):
    host = dropping
    failing(host, monkeypatch)
    web = host.start()
    host.pass_time()
    host.server.is_there = False
    host.pass_time(LEASE * 1.5)
    assert host.addresses(web) == {}
    assert "has lost (when_lost=drop)" in host.troubles[0]
    assert host.engine.reconcile() == []
    assert list(entries(host.records)) == ["10.0.0.11 web\n"]
    (old,) = host.records.leases.history(FIRST, 9)
    assert old.until
    host.server.is_there = True
    host.pass_time(LEASE)
    assert list(host.addresses(web)) == [FIRST]
    assert host.troubles == []
    newest, *_ = host.records.leases.history(FIRST, 9)
    assert not newest.until


def test_another_address_of_the_server_replaces_the_one_before(host):
    web = host.start()
    host.pass_time()
    host.server.renumber(0x200)
    host.pass_time(LEASE / 2)
    assert list(host.addresses(web)) == ["fd70:1::200"]
    assert host.lease(web).former == ()
    assert host.engine.reconcile() == []
    new, old = host.records.leases.history("web", 2)
    assert (str(new.address), str(old.address)) == ("fd70:1::200", FIRST)
    assert (new.until, bool(old.until)) == (0, True)
    assert host.records.repairs.failures() == []


def fail(host, endpoint):
    """Do as the kernel does when a machine has the address: that stays, unused."""
    (found,) = host.addresses(endpoint).values()
    host.kernel.others[found.key] = replace(found, has_failed=True)
    host.look()


def test_address_that_another_machine_has_is_declined_once(host):
    web = host.start()
    host.pass_time()
    fail(host, web)
    host.look()
    host.pass_time()
    assert host.server.said[2:] == ["decline", "solicit", "request"]
    assert list(host.addresses(web)) == [SECOND]


def test_declined_address_is_declined_no_more_while_no_other_is_given(host):
    web = host.start()
    host.pass_time()
    host.server.is_there = False
    fail(host, web)
    host.pass_time(LEAST_AGAIN_SECONDS * 5)
    assert host.server.said.count("decline") == 1
    assert host.server.said.count("solicit") > 8
    assert "renew" not in host.server.said


def test_address_that_the_kernel_removed_for_another_machine_is_declined(dropping):
    """As it does with one that has an end."""
    host = dropping
    web = host.start()
    host.pass_time()
    duplicates = host.engine.reconciler.duplicates
    duplicates.hear(host.endpoint(web).sandbox, host.lease(web).address.ip)
    host.look()
    host.pass_time()
    assert host.server.said[2:] == ["decline", "solicit", "request"]
    assert list(host.addresses(web)) == [SECOND]


def test_declined_address_that_is_taken_out_is_none_of_a_router(host, caplog):
    caplog.set_level("INFO")
    web = host.start()
    host.pass_time()
    fail(host, web)
    host.pass_time()
    room = host.endpoint(web).sandbox
    host.engine.reconciler.duplicates.hear(room, IPv6Address(FIRST))
    host.look()
    assert host.server.said.count("decline") == 1
    assert "the kernel makes another" not in caplog.text


def test_declined_address_is_the_container_s_no_more(host, monkeypatch):
    failing(host, monkeypatch)
    web = host.start()
    host.pass_time()
    host.server.is_there = False
    fail(host, web)
    host.pass_time(1)
    assert host.addresses(web) == {}
    assert f"{FIRST} web\n" not in entries(host.records)
    assert host.records.leases.history(FIRST, 1)[0].until
    assert "E-173" in "".join(host.troubles)
    version = host.records.change_counter()
    host.look()
    assert host.records.change_counter() == version
    assert host.records.counts.first_dhcp_end() is None


def test_machine_that_claims_every_address_uses_up_one_in_a_minute(host):
    web = host.start()
    host.pass_time()
    for _ in range(60):
        if host.addresses(web):
            fail(host, web)
        host.pass_time(5)
    assert host.server.said.count("decline") <= 300 / DECLINED_SECONDS + 1


def test_container_that_cannot_be_recorded_on_a_full_disk_is_asked_for_later(host):
    web = host.start(is_followed=False)
    with unwritable(host.records):
        host.keeper.follow()
    assert host.lease(web) is None
    host.keeper.follow()
    host.pass_time()
    assert list(host.addresses(web)) == [FIRST]


def test_no_server_is_a_trouble_until_one_gives_an_address(host, monkeypatch):
    failing(host, monkeypatch)
    host.server.is_there = False
    web = host.start()
    host.pass_time(LEAST_AGAIN_SECONDS / 2)
    (trouble,) = host.troubles
    assert "no DHCPv6 server on eth0" in trouble
    with pytest.raises(NoDhcpv6Server):
        host.keeper.renew(host.lease(web))
    host.server.is_there = True
    assert str(host.keeper.renew(host.lease(web)).address.ip) == FIRST
    host.look()
    assert host.troubles == []
    assert list(host.addresses(web)) == [FIRST]
    host.pass_time(LEAST_AGAIN_SECONDS * 3)
    assert host.server.said[-1] == "request"  # the next try is void


def test_lease_of_a_removed_container_goes_back_after_the_hold(host):
    web = host.start()
    host.pass_time()
    host.stop(web)
    host.listed("web")
    host.pass_time(HOLD * 2)
    assert len(host.server.leases) == 1
    host.listed()
    host.pass_time(HOLD * 0.9)
    assert len(host.server.leases) == 1
    host.pass_time(HOLD * 0.2)
    assert host.server.leases == {}
    assert host.records.dhcpv6_leases.all() == []


def test_container_that_is_back_in_time_keeps_its_lease(host):
    web = host.start()
    host.pass_time()
    host.stop(web)
    host.listed()
    host.pass_time(HOLD / 2)
    again = host.start()
    host.listed("web")
    host.pass_time(HOLD * 2)
    assert list(host.addresses(again)) == [FIRST]
    assert "release" not in host.server.said


def test_service_that_starts_sends_nothing_before_a_lease_is_due(host):
    web = host.start()
    host.pass_time()
    host.begin_again()
    host.pass_time(60)
    assert host.server.said == ["solicit", "request"]
    host.pass_time(LEASE / 4)
    assert host.server.said[2:] == ["renew"]
    assert list(host.addresses(web)) == [FIRST]


def test_service_that_was_away_over_the_time_of_its_server_asks_any(host):
    web = host.start()
    host.pass_time()
    host.records.close()
    host._be_at(host.uptime.now + LEASE * 0.9)
    host.begin()
    host.pass_time()
    assert host.server.said[2:] == ["rebind"]
    assert list(host.addresses(web)) == [FIRST]


def test_lease_of_an_earlier_boot_is_asked_about_and_its_end_still_holds(dropping):
    host = dropping
    web = host.start()
    host.pass_time()
    host.stop(web)
    host.kernel.boot = lambda: "boot-2"
    host.clock.now += 600
    host.uptime.now = 20.0
    host.begin_again()
    again = host.start()
    ends = host.endpoint(again).leased6
    assert ends.since == 20.0
    assert ends.valid == pytest.approx(LEASE - 600, abs=2)
    host.pass_time()
    assert host.server.said[-1] == "rebind"


def test_lease_that_ended_meanwhile_is_not_used_before_it_is_given_again(host):
    web = host.start()
    host.pass_time()
    host.stop(web)
    host.pass_time(LEASE * 2)
    again = host.start()
    host.look()
    assert host.addresses(again) == {}
    host.pass_time()
    assert host.server.said[2:] == ["solicit", "request"]
    assert list(host.addresses(again)) == [FIRST]


def test_leases_are_asked_about_when_the_parent_is_back(host):
    web = host.start()
    host.pass_time()
    host.server.renumber(0x200)
    host.keeper.note_back("n1")
    host.pass_time()
    assert host.server.said[2:] == ["rebind", "solicit", "request"]
    assert list(host.addresses(web)) == ["fd70:1::200"]


def test_cable_that_was_out_for_long_is_no_reason_to_wait_when_it_is_back(host):
    host.segment.is_ready = False  # no link-local address without a carrier
    web = host.start()
    host.pass_time(600)
    host.keeper.note_back("n1")
    host.pass_time(1)
    host.segment.is_ready = True  # the kernel has asked whether that one is free
    host.pass_time(2)
    assert list(host.addresses(web)) == [FIRST]


def test_switch_that_lets_nothing_through_at_first_is_asked_through_again(host):
    host.server.seconds = 86400
    web = host.start()
    host.pass_time()
    host.server.renumber(0x200)
    host.server.is_there = False
    host.keeper.note_back("n1")
    host.pass_time(30)
    host.server.is_there = True
    host.pass_time(LEAST_AGAIN_SECONDS)
    assert list(host.addresses(web)) == ["fd70:1::200"]


def test_answer_that_cannot_be_recorded_is_asked_for_once_more(host):
    web = host.start()
    host.pass_time()
    host.server.renumber(0x200)
    host.keeper.note_back("n1")
    with unwritable(host.records, "full"):
        host.pass_time()
    assert list(host.addresses(web)) == [FIRST]
    host.pass_time(20)
    assert list(host.addresses(web)) == ["fd70:1::200"]


def test_address_of_another_container_is_not_taken(host):
    host.start()
    host.pass_time()
    host.server._given.clear()  # it has forgotten that
    db = host.start(name="db")
    host.pass_time()
    assert host.addresses(db) == {}
    host.server.first = 0x300
    host.pass_time(LEAST_AGAIN_SECONDS * 2)
    assert list(host.addresses(db)) == ["fd70:1::300"]


def test_address_of_the_host_itself_is_declined(host):
    host.kernel.own.add(FIRST)
    web = host.start()
    host.pass_time()
    assert host.server.said == ["solicit", "request", "decline"]
    assert host.addresses(web) == {}
    host.pass_time(LEAST_AGAIN_SECONDS * 2)
    assert list(host.addresses(web)) == [SECOND]


def test_server_alone_is_asked_for_a_lease_that_no_other_is_to_renew(host):
    """T2 is infinite, T1 is not."""
    host.server.seconds = host.server.t2 = 0xFFFFFFFF
    host.server.t1 = 600
    host.start()
    host.pass_time(602)
    assert host.server.said[2:] == ["renew"]


def test_running_container_s_lease_is_not_given_back_by_command(host):
    web = host.start()
    host.pass_time()
    assert not host.keeper.release(host.lease(web))
    host.stop(web)
    (held,) = host.records.dhcpv6_leases.all()
    assert host.keeper.release(held)
    assert host.server.leases == {}


def test_lease_is_shown_with_its_family_and_lines_that_reserve_it(host):
    web = host.start()
    host.pass_time()
    (facts,) = leases.leases(host.records, host.clock())
    duid = host.lease(web).client_id[5:].hex(":")
    assert (facts["family"], facts["address"]) == (6, f"{FIRST}/128")
    assert (facts["state"], facts["client_id"]) == ("bound", duid)
    assert facts["reservation"]["dnsmasq"] == f"dhcp-host=id:{duid},[{FIRST}],web"
    assert f'"ip-addresses": ["{FIRST}"]' in facts["reservation"]["kea"]
    assert f"fixed-address6 {FIRST};" in facts["reservation"]["dhcpd"]
    assert host.records.counts.dhcpv6_leases(host.clock()) == {"bound": 1}
    (shown,) = status.endpoints(host.records)
    assert shown["addresses"] == ["10.0.0.11/24", f"{FIRST}/128"]
    assert shown["lease6"]["server"] == "fe80::1"
    assert set(entries(host.records)) == {"10.0.0.11 web\n", f"{FIRST} web\n"}


def test_lease_without_an_end_is_renewed_never(host):
    host.server.seconds = 0xFFFFFFFF
    web = host.start()
    host.pass_time(LEASE * 100)
    assert host.server.said == ["solicit", "request"]
    assert host.endpoint(web).leased6.valid == float("inf")
    host.begin_again()
    host.pass_time(LEASE)
    assert host.server.said == ["solicit", "request"]
