"""Devices of endpoints that ended are deleted many at once, while other calls go on."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Interface, ip_network

import pytest

from tests.fakes import Clock, Death, FakeKernel, engine_on
from tests.worlds import LAN, MODES
from underlay.errors import AddressTaken
from underlay.ipam.driver import IpamDriver
from underlay.model import Endpoint, Network, Subnet
from underlay.model.objects import Link, Owner
from underlay.networks.builder import Builder
from underlay.networks.dropper import FINISH_SECONDS
from underlay.records import Records

SHORT = 0.05


class Site:
    """A network with a pool of four addresses, and a thread that deletes."""

    def __init__(self, records, mode="macvlan"):
        self.kernel, clock = FakeKernel(), Clock()
        self.records = records
        self.engine = engine_on(records, self.kernel, clock)
        self.ipam = IpamDriver(
            records, clock, self.engine.remove_dead_endpoint, self.kernel.is_own,
            self.engine.live_endpoints, finish_deletions=self.engine.dropper.finish_all,
            wire=self.engine.parts.ipam.wire,
        )  # fmt: skip
        self.claim = self.ipam.request_pool("10.0.0.0/29", "", {}, 4).id
        self.ipam.request_gateway(self.claim, "10.0.0.1")
        subnet = Subnet(ip_network("10.0.0.0/29"), pooled=True)
        self.engine.create_network(Network("n1", MODES[mode], subnets=(subnet,)))
        # Deletions wait for this.
        self.go_on, self.began = threading.Event(), threading.Event()
        self.together = []

    @contextmanager
    def deleting(self):
        """Have a thread delete, which stops before each deletion until `go_on`."""
        apply, together = self.kernel.apply, self.kernel.delete_links

        def wait():
            if threading.current_thread() is thread:
                self.began.set()
                assert self.go_on.wait(10)

        def slow(step):
            wait()
            apply(step)

        def all_at_once(doomed):
            wait()
            self.together.append(sorted(link.name for link in doomed))
            together(doomed)

        self.kernel.apply, self.kernel.delete_links = slow, all_at_once
        thread = threading.Thread(target=self.engine.dropper.run)
        thread.start()
        try:
            yield
        finally:
            self.go_on.set()
            self.engine.dropper.stop()
            thread.join()

    def start(self, identity, address="", mac=""):
        given = self.ipam.request_address(self.claim, address, "")
        self.engine.create_endpoint(Endpoint(identity, "n1", given, mac=mac))
        return given.ip

    def end(self, identity):
        endpoint = self.records.endpoints.get(identity)
        self.engine.delete_endpoint("n1", identity)
        self.ipam.release_address(self.claim, str(endpoint.ipv4.ip))

    def leases(self):
        pool = self.records.pools.claim(self.claim).pool.id
        live = self.records.leases.live_in(pool)
        return {t.endpoint for t in live if t.role == "endpoint"}


@pytest.fixture
def site(records):
    return Site(records)


def device(identity):
    return Owner("n1", identity).device


def meanwhile(call):
    """Return a thread that makes a call, and what comes of it."""
    came = []
    thread = threading.Thread(target=lambda: came.append(call()))
    thread.start()
    thread.join(SHORT)
    return thread, came


def test_delete_endpoint_does_not_wait_for_the_kernel(site):
    site.start("e1")
    with site.deleting():
        site.end("e1")
        assert site.began.wait(5)
        assert site.records.endpoints.get("e1") is None
        assert device("e1") in site.kernel.links
    assert site.kernel.links == {}
    assert site.leases() == set()


def test_devices_of_all_that_ended_meanwhile_are_deleted_at_once(site):
    for name in ("e1", "e2", "e3", "e4"):
        site.start(name)
    with site.deleting():
        site.end("e1")
        assert site.began.wait(5)
        for name in ("e2", "e3", "e4"):
            site.end(name)
    assert site.together == [[device("e1")], sorted(map(device, ("e2", "e3", "e4")))]
    assert site.kernel.links == {}
    assert site.leases() == set()


def test_address_stays_taken_until_its_device_is_gone(site):
    taken = site.start("e1")
    with site.deleting():
        site.end("e1")
        assert site.began.wait(5)
        assert site.leases() == {"e1"}
        others = {site.ipam.request_address(site.claim, "", "").ip for _ in range(4)}
        assert taken not in others


@pytest.mark.parametrize("wish", ["10.0.0.2", ""], ids=["by name", "the only one"])
def test_request_for_the_address_of_a_device_waits_until_that_is_gone(site, wish):
    site.start("e1", "10.0.0.2")
    for address in () if wish else range(3, 7):
        site.ipam.request_address(site.claim, f"10.0.0.{address}", "")
    with site.deleting():
        site.end("e1")
        assert site.began.wait(5)
        thread, came = meanwhile(
            lambda: site.ipam.request_address(site.claim, wish, "")
        )
        assert came == []
        site.go_on.set()
        thread.join(5)
    assert came == [IPv4Interface("10.0.0.2/29")]


def test_address_that_a_container_has_is_refused_at_once(site):
    site.start("e1", "10.0.0.2")
    with site.deleting(), pytest.raises(AddressTaken):
        site.ipam.request_address(site.claim, "10.0.0.2", "")


@pytest.mark.parametrize("mac", ["02:00:00:00:00:07", ""], ids=["a MAC", "a network"])
def test_new_endpoint_waits_for_a_device_that_is_in_its_way(site, mac):
    """Another with its MAC, or one of another network: of another kind, maybe."""
    site.start("e1", mac="02:00:00:00:00:07")
    other = Network("n2", MODES["macvlan"], subnets=LAN.subnets)
    asked = Endpoint("e2", "n1", IPv4Interface("10.0.0.6/29"), mac=mac)
    if mac:
        site.ipam.request_address(site.claim, "10.0.0.6", "")
        create = lambda: site.engine.create_endpoint(asked).id  # noqa: E731
    else:
        create = lambda: site.engine.create_network(other)  # noqa: E731
    with site.deleting():
        site.end("e1")
        assert site.began.wait(5)
        thread, came = meanwhile(create)
        assert came == []
        site.go_on.set()
        thread.join(5)
    assert came == ["e2" if mac else None]


def test_wait_is_not_for_endpoints_that_end_meanwhile(site):
    """On a busy host there is always one that just ended."""
    dropper = site.engine.dropper
    for name in ("e1", "e2"):
        site.start(name)
    dropper._is_running = True  # as if `run` were called, and busy
    site.end("e1")
    thread, came = meanwhile(dropper.finish_all)
    assert came == []
    site.end("e2")
    with dropper._changed:
        del dropper._due[Owner("n1", "e1")]
        dropper._changed.notify_all()
    thread.join(2)
    assert came == [True]


def test_endpoint_with_another_address_does_not_wait(site):
    site.start("e1")
    with site.deleting():
        site.end("e1")
        assert site.began.wait(5)
        thread, came = meanwhile(lambda: site.start("e2"))
        thread.join(FINISH_SECONDS / 2)
        assert came != []
    assert [*site.kernel.links] == [device("e2")]


def test_endpoint_without_a_mac_of_its_own_does_not_wait(records):
    """All ipvlan children have the MAC of their parent."""
    site = Site(records, "ipvlan")
    site.start("e1")
    with site.deleting():
        site.end("e1")
        assert site.began.wait(5)
        thread, came = meanwhile(lambda: site.start("e2"))
        thread.join(FINISH_SECONDS / 2)
        assert came != []
    assert [*site.kernel.links] == [device("e2")]


def test_device_that_a_container_may_stand_on_is_not_deleted_with_the_others(site):
    for name in ("e1", "e2"):
        site.start(name)
    link = site.kernel.links[device("e2")]
    site.kernel.links[device("e2")] = replace(link, kind="dummy", parent=None)
    site.kernel.carrying.add(device("e2"))
    for name in ("e1", "e2"):
        site.end(name)
    assert [*site.kernel.links] == [device("e2")]


def test_delete_network_waits_for_the_devices_of_its_endpoints(records):
    site = Site(records, "vlan")
    site.start("e1")
    with site.deleting():
        site.end("e1")
        assert site.began.wait(5)
        thread, came = meanwhile(lambda: site.engine.delete_network("n1"))
        assert came == []
        site.go_on.set()
        thread.join(5)
    assert came == [None]
    assert site.kernel.links == {}


def test_pass_leaves_to_the_thread_what_it_is_about_to_delete(site):
    site.start("e1")
    with site.deleting():
        site.end("e1")
        assert site.began.wait(5)
        assert site.engine.reconcile() == []
        assert device("e1") in site.kernel.links


@pytest.mark.parametrize("fault", ["refuse_at", "refuse_after"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_device_that_the_kernel_refused_to_delete_is_deleted_by_a_pass(site, fault, at):
    for name in ("e1", "e2", "e3"):
        site.start(name)
    with site.deleting():
        setattr(site.kernel, fault, site.kernel.steps + at)
        for name in ("e1", "e2", "e3"):
            site.end(name)
        site.go_on.set()
    site.kernel.calm()
    assert site.engine.reconcile() == []
    assert site.kernel.links == {}
    assert site.leases() == set()


@pytest.mark.parametrize("fault", ["die_before", "die_after"])
@pytest.mark.parametrize("count", [1, 3])
def test_death_before_the_devices_are_gone_leaves_them_to_the_next_process(
    tmp_path, fault, count
):
    records = Records(tmp_path / "underlay.db")
    site, names = Site(records), [f"e{n}" for n in range(count)]
    for name in names:
        site.start(name)
    setattr(site.kernel, fault, site.kernel.steps + 1)
    site.engine.dropper._is_running = True  # as if `run` were called
    for name in names:
        site.engine.delete_endpoint("n1", name)
    with pytest.raises(Death):
        site.engine.dropper._drop_due()
    records.close()
    site.kernel.calm()
    records = Records(tmp_path / "underlay.db")
    assert engine_on(records, site.kernel).reconcile() == []
    assert not [o for o in site.kernel.observe() if isinstance(o, Link)]
    assert records.endpoints.all() == []
    records.close()


def test_bug_in_one_deletion_does_not_end_the_others(site, monkeypatch, caplog):
    for name in ("e1", "e2"):
        site.start(name)
    drop = site.engine.dropper._builder.drop

    def faulty(owners, *given, **options):
        if Owner("n1", "e1") in owners:
            raise ZeroDivisionError
        drop(owners, *given, **options)

    monkeypatch.setattr(Builder, "drop", staticmethod(faulty))
    with site.deleting():
        site.go_on.set()
        site.end("e1")
        site.engine.dropper.finish_all()
        site.end("e2")
    assert "internal error" in caplog.text
    assert site.kernel.links == {}
    assert site.leases() == set()
