"""The composition root: the only file that knows every concrete part."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from underlay.docker_sync.cleanup import Cleanup
from underlay.docker_sync.dockerd import Dockerd
from underlay.docker_sync.recovery import Recovery
from underlay.ipam.driver import IpamDriver
from underlay.kernel.clock import since_boot
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import use_protocol
from underlay.networks.driver import NetworkDriver
from underlay.records import Records
from underlay.service.settings import Settings

MACHINE_ID = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a process of this host works with."""

    records: Records
    engine: NetworkDriver
    ipam: IpamDriver
    cleanup: Cleanup
    recovery: Recovery
    dockerd: Dockerd


def build(settings: Settings, *, readonly: bool = False) -> Parts:
    """Open the records and put the parts together; raises UnderlayError."""
    use_protocol(settings.route_protocol)
    records = Records(settings.records, readonly=readonly)
    kernel = LinuxKernel()
    engine = NetworkDriver(records, kernel, _machine(), time.time)
    ipam = IpamDriver(
        records, time.time, engine.remove_dead_endpoint, kernel.is_own, engine.living
    )
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
