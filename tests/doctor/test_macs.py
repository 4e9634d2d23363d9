"""How many MACs a parent carries, and whether its filter has room for them."""

from __future__ import annotations

import pytest

from tests.fakes import Clock
from tests.lab import net
from underlay.doctor.macs import carried
from underlay.model import Endpoint
from underlay.service.notices import Notices


def endpoints(bench, network, count, first=0):
    with bench.records.transaction():
        for n in range(first, first + count):
            mac = f"02:42:0a:00:00:{n:02x}"
            found = Endpoint(f"{network}-{n}", network, mac=mac)
            bench.records.endpoints.add(found)


def test_containers_of_all_networks_of_a_parent_count_with_host_and_shim(bench):
    bench.network("a", host_access="off")
    bench.network("b")
    bench.network("c", mode="ipvlan", parent="other0")
    for name, first in (("a", 0), ("b", 10), ("c", 20)):
        endpoints(bench, name, 3, first)
    ((count, networks),) = carried(bench.examined()).values()
    assert (count, [n.label for n in networks]) == (8, ["a", "b"])


def test_parent_over_the_budget_warns_and_one_at_the_budget_passes(bench):
    bench.network("a", host_access="off")
    endpoints(bench, "a", 4)
    assert bench.check("mac-budget") == ()
    assert bench.check("mac-budget", mac_budget=5) == ()
    (found,) = bench.check("mac-budget", mac_budget=4)
    assert (found.level, found.where) == ("warning", "eth0")
    assert found.what == "it carries 5 MACs, and mac_budget is 4 (networks a)"


def test_least_budget_of_the_setting_and_of_the_networks_counts(bench):
    bench.network("a", host_access="off", mac_budget="4")
    bench.network("b", host_access="off", mac_budget="0")
    endpoints(bench, "a", 2)
    endpoints(bench, "b", 2, first=2)
    (found,) = bench.check("mac-budget")
    assert found.what == "it carries 5 MACs, and mac_budget is 4 (networks a, b)"
    assert bench.check("mac-budget", mac_budget=9) == (found,)
    (stricter,) = bench.check("mac-budget", mac_budget=3)
    assert "mac_budget is 3" in stricter.what


def test_exceeded_budget_is_logged_once_and_told_until_it_is_over(bench, caplog):
    bench.network("a", host_access="off")
    endpoints(bench, "a", 1)
    time = Clock()

    def examined():
        return bench.examined(mac_budget=2, now=time())

    notices = Notices(bench.records, examined, time)
    notices.update()
    assert bench.records.host.notices() == []
    endpoints(bench, "a", 1, first=1)
    for _ in range(3):
        time.now += 10
        notices.update()
    (found,) = bench.records.host.notices()
    assert (found.check, found.where) == ("mac-budget", "eth0")
    assert found.since == time.now - 20
    assert [r.message for r in caplog.records] == [found.text]
    with bench.records.transaction():
        bench.records.endpoints.remove("a", "a-1")
    time.now += 10
    notices.update()
    assert bench.records.host.notices() == []


@pytest.mark.needs("macvlan")
def test_device_without_a_unicast_filter_warns_as_soon_as_it_has_a_child(bench):
    net.ip("tuntap add tap0 mode tap", "link set tap0 up")
    bench.network("a", "tap0")
    assert bench.check("unicast-filter") == ()
    net.ip("link add child0 link tap0 type macvlan", "link set child0 up")
    (found,) = bench.check("unicast-filter")
    assert (found.level, found.where) == ("warning", "tap0")
    net.ip("link set tap0 promisc on")  # the administrator wants it
    assert bench.check("unicast-filter") == ()
