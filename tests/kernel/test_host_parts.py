"""Addresses, routes, neighbours, rules and settings on a real kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from tests.kernel.conftest import ip
from tests.kernel.world import bring_about
from underlay.errors import KernelRefused
from underlay.kernel import sysctl
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import (
    HOST_METRIC,
    Address,
    Link,
    Neighbour,
    Owner,
    Route,
    Sysctl,
)
from underlay.model.owner import SysctlReason
from underlay.model.steps import Amend, Create, Delete
from underlay.modes import host_access, routed
from underlay.planning.desired import DesiredState
from underlay.planning.plan import plan

OWNER = Owner("n1", "e1")
PAIR = Link(
    OWNER.host_end.device,
    "veth",
    OWNER.host_end,
    mtu=1400,
    up=True,
    peer=Link(OWNER.device, "veth", OWNER, mac="02:00:00:00:00:07", mtu=1400),
    sysctls=("net/ipv4/conf/*/rp_filter=2", "net/ipv6/conf/*/accept_dad=0"),
)
ACCESS = Owner.parse("underlay::shim/eth0")
SHIM = Link(ACCESS.device, "macvlan", ACCESS, "eth0", "bridge", up=True)
FOUR, SIX = ip_address("10.64.0.7"), ip_address("fd64::7")


def routes(table=254):
    return [
        Route(ip_network(a), PAIR.name, HOST_METRIC[a.version], table)
        for a in (FOUR, SIX)
    ]


def test_veth_is_created_with_its_settings_and_marks(kernel):
    bring_about(kernel, PAIR)
    seen = {link.owner: link for link in kernel.observe()}
    host, container = seen[OWNER.host_end], seen[OWNER]
    assert (host.mtu, host.up, container.mtu) == (1400, True, 1400)
    assert container.mac == "02:00:00:00:00:07"
    kernel.apply(Delete(PAIR))
    assert kernel.observe() == frozenset()


@pytest.mark.usefixtures("namespace")
def test_link_settings_are_those_requested():
    kernel = LinuxKernel()
    kernel.apply(Create(PAIR))
    paths = [s.replace("*", PAIR.name).split("=") for s in PAIR.sysctls]
    asked = {Sysctl(path, value) for path, value in paths}
    assert kernel.sysctls(asked) == asked


def written(path, device):
    return Path("/proc/sys", path.replace("*", device)).read_text().strip()


@pytest.mark.parametrize("setting", [*routed.HOST_END, *host_access.SETTINGS[:-2]])
@pytest.mark.usefixtures("namespace")
def test_link_setting_changed_by_another_program_is_set_again_alone(setting):
    kernel = LinuxKernel()
    settings = tuple({*routed.HOST_END, setting})
    pair = replace(
        PAIR, sysctls=settings, initial_sysctls=("net/ipv4/conf/*/arp_ignore=1",)
    )
    bring_about(kernel, pair)
    path, value = setting.split("=")
    for changed in (path, "net/ipv4/conf/*/arp_ignore"):
        other = "0" if written(changed, PAIR.name) != "0" else "1"
        kernel.apply(Create(Sysctl(changed.replace("*", PAIR.name), other)))
    (step,) = plan(DesiredState((pair,)), kernel.observe())
    words = f"{path}={value}".replace("*", PAIR.name).replace("/", ".")
    assert str(step) == f"sysctl -w {words}"
    assert [
        str(s) for s in plan(DesiredState((pair,)), kernel.observe([PAIR.name]))
    ] == [str(step)]
    bring_about(kernel, pair)
    assert written(path, PAIR.name) == value
    assert written("net/ipv4/conf/*/arp_ignore", PAIR.name) == "0"


@pytest.mark.usefixtures("namespace")
def test_settings_are_set_on_a_device_with_an_equals_sign_in_its_name():
    """As a container may rename its own."""
    ip("link", "add", "a=b", "type", "veth", "peer", "name", "other")
    sysctl.set_of_device(("net/ipv4/conf/*/arp_ignore=1",), "a=b")
    assert written("net/ipv4/conf/*/arp_ignore", "a=b") == "1"


@pytest.mark.usefixtures("namespace")
def test_settings_missing_from_the_kernel_are_not_required():
    # Too small for IPv6, so there is none on it.
    bring_about(LinuxKernel(), replace(PAIR, mtu=1200, sysctls=routed.HOST_END))
    assert not Path(f"/proc/sys/net/ipv6/conf/{PAIR.name}").exists()


@pytest.mark.parametrize("table", [254, 500, 100_000])
def test_routes_addresses_and_neighbours_are_created_and_deleted(kernel, table):
    things = [
        *routes(table),
        *(Address(ip_interface(a), PAIR.name) for a in ("10.64.0.1", "fd64::1")),
        Neighbour(FOUR, "eth0"),
        Neighbour(SIX, "eth0"),
        Neighbour(ip_address("10.64.0.9"), SHIM.name, "02:00:00:00:00:09"),
        Neighbour(ip_address("fd64::9"), SHIM.name, "02:00:00:00:00:09"),
        Route(ip_network("10.64.0.0/24"), None, 10, table),
        Route(ip_network("fd64::/64"), None, 10, table),
    ]
    bring_about(kernel, PAIR, SHIM, *things)
    for thing in things:  # a step done already is not an error
        kernel.apply(Create(thing))
    bring_about(kernel)
    assert kernel.observe() == frozenset()
    for thing in things:
        if not isinstance(thing, Address):
            kernel.apply(Delete(thing))


@pytest.mark.usefixtures("namespace")
def test_route_with_a_changed_source_is_recreated():
    kernel = LinuxKernel()
    for address in ("10.0.0.9/24", "10.0.0.8/24"):
        ip("address", "add", address, "dev", "eth0")
    route = Route(ip_network("10.64.0.7"), PAIR.name, source=ip_address("10.0.0.9"))
    bring_about(kernel, PAIR, route)
    bring_about(kernel, PAIR, replace(route, source=ip_address("10.0.0.8")))
    assert "src 10.0.0.8" in ip("route", "show", "10.64.0.7")


@pytest.mark.parametrize("family", ["-4", "-6"])
@pytest.mark.usefixtures("namespace")
def test_conflicting_foreign_object_is_refused_and_stays_foreign(family):
    kernel = LinuxKernel()
    kernel.apply(Create(PAIR))
    there = routes()[family == "-6"]
    words = (str(there.destination), "dev", "eth0", "metric", str(there.metric))
    ip(family, "route", "add", *words)
    ip("neigh", "add", "proxy", "10.64.0.50", "dev", "eth0")
    seen = [o for o in kernel.observe() if not isinstance(o, Link)]
    assert [o for o in seen if not isinstance(o, Address)] == []
    if family == "-4":  # for IPv6 the kernel has room for both
        with pytest.raises(KernelRefused, match="EEXIST"):
            kernel.apply(Create(there))
    kernel.apply(Delete(there))
    assert "eth0" in ip(family, "route", "show", str(there.destination))


@pytest.mark.usefixtures("namespace")
def test_sysctls_are_read_and_written_and_missing_devices_left_out():
    kernel = LinuxKernel()
    path = "net/ipv4/conf/eth0/rp_filter"
    asked = [Sysctl(path, "2"), Sysctl("net/ipv4/conf/gone0/rp_filter", "2")]
    (seen,) = kernel.sysctls(asked)
    kernel.apply(Amend(seen, asked[0]))
    assert {o.value for o in kernel.sysctls(asked)} == {"2"}


@pytest.mark.usefixtures("namespace")
def test_host_accepting_router_advertisements_still_does_when_it_forwards():
    kernel = LinuxKernel()
    found = {
        s.path: (s.before, s.value)
        for s in kernel.sysctls_for(SysctlReason.parse("forwarding/6"))
    }
    assert found["net/ipv6/conf/eth0/accept_ra"] == ("1", "2")
    assert list(found)[-1] == "net/ipv6/conf/all/forwarding"
    assert [
        s.write_order for s in kernel.sysctls_for(SysctlReason.parse("forwarding/6"))
    ] == list(range(len(found)))


@pytest.mark.parametrize(("everywhere", "here"), [("1", "0"), ("0", "1"), ("0", "0")])
@pytest.mark.usefixtures("namespace")
def test_strict_reverse_path_filter_alone_is_loosened(everywhere, here):
    kernel = LinuxKernel()
    for name, value in (("all", everywhere), ("eth0", here)):
        path = f"net/ipv4/conf/{name}/rp_filter"
        kernel.apply(Create(Sysctl(path, value)))
    found = [
        (s.path, s.before, s.value)
        for s in kernel.sysctls_for(SysctlReason.parse("loose/eth0/4"))
    ]
    strict = "1" in (everywhere, here)
    assert found == [("net/ipv4/conf/eth0/rp_filter", here, "2")] * strict
