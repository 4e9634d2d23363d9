"""The composition root: the only file that knows every concrete part."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from underlay.docker_sync.cleanup import Cleanup
from underlay.docker_sync.dockerd import Dockerd
from underlay.docker_sync.reconnects import Reconnects
from underlay.docker_sync.recovery import Recovery
from underlay.doctor.examined import Examined, Places
from underlay.errors import UnderlayError
from underlay.ipam.dhcp import DhcpAddresses
from underlay.ipam.dhcp_servers import DhcpServers
from underlay.ipam.dhcpv6_clients import Dhcpv6Clients
from underlay.ipam.dhcpv6_keeper import Dhcpv6Keeper
from underlay.ipam.dhcpv6_servers import Dhcpv6Servers
from underlay.ipam.driver import IpamDriver
from underlay.ipam.idle_containers import IdleContainers
from underlay.ipam.lease_keeper import LeaseKeeper
from underlay.ipam.leases_ahead import LeasesAhead
from underlay.ipam.live_endpoints import LiveEndpoints
from underlay.ipam.server_checks import ServerChecks
from underlay.ipam.wire import Wire
from underlay.kernel import Kernel
from underlay.kernel.clock import since_boot
from underlay.kernel.linux import LinuxKernel
from underlay.model import IpAddress
from underlay.model.objects import use_protocol
from underlay.networks.bridge_takeover import BridgeTakeovers
from underlay.networks.builder import Builder
from underlay.networks.desired_lookup import DesiredLookup
from underlay.networks.driver import NetworkDriver
from underlay.networks.dropper import Dropper
from underlay.networks.forward_path import ForwardPath
from underlay.networks.forwarding import Forwarding
from underlay.networks.leftover_devices import LeftoverDevices
from underlay.networks.parents import ParentTracker
from underlay.networks.shims import Shims
from underlay.networks.sysctls import HostSysctls
from underlay.reconcile.announcer import Announcer
from underlay.reconcile.duplicates import Duplicates
from underlay.reconcile.executor import Executor
from underlay.reconcile.log_once import LogOnce
from underlay.reconcile.name_log import NameLog
from underlay.reconcile.planner import Planner
from underlay.reconcile.reconciler import Reconciler
from underlay.reconcile.repair_log import RepairLog
from underlay.reconcile.sandbox_state import SandboxObserver
from underlay.reconcile.scheduling import Backoff, SandboxRotation
from underlay.records import Records
from underlay.service.settings import Settings

if TYPE_CHECKING:
    from underlay.service.metrics import Metrics

MACHINE_ID = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a process of this host works with."""

    records: Records
    kernel: Kernel
    engine: NetworkDriver
    reconciler: Reconciler
    ipam: IpamDriver
    cleanup: Cleanup
    recovery: Recovery
    dockerd: Dockerd
    forward_path: ForwardPath
    keeper: LeaseKeeper
    ahead: LeasesAhead
    reconnects: Reconnects
    checks: ServerChecks
    keeper6: Dhcpv6Keeper


def build(
    settings: Settings, *, readonly: bool = False, kernel: Kernel | None = None
) -> Parts:
    """Open the records and put the parts together; raises UnderlayError."""
    use_protocol(settings.route_protocol)
    records = Records(settings.records, readonly=readonly)
    return assemble(records, kernel or LinuxKernel(), settings, Host(_machine()))


def examined(
    settings: Settings,
    health: dict[str, Any] | None,
    asked_for: tuple[str, ...],
    settings_error: str = "",
) -> Examined:
    """Return this host for an examination, the records read-only if they are there.

    Without them if there is a `settings_error`: `settings` are mere defaults then.
    """
    use_protocol(settings.route_protocol)
    kernel, records, why = LinuxKernel(), None, ""
    try:
        if not settings_error:
            records = Records(settings.records, readonly=True)
    except UnderlayError as error:
        why = str(error)
    host = Host(_machine())

    def plan() -> list[str]:
        if records is None:
            return []
        parts = assemble(records, kernel, settings, host)
        return [str(step) for step in parts.reconciler.planner.steps()]

    dockerd = Dockerd(settings.docker_host, settings.docker_timeout)
    found = examination(records, kernel, settings, dockerd)
    return replace(
        found, records_error=why, health=health, plan=plan, asked_for=asked_for,
        settings_error=settings_error,
    )  # fmt: skip


