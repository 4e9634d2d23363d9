"""An address of a DHCPv6 server in a sandbox: put in, changed and taken out there."""

from __future__ import annotations

import secrets
from dataclasses import replace
from ipaddress import IPv6Interface
from math import inf

import pytest

from tests.kernel.conftest import ip
from tests.kernel.world import OWNER, born, sandbox_path
from tests.lab import net
from tests.lab.service import wait_until
from underlay.kernel.clock import since_boot
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import IPV6_SWITCH, Address, Lifetimes
from underlay.model.steps import Amend, Create, Delete

LEASED = IPv6Interface("fd70:1::5/128")

pytestmark = pytest.mark.usefixtures("namespace")


@pytest.fixture
def room():
    found = net.Namespace(f"ulls{secrets.token_hex(3)}", "")
    switch = (f"{IPV6_SWITCH}0",)
    LinuxKernel().apply(Create(replace(born(found.netns), initial_sysctls=switch)))
    yield found.netns
    found.close()


def leased(room, preferred, valid, ago=0.0):
    ends = Lifetimes(since_boot() - ago, preferred, valid)
    return Address(LEASED, "eth0", OWNER, sandbox_path(room), ends)


def seen(room):
    found = LinuxKernel().observe_sandboxes({sandbox_path(room)})[sandbox_path(room)]
    addresses = (o for o in found if isinstance(o, Address))
    return next((o for o in addresses if o.interface == LEASED), None)


def shown(room):
    return ip("-n", room, "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global")


@pytest.mark.parametrize(
    ("preferred", "valid"), [(60.0, 120.0), (60.0, inf), (inf, inf), (0.0, 120.0)]
)
def test_address_has_the_lifetimes_of_its_lease(room, preferred, valid):
    asked = leased(room, preferred, valid)
    LinuxKernel().apply(Create(asked))
    assert asked.satisfied_by(seen(room))
    words = shown(room)
    assert ("valid_lft forever" in words) == (valid == inf)
    assert ("deprecated" in words) == (preferred == 0)
    assert not seen(room).has_failed
    # Its prefix is on the link only as far as routers say so.
    assert "fd70" not in ip("-n", room, "-6", "route", "show", "table", "main")


def test_lifetimes_count_from_the_request_on(room):
    LinuxKernel().apply(Create(leased(room, 60, 120, ago=50)))
    assert seen(room).lifetimes.valid == pytest.approx(70, abs=2)


def test_renewal_changes_the_lifetimes_of_the_same_address(room):
    kernel, first = LinuxKernel(), leased(room, 60, 120)
    kernel.apply(Create(first))
    renewed = leased(room, 600, 1200)
    assert not renewed.satisfied_by(seen(room))
    kernel.apply(Amend(seen(room), renewed))
    assert renewed.satisfied_by(seen(room))
    assert shown(room).count("inet6") == 1
    assert "fd70" not in ip("-n", room, "-6", "route", "show", "table", "main")
    kernel.apply(Amend(seen(room), leased(room, inf, inf)))
    assert "valid_lft forever preferred_lft forever" in shown(room)


def test_lease_that_has_ended_is_not_put_in(room):
    LinuxKernel().apply(Create(leased(room, 60, 120, ago=130)))
    assert seen(room) is None


def test_address_that_a_server_gives_no_more_is_taken_out(room):
    asked = leased(room, 60, 120)
    LinuxKernel().apply(Create(asked))
    LinuxKernel().apply(Delete(asked))
    assert seen(room) is None


def test_kernel_takes_an_address_out_at_its_end(room):
    LinuxKernel().apply(Create(leased(room, 1, 2)))
    wait_until(lambda: seen(room) is None, 10)
