"""What the reconciler costs at rest, and how soon it repairs what was harmed.

The service runs as installed, but for a period so long that only events wake it, in
namespaces of this process's own and without Docker.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, ip_address, ip_network
from pathlib import Path

from tests.bench import event_storms, faults
from tests.bench.idle import idle
from tests.bench.memory import alone, pss
from tests.bench.service_host import PARENT, Stage, apart
from tests.bench.tables import Aim, Series, say, spread, table, tell, verdicts
from tests.fakes import engine_on
from tests.lab import net
from underlay.ipam.driver import IpamDriver
from underlay.kernel.clock import since_boot
from underlay.kernel.linux import LinuxKernel
from underlay.model import Endpoint, Network, Subnet
from underlay.records import Records

SIZES = 10, 100, 1_000, 10_000
REAL = 100
ROUTED, FOREIGN = 2_000, 2_000
POOL = ip_network("10.80.0.0/16")
EVENTS, VERBS, ROUNDS = 10_000, 100, 3
AWAY_SECONDS = 0.5
PASS_EVERY_SECONDS = 0.25
AIM_ROUTED_MS, AIM_JOINED_MS = 40, 150
AIM_MEDIAN_MS, AIM_WORST_MS = 250, 1000
AIM_RECOVERY_SECONDS = 2.0


@dataclass
class Found:
    """What was measured: milliseconds by size, or by what was harmed and size."""

    idle: dict[int, Series] = field(default_factory=dict)
    repairs: dict[tuple[str, int], Series] = field(default_factory=dict)
    memory: dict[int, tuple[float, float]] = field(default_factory=dict)
    storms: dict[tuple[str, int], event_storms.Weathered] = field(default_factory=dict)
    verbs: dict[tuple[str, str], Series] = field(default_factory=dict)


def reconcile(times: int) -> bool:
    """Measure and print it, each harm done so often; tell whether all aims were met."""
    say(f"{os.cpu_count()} cores, Linux {platform.release()},"
        f" Python {platform.python_version()},"
        f" load average before {os.getloadavg()[0]:.2f}")  # fmt: skip
    routed = apart(_routed)
    found = apart(_crowded, times)
    recovered = {size: apart(_recovery, size) for size in (20, 100)}
    say(f"\nLoad average after: {os.getloadavg()[0]:.2f}")
    aims = [
        *_idle_told(routed, found),
        *_repairs_told(found, times),
        *_storms_told(found),
        *_verbs_told(found),
        *_recovery_told(recovered),
    ]
    return verdicts(aims)


def _routed(folder: Path) -> Series:
    """Return the CPU milliseconds of passes over many veths."""
    tell(f"{ROUTED} routed endpoints")
    net.ip(*PARENT)
    (folder / "state").mkdir()
    records = Records(folder / "state" / "underlay.db")
    engine = engine_on(records, kernel := LinuxKernel(), time.time, since_boot)
    ipam = IpamDriver(
        records,
        time.time,
        engine.remove_dead_endpoint,
        kernel.is_own,
        engine.live_endpoints,
        wire=engine.parts.ipam.wire,
    )
    claim = ipam.request_pool(str(POOL), "", {}, POOL.version).id
    ipam.request_gateway(claim, "10.80.0.1")
    segments = (Subnet(POOL, ip_address("10.80.0.1"), pooled=True),)
    engine.create_network(Network("n1", {"mode": "routed"}, subnets=segments))
    with records.transaction():
        for number in range(ROUTED):
            place = IPv4Interface(POOL[256 + number])
            mac = f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"
            records.endpoints.add(
                Endpoint(f"{number:064x}", "n1", place, mac=mac, created=time.time())
            )
    failed = engine.reconcile()
    records.close()
    if failed:
        raise RuntimeError(f"not built: {failed[0]}")
    net.ip(*(
        f"route add 172.{16 + n // 256}.{n % 256}.0/24 via 10.64.0.1 dev eth0"
        for n in range(FOREIGN)
    ))  # fmt: skip
    return idle(folder, ROUTED)


def _crowded(folder: Path, times: int) -> Found:
    """Measure at every size, on one host that grows."""
    found = Found()
    stage = Stage(folder, REAL)
    for size in SIZES:
        tell(f"{size} endpoints")
        stage.grow(size)
        found.idle[size] = idle(folder, size)
        with stage.served() as service:
            found.memory[size] = pss(service.pids()), alone(service.pids())
            for what in faults.HARMS:
                found.repairs[what, size] = faults.suffer(stage, service, what, times)
            if size not in (SIZES[0], SIZES[-1]):
                continue
            places = {"a sandbox": stage.sandboxes[0].sandbox, "the host": ""}
            for where, sandbox in places.items():
                found.storms[where, size] = event_storms.storm(service, sandbox, EVENTS)
            if size == SIZES[-1]:
                tell("verbs")
                quiet = event_storms.verbs(stage, VERBS)
                with event_storms.stormy(places["a sandbox"]):
                    busy = event_storms.verbs(stage, VERBS)
                for when, told in (("quiet", quiet), ("beside passes", busy)):
                    found.verbs |= {(verb, when): ms for verb, ms in told.items()}
    return found


def _recovery(folder: Path, size: int) -> Series:
    """Return the seconds until so many children are back on a parent made again."""
    tell(f"{size} children lose their parent")
    stage = Stage(folder, size)
    stage.grow(size)
    with stage.served() as service:
        return [faults.recover(stage, service, AWAY_SECONDS) for _ in range(ROUNDS)]


def _idle_told(routed: Series, found: Found) -> list[Aim]:
    rows = [
        (f"{size:,} of macvlan, two families", ms) for size, ms in found.idle.items()
    ]
    rows.append(
        (f"{ROUTED:,} routed, one family, {FOREIGN:,} routes of others", routed)
    )
    table(
        "A pass with nothing to do",
        ("endpoints", "CPU ms: median (min to max)", "the first of a process"),
        [(what, spread(ms[1:]), f"{ms[0]:.1f}") for what, ms in rows],
    )
    most = SIZES[-1]
    a, b = (statistics.median(ms[1:]) for ms in (routed, found.idle[most]))
    table(
        "Memory of the service at rest",
        ("endpoints", "PSS, MB", "if nothing else ran Python from these files, MB"),
        [(f"{n:,}", f"{p:.1f}", f"{q:.1f}") for n, (p, q) in found.memory.items()],
    )
    return [
        (f"a pass over {ROUTED:,} routed endpoints in less than {AIM_ROUTED_MS} ms",
         f"{a:.0f} ms", a < AIM_ROUTED_MS),
        (f"over {most:,} of macvlan in less than {AIM_JOINED_MS} ms",
         f"{b:.0f} ms", b < AIM_JOINED_MS),
    ]  # fmt: skip


def _repairs_told(found: Found, times: int) -> list[Aim]:
    table(
        f"From a change until it is repaired ({times} each)",
        ("milliseconds: median (min to max)", *(f"{size:,}" for size in SIZES)),
        [
            (what, *(spread(found.repairs[what, size], 0) for size in SIZES))
            for what in faults.HARMS
        ],
    )
    aims = []
    for size in SIZES:
        series = [found.repairs[what, size] for what in faults.HARMS]
        slow, worst = max(map(statistics.median, series)), max(map(max, series))
        aims += [
            (f"{size:,} endpoints: every median below {AIM_MEDIAN_MS} ms",
             f"{slow:.0f} ms", slow < AIM_MEDIAN_MS),
            (f"{size:,} endpoints: the worst below {AIM_WORST_MS} ms",
             f"{worst:.0f} ms", worst < AIM_WORST_MS),
        ]  # fmt: skip
    return aims


def _storms_told(found: Found) -> list[Aim]:
    table(
        f"Storms of {EVENTS:,} addresses that come and go",
        ("endpoints", "in", "seconds", "passes", "CPU seconds"),
        [
            (f"{size:,}", where, f"{w.seconds:.1f}", w.passes, f"{w.cpu:.2f}")
            for (where, size), w in found.storms.items()
        ],
    )
    # One pass begins with the storm, and one after it.
    often = max(
        w.passes / (w.seconds / PASS_EVERY_SECONDS + 2) for w in found.storms.values()
    )
    asked = f"at most a pass every {PASS_EVERY_SECONDS} s of a storm, and one after it"
    return [(asked, f"{often:.2f} of that", often <= 1)]


def _verbs_told(found: Found) -> list[Aim]:
    table(
        f"A call at {SIZES[-1]:,} endpoints",
        ("", "milliseconds: median (min to max)", "p99"),
        [
            (
                f"{verb}, {when}",
                spread(ms),
                f"{statistics.quantiles(ms, n=100)[98]:.1f}",
            )
            for (verb, when), ms in found.verbs.items()
        ],
    )
    return []


def _recovery_told(recovered: dict[int, Series]) -> list[Aim]:
    table(
        "From a parent's return until its children are back",
        ("children", "seconds: median (min to max)"),
        [(size, spread(seconds, 2)) for size, seconds in recovered.items()],
    )
    few = min(recovered)
    took = statistics.median(recovered[few])
    asked = f"{few} children back within {AIM_RECOVERY_SECONDS:.0f} s of their parent"
    return [(asked, f"{took:.2f} s", took < AIM_RECOVERY_SECONDS)]
