"""What iptables would drop on a bridge, found out beforehand; no engine is needed."""

from __future__ import annotations

import fcntl
import subprocess

import pytest

from tests.fakes import engine_on
from tests.kernel.conftest import namespace  # noqa: F401 - a fixture
from tests.lab import net
from underlay.kernel import iptables
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import FORWARDED, ForwardAccept
from underlay.model.steps import Create, Delete
from underlay.records import Records

BRIDGE = "shop"  # as com.docker.network.bridge.name has it: a name says nothing
FORMER = ("-i ul-+", "-o ul-+")


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("own", [True, False])
def test_frames_that_iptables_would_drop_are_detected_beforehand(own):
    setting = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    kernel = LinuxKernel()
    net.ip("link add br0 type bridge")
    shell("iptables -P FORWARD DROP")
    shell(f"echo 0 > {setting}")
    assert kernel.bridge_firewall_drops("br0", 4) == ""
    of_its_own = "ip link set br0 type bridge nf_call_iptables 1"
    shell(of_its_own if own else f"echo 1 > {setting}")
    assert "policy of its FORWARD is DROP" in kernel.bridge_firewall_drops("br0", 4)
    assert kernel.bridge_firewall_drops("br0", 6) == ""
    for way in (
        "-A FORWARD -i br0 -o br0 -j ACCEPT",
        "-A FORWARD -m physdev --physdev-is-bridged -j ACCEPT",
        "-A FORWARD -j ACCEPT",
    ):
        shell(f"iptables {way}")
        assert kernel.bridge_firewall_drops("br0", 4) == ""
        shell(f"iptables {way.replace('-A', '-D', 1)}")
    shell("iptables -A FORWARD -i br01 -o br01 -j ACCEPT")
    assert kernel.bridge_firewall_drops("br0", 4) != ""
    shell("iptables -N DOCKER-USER")
    assert kernel.bridge_firewall_drops("br0", 4) == ""


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("back_end", ["nft", "legacy"])
def test_forward_rules_left_by_a_dead_process_are_deleted(tmp_path, back_end):
    """By a pass of the next one; what others have there stays, in its order."""
    tool = f"iptables-{back_end}"
    shell(f"{tool} -N DOCKER-USER; {tool} -A DOCKER-USER -s 10.9.9.9 -j DROP")
    shell(f"{tool} -A DOCKER-USER -j RETURN")
    net.ip(f"link add {BRIDGE} type bridge")
    before = shown(tool)
    for match in FORWARDED:
        for _ in range(2):
            LinuxKernel().apply(Create(ForwardAccept(4, match)))
    assert ways(tool) == [
        "-s 10.9.9.9/32 -j DROP", f"-o {BRIDGE} {FORWARDED[0]}", *FORWARDED,
        "-j RETURN",
    ]  # fmt: skip
    engine = engine_on(Records(tmp_path / "underlay.db"), LinuxKernel())
    assert engine.reconcile() == []
    assert shown(tool) == before
    assert engine.preview() == ()
    engine.records.close()


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("back_end", ["nft", "legacy"])
def test_accept_rules_are_recognized_by_content_not_by_name(tmp_path, back_end):
    """Devices of ours by their group, bridges of others by what is in them."""
    tool = f"iptables-{back_end}"
    shell(f"{tool} -N DOCKER-USER")
    net.ip(
        f"link add {BRIDGE} type bridge",
        "link add lan0 type bridge",
        "link add nic type ifb",
        "link set nic master lan0",
    )
    for rule in ("-i ul-+ -o docker0", *FORMER):
        verdict = "RETURN" if "docker0" in rule else "ACCEPT"
        marked = f"-m comment --comment underlay: -j {verdict}"
        shell(f"{tool} -A DOCKER-USER {rule} {marked}")
    kernel, wanted = LinuxKernel(), {ForwardAccept(4, match) for match in FORWARDED}
    # What let pass until now is not taken away before its successor is there.
    assert kernel.forward_rules(wanted) == frozenset()
    for permit in wanted:
        kernel.apply(Create(permit))
    assert kernel.forward_rules(wanted) == wanted | {
        ForwardAccept(4, match) for match in FORMER
    }
    for match in FORMER:
        kernel.apply(Delete(ForwardAccept(4, match)))
    assert set(ways(tool)) == {f"-o {BRIDGE} {FORWARDED[0]}", *FORWARDED}
    # The first bridge turns out to lead out, another one comes.
    net.ip("link add later type bridge", f"link set nic master {BRIDGE}")
    assert kernel.forward_rules(wanted) == {ForwardAccept(4, FORWARDED[1])}
    kernel.apply(Create(ForwardAccept(4, FORWARDED[0])))
    assert kernel.forward_rules(wanted) == wanted
    shields = [f"-o {name} {FORWARDED[0]}" for name in ("lan0", "later")]
    found = ways(tool)
    assert set(found) == {*shields, *FORWARDED}
    assert all(found.index(x) < found.index(FORWARDED[0]) for x in shields)
    engine = engine_on(Records(tmp_path / "underlay.db"), LinuxKernel())
    assert engine.reconcile() == []
    assert ways(tool) == []
    engine.records.close()


@pytest.mark.usefixtures("namespace")
def test_link_group_named_by_the_administrator_is_still_recognized(monkeypatch):
    """iptables shows that name, and so the rule as another one."""
    listed = iptables._run
    shell("iptables -N DOCKER-USER")
    kernel, wanted = LinuxKernel(), {ForwardAccept(4, match) for match in FORWARDED}
    monkeypatch.setattr(
        iptables, "_run", lambda *w, **g: listed(*w, **g).replace("0x756c", "routed")
    )
    for permit in (*wanted, *wanted):
        kernel.apply(Create(permit))
    assert kernel.forward_rules(wanted) == wanted
    assert len(ways("iptables")) == len(wanted)


@pytest.mark.usefixtures("namespace")
def test_locked_iptables_table_is_not_taken_for_one_without_docker_s_chain(
    tmp_path, monkeypatch
):
    """Else all that is wanted would count as being there."""
    shell("iptables-legacy -N DOCKER-USER")
    lock = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
    monkeypatch.setattr(iptables, "IPTABLES", {4: "iptables-legacy", 6: "none"})
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="xtables lock"):
            list(iptables.forward_rules({ForwardAccept(4, FORWARDED[0])}))


def ways(tool):
    """Return the rules in Docker's chain, without our comment and verdict."""
    rules = shown(tool).splitlines()[1:]
    return [r.split(" -m comment")[0].removeprefix("-A DOCKER-USER ") for r in rules]


def shown(tool):
    return subprocess.run(
        [tool, "-S", "DOCKER-USER"], check=True, capture_output=True, text=True
    ).stdout


def shell(command):
    subprocess.run(["sh", "-ec", command], check=True, capture_output=True)
