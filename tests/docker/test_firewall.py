"""What iptables would drop on a bridge, found out beforehand; no engine is needed."""

from __future__ import annotations

import subprocess

import pytest

from tests.kernel.conftest import namespace  # noqa: F401 - a fixture
from tests.lab import net
from underlay.kernel.netlink import Netlink


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


def shell(command):
    subprocess.run(["sh", "-ec", command], check=True, capture_output=True)
