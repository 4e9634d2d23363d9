"""What is seen and touched inside a sandbox, and what is left to its owner there."""

from __future__ import annotations

import secrets
import subprocess
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from tests.kernel.conftest import ip
from tests.kernel.world import CHILD, OWNER, born, sandbox_path
from tests.lab import net
from underlay.errors import KernelRefused
from underlay.kernel import namespaces
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import IPV6_SWITCH, Address, Link, Route
from underlay.model.steps import Create, Delete

NET, KINDS = Path("/proc/sys/net"), ("conf", "neigh")
SWITCH = "net.ipv6.conf.eth0.disable_ipv6"

pytestmark = pytest.mark.usefixtures("namespace")


@pytest.fixture
def room():
    found = net.Namespace(f"ulsb{secrets.token_hex(3)}", "")
    yield found.netns
    found.close()


def there(room):
    return LinuxKernel().observe_sandboxes({sandbox_path(room)})[sandbox_path(room)]


def test_device_without_its_final_name_is_found_and_removed(room):
    ip("-n", room, "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
    with pytest.raises(KernelRefused, match="File exists"):
        LinuxKernel().apply(Create(born(room)))
    (left,) = there(room)
    assert (left.name, left.owner) == (CHILD.name, None)
    LinuxKernel().apply(Delete(left))
    assert there(room) == frozenset()
    ip("-n", room, "link", "del", "eth0")
    LinuxKernel().apply(Create(born(room)))
    assert OWNER in {o.owner for o in there(room) if isinstance(o, Link)}
    assert " group " not in ip("-n", room, "link", "show", "eth0", "group", "157")


def test_foreign_device_with_the_expected_name_gets_no_address(room):
    ip("-n", room, "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
    given = Address(ip_interface("10.0.0.5/24"), "eth0", OWNER, sandbox_path(room))
    with pytest.raises(KernelRefused):
        LinuxKernel().apply(Create(given))
    assert "10.0.0.5" not in ip("-n", room, "addr", "show", "dev", "eth0")


def test_default_route_from_router_advertisement_is_ignored(room):
    LinuxKernel().apply(Create(born(room)))
    way = ("-6", "route", "add", "default", "via", "fe80::99", "dev", "eth0")
    ip("-n", room, *way, "proto", "ra", "metric", "1024")
    assert not any(
        isinstance(o, Route) and not o.destination.prefixlen for o in there(room)
    )


# The kernel derives it from the device's, and takes no other without IPv6.
DERIVED = "ipv6/conf/eth0/mtu"
PLACES = [f"{family}/{what}/eth0" for family in ("ipv4", "ipv6") for what in KINDS]


def settings(room):
    """Return all settings of the room's device that can be read, by path."""

    def look():
        found = {}
        for file in (f for p in PLACES for f in (NET / p).iterdir()):
            with suppress(OSError):
                found[str(file.relative_to(NET))] = file.read_text().strip()
        return found

    return namespaces.run_in(net.NETNS / room, look)


def unlike(value):
    """Return values that may be taken in the place of one."""
    known = {"0": ("1",), "1": ("0", "2"), "2": ("1",), "-1": ("0",)}
    if ":" in value:
        return ("2001:db8::1",)
    return known.get(value) or (str(int(value) + 1), str(int(value) - 1))


def change_all(room):
    """Change whatever can be changed of the room's device."""

    def change():
        for path, value in before.items():
            for other in unlike(value):
                with suppress(OSError):
                    (NET / path).write_text(other)
                    break
        secret.write_text("2001:db8::7")

    before, secret = settings(room), NET / "ipv6/conf/eth0/stable_secret"
    namespaces.run_in(net.NETNS / room, change)


def test_replacement_device_gets_every_sysctl_of_its_predecessor(room):
    LinuxKernel().apply(Create(born(room)))
    pristine = settings(room)
    assert LinuxKernel().sandbox_sysctls(sandbox_path(room), "eth0") == ()
    change_all(room)
    changed = settings(room)
    found = LinuxKernel().sandbox_sysctls(sandbox_path(room), "eth0")
    keys = {
        s.partition("=")[0].replace("*", "eth0").removeprefix("net/") for s in found
    }
    differing = {k for k, v in changed.items() if v != pristine.get(k)}
    assert len(differing) > 100
    # Two names of one value: the finer one is kept.
    coarse = {k for k in changed if {f"{k}_ms", f"{k}_bytes"} & changed.keys()}
    assert differing - coarse - {DERIVED} <= keys <= differing
    (link,) = (o for o in there(room) if isinstance(o, Link))
    LinuxKernel().apply(Delete(link))
    LinuxKernel().apply(Create(replace(born(room), initial_sysctls=found)))
    again = settings(room)
    assert {k: v for k, v in changed.items() if again.get(k) != v} == {}


def test_sysctl_refused_by_the_kernel_does_not_prevent_the_device(room, caplog):
    refused = "net/ipv4/conf/*/rp_filter=nonsense"
    kept = "net/ipv4/conf/*/arp_notify=1"
    LinuxKernel().apply(Create(replace(born(room), initial_sysctls=(refused, kept))))
    assert settings(room)["ipv4/conf/eth0/arp_notify"] == "1"
    assert "rp_filter=nonsense" in caplog.records[-1].setting


def test_missing_device_has_no_sysctls(room):
    assert LinuxKernel().sandbox_sysctls(sandbox_path(room), "eth0") == ()


def test_disabled_ipv6_is_observed_in_a_sandbox(room):
    LinuxKernel().apply(Create(born(room)))
    for value in ("1", "0"):
        ip("netns", "exec", room, "sysctl", "-qw", f"{SWITCH}={value}")
        (link,) = (o for o in there(room) if isinstance(o, Link))
        assert f"{IPV6_SWITCH}{value}" in link.sysctls


def test_observation_of_one_namespace_is_limited_in_size(room):
    """A program with CAP_NET_ADMIN in a container may put our marks on devices."""
    lines = []
    for n in range(12):
        lines += [
            f"link add d{n} type veth peer name p{n}",
            f"link set d{n} alias underlay:{room}-{n}:e{n} up",
            *(f"addr add 10.9.{n}.{k}/24 dev d{n}" for k in range(1, 30)),
        ]
    lines += ["link add b0 type bridge", f"link set b0 alias underlay:{room}-1:e99 up"]
    lines += ["addr add 10.8.0.1/24 dev b0"]
    batch = "\n".join(lines)
    done = subprocess.run(["ip", "-n", room, "-b", "-"], input=batch, text=True)
    assert done.returncode == 0
    found = LinuxKernel().addresses_in_other_namespaces(())
    mine = {mark: a for mark, a in found.items() if room in mark}
    assert len(mine) == namespaces.MOST_DEVICES
    oldest = tuple(ip_address(f"10.9.0.{k}") for k in (1, 2))
    assert mine[f"underlay:{room}-0:e0"] == oldest
    assert all(len(a) <= 2 * namespaces.MOST_ADDRESSES for a in mine.values())
