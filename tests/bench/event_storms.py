"""Storms of events, and what the service does meanwhile."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.plugin_call import post
from tests.bench.service_host import NETWORK, Served, Stage
from tests.bench.tables import Series

PLUGIN = "/run/docker/plugins/underlay.sock"
CHUNK, PAUSE_SECONDS = 50, 0.015
ADDRESS = "203.0.113.7/32"


@dataclass(frozen=True)
class Weathered:
    """What a storm of so many events was met with: passes, and CPU seconds."""

    seconds: float
    passes: int
    cpu: float


def storm(service: Served, sandbox: str, events: int) -> Weathered:
    """Have so many addresses come and go, in a sandbox or (with "") in the host."""
    service.calm()
    before, began = len(service.ends()), time.monotonic()
    with _shaking(sandbox) as shake:
        for _ in range(events // (2 * CHUNK)):
            shake()
            time.sleep(PAUSE_SECONDS)
    seconds = time.monotonic() - began
    service.calm()
    ends = service.ends()[before:]
    return Weathered(seconds, len(ends) // 2, ends[-1][1] - ends[0][1])


@contextmanager
def _shaking(sandbox: str) -> Iterator[object]:
    """Yield what has addresses come and go, so many at once."""
    enter = ["nsenter", f"--net={sandbox}"] if sandbox else []
    lines = f"addr add {ADDRESS} dev lo\naddr del {ADDRESS} dev lo\n" * CHUNK
    with subprocess.Popen(
        [*enter, "ip", "-batch", "-"], stdin=subprocess.PIPE, text=True
    ) as batch:
        assert batch.stdin
        pipe = batch.stdin

        def shake() -> None:
            pipe.write(lines)
            pipe.flush()

        yield shake
        pipe.close()
    if batch.returncode:
        raise RuntimeError("no storm")


@contextmanager
def stormy(sandbox: str) -> Iterator[None]:
    """Have addresses come and go there for as long as it is entered."""
    over = threading.Event()

    def blow() -> None:
        with _shaking(sandbox) as shake:
            while not over.wait(PAUSE_SECONDS):
                shake()

    thread = threading.Thread(target=blow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def verbs(stage: Stage, times: int) -> dict[str, Series]:
    """Post that endpoints come and go; return the milliseconds of each verb."""
    found: dict[str, Series] = {"CreateEndpoint": [], "DeleteEndpoint": []}
    for number in range(times):
        new = stage.endpoint(stage.size + number)
        who = {"NetworkID": NETWORK, "EndpointID": new.id}
        place = {"Address": str(new.ipv4), "AddressIPv6": str(new.ipv6),
                 "MacAddress": ""}  # fmt: skip
        for verb, more in (
            ("CreateEndpoint", {"Interface": place}),
            ("DeleteEndpoint", {}),
        ):
            began = time.perf_counter()
            post(Path(PLUGIN), f"NetworkDriver.{verb}", {**who, **more})
            found[verb].append((time.perf_counter() - began) * 1000)
    return found
