"""Docker is told that running containers have other addresses (on_change=reconnect).

No call tells it that. So it is asked to disconnect the container and to connect it
again, with the same settings: it then asks for an address, and is answered the one that
the container has. The container has that already, and is without a network for a part
of a second.

What was disconnected is noted in a file before, because nothing else knows of it then:
after a death of the service the next one connects it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from underlay.docker_sync.dockerd import Dockerd, RefusedByDocker
from underlay.errors import NotConnectedAgain
from underlay.ipam.reconnecting import Client, Reconnecting
from underlay.model import ClientKind, DhcpLease, Endpoint, Network
from underlay.model.docker import DockerPlace, DockerView
from underlay.model.objects import Owner
from underlay.modes.dhcp_options import is_reconnected
from underlay.modes.options import is_repaired
from underlay.records import Records

log = logging.getLogger(__name__)

# A server may change its mind again and again: a container is reconnected no sooner,
# and what Docker did not connect is tried again no sooner.
LEAST_SECONDS = 60.0
# A pass puts the new address into the container first. It is not awaited for longer.
PASS_SECONDS, LOOK_SECONDS = 5.0, 0.5
# Then others of the thread that asks Docker have their turn.
BUSY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Note:
    """A container that is to be connected again: ids, names, and how it was connected.

    `kind` and `value` are what it is known by to DHCP servers, `endpoint` is the id of
    the endpoint it had.
    """

    container: str
    network: str
    endpoint: str
    kind: ClientKind
    value: str
    name: str
    address: str
    settings: Mapping[str, Any]


@dataclass
class Reconnects:
    """Has Docker connect containers again; one thread uses it.

    `notes` is the path of the file. `clock` returns seconds since 1970, `monotonic`
    seconds since the host booted.
    """

    records: Records
    dockerd: Dockerd
    reconnecting: Reconnecting
    notes: Path
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    # When a container was reconnected last, by its id and the network's.
    _last: dict[tuple[str, str], float] = field(default_factory=dict)
    # Since when an endpoint is known to have another address.
    _since: dict[tuple[str, IPv4Interface | None], float] = field(default_factory=dict)
    # Those that are left as they are.
    _left: set[tuple[str, IPv4Interface | None]] = field(default_factory=set)

    def run(self, view: DockerView) -> float | None:
        """Connect what was disconnected, and reconnect what has another address.

        Return after how many seconds there is more to do, None for not at all. Raises
        OSError if dockerd does not answer.
        """
        now = self.monotonic()
        self._last = {k: at for k, at in self._last.items() if now - at < LEAST_SECONDS}
        pauses = [self._finish(note, view) for note in self._read()]
        stale = list(self._stale(view))
        known = {(lease.endpoint, lease.address) for _, lease, _ in stale}
        self._left &= known
        self._since = {key: self._since.get(key, now) for key in known}
        for network, lease, container in stale:
            if self.monotonic() - now > BUSY_SECONDS:
                return 0.0
            pauses.append(self._look_at(network, lease, container))
        self._clear_failures()
        return min((pause for pause in pauses if pause is not None), default=None)

    def _stale(self, view: DockerView) -> Iterator[tuple[Network, DhcpLease, str]]:
        """Return what Docker shows wrongly: network, lease and id of the container."""
        containers = {e.id: e.container for n in view.networks for e in n.endpoints}
        for endpoint, granted in self.records.dhcp_leases.granted().items():
            lease = granted.answered and self.records.dhcp_leases.of_endpoint(endpoint)
            network = self.records.networks.get(lease.network) if lease else None
            if not (lease and network and endpoint in containers):
                continue
            if is_reconnected(network.options):
                yield network, lease, containers[endpoint]

    def _look_at(
        self, network: Network, lease: DhcpLease, container: str
    ) -> float | None:
        """Reconnect a container if that is to be now; return when it is, if later."""
        key, now = (lease.endpoint, lease.address), self.monotonic()
        endpoint = self.records.endpoints.get(lease.endpoint)
        if endpoint is None or endpoint.left or key in self._left:
            return None
        last = self._last.get((container, network.id))
        if last is not None:
            return last + LEAST_SECONDS - now
        if now - self._since[key] < PASS_SECONDS and _is_changing(
            network, endpoint, lease
        ):
            return LOOK_SECONDS
        self._last[container, network.id] = now
        self._reconnect(network, lease, container)
        self._left.add(key)  # it is tried once, whatever Docker has answered
        return LEAST_SECONDS if self._read() else None

    def _reconnect(self, network: Network, lease: DhcpLease, container: str) -> None:
        found = self.dockerd.place(container, network.id)
        if not (found and found.is_running and found.endpoint == lease.endpoint):
            return  # it has ended, or has another endpoint
        told = {"container": lease.container, "network": network.label}
        told["address"] = str(lease.address)
        if why := self._why_not(found, lease):
            facts = {**told, "reason": why}
            log.warning("container not reconnected", extra=facts)
            return
        note = Note(
            container, network.id, lease.endpoint, lease.kind, lease.value,
            lease.container, str(lease.address), found.settings,
        )  # fmt: skip
        self._write([*self._read(), note])
        began = self.monotonic()
        try:
            self.dockerd.disconnect(container, network.id)
        except RefusedByDocker as error:
            self._drop(note)
            facts = {**told, "reason": str(error)}
            log.warning("container not reconnected", extra=facts)
            return
        if self._connect(note, network.label):
            took = f"{(self.monotonic() - began) * 1000:.0f}"
            log.info("container reconnected", extra={**told, "milliseconds": took})

    def _finish(self, note: Note, view: DockerView) -> float | None:
        """Connect a container that is disconnected still; return when, if later."""
        network = next((n for n in view.networks if n.id == note.network), None)
        found = self.dockerd.place(note.container, note.network) if network else None
        if network is None or found is None or found.is_connected:
            self._drop(note)
            return None
        last = self._last.get((note.container, note.network))
        if last is not None:
            return last + LEAST_SECONDS - self.monotonic()
        self._last[note.container, note.network] = self.monotonic()
        if self._connect(note, network.name):
            facts = {"container": note.name, "network": network.name}
            log.info("container connected again", extra=facts)
            return None
        return LEAST_SECONDS

    def _connect(self, note: Note, network: str) -> bool:
        """Connect a container again; return whether that was done."""
        client = Client(note.kind, note.value, note.name)
        try:
            with self.reconnecting.expected(note.network, client):
                self.dockerd.connect(note.container, note.network, note.settings)
        except RefusedByDocker as error:
            found = self.dockerd.place(note.container, note.network)
            if found and not found.is_connected:
                self._note_failure(note, network, error)
                return False
            self._drop(note)  # it is gone, or was connected by someone else
            return False
        except OSError:
            # dockerd is gone: it is asked again as soon as it is back.
            self._last.pop((note.container, note.network), None)
            raise
        self._drop(note)
        return True

    def _note_failure(self, note: Note, network: str, error: OSError) -> None:
        failure = NotConnectedAgain(
            container=note.name or note.container[:12],
            network=network,
            address=note.address,
            why=error,
        )
        log.warning("container not connected again", extra={"error": failure})
        with self.records.transaction(durable=False):
            mark = _mark(note)
            self.records.repairs.note_failure(mark, str(failure), self.clock())

    def _why_not(self, found: DockerPlace, lease: DhcpLease) -> str:
        """Return why Docker would not connect a container as it was, "" if it would."""
        if found.is_fixed:
            return "Docker would ask for the address of --ip again"
        held = self.records.leases.live_of_endpoint(lease.endpoint)
        has_own_mac = lease.kind == "mac" or any(one.fixed_mac for one in held)
        if has_own_mac and not found.keeps_mac:
            return "Docker would forget the MAC that was chosen for it"
        return ""

    def _drop(self, note: Note) -> None:
        self._write([one for one in self._read() if one != note])

    def _clear_failures(self) -> None:
        """Clear the failures of what is no longer to be connected."""
        wanted = {_mark(note) for note in self._read()}
        failing = [failure.mark for failure in self.records.repairs.failures()]
        over = [m for m in failing if Owner.parse(m).end == "docker"]
        for mark in set(over) - wanted:
            with self.records.transaction(durable=False):
                self.records.repairs.clear_failure(mark)

    def _read(self) -> list[Note]:
        """Return what is noted; a file that cannot be read has nothing."""
        with suppress(OSError, ValueError, TypeError):
            return [Note(**facts) for facts in json.loads(self.notes.read_text())]
        return []

    def _write(self, notes: list[Note]) -> None:
        """Write the file, so that it outlives a power cut; raises OSError."""
        if not notes:
            self.notes.unlink(missing_ok=True)
            return
        half = self.notes.with_name(f"{self.notes.name}.new")
        with half.open("w") as file:
            json.dump([asdict(note) for note in notes], file)
            file.flush()
            os.fsync(file.fileno())
        half.replace(self.notes)
        folder = os.open(self.notes.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name, too
        finally:
            os.close(folder)


def _is_changing(network: Network, endpoint: Endpoint, lease: DhcpLease) -> bool:
    """Return whether a pass is about to give a container its new address."""
    last = any(isinstance(former, IPv4Interface) for former in lease.former)
    return last and is_repaired(network, endpoint)


def _mark(note: Note) -> str:
    return Owner(note.network, note.endpoint, end="docker").mark
