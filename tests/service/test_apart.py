"""The tests of this folder are kept off the machine's own network."""

from __future__ import annotations

import socket


def test_a_test_that_asks_for_no_namespace_has_one_without_devices():
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
