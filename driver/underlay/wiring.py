"""The composition root: the only file that knows every concrete part."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from underlay.cleanup import Cleanup
from underlay.clocks import since_boot
from underlay.dockerd import Dockerd
from underlay.engine import Engine
from underlay.ipam import Ipam
from underlay.kernel.netlink import Netlink
from underlay.objects import use_protocol
from underlay.records import Records
from underlay.recovery import Recovery
from underlay.settings import Settings

MACHINE_ID = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a process of this host works with."""

    records: Records
    engine: Engine
    ipam: Ipam
    cleanup: Cleanup
    recovery: Recovery
    dockerd: Dockerd


def build(settings: Settings, *, readonly: bool = False) -> Parts:
    """Open the records and put the parts together; raises UnderlayError."""
    use_protocol(settings.route_protocol)
    records = Records(settings.records, readonly=readonly)
    kernel = Netlink()
    engine = Engine(records, kernel, _machine(), time.time)
    ipam = Ipam(records, time.time, engine.reap, kernel.is_own, engine.living)
    cleanup = Cleanup(
        records=records,
        kernel=kernel,
        engine=engine,
        ipam=ipam,
        clock=time.time,
        monotonic=since_boot,
        grace=settings.grace,
        history_days=settings.history_days,
    )
    dockerd = Dockerd(settings.docker_host, settings.docker_timeout)
    recovery = Recovery(records, kernel, engine, time.time, dockerd.containers)
    return Parts(records, engine, ipam, cleanup, recovery, dockerd)


def _machine() -> str:
    try:
        return MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
