"""Alternative names of devices, in the host and in sandboxes."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from tests.kernel.conftest import ip
from tests.kernel.world import OWNER, born, bring_about, sandbox_path
from tests.lab import net
from underlay.errors import KernelRefused
from underlay.kernel import links
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import AltName, Link, Owner
from underlay.model.steps import Create, Delete
from underlay.planning.desired import DesiredState
from underlay.planning.plan import plan

pytestmark = pytest.mark.usefixtures("namespace")
END = OWNER.host_end
PAIR = Link(END.device, "veth", END, peer=Link(OWNER.device, "veth", OWNER))
FAR = Link(OWNER.device, "veth", OWNER)
WEB = AltName("ul-web", END.device, END)


@pytest.fixture
def room():
    found = net.Namespace(f"ulan{secrets.token_hex(3)}", "")
    LinuxKernel().apply(Create(born(found.netns)))
    yield found.netns
    found.close()


def inside(room):
    return AltName("uplink", "eth0", OWNER, sandbox_path(room))


def seen(room):
    found = LinuxKernel().observe_sandboxes({sandbox_path(room)})[sandbox_path(room)]
    return {o for o in found if isinstance(o, AltName)}


def test_name_is_given_seen_and_removed_in_a_sandbox(room):
    kernel, name = LinuxKernel(), inside(room)
    assert seen(room) == set()
    for _ in range(2):  # what is done already is no error
        kernel.apply(Create(name))
        assert seen(room) == {name}
    assert "altname uplink" in ip("-n", room, "link", "show", "uplink")
    for _ in range(2):
        kernel.apply(Delete(name))
        assert seen(room) == set()


def test_host_keeps_names_of_containers_up_to_date():
    kernel = LinuxKernel()
    bring_about(kernel, PAIR, FAR, WEB)
    assert END.device in ip("link", "show", "ul-web")
    bring_about(kernel, PAIR, FAR, replace(WEB, name="ul-api"))
    assert "altname ul-web" not in (shown := ip("link", "show", "ul-api"))
    assert "altname ul-api" in shown
    bring_about(kernel)


def test_administrators_names_are_not_touched():
    kernel = LinuxKernel()
    bring_about(kernel, PAIR, FAR, WEB)
    ip("link", "property", "add", "dev", END.device, "altname", "uplink-of-web")
    ip("link", "property", "add", "dev", "eth0", "altname", "ul-mine")
    assert plan(DesiredState((PAIR, FAR, WEB)), kernel.observe()) == ()
    ip("link", "property", "del", "dev", "eth0", "altname", "ul-mine")


def test_name_is_no_mark():
    """A device that has our name, but no alias, is another program's."""
    name = Owner("n2", "e2").device
    ip("link", "property", "add", "dev", "eth0", "altname", name)
    kernel = LinuxKernel()
    assert kernel.observe({name}) == frozenset()
    with pytest.raises(KernelRefused):
        kernel.apply(Create(AltName("ul-web", "eth0", END)))
    kernel.apply(Delete(Link(name, "veth", Owner("n2", "e2"))))
    assert "eth0" in ip("link", "show", "eth0")


def test_names_of_other_devices_cannot_be_given(room):
    kernel = LinuxKernel()
    bring_about(kernel, PAIR, FAR)
    ip("-n", room, "link", "add", "uplink", "type", "veth", "peer", "name", "far")
    ip("link", "property", "add", "dev", "eth0", "altname", "ul-web")
    free = replace(WEB, name="ul-api")
    taken = {WEB, inside(room)}
    assert kernel.lacking_names({free, *taken}) == taken
    for name in taken:
        with pytest.raises(KernelRefused, match="File exists"):
            kernel.apply(Create(name))
    gone = replace(inside(room), sandbox="/run/netns/none")
    assert kernel.lacking_names({gone}) == {gone}


def test_kernel_without_alternative_names_has_none_to_give(monkeypatch):
    monkeypatch.setattr(links.nl, "RTM_NEWLINKPROP", 0x7FFC)  # means nothing
    assert LinuxKernel().lacking_names({WEB}) == {WEB}
