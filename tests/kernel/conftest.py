"""One contract, two kernels: the fake, and a real namespace of this machine."""

from __future__ import annotations

import secrets
import subprocess
import time

import pytest

from tests.apart import apart, own_namespace
from tests.fakes import FakeKernel
from tests.lab import net
from tests.lab.fake_dhcp import SERVER, SERVER_MAC
from tests.lab.service import wait_until
from underlay.kernel.linux import LinuxKernel

__all__ = ["apart"]

MAC = "02:00:00:00:00:09"  # of eth0, where there is a machine


def ip(*words):
    done = subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def namespace():
    """Put this thread into a namespace of its own with a veth as eth0."""
    with own_namespace():
        net.ip(
            "link set lo up",
            "link add eth0 type veth peer name wire0",
            "link set eth0 up",
            "link set wire0 up",
        )
        # An IPv6 address works only from then on.
        while " UP " not in ip("-br", "link", "show", "eth0"):
            time.sleep(0.01)
        yield


@pytest.fixture
def machine(namespace):
    """A machine at the other end of eth0's wire."""
    del namespace
    with net.Namespace(f"udhcp{secrets.token_hex(3)}", "") as found:
        net.ip(
            f"link set eth0 address {MAC}",
            f"link set wire0 address {SERVER_MAC}",
            f"link set wire0 netns {found.netns}",
        )
        commands = f"ip link set wire0 up\nip addr add {SERVER}/24 dev wire0"
        found.run("sh", "-ec", commands)
        wait_until(lambda: " UP " in ip("-br", "link", "show", "eth0"), 5)
        yield found


@pytest.fixture(params=["fake", "real"])
def kernel(request):
    if request.param == "fake":
        return FakeKernel()
    request.getfixturevalue("namespace")
    return LinuxKernel()