def examination(
    records: Records | None, kernel: Kernel, settings: Settings, dockerd: Dockerd
) -> Examined:
    """Return a host for an examination of its kernel and these records."""
    return Examined(
        kernel=kernel,
        places=Places(settings.plugin_socket, settings.status_socket, settings.records),
        records=records,
        ask_docker=dockerd.look,
        ask_engine=dockerd.engine,
        ask_containers=dockerd.containers,
        ask_failed_starts=dockerd.failed_starts,
        now=Host("").clock(),
        mac_budget=settings.mac_budget,
    )


@dataclass(frozen=True, slots=True)
class Host:
    """The host's machine id, seconds since 1970, and seconds since the host booted."""

    machine: str
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = since_boot


def assemble(records: Records, kernel: Kernel, settings: Settings, host: Host) -> Parts:
    """Put the parts together over one record and one kernel; starts nothing."""
    clock, monotonic = host.clock, host.monotonic
    parents = ParentTracker(records, kernel)
    takeovers = BridgeTakeovers(records, kernel)
    leftovers = LeftoverDevices(records, kernel)
    live, idle = LiveEndpoints(records), IdleContainers()
    builder = _builder(records, kernel, monotonic)
    dropper = Dropper(records, builder, live, clock)
    engine = NetworkDriver(
        records,
        kernel,
        builder=builder,
        parents=parents,
        takeovers=takeovers,
        leftovers=leftovers,
        live_endpoints=live,
        idle=idle,
        dropper=dropper,
        machine=host.machine,
        clock=clock,
        monotonic=monotonic,
    )
    reconciler = _reconciler(
        records, kernel, builder, takeovers, parents, leftovers, dropper, host
    )
    ahead = _dhcp(records, kernel, engine, idle, host)
    dhcp, keeper = ahead.dhcp, ahead.keeper
    observer = reconciler.observer
    keeper6 = _dhcpv6(records, reconciler, dhcp.servers, host)
    ipam = _ipam(records, kernel, engine, live, dropper, ahead, settings, host)
    cleanup = _cleanup(engine, ipam, observer, settings, host, keeper, keeper6)
    reconciler.on_parent_back = _each(keeper.note_back, keeper6.note_back)
    dockerd = Dockerd(settings.docker_host, settings.docker_timeout)
    told, path = dockerd.containers, ForwardPath(records, kernel, clock)
    recovery = Recovery(records, kernel, engine, parents, observer, clock, told, dhcp)
    parts = records, kernel, engine, reconciler, ipam, cleanup, recovery, dockerd
    again = _reconnects(records, dockerd, dhcp, settings, host)
    checks = _checks(records, keeper, host)
    return Parts(*parts, path, keeper, ahead, again, checks, keeper6)


def _reconnects(
    records: Records,
    dockerd: Dockerd,
    dhcp: DhcpAddresses,
    settings: Settings,
    host: Host,
) -> Reconnects:
    notes = settings.records.with_name(f"{settings.records.name}.reconnects")
    again = dhcp.reconnecting
    return Reconnects(records, dockerd, again, notes, host.clock, host.monotonic)


def _checks(records: Records, keeper: LeaseKeeper, host: Host) -> ServerChecks:
    checks = ServerChecks(records, keeper.servers, host.clock, host.monotonic)
    keeper.servers.on_answer = checks.note_answer
    return checks


def _dhcp(
    records: Records,
    kernel: Kernel,
    engine: NetworkDriver,
    idle: IdleContainers,
    host: Host,
) -> LeasesAhead:
    servers = DhcpServers(
        kernel, host.clock, host.monotonic, records.networks.options_of
    )
    keeper = LeaseKeeper(records, servers, host.clock, host.monotonic)
    found = DhcpAddresses(
        records, kernel, servers, idle, engine.remove_dead_endpoint, host.clock,
        host.machine, keeper.note,
    )  # fmt: skip
    servers.refusal_of = found.refusal_inside
    engine.with_address = found.with_address
    return LeasesAhead(found, keeper)


