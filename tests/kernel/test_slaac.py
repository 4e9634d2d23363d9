"""How a device in a sandbox makes IPv6 addresses: what the kernel takes and tells."""

from __future__ import annotations

import secrets
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.conftest import ip
from tests.kernel.world import OWNER, born, sandbox_path
from tests.lab import net
from tests.lab.service import wait_until
from underlay.errors import KernelRefused
from underlay.kernel import namespaces
from underlay.kernel.linux import LinuxKernel
from underlay.model import Endpoint, LearnedState, Network
from underlay.model.objects import IPV6_SECRET, IPV6_SWITCH, Slaac
from underlay.model.steps import Amend, Create
from underlay.modes import ipv6

ITS_OWN = "0001:0203:0405:0607:0809:0a0b:0c0d:0e0f"
CONF = Path("/proc/sys/net/ipv6/conf/eth0")

pytestmark = pytest.mark.usefixtures("namespace")


@pytest.fixture(params=["0", "1"], ids=["on", "off"])
def room(request):
    """A sandbox with a device as an engine leaves it, IPv6 on or off."""
    found = net.Namespace(f"ulsl{secrets.token_hex(3)}", "")
    switch = (f"{IPV6_SWITCH}{request.param}",)
    LinuxKernel().apply(Create(replace(born(found.netns), initial_sysctls=switch)))
    yield found.netns
    found.close()


def wanted(room, mode, **options):
    network = Network(OWNER.network, {"parent": "eth0", "ipv6": mode})
    endpoint = Endpoint(
        OWNER.endpoint, network.id, options=options, sandbox=sandbox_path(room)
    )
    known = LearnedState("eth0", 1500, (4, 6), (f"{IPV6_SECRET}{ITS_OWN}",))
    return replace(ipv6.slaac(network, endpoint, known), owner=OWNER)


def seen(room):
    found = LinuxKernel().observe_sandboxes({sandbox_path(room)})[sandbox_path(room)]
    return next((o for o in found if isinstance(o, Slaac)), None)


def setting(room, key):
    path = Path(sandbox_path(room))
    return namespaces.run_in(path, lambda: (CONF / key).read_text().strip())


def link_local(room):
    shown = ip("-n", room, "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link")
    return shown.partition("inet6 ")[2].partition("/")[0]


def test_device_without_a_secret_or_token_is_not_told_of(room):
    assert seen(room) is None


def test_secret_is_taken_and_addresses_made_otherwise_are_forgotten(room):
    asked = wanted(room, "slaac")
    LinuxKernel().apply(Create(asked))
    assert setting(room, "stable_secret") == ITS_OWN
    assert asked.satisfied_by(seen(room))
    wait_until(lambda: link_local(room), 5)
    first = link_local(room)
    assert ":ff:fe" not in first
    shown = ip("-n", room, "-6", "-o", "addr", "show", "dev", "eth0")
    assert shown.count("inet6") == 1
    ip("-n", room, "link", "set", "eth0", "down", "address", "02:00:00:00:00:99", "up")
    wait_until(lambda: link_local(room), 5)
    assert link_local(room) == first


def test_token_is_taken_with_ipv6_off_before_and_kept(room):
    asked = wanted(room, "suffix", suffix="::53")
    LinuxKernel().apply(Create(asked))
    found = seen(room)
    assert asked.satisfied_by(found)
    assert "::53" in ip("-n", room, "token", "list")
    other = wanted(room, "suffix", suffix="::54")
    LinuxKernel().apply(Amend(found, other))
    assert other.satisfied_by(seen(room))
    assert not asked.satisfied_by(seen(room))


def test_change_of_one_sysctl_leaves_the_addresses_there(room):
    asked = wanted(room, "slaac")
    LinuxKernel().apply(Create(asked))
    given = ("addr", "add", "fd70:1::9/64", "dev", "eth0")
    ip("-n", room, *given, "valid_lft", "300", "preferred_lft", "200", "nodad")
    ip("netns", "exec", room, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=0")
    found = seen(room)
    assert not asked.satisfied_by(found)
    LinuxKernel().apply(Amend(found, asked))
    assert asked.satisfied_by(seen(room))
    assert [str(a) for a in seen(room).found] == ["fd70:1::9/64"]


@pytest.mark.parametrize(
    ("words", "is_told"),
    [
        (("valid_lft", "300", "preferred_lft", "200"), True),
        (("valid_lft", "300", "preferred_lft", "0"), False),
        ((), False),
    ],
    ids=["in use", "deprecated", "for ever"],
)
def test_addresses_with_a_lifetime_are_told_as_long_as_they_are_in_use(
    room, words, is_told
):
    LinuxKernel().apply(Create(wanted(room, "suffix", suffix="::53")))
    given = ("addr", "add", "fd70:1::53/64", "dev", "eth0", *words, "nodad")
    subprocess.run(["ip", "-n", room, *given], check=True)
    assert bool(seen(room).found) is is_told


def test_foreign_device_is_left_alone(room):
    asked = replace(wanted(room, "slaac"), device="lo")
    with pytest.raises(KernelRefused, match="lo is gone"):
        LinuxKernel().apply(Create(asked))
