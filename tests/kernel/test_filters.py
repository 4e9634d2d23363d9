"""Chains of nftables, and whole lives with them, on a real kernel that has them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes import Death
from tests.kernel.conftest import ip
from tests.kernel.world import bring_about, chains, nft
from tests.worlds import MACVLAN, ROUTED, life, parts
from underlay.kernel import iptables, nftables
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import FORWARDED, ForwardAccept, Link, NftChain, Owner
from underlay.model.owner import SysctlReason
from underlay.model.steps import Amend, Create
from underlay.planning.desired import DesiredState
from underlay.planning.plan import plan

pytestmark = pytest.mark.needs("nftables")


@pytest.mark.usefixtures("namespace")
def test_restarted_service_beside_its_own_table_still_finds_nftables():
    nft("add", "table", "netdev", "underlay")
    assert LinuxKernel().can_filter


@pytest.mark.usefixtures("namespace")
def test_nft_without_json_counts_as_missing(tmp_path, monkeypatch):
    """What it lists cannot be read: chains would be made again in each pass."""
    script = f"""#!/bin/sh
        [ "$1" = -j ] && {{ echo "Error: JSON support not compiled-in" >&2; exit 1; }}
        exec {shutil.which("nft")} "$@"
    """
    (tmp_path / "nft").write_text(script)
    (tmp_path / "nft").chmod(0o755)
    assert LinuxKernel().can_filter
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert not LinuxKernel().can_filter


@pytest.mark.usefixtures("namespace")
def test_driver_chains_come_and_go_and_leave_other_tables_alone():
    kernel = LinuxKernel()
    nft("add", "table", "ip", "theirs")
    theirs = nft("list", "ruleset")
    device = Owner.parse("underlay::shim/eth0").device
    ip("link", "add", device, "type", "veth", "peer", "name", "wire1")
    wanted = chains()
    bring_about(kernel, *wanted)
    assert LinuxKernel().can_filter, "a service that is started again finds it out anew"
    seen = {o.key: o.marks for o in kernel.observe() if isinstance(o, NftChain)}
    assert seen == {o.key: o.marks for o in wanted}
    assert all(len(o.rules) == len(set(o.marks)) for o in wanted)
    bring_about(kernel)
    assert nft("list", "ruleset") == theirs


@pytest.mark.usefixtures("namespace")
def test_hanging_programs_do_not_hide_the_rest_of_the_host(monkeypatch):
    kernel = LinuxKernel()
    device = Owner.parse("underlay::shim/eth0").device
    ip("link", "add", device, "type", "veth", "peer", "name", "wire1")
    wanted = chains()
    bring_about(kernel, *wanted)
    alias = Owner.parse("underlay::shim/eth0").mark
    wanted.append(Link(device, "veth", Owner.parse("underlay::shim/eth0")))
    ip("link", "set", device, "alias", alias)

    def hang(*_words, **_how):
        raise TimeoutError(errno.ETIMEDOUT, "it does not end")

    with monkeypatch.context() as patched:
        patched.setattr(nftables, "_run", hang)
        patched.setattr(iptables, "_run", hang)
        seen = kernel.observe() | kernel.forward_rules({ForwardAccept(4, FORWARDED[0])})
        assert {o.name for o in seen if isinstance(o, Link)} == {device}
        # As far as is known, all is as it was, and as it should be.
        assert plan(DesiredState((*wanted, ForwardAccept(4, FORWARDED[0]))), seen) == ()
    # And are asked again.
    nft("flush", "ruleset")
    assert not any(isinstance(o, NftChain) for o in kernel.observe())


@pytest.mark.usefixtures("namespace")
def test_chains_without_marks_on_their_rules_are_replaced_once():
    kernel = LinuxKernel()
    device = Owner.parse("underlay::shim/eth0").device
    ip("link", "add", device, "type", "veth", "peer", "name", "wire1")
    wanted = chains()
    bring_about(kernel, *wanted)
    unmarked = re.sub(r" comment \S+", "", nft("list", "ruleset"))
    nft("flush", "ruleset")
    subprocess.run(["nft", "-f", "-"], input=unmarked, text=True, check=True)
    steps = plan(DesiredState(tuple(wanted)), kernel.observe())
    # Whose they are is not told by anything; where ours are wanted, they are replaced.
    assert {(type(s), s.object) for s in steps} == {(Create, o) for o in wanted}
    nft("add", "rule", "netdev", "underlay", f"egress-{device}", "accept", "comment",
        '"underlay:0123456789abcdef"')  # fmt: skip
    steps = plan(DesiredState(tuple(wanted)), LinuxKernel().observe())
    said = next(str(s) for s in steps if isinstance(s, Amend))
    assert said == (
        f"nft delete chain netdev underlay egress-{device}; nft add chain netdev"
        f' underlay egress-{device} {{ type filter hook egress device "{device}"'
        " priority 0; meta mark 0x0000756c accept;"
        " ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 drop }"
    )
    bring_about(kernel, *wanted)
    assert "comment" in nft("list", "ruleset")


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("act", ["create", "delete", "pass"])
def test_hanging_nft_blocks_no_other_verb(tmp_path, monkeypatch, act):
    """It has 3 s for each filter of a shim; the records are free meanwhile."""
    ip("address", "add", "10.0.0.9/24", "dev", "eth0")
    engine, ipam = parts(tmp_path / "underlay.db", LinuxKernel())
    verbs = life(engine, ipam, MACVLAN)
    if act != "create":
        verbs[0]()
    if act == "pass":
        nft("flush", "ruleset")
        ip("link", "del", Owner.parse("underlay::shim/eth0").device)
    hangs = tmp_path / "hangs"
    path = tmp_path / "nft"
    path.write_text(f"#!/bin/sh\ntouch {hangs}\nexec sleep 600\n")
    path.chmod(0o755)
    # Of a pass, the look has a patience of its own.
    seen = LinuxKernel().observe() if act == "pass" else frozenset()
    monkeypatch.setattr(engine.kernel, "_observe_all", lambda: seen)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    acts = {"create": verbs[0], "delete": verbs[5], "pass": engine.reconcile}
    with ThreadPoolExecutor(1) as others:
        done = others.submit(acts[act])
        while not hangs.exists():
            time.sleep(0.01)
        began = time.monotonic()
        with engine.records.transaction():
            pass
        waited = time.monotonic() - began
        assert not done.done()
        done.result(30)
    assert waited < 0.5
    monkeypatch.undo()
    assert engine.reconcile() == []
    assert engine.preview() == ()
    engine.delete_network("n1")


class Dying(LinuxKernel):
    """A process that dies before, or after, its n-th step."""

    def __init__(self, step, *, after):
        super().__init__()
        self.left, self.after = step, after

    def apply(self, step):
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Death
        super().apply(step)
        if self.left == 0:
            raise Death


def everything():
    """Return what is in the namespace, as text."""
    shown = [
        ip("-o", "link"),
        ip("route", "show", "table", "all"),
        ip("-6", "route", "show", "table", "all"),
        ip("neigh", "show", "proxy"),
        ip("-6", "neigh", "show", "proxy"),
        str(
            [
                (s.path, s.before)
                for s in LinuxKernel().sysctls_for(SysctlReason.parse("forwarding/6"))
            ]
        ),
        str(
            [
                (s.path, s.before)
                for s in LinuxKernel().sysctls_for(SysctlReason.parse("forwarding/4"))
            ]
        ),
    ]
    return "\n".join(shown)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("options", [ROUTED, MACVLAN], ids=["routed", "macvlan"])
@pytest.mark.usefixtures("namespace")
def test_death_at_any_step_on_a_real_kernel_is_repaired_by_a_pass(
    tmp_path, options, after
):
    addresses = ("10.0.0.9/24", "fd00::9/64") if options is MACVLAN else ()
    for address in addresses:
        ip("address", "add", address, "dev", "eth0", "nodad")
    while "tentative" in ip("address"):
        time.sleep(0.01)
    before, step, done = everything(), 0, False
    while not done:
        step += 1
        path = tmp_path / f"{step}.db"
        done = ended(path, Dying(step, after=after), options)
        engine, _ = parts(path, LinuxKernel())
        assert engine.reconcile() == []
        assert engine.preview() == ()
        for known in engine.records.networks.all():
            engine.delete_network(known.id)
        assert everything() == before
    assert step > 20


def ended(path, kernel, options):
    """Live a life until it ends or the process dies; tell whether it ended."""
    try:
        for verb in life(*parts(path, kernel), options):
            verb()
    except Death:
        return False
    return True