def _dhcpv6(
    records: Records, reconciler: Reconciler, servers: DhcpServers, host: Host
) -> Dhcpv6Keeper:
    options_of = records.networks.options_of
    keeper = Dhcpv6Keeper(
        records, Dhcpv6Servers(servers, options_of),
        Dhcpv6Clients(records, host.machine), host.clock, host.monotonic,
    )  # fmt: skip
    reconciler.observer.on_failed_address = keeper.note_failed
    reconciler.duplicates.on_failed_address = keeper.note_failed
    return keeper


def _cleanup(
    engine: NetworkDriver,
    ipam: IpamDriver,
    observer: SandboxObserver,
    settings: Settings,
    host: Host,
    keeper: LeaseKeeper,
    keeper6: Dhcpv6Keeper,
) -> Cleanup:
    return Cleanup(
        engine.records, engine.kernel, engine, ipam, observer, host.clock,
        host.monotonic, settings.grace, settings.history_days, settings.reserve_days,
        _each(keeper.note_listed, keeper6.note_listed), keeper.note_named,
    )  # fmt: skip


T = TypeVar("T")


def _each(
    first: Callable[[T], None], second: Callable[[T], None]
) -> Callable[[T], None]:
    """Return what calls both."""

    def call(value: T) -> None:
        first(value)
        second(value)

    return call


def _ipam(
    records: Records,
    kernel: Kernel,
    engine: NetworkDriver,
    live: LiveEndpoints,
    dropper: Dropper,
    ahead: LeasesAhead,
    settings: Settings,
    host: Host,
) -> IpamDriver:
    return IpamDriver(
        records, host.clock, engine.remove_dead_endpoint, kernel.is_own, live,
        host.monotonic, dropper.finish_all, ahead.dhcp.idle, settings.reserve_days,
        partial(_next_hops, kernel), host.machine, ahead.request_address,
        wire=Wire(records, kernel, host.clock, host.monotonic),
    )  # fmt: skip


def observe(parts: Parts, metrics: Metrics) -> None:
    """Have the parts tell metrics what they do."""
    parts.records.watch_commits(metrics.commit)
    reconciler = parts.reconciler
    reconciler.on_drift = metrics.drift
    reconciler.repair_log.on_repair = metrics.repair
    reconciler.announcer.on_sent = metrics.announced
    parts.ipam.wire.on_asked = metrics.asked
    parts.keeper.servers.on_exchange = metrics.dhcp.exchanged
    parts.keeper6.servers.on_exchange = partial(metrics.dhcp.exchanged, family="6")
    metrics.dhcp.answering = parts.keeper.servers.answering


def _reconciler(
    records: Records,
    kernel: Kernel,
    builder: Builder,
    takeovers: BridgeTakeovers,
    parents: ParentTracker,
    leftovers: LeftoverDevices,
    dropper: Dropper,
    host: Host,
) -> Reconciler:
    observer = SandboxObserver(
        records, kernel, host.machine, host.clock, host.monotonic
    )
    planner = Planner(records, kernel, builder, takeovers, leftovers, observer)
    backoff, once = Backoff(host.monotonic), LogOnce()
    repair_log = RepairLog(records, host.clock, host.monotonic)
    executor = Executor(
        records, kernel, builder, takeovers, parents, leftovers, observer, planner,
        backoff, repair_log, once,
    )  # fmt: skip
    return Reconciler(
        records=records,
        builder=builder,
        takeovers=takeovers,
        parents=parents,
        leftovers=leftovers,
        dropper=dropper,
        observer=observer,
        planner=planner,
        executor=executor,
        rotation=SandboxRotation(records),
        backoff=backoff,
        repair_log=repair_log,
        announcer=Announcer(kernel, host.monotonic),
        name_log=NameLog(records),
        duplicates=Duplicates(records, host.clock, host.monotonic),
        once=once,
        clock=host.clock,
        monotonic=host.monotonic,
    )


def _builder(
    records: Records, kernel: Kernel, monotonic: Callable[[], float]
) -> Builder:
    forwarding = Forwarding(records, kernel, monotonic)
    lookup = DesiredLookup(records, kernel, forwarding)
    shims = Shims(records, kernel, lookup)
    sysctls = HostSysctls(records, kernel, forwarding, lookup)
    return Builder(records, kernel, forwarding, lookup, shims, sysctls)


def _next_hops(kernel: Kernel) -> list[IpAddress]:
    return [hop for _, hop in kernel.routers()]


def _machine() -> str:
    try:
        return MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
