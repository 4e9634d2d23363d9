"""Which container asks for an address, where Docker does not say: engines up to 28.

If exactly one container of a network can be the one that starts, it is that one. There
is no guessing between two: to swap their addresses is worse than to give new ones.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from underlay.model import Network
from underlay.model.docker import DockerContainers, ListedContainer

# Docker's event about a new container comes a tenth of a second before it starts, and
# is late on a busy host.
LATE_SECONDS = 0.5


@dataclass
class IdleContainers:
    """The containers that have no endpoint in a network of theirs; for many threads.

    Not those with an address of their own choice (--ip): Docker names that. Docker's
    list and its events tell which there are. The records tell which run: Docker's
    answer is often older than its last call. `is_known` once Docker has listed them,
    which it does not while it boots.
    """

    is_known: bool = False
    # By the id of a network or its name: Docker does not give both at all times.
    _listed: dict[str, set[str]] = field(default_factory=dict)
    # By the id of a network.
    _running: dict[str, set[str]] = field(default_factory=dict)
    _networks: dict[str, str] = field(default_factory=dict)
    # How often something changed: an answer of Docker may be older than a change.
    _changes: int = 0
    _lock: threading.Condition = field(default_factory=threading.Condition)

    @property
    def changes(self) -> int:
        """Return a number to pass to `update` with an answer that is asked for now."""
        return self._changes

    def update(self, listed: DockerContainers, changes: int) -> None:
        """Store what Docker listed, unless something has changed since it was asked."""
        names: dict[str, set[str]] = {}
        for container in listed:
            for network in container.drawing:
                names.setdefault(network, set()).add(container.name)
        with self._lock:
            if changes == self._changes:
                self._listed, self.is_known = names, True

    def note_created(self, container: ListedContainer) -> None:
        """Note a new container."""
        with self._lock:
            self._changes += 1
            for network in container.drawing:
                self._listed.setdefault(network, set()).add(container.name)
            self._lock.notify_all()

    def note_renamed(self, container: str, name: str) -> None:
        """Note the new name of a container."""
        with self._lock:
            self._changes += 1
            for names in (*self._listed.values(), *self._running.values()):
                if container in names:
                    names.remove(container)
                    names.add(name)

    def note_removed(self, container: str) -> None:
        """Note that a container is gone."""
        with self._lock:
            self._changes += 1
            for names in self._listed.values():
                names.discard(container)

    def note_network(self, identity: str, name: str) -> None:
        """Note the name of a new network."""
        with self._lock:
            self._networks[identity] = name

    def note_network_removed(self, identity: str) -> None:
        """Note that a network is gone."""
        with self._lock:
            self._networks.pop(identity, None)
            self._running.pop(identity, None)

    def note_running(self, network: str, container: str) -> None:
        """Note that a container has an endpoint in a network; "" is none."""
        with self._lock:
            if container:
                self._running.setdefault(network, set()).add(container)

    def note_ended(self, network: str, container: str) -> None:
        """Note that a container's endpoint in a network ended."""
        with self._lock:
            self._running.get(network, set()).discard(container)

    def only_one(self, network: Network, seconds: float = 0.0) -> str:
        """Return the name of the only idle container of a network, "" if not one.

        While there is none, wait for so many `seconds`: Docker may not have told yet of
        the one that starts.
        """
        with self._lock:
            self._lock.wait_for(lambda: self._idle(network), seconds)
            found = self._idle(network)
        return found.pop() if len(found) == 1 else ""

    def _idle(self, network: Network) -> set[str]:
        names = {network.name, self._networks.get(network.id, "")} - {""}
        keys = {network.id, *names}
        listed = set[str]().union(*(self._listed.get(key, ()) for key in keys))
        return listed - self._running.get(network.id, set())
