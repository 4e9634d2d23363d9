"""One contract, two kernels: the fake, and a real namespace of this machine."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time

import pytest

from tests.fakes import FakeKernel
from tests.lab import net
from underlay.kernel.netlink import Netlink

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def ip(*words):
    done = subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def namespace():
    """Put this thread into a namespace of its own with a veth as eth0."""
    if os.geteuid() != 0:
        pytest.fail("the kernel tests need root: sudo script/test kernel")
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    assert LIBC.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    try:
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
    finally:
        assert LIBC.setns(home, CLONE_NEWNET) == 0
        os.close(home)


@pytest.fixture(params=["fake", "real"])
def kernel(request):
    if request.param == "fake":
        return FakeKernel()
    request.getfixturevalue("namespace")
    return Netlink()
