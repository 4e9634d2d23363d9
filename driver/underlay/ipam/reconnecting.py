"""Clients of DHCP servers that Docker is about to connect again.

Engines up to 28 do not say for which container they ask for an address.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from underlay.model import ClientKind


class Client(NamedTuple):
    """What a container is known by on its parent, and its name."""

    kind: ClientKind
    value: str
    container: str


@dataclass
class Reconnecting:
    """The clients whose containers are connected again now; for many threads."""

    _expected: dict[str, Client] = field(default_factory=dict)

    @contextmanager
    def expected(self, network: str, client: Client) -> Iterator[None]:
        """Expect that the next request of a network is for this client."""
        self._expected[network] = client
        try:
            yield
        finally:
            self._expected.pop(network, None)

    def take(self, network: str, container: str) -> Client | None:
        """Return which client asks now, once; `container`: its name, "" if not told."""
        found = self._expected.get(network)
        if found and container in ("", found.container):
            return self._expected.pop(network, None)
        return None
