"""One contract, two kernels: the fake, and a real namespace of this machine."""

from __future__ import annotations

import ctypes
import os
import subprocess

import pytest

from tests.fakes import FakeKernel
from tests.kinds import needs
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
        ip("link", "set", "lo", "up")
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "wire0")
        ip("link", "set", "eth0", "up")
        ip("link", "set", "wire0", "up")
        yield
    finally:
        assert LIBC.setns(home, CLONE_NEWNET) == 0
        os.close(home)


@pytest.fixture(params=["fake", "real"])
def kernel(request):
    """The fake, and the real one if it has the kinds a test is marked to need."""
    if request.param == "fake":
        return FakeKernel()
    request.getfixturevalue("namespace")
    return Netlink()


@pytest.fixture(autouse=True)
def needed_kinds(request):
    """Skip, and say so, what this kernel cannot run; the fake can run everything."""
    marker = request.node.get_closest_marker("needs")
    params = getattr(getattr(request.node, "callspec", None), "params", {})
    if marker and params.get("kernel") != "fake":
        needs(*marker.args)
