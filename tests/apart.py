"""Tests that are kept off the machine's own network."""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager

import pytest

from tests.lab import net

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def own_namespace():
    """Put this thread into a network namespace of its own, and back."""
    if os.geteuid() != 0:
        pytest.fail("these tests make network namespaces and need root")
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    assert LIBC.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        assert LIBC.setns(home, CLONE_NEWNET) == 0
        os.close(home)


@pytest.fixture(scope="package", autouse=True)
def apart():
    """Keep every test of a folder out of the machine's own namespace.

    Fixtures come in an order that is easily mistaken: one that changes eth0 may run
    before the one that makes a namespace for it. What is called eth0 then is not there.
    """
    with own_namespace():
        net.ip("link set lo up")
        yield
