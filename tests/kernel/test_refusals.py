"""What a real kernel refuses holds up itself, and nothing else of the container."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes import Clock, engine_on
from tests.kernel.containers import L2, WEB2, Room, Wire
from tests.lab import net
from underlay.kernel.linux import LinuxKernel

OTHER_MAC = "02:00:00:00:00:77"


def nowhere(_path):
    """Hear nothing: the tests say what changed."""


@pytest.fixture
def wire(request):
    request.getfixturevalue("namespace")
    found = Wire()
    yield found
    found.far.close()


@pytest.fixture
def room():
    with Room() as found:
        yield found


@pytest.mark.usefixtures("wire")
def test_mac_conflict_delays_no_address(records, room):
    clock = Clock()
    engine = engine_on(records, LinuxKernel(), clock)
    engine.create_network(replace(L2, options={"parent": "eth0"}))
    room.start(engine, WEB2)
    mac = records.endpoints.get(WEB2.id).mac
    room.ip(f"link set eth0 address {OTHER_MAC}")
    net.ip(
        f"link add thief link eth0 address {mac} type macvlan mode bridge",
        "link set thief up",
    )

    def look():
        engine.reconciler.run_pass(frozenset({room.path}), clock(), nowhere)

    look()
    (failure,) = records.repairs.failures()
    assert "address" in failure.text
    for _ in range(3):
        room.ip(f"addr del {WEB2.ipv4} dev eth0")
        look()
        assert room.has(f"inet {WEB2.ipv4}")
        assert records.repairs.failures() == [failure]
    assert room.has(OTHER_MAC)
    net.ip("link del thief")
    clock.now += 10.0
    look()
    assert room.has(mac)
    assert records.repairs.failures() == []
