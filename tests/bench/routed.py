"""Many routed endpoints on one host: what each costs, and what a pass costs.

Real devices, addresses and routes in a namespace of this process's own; Docker's part
is left out, for it does not change with the number of ours.
"""

from __future__ import annotations

import ctypes
import os
import platform
import tempfile
import time
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network
from multiprocessing import get_context
from pathlib import Path

from tests.bench.tables import Aim, Series, ratio, say, spread, table, tell, verdicts
from tests.fakes import Engine, engine_on
from tests.lab import net
from underlay.ipam.driver import IpamDriver
from underlay.kernel.clock import since_boot
from underlay.kernel.linux import LinuxKernel
from underlay.model import Endpoint, Network, Subnet
from underlay.records import Records

FOUR, SIX = ip_network("10.64.0.0/16"), ip_network("fd64::/64")
GATEWAYS = "10.64.0.1", "fd64::1"
NEWNET = 0x40000000
AIM_FLAT = 1.2
PASSES = 5


def routed(count: int) -> bool:
    """Measure and print it; tell whether every aim was met."""
    # A process of its own, because a namespace is for good.
    with get_context("spawn").Pool(1) as pool:
        aims = pool.apply(_in_namespace, (count,))
    return verdicts(aims)


def _in_namespace(count: int) -> list[Aim]:
    _unshare()
    net.ip(
        "link set lo up",
        "link add eth0 type veth peer name wire0",
        "link set eth0 up",
        "link set wire0 up",
        "addr add 10.77.0.9/24 dev eth0",
        "route add default via 10.77.0.1",
    )
    say(f"{os.cpu_count()} cores, Linux {platform.release()}, {count} endpoints of two"
        f" families, load average before {os.getloadavg()[0]:.2f}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder) / "underlay.db", count)


def _measure(path: Path, count: int) -> list[Aim]:
    records, kernel = Records(path), LinuxKernel()
    engine = engine_on(records, kernel, time.time, since_boot)
    ipam = IpamDriver(
        records,
        time.time,
        engine.remove_dead_endpoint,
        kernel.is_own,
        engine.live_endpoints,
        wire=engine.parts.ipam.wire,
    )
    claims = [
        ipam.request_pool(str(pool), "", {}, pool.version).id for pool in (FOUR, SIX)
    ]
    for claim, gateway in zip(claims, GATEWAYS, strict=True):
        ipam.request_gateway(claim, gateway)
    segments = tuple(
        Subnet(pool, ip_address(gateway), pooled=True)
        for pool, gateway in zip((FOUR, SIX), GATEWAYS, strict=True)
    )
    engine.create_network(Network("n1", {"mode": "routed"}, subnets=segments))

    def attach(number: int) -> None:
        four, six = (ipam.request_address(claim, "", "").ip for claim in claims)
        places = IPv4Interface(four), IPv6Interface(six)
        engine.create_endpoint(Endpoint(f"e{number}", "n1", *places))

    attached = [_timed(attach, number) for number in range(count)]
    tell("attached")
    passes, processor = _passes(engine)
    tell("passes")
    last = [
        _timed(engine.delete_endpoint, "n1", f"e{n}") for n in range(count - 50, count)
    ]
    for number in range(50, count - 50):
        engine.delete_endpoint("n1", f"e{number}")
    first = [_timed(engine.delete_endpoint, "n1", f"e{n}") for n in range(50)]
    left = sorted(str(o) for o in kernel.observe() if o.device)
    fifth = count // 5
    rows = [
        ("attach, the first fifth", attached[:fifth]),
        ("attach, the last fifth", attached[-fifth:]),
        (f"detach, 50 out of {count}", last),
        ("detach, the last 50", first),
        ("a pass with nothing to do, wall time", passes),
        ("the same, processor time", processor),
    ]
    table(
        f"{count} routed endpoints",
        ("milliseconds", "median (min to max)"),
        [(what, spread(series)) for what, series in rows],
    )
    flat = ratio(attached[-fifth:], attached[:fifth])
    return [
        (f"the last fifth at most {AIM_FLAT} times as slow as the first", f"{flat:.2f}",
         flat <= AIM_FLAT),
        ("nothing left on a device after the last", f"{len(left)} objects", not left),
    ]  # fmt: skip


def _passes(engine: Engine) -> tuple[Series, Series]:
    """Return wall and processor time of passes that find nothing to do."""
    walls: Series = []
    spent: Series = []
    for _ in range(PASSES):
        processor = time.process_time()
        walls.append(_timed(engine.reconcile))
        spent.append((time.process_time() - processor) * 1000)
    if engine.preview():
        raise RuntimeError("there is something to do after all")
    return walls, spent


def _timed(act: Callable[..., object], *args: object) -> float:
    began = time.perf_counter()
    act(*args)
    return (time.perf_counter() - began) * 1000


def _unshare() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(NEWNET):
        raise OSError(ctypes.get_errno(), "no namespace of its own")
