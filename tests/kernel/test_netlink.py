"""What only the real kernel can tell."""

from __future__ import annotations

import errno
import gc
import secrets
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.fakes import engine_on
from tests.kernel.conftest import ip
from tests.kernel.containers import Place
from tests.kernel.world import CHILD, OWNER, die_before_the_mark
from tests.lab import net
from tests.lab.service import wait_until
from tests.worlds import LAN, WEB
from underlay.errors import KernelRefused
from underlay.kernel import link_changes, links
from underlay.kernel.linux import LinuxKernel
from underlay.model import HostUse
from underlay.model.objects import UNFINISHED_GROUP, Owner
from underlay.model.steps import Create, Delete

pytestmark = pytest.mark.usefixtures("namespace")


def test_unmarked_objects_are_neither_observed_nor_changed(records):
    ip("link", "add", "link", "eth0", "name", "ul-foreign", "type", "macvlan")
    ip("link", "add", "link", "eth0", "name", "theirs", "type", "macvlan")
    ip("link", "set", "theirs", "alias", "underlaid: no mark")
    before = ip("-d", "link")
    kernel = LinuxKernel()
    assert kernel.observe() == frozenset()
    engine = engine_on(records, kernel)
    assert engine.reconcile() == []
    engine.create_network(LAN)
    engine.create_endpoint(WEB)
    engine.delete_network("n1")
    assert ip("-d", "link") == before


def test_device_tells_why_no_traffic_passes_it():
    kernel = LinuxKernel()
    ip("link", "add", "br9", "type", "bridge")
    ip("link", "set", "br9", "up")
    assert (kernel.device("eth0").link_fault, kernel.device("br9").link_fault) == (
        "",
        "",
    )
    ip("link", "set", "wire0", "down")
    wait_until(lambda: kernel.device("eth0").link_fault == "no carrier", 5)
    ip("link", "set", "eth0", "down")
    assert kernel.device("eth0").link_fault == "down"


def test_foreign_device_with_a_driver_name_is_refused_and_left_alone():
    ip("link", "add", "link", "eth0", "name", OWNER.device, "type", "macvlan")
    with pytest.raises(KernelRefused, match="File exists"):
        LinuxKernel().apply(Create(CHILD))
    LinuxKernel().apply(Delete(CHILD))
    assert OWNER.device in ip("-br", "link")


def test_link_of_a_process_that_died_before_marking_is_removed(records):
    ip(
        "link", "add", "link", "eth0", "name", "ul-0123456789ab", "group",
        str(UNFINISHED_GROUP), "type", "macvlan",
    )  # fmt: skip
    engine = engine_on(records, LinuxKernel())
    assert [str(s) for s in engine.preview()] == ["ip link del ul-0123456789ab"]
    assert engine.reconcile() == []
    assert "ul-0123456789ab" not in ip("-br", "link")


