"""The service dies at each frame and COMMIT of a DHCPv6 lease: nothing is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.dhcp_segment import Fate
from tests.dhcpv6_host import HOLD, LEASE, Host
from underlay.records.database import Database

FIRST, SECOND, OTHER = "fd70:1::100", "fd70:1::101", "fd70:1::200"


def running(host):
    host.web = host.start()
    host.pass_time()


def stopped(host):
    running(host)
    host.stop(host.web)


def removed(host):
    stopped(host)
    host.listed()


def renumbered(host):
    running(host)
    host.server.renumber(0x200)


def failed(host):
    running(host)
    (found,) = host.addresses(host.web).values()
    host.kernel.others[found.key] = replace(found, has_failed=True)


def declined(host):
    host.look()
    host.pass_time()


def not_followed(host):
    host.web = host.start(is_followed=False)


def held(host):
    stopped(host)
    not_followed(host)


def follow(host):
    host.follow()
    host.pass_time()


def half_the_lease(host):
    host.pass_time(LEASE * 0.4)


def hold(host):
    host.pass_time(HOLD + 10)


# What went before, what the service dies in, and how many points that has.
LIVES = {
    "start": (not_followed, follow, 14),
    "start again": (held, follow, 11),
    "renewal": (running, half_the_lease, 9),
    "another address": (renumbered, half_the_lease, 17),
    "a machine has it": (failed, declined, 18),
    "release": (removed, hold, 4),
}
DEATHS = [(life, n + 1) for life in LIVES for n in range(LIVES[life][2])]


@pytest.fixture
def fate(monkeypatch):
    fate = Fate()
    monkeypatch.setattr(Database, "run", fate.at_commits(Database.run))
    return fate


@pytest.fixture
def host(tmp_path, monkeypatch, fate):
    made = Host(tmp_path / "underlay.db", monkeypatch, fate)
    yield made
    made.records.close()


def check(host, address):
    """The container has what the server leases, and nothing else is there."""
    host.look()
    assert list(host.addresses(host.web)) == [address]
    assert [str(a) for a in host.server.leases.values()] == [address]
    lease = host.lease(host.web)
    assert (str(lease.address.ip), lease.former) == (address, ())
    assert len(host.records.dhcpv6_leases.all()) == 1
    live = host.records.leases.live_of_endpoint(host.web)
    assert [str(t.address) for t in live if t.address.version == 6] == [address]
    assert host.engine.reconcile() == []


@pytest.mark.parametrize("life", LIVES)
def test_life_of_a_lease_has_as_many_points_as_the_service_dies_at(host, fate, life):
    before, act, points = LIVES[life]
    before(host)
    fate.arm(None)
    act(host)
    assert len(fate.passed) == points, fate.passed


@pytest.mark.parametrize(("life", "number"), DEATHS)
def test_death_at_any_point_loses_no_lease_and_leaves_none(host, fate, life, number):
    before, act, _ = LIVES[life]
    before(host)
    fate.arm(number)
    act(host)
    assert fate.armed is None, "it did not die"
    host.pass_time(HOLD)
    if life == "release":
        assert (host.server.leases, host.records.dhcpv6_leases.all()) == ({}, [])
        running(host)
    host.pass_time(LEASE * 3)
    had = {"another address": OTHER, "a machine has it": SECOND}.get(life, FIRST)
    check(host, had)
    host.stop(host.web)
    running(host)
    check(host, had)
    host.stop(host.web)
    host.listed()
    host.pass_time(HOLD * 2)
    assert (host.server.leases, host.records.dhcpv6_leases.all()) == ({}, [])
