"""From the records to the objects that must be in the kernel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from underlay.model import Endpoint, Network
from underlay.modes import mode_of
from underlay.objects import Object, Owner


@dataclass(frozen=True, slots=True)
class Wanted:
    """Every object that must exist here, and the marks Docker has in its hands.

    A handed-over object is somewhere between host and sandbox, where Docker moves and
    renames it: it is neither made, changed nor deleted in the host.
    """

    objects: tuple[Object, ...] = ()
    handed_over: frozenset[str] = frozenset()

    def __add__(self, other: Wanted) -> Wanted:
        return Wanted(
            self.objects + other.objects, self.handed_over | other.handed_over
        )

    def of(self, owner: Owner) -> Wanted:
        """Return the part that exists for one owner."""
        return Wanted(tuple(o for o in self.objects if o.owner == owner))


def of_network(network: Network) -> Wanted:
    """Return what the network itself needs, without its endpoints."""
    return Wanted(tuple(mode_of(network.options).network_objects(network)))


def of_endpoint(network: Network, endpoint: Endpoint) -> Wanted:
    """Return what one endpoint needs."""
    if endpoint.sandbox:
        return Wanted(handed_over=frozenset({Owner(network.id, endpoint.id).mark}))
    return Wanted(tuple(mode_of(network.options).endpoint_objects(network, endpoint)))


def wanted(networks: Iterable[Network], endpoints: Iterable[Endpoint]) -> Wanted:
    """Return what all of them need. Endpoints of unknown networks need nothing."""
    known = {network.id: network for network in networks}
    objects: list[Object] = []
    handed_over: set[str] = set()
    for part in (
        *(of_network(n) for n in known.values()),
        *(of_endpoint(known[e.network], e) for e in endpoints if e.network in known),
    ):
        objects += part.objects
        handed_over |= part.handed_over
    return Wanted(tuple(objects), frozenset(handed_over))