def test_link_left_by_a_death_before_marking_is_recognized_as_the_driver_s(
    records, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr(link_changes, "change_link", die_before_the_mark)
        with pytest.raises(KeyboardInterrupt):
            LinuxKernel().apply(Create(CHILD))
    (seen,) = LinuxKernel().observe()
    assert seen.owner is None
    assert engine_on(records, LinuxKernel()).reconcile() == []
    assert LinuxKernel().observe() == frozenset()


def test_foreign_link_in_the_driver_s_group_is_left_alone(records):
    group = str(UNFINISHED_GROUP)
    ip("link", "set", "eth0", "group", group)
    ip("link", "add", "link", "eth0", "name", "m1", "group", group, "type", "macvlan")
    assert engine_on(records, LinuxKernel()).reconcile() == []
    assert "m1" in ip("-br", "link")


def test_finished_link_is_in_no_group_and_carries_its_owner():
    LinuxKernel().apply(Create(CHILD))
    shown = ip("-d", "link", "show", OWNER.device)
    assert f"alias {OWNER.mark}" in shown
    assert "group default" in shown
    assert "state DOWN" in shown


def test_passthru_child_has_the_mac_of_its_parent(records):
    mac = LinuxKernel().device("eth0").mac
    engine = engine_on(records, LinuxKernel())
    whole = {"parent": "eth0", "macvlan_mode": "passthru"}
    engine.create_network(LAN.__class__("n1", whole))
    assert engine.create_endpoint(WEB).mac == mac
    assert engine.preview() == ()
    # And the parent has its own from its owner: no pass gives it the old one again.
    another = "02:00:00:00:00:99"
    ip("link", "set", "eth0", "address", another)
    assert engine.reconcile() == []
    assert LinuxKernel().device("eth0").mac == another
    engine.delete_network("n1")
    assert LinuxKernel().device("eth0").mac == another


def test_mac_of_a_sibling_is_refused_with_the_kernel_s_message():
    with pytest.raises(KernelRefused, match="mtu 9000 type macvlan"):
        LinuxKernel().apply(Create(CHILD.__class__(**_fields(CHILD), mtu=9000)))
    assert LinuxKernel().observe() == frozenset()


def _fields(link):
    return {"name": link.name, "kind": link.kind, "owner": link.owner, "parent": "eth0"}


def test_error_for_a_missing_parent_names_it():
    ip("link", "del", "eth0")
    with pytest.raises(KernelRefused, match="no device eth0"):
        LinuxKernel().apply(Create(CHILD))


def test_default_route_with_the_best_metric_names_the_device():
    assert LinuxKernel().default_device() is None
    ip("addr", "add", "10.0.0.2/24", "dev", "eth0")
    ip("addr", "add", "10.1.0.2/24", "dev", "wire0")
    ip("route", "add", "default", "via", "10.1.0.1", "metric", "200")
    assert LinuxKernel().default_device() == "wire0"
    ip("route", "add", "default", "via", "10.0.0.1", "metric", "100")
    assert LinuxKernel().default_device() == "eth0"


def test_ipv6_default_route_counts_where_there_is_no_other():
    ip("addr", "add", "fd00::2/64", "dev", "eth0", "nodad")
    ip("route", "add", "default", "via", "fd00::1")
    assert LinuxKernel().default_device() == "eth0"


@pytest.mark.needs("bond")
def test_bond_names_its_active_port():
    net.ip(
        "link set eth0 down",
        "link add bond0 type bond mode active-backup",
        "link add eth1 type veth peer name wire1",
        "link set wire1 up",
        "link set eth0 master bond0",
        "link set eth1 master bond0",
        "link set bond0 up",
    )
    for port in ("eth0", "eth1"):
        ip("link", "set", "bond0", "type", "bond", "active_slave", port)
        assert LinuxKernel().device("bond0").active_port == port


@pytest.mark.parametrize("name", ["lan0", "enx525400000001000"])
def test_alternative_names_name_a_device(name):
    ip("link", "property", "add", "dev", "eth0", "altname", name)
    assert LinuxKernel().device(name).name == "eth0"
    assert links.index_of(name) == links.index_of("eth0")


@pytest.mark.parametrize("name", ["", "gone0", "enx525400000001000", "a\0b"])
def test_missing_device_has_no_index(name):
    with pytest.raises(OSError, match="no device") as refused:
        links.index_of(name)
    assert refused.value.errno == errno.ENODEV


@pytest.mark.parametrize("name", ["", "x" * 200, "a/b", "a b", "\0", "é" * 9, "eth0\n"])
def test_invalid_device_name_names_no_device(name):
    assert LinuxKernel().device(name) is None


def test_bulk_observation_reads_every_link_and_leaves_no_file_open():
    net.ip(*(f"link add link eth0 name m{n} type macvlan" for n in range(100)))
    gc.collect()  # what earlier tests left open would else be closed in between
    before = {f.name for f in Path("/proc/self/fd").iterdir()}
    for _ in range(20):
        assert len(links.all_links()) == 103
    assert {f.name for f in Path("/proc/self/fd").iterdir()} <= before


def test_sandbox_exists_as_long_as_its_namespace_is_mounted(tmp_path):
    path = tmp_path / "sandbox"
    path.touch()
    assert not LinuxKernel().sandbox_exists(str(path))
    with Place("ulp") as place:
        assert LinuxKernel().sandbox_exists(place.path)
    assert not LinuxKernel().sandbox_exists(place.path)


def test_host_s_own_addresses_are_known_in_both_families():
    ip("addr", "add", "10.0.0.2/24", "dev", "eth0")
    ip("addr", "add", "fd00::2/64", "dev", "eth0", "nodad")
    # The kernel makes it the host's a moment after the device is up.
    wait_until(lambda: LinuxKernel().is_own(ip_address("fd00::2")), 5)
    own = ("10.0.0.2", "fd00::2", "127.0.0.1", "::1")
    others = ("10.0.0.3", "10.0.0.255", "fd00::3", "192.0.2.1", "2001:db8::1")
    assert [a for a in (*own, *others) if LinuxKernel().is_own(ip_address(a))] == list(
        own
    )


@pytest.mark.parametrize(("net", "size"), [("10.0.0.", 32), ("fd00::", 128)])
def test_routes_and_confirmed_neighbours_show_which_addresses_are_in_use(net, size):
    mac = "02:00:00:00:00:66"
    ip("addr", "add", f"{net}2/{24 if size == 32 else 64}", "dev", "eth0")
    wait_until(lambda: LinuxKernel().is_own(ip_address(f"{net}2")), 5)
    ip("route", "add", f"{net}3/{size}", "via", f"{net}7", "dev", "eth0", "onlink")
    ip("route", "add", f"{net}4/{size}", "dev", "eth0", "proto", "157")
    ip("route", "add", f"{net}8/{size - 1}", "dev", "eth0")
    ip("route", "add", "blackhole", f"{net}5/{size}")
    states = {"6": "reachable", "7": "permanent", "8": "stale", "9": "failed"}
    for last, state in states.items():
        words = () if state == "failed" else ("lladdr", mac)
        ip("neigh", "add", f"{net}{last}", *words, "dev", "eth0", "nud", state)
    found = {n: LinuxKernel().use_of(ip_address(f"{net}{n}")) for n in "123456789"}
    assert {n: use for n, use in found.items() if use} == {
        "2": HostUse(), "3": HostUse(), "6": HostUse(mac), "7": HostUse(mac),
    }  # fmt: skip


def test_driver_s_devices_in_other_namespaces_are_found_with_their_addresses():
    # Of a name that no other test has in any namespace of this machine.
    owner = Owner("n1", secrets.token_hex(8))
    child, device = replace(CHILD, name=owner.device, owner=owner), owner.device
    with Place("ulp") as place:
        LinuxKernel().apply(Create(child))
        ip("link", "set", device, "netns", place.netns)
        place.ip(
            f"addr add 10.0.0.5/24 dev {device}",
            f"addr add fd00::5/64 dev {device} nodad",
            f"link set {device} name eth7 up",
        )
        found = LinuxKernel().addresses_in_other_namespaces(())
        assert set(found[owner.mark]) == {ip_address("10.0.0.5"), ip_address("fd00::5")}
        assert owner.mark not in LinuxKernel().addresses_in_other_namespaces(
            {place.path}
        )
