"""Many links are deleted at once; those of others, and those in use, stay."""

from __future__ import annotations

import pytest

from tests.kernel.conftest import ip
from underlay.kernel import rtnetlink as nl
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import Link, Owner
from underlay.model.steps import Create

pytestmark = pytest.mark.usefixtures("namespace")


def child(name):
    owner = Owner("n1", name)
    return Link(owner.device, "macvlan", owner, parent="eth0", flavour="bridge")


def made(*links):
    kernel = LinuxKernel()
    for link in links:
        kernel.apply(Create(link))
    return kernel


def names():
    listed = ip("-br", "link", "show", "type", "macvlan").splitlines()
    return {line.split("@")[0] for line in listed}


@pytest.mark.needs("macvlan")
def test_links_are_deleted_by_one_request(monkeypatch):
    doomed = [child(f"e{n}") for n in range(20)]
    kernel, deletions, request = made(*doomed), [], nl.request

    def counted(kind, flags, body):
        if kind == nl.RTM_DELLINK:
            deletions.append(body)
        return request(kind, flags, body)

    monkeypatch.setattr(nl, "request", counted)
    kernel.delete_links(doomed)
    assert names() == set()
    assert len(deletions) == 1


@pytest.mark.needs("macvlan")
def test_foreign_links_survive_the_deletion_of_many():
    """One without a mark has the name of an endpoint's device, as in a race."""
    mine, theirs = child("e1"), child("e2")
    kernel = made(mine)
    ip("link", "add", theirs.name, "link", "eth0", "type", "macvlan", "mode", "bridge")
    ip("link", "set", theirs.name, "group", "7")
    ip("link", "add", "stranger", "link", "eth0", "type", "macvlan", "mode", "bridge")
    kernel.delete_links([mine, theirs, child("gone")])
    assert names() == {theirs.name, "stranger"}
    assert "group 7" in ip("-d", "link", "show", theirs.name)


@pytest.mark.needs("macvlan")
def test_no_link_is_deleted_if_none_is_left_to_delete():
    kernel = made()
    ip("link", "add", "stranger", "link", "eth0", "type", "macvlan", "mode", "bridge")
    kernel.delete_links([child("gone")])
    assert names() == {"stranger"}


@pytest.mark.needs("macvlan", "dummy", "vlan")
def test_link_with_something_on_it_survives_the_deletion_of_many():
    owner = Owner("n1", "e9")
    carrier = Link(owner.device, "dummy", owner)
    kernel = made(carrier, child("e1"))
    ip("link", "add", "on9", "link", owner.device, "type", "vlan", "id", "9")
    kernel.delete_links([carrier, child("e1")])
    assert names() == set()
    assert "on9" in ip("-br", "link")


def test_both_ends_of_a_pair_may_be_deleted_at_once():
    inner, outer = Owner("n1", "e1"), Owner("n1", "e1", end="host")
    pair = Link(
        inner.device, "veth", inner, peer=Link(outer.device, "veth", outer, up=True)
    )
    kernel = made(pair)
    seen = [o for o in kernel.observe() if isinstance(o, Link)]
    assert len(seen) == 2
    kernel.delete_links(seen)
    assert "ul-" not in ip("-br", "link")
