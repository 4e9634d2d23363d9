"""One contract, two kernels: the fake, and a real namespace of this machine."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.apart import apart, own_namespace
from tests.fakes import FakeKernel
from tests.lab import net
from underlay.kernel.linux import LinuxKernel

__all__ = ["apart"]


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


@pytest.fixture(params=["fake", "real"])
def kernel(request):
    if request.param == "fake":
        return FakeKernel()
    request.getfixturevalue("namespace")
    return LinuxKernel()
