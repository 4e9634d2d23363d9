"""What iptables would drop on a bridge, found out beforehand; no engine is needed."""

from __future__ import annotations

import subprocess

import pytest

from tests.fakes import engine_on
from tests.kernel.conftest import namespace  # noqa: F401 - a fixture
from tests.lab import net
from underlay.kernel.netlink import Netlink
from underlay.objects import Permit
from underlay.records import Records
from underlay.steps import Create


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("own", [True, False])
def test_frames_that_iptables_would_drop_are_known_before_they_are(own):
    setting = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    kernel = Netlink()
    net.ip("link add br0 type bridge")
    shell("iptables -P FORWARD DROP")
    shell(f"echo 0 > {setting}")
    assert kernel.drops_bridged("br0", 4) == ""
    of_its_own = "ip link set br0 type bridge nf_call_iptables 1"
    shell(of_its_own if own else f"echo 1 > {setting}")
    assert "policy of its FORWARD is DROP" in kernel.drops_bridged("br0", 4)
    assert kernel.drops_bridged("br0", 6) == ""
    for way in (
        "-A FORWARD -i br0 -o br0 -j ACCEPT",
        "-A FORWARD -m physdev --physdev-is-bridged -j ACCEPT",
        "-A FORWARD -j ACCEPT",
    ):
        shell(f"iptables {way}")
        assert kernel.drops_bridged("br0", 4) == ""
        shell(f"iptables {way.replace('-A', '-D', 1)}")
    shell("iptables -A FORWARD -i br01 -o br01 -j ACCEPT")
    assert kernel.drops_bridged("br0", 4) != ""
    shell("iptables -N DOCKER-USER")
    assert kernel.drops_bridged("br0", 4) == ""


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("back_end", ["nft", "legacy"])
def test_rules_that_a_dead_process_left_in_docker_s_chain_are_deleted(
    tmp_path, back_end
):
    """By a pass of the next one; what others have there stays, in its order."""
    tool = f"iptables-{back_end}"
    shell(f"{tool} -N DOCKER-USER; {tool} -A DOCKER-USER -s 10.9.9.9 -j DROP")
    shell(f"{tool} -A DOCKER-USER -j RETURN")
    net.ip("link add docker0 type bridge")
    before = shown(tool)
    for match in ("-i ul-+", "-o ul-+"):
        for _ in range(2):
            Netlink().apply(Create(Permit(4, match)))
    rules = shown(tool).splitlines()
    ways = [line.split(" -m ")[0].removeprefix("-A DOCKER-USER ") for line in rules]
    assert ways == [
        "-N DOCKER-USER", "-s 10.9.9.9/32 -j DROP", "-i ul-+ -o docker0", "-i ul-+",
        "-o ul-+", "-j RETURN",
    ]  # fmt: skip
    engine = engine_on(Records(tmp_path / "underlay.db"), Netlink())
    assert engine.reconcile() == []
    assert shown(tool) == before
    assert engine.preview() == ()
    engine.records.close()


def shown(tool):
    return subprocess.run(
        [tool, "-S", "DOCKER-USER"], check=True, capture_output=True, text=True
    ).stdout


def shell(command):
    subprocess.run(["sh", "-ec", command], check=True, capture_output=True)
