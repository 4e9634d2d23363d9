"""The tests of this folder are kept off the machine's own network."""

from __future__ import annotations

import socket


def test_service_test_without_a_namespace_fixture_has_no_devices():
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
