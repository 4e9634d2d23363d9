"""What the records want for one owner, shared objects included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from underlay.kernel import Kernel
from underlay.model import Endpoint, Network
from underlay.model.objects import Owner, SharedOwner, SysctlReason
from underlay.modes import mode_name
from underlay.networks.forwarding import Forwarding
from underlay.planning.desired import (
    DesiredState,
    beside_objects,
    endpoint_objects,
    network_objects,
)
from underlay.records import Records


@dataclass(frozen=True, slots=True)
class DesiredLookup:
    """Finds what the records want for an owner, and whether a live endpoint has it."""

    records: Records
    kernel: Kernel
    forwarding: Forwarding
    # A live endpoint of each network, as long as it lives.
    _alive: dict[str, str] = field(default_factory=dict)

    def desired_of(self, owner: Owner) -> DesiredState:
        """Return what the records want for an owner, shared objects included."""
        if owner.shared:
            return self.wanted_shared(owner)
        network = self.records.networks.get(owner.network)
        if network is None:
            return DesiredState()
        if not owner.endpoint:
            return network_objects(network)
        endpoint = self.records.endpoints.get(owner.endpoint)
        if endpoint is None or endpoint.network != owner.network:
            return DesiredState()
        return endpoint_objects(network, endpoint) + self.beside(endpoint)

    def beside(self, endpoint: Endpoint) -> DesiredState:
        """Return what an endpoint wants for the other networks of its container."""
        if not endpoint.sandbox:
            return DesiredState()
        here = self.records.endpoints.joined_at(endpoint.sandbox)
        if len(here) < 2:
            return DesiredState()
        known = map(self.records.networks.get, {e.network for e in here})
        found = beside_objects({n.id: n for n in known if n}, here)
        return found.get(endpoint.id, DesiredState())

    def wanted_shared(self, owner: Owner) -> DesiredState:
        """Return what any network or endpoint that shares an object wants of it."""
        for network in self.users(owner):
            if found := network_objects(network).of_owner(owner):
                return found
            for neighbour in self._sharing(network, owner):
                found = endpoint_objects(network, neighbour).of_owner(owner)
                if found:
                    return found
        return DesiredState()

    def _sharing(self, network: Network, owner: Owner) -> Iterator[Endpoint]:
        """Return the endpoints of which one shares an object, if any of them does.

        Any one of them, but for a gate: about that their own options decide.
        """
        endpoints = self.records.endpoints
        if found := endpoints.any_of(network.id):
            yield found
            if owner.is_of_gate:
                yield from endpoints.of_network(network.id)

    def users(self, owner: Owner) -> Iterable[Network]:
        """Return the networks that may want the objects of a shared owner."""
        networks = self.records.networks
        match owner.shared:
            case SharedOwner(kind="pool", subnet=subnet):
                return networks.with_subnet(str(subnet))
            case SharedOwner(kind="port", device=bridge):
                sharing = networks.on_parent(bridge)
                return [n for n in sharing if mode_name(n.options) == "bridge"]
            case (
                SharedOwner(kind="gate", device="")
                | SysctlReason(kind="forwarding" | "proxy")
            ):
                return networks.active("routed")
            case SharedOwner(kind="isolation", device=network):
                return filter(None, [networks.get(network)])
            case (
                SharedOwner(kind="shim" | "gate", device=parent)
                | SysctlReason(device=parent)
            ):
                return networks.on_parent(parent)
        found = networks.any_on_vlan(owner.vlan) if owner.vlan else None
        return [found] if found else []

    def has_live_endpoint(self, shared: Owner) -> bool:
        """Return whether a live endpoint has a shared object: a pass repairs it."""
        return any(
            endpoint_objects(network, endpoint).of_owner(shared)
            for network in self.users(shared)
            if (endpoint := self.live_endpoint(network))
        )

    def live_endpoint(self, network: Network) -> Endpoint | None:
        """Return any endpoint of a network that lives, or is about to.

        After a reboot, earlier endpoints are still recorded, but their sandboxes are
        gone.
        """
        known = self.records.endpoints.get(self._alive.get(network.id, ""))
        first = known or self.records.endpoints.any_of(network.id)
        if first is None or self._lives(first):
            return first
        found = next(
            filter(self._lives, self.records.endpoints.of_network(network.id)), None
        )
        self._alive[network.id] = found.id if found else ""
        return found

    def _lives(self, endpoint: Endpoint) -> bool:
        return (
            not endpoint.sandbox
            or self.forwarding.is_joining(endpoint.id)
            or self.kernel.sandbox_exists(endpoint.sandbox)
        )
