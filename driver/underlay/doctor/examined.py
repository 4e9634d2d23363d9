"""What the checks look at: a host, the records on it, and Docker there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from underlay.kernel import Kernel
from underlay.model import Device, Endpoint, Network, as_leased
from underlay.model.docker import (
    DockerContainer,
    DockerEngine,
    DockerView,
    FailedStart,
)
from underlay.model.objects import Sysctl
from underlay.modes import mode_name, traits_of
from underlay.modes.child_device import is_isolated
from underlay.planning.device_lookup import find_device
from underlay.records import Records

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Places:
    """Files of the host that checks look at."""

    plugin_socket: Path
    status_socket: Path
    records: Path
    dmi: Path = Path("/sys/class/dmi/id")
    run: Path = Path("/run")


@dataclass
class Examined:
    """A host under examination; asking changes nothing.

    `settings_error` is why the settings cannot be used, "" if they can; then the
    defaults stand in their place, and where the records are is not known. `records` is
    None if they cannot be read, and `records_error` says why. `health` is
    what the service reports, None if it does not answer. Those that ask Docker raise
    OSError if dockerd does not answer. `plan` returns the steps that the kernel lacks.
    `asked_for` are devices to test beside the parents of networks. `now` is in seconds
    since 1970.
    """

    kernel: Kernel
    places: Places
    records: Records | None
    ask_docker: Callable[[], DockerView]
    ask_engine: Callable[[], DockerEngine]
    ask_containers: Callable[[Collection[str]], dict[str, DockerContainer]]
    ask_failed_starts: Callable[[], list[FailedStart]]
    now: float
    plan: Callable[[], list[str]] = list
    records_error: str = ""
    settings_error: str = ""
    health: dict[str, Any] | None = None
    mac_budget: int = 0
    asked_for: tuple[str, ...] = ()

    @cached_property
    def networks(self) -> list[Network]:
        """All networks on record."""
        return self.records.networks.all() if self.records else []

    @cached_property
    def endpoints(self) -> list[Endpoint]:
        """All endpoints on record."""
        return self.records.endpoints.all() if self.records else []

    def as_leased(self, network: Network) -> Network:
        """Return a network with the subnets that its containers have addresses of."""
        return as_leased(network, self.endpoints)

    def close(self) -> None:
        """Close the records."""
        if self.records:
            self.records.close()

    @cached_property
    def docker(self) -> DockerView | None:
        """What dockerd lists; None if it does not answer."""
        return _or_none(self.ask_docker)

    @cached_property
    def failed_starts(self) -> list[FailedStart]:
        """What dockerd could not start by itself; nothing if it does not answer."""
        return _or_none(self.ask_failed_starts) or []

    @cached_property
    def engine(self) -> DockerEngine | None:
        """What dockerd says of itself; None if it does not answer."""
        return _or_none(self.ask_engine)

    def containers(self, ids: Collection[str]) -> dict[str, DockerContainer]:
        """Return containers as dockerd describes them; none if it does not answer."""
        return _or_none(partial(self.ask_containers, ids)) or {}

    def parent_of(self, network: Network) -> Device | None:
        """Return the lowest device of a network as it is now, None if it is missing.

        It is looked up as the service does, and not read from the records: these are
        old if the service does not run.
        """
        identity = network.uplink.base_device
        if identity is None:
            return self.kernel.device(network.uplink.base_name)
        return find_device(identity, self.kernel.device, self.kernel.devices)

    @cached_property
    def on_parents(self) -> dict[str, tuple[Device, list[Network]]]:
        """The parents that exist, by name, each with the networks on it.

        Also the devices that were asked for, which may have none.
        """
        found: dict[str, tuple[Device, list[Network]]] = {}
        for network in self.networks:
            if needs_parent(network) and (device := self.parent_of(network)):
                found.setdefault(device.name, (device, []))[1].append(network)
        for name in self.asked_for:
            if device := self.kernel.device(name):
                found.setdefault(device.name, (device, []))
        return found

    def sysctl(self, path: str) -> str:
        """Return the value of a sysctl by its path under /proc/sys, "" if none."""
        found = self.kernel.sysctls([Sysctl(path, "")])
        return next((o.value for o in found if isinstance(o, Sysctl)), "")


def needs_parent(network: Network) -> bool:
    """Return whether a network stands on a device that is not the driver's own."""
    return bool(network.uplink.parent) and not is_isolated(network.options)


def has_own_macs(network: Network) -> bool:
    """Return whether the containers of a network send from MACs of their own."""
    return mode_name(network.options) in ("macvlan", "bridge")


def is_routed(network: Network) -> bool:
    """Return whether this host routes for the containers of a network."""
    return traits_of(network.options).host_prefix


def labels(networks: Iterable[Network]) -> str:
    """Return the names of networks as text."""
    return ", ".join(sorted(n.label for n in networks))


def _or_none(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except OSError:
        return None
