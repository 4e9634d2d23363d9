"""The methods of the plugin: from Docker's message to a call, and back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from underlay.api import messages as m
from underlay.errors import AddressTaken, UnderlayError, UnknownPool
from underlay.ipam.dhcp_claims import mark_of
from underlay.ipam.driver import IpamDriver
from underlay.model import Endpoint, IpInterface, Network
from underlay.modes.ignored_options import without_effect
from underlay.networks.driver import NetworkDriver

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Method:
    """A method: the message it takes (None: no body), and the function that answers."""

    takes: type[msgspec.Struct] | None
    answer: Callable[[Any], msgspec.Struct]


def methods(network: NetworkCalls, pool: IpamCalls) -> dict[str, Method]:
    """Return the method table."""
    return {
        "Plugin.Activate": Method(None, lambda _: m.Manifest()),
        "NetworkDriver.GetCapabilities": Method(
            None, lambda _: m.NetworkCapabilities()
        ),
        "NetworkDriver.GwAllocCheck": Method(m.GwAllocCheck, network.gw_alloc_check),
        "NetworkDriver.AllocateNetwork": Method(
            m.AllocateNetwork, lambda asked: m.Allocated(asked.Options or {})
        ),
        "NetworkDriver.FreeNetwork": Method(m.NetworkId, _nothing),
        "NetworkDriver.CreateNetwork": Method(m.CreateNetwork, network.create),
        "NetworkDriver.DeleteNetwork": Method(m.NetworkId, network.delete),
        "NetworkDriver.CreateEndpoint": Method(
            m.CreateEndpoint, network.create_endpoint
        ),
        "NetworkDriver.DeleteEndpoint": Method(m.EndpointId, network.delete_endpoint),
        "NetworkDriver.EndpointOperInfo": Method(m.EndpointId, lambda _: m.OperInfo()),
        "NetworkDriver.Join": Method(m.Join, network.join),
        "NetworkDriver.Leave": Method(m.EndpointId, network.leave),
        "NetworkDriver.ProgramExternalConnectivity": Method(m.EndpointId, _nothing),
        "NetworkDriver.RevokeExternalConnectivity": Method(m.EndpointId, _nothing),
        "NetworkDriver.DiscoverNew": Method(m.Empty, _nothing),
        "NetworkDriver.DiscoverDelete": Method(m.Empty, _nothing),
        "IpamDriver.GetCapabilities": Method(None, lambda _: m.IpamCapabilities()),
        "IpamDriver.GetDefaultAddressSpaces": Method(None, lambda _: m.AddressSpaces()),
        "IpamDriver.RequestPool": Method(m.RequestPool, pool.request_pool),
        "IpamDriver.ReleasePool": Method(m.PoolId, pool.release_pool),
        "IpamDriver.RequestAddress": Method(m.RequestAddress, pool.request_address),
        "IpamDriver.ReleaseAddress": Method(m.ReleaseAddress, pool.release_address),
    }


def refusing(why: Callable[[], UnderlayError]) -> dict[str, Method]:
    """Return the table of a service without records: what needs them raises `why`.

    What Docker asks of any driver is answered: dockerd asks that only once.
    """
    lacking: Any = _Lacking(why)
    network = NetworkCalls(lacking, lambda: None, lambda _: None)
    return methods(network, IpamCalls(lacking, lambda: None))


class _Lacking:
    """Stands for what could not be built: whatever it is asked for, it raises."""

    def __init__(self, why: Callable[[], UnderlayError]) -> None:
        self._why = why

    def __getattr__(self, name: str) -> Any:
        # The same error is raised for every call: it must not collect their frames.
        raise self._why().with_traceback(None)


def _warn_of_ignored(asked: Network | Endpoint) -> None:
    """Name the options of a new network or endpoint that change nothing."""
    if keys := without_effect(asked):
        what = "network" if isinstance(asked, Network) else "endpoint"
        log.warning(
            "options without effect: neither Docker nor this driver acts on them",
            extra={what: asked.id[:12], "options": ", ".join(keys)},
        )


def _nothing(asked: msgspec.Struct) -> msgspec.Struct:
    del asked
    return m.Empty()


@dataclass(frozen=True, slots=True)
class NetworkCalls:
    """The methods of NetworkDriver.

    `changed` asks for a look at Docker. `joined` is called with an endpoint that got a
    sandbox, before Docker is answered.
    """

    engine: NetworkDriver
    changed: Callable[[], None]
    joined: Callable[[str], None]

    def gw_alloc_check(self, asked: m.GwAllocCheck) -> msgspec.Struct:
        """Answer whether Docker may leave out the gateway address."""
        options = m.driver_options(asked.Options)
        internal = m.is_internal(asked.Options)
        needed = {
            family: self.engine.needs_gateway(options, family, internal=internal)
            for family in (4, 6)
        }
        return m.GwAllocAnswer(SkipIPv4=not needed[4], SkipIPv6=not needed[6])

    def create(self, asked: m.CreateNetwork) -> msgspec.Struct:
        """Create a network."""
        network = asked.network()
        self.engine.create_network(network)
        _warn_of_ignored(network)
        self.changed()
        return m.Empty()

    def delete(self, asked: m.NetworkId) -> msgspec.Struct:
        """Delete a network."""
        self.engine.delete_network(asked.NetworkID)
        self.changed()
        return m.Empty()

    def create_endpoint(self, asked: m.CreateEndpoint) -> msgspec.Struct:
        """Create an endpoint; answer its MAC unless Docker asked for one."""
        endpoint = self.engine.create_endpoint(asked.endpoint())
        _warn_of_ignored(endpoint)
        given = asked.Interface or m.EndpointInterface()
        answer = m.EndpointInterface(
            # With the null IPAM driver the address is the lease's.
            Address="" if given.Address else str(endpoint.ipv4 or ""),
            MacAddress="" if given.MacAddress else endpoint.mac,
        )
        return m.EndpointCreated(answer)

    def delete_endpoint(self, asked: m.EndpointId) -> msgspec.Struct:
        """Delete an endpoint."""
        self.engine.delete_endpoint(asked.NetworkID, asked.EndpointID)
        return m.Empty()

    def join(self, asked: m.Join) -> msgspec.Struct:
        """Answer which device Docker moves into the sandbox, and its routes."""
        network, endpoint = asked.NetworkID, asked.EndpointID
        found = self.engine.join(network, endpoint, asked.SandboxKey, asked.ports)
        self.joined(asked.EndpointID)
        return m.Joined(
            m.InterfaceName(found.device, found.prefix, found.name),
            Gateway=str(found.gateway4 or ""),
            GatewayIPv6=str(found.gateway6 or ""),
            StaticRoutes=(
                *(m.StaticRoute(str(net)) for net in found.on_link),
                *(m.StaticRoute(str(net), 0, str(hop)) for net, hop in found.via),
            ),
        )

    def leave(self, asked: m.EndpointId) -> msgspec.Struct:
        """Record that the device leaves the sandbox."""
        self.engine.leave(asked.EndpointID)
        return m.Empty()


@dataclass(frozen=True, slots=True)
class IpamCalls:
    """The methods of IpamDriver; `missing` asks for a look at Docker."""

    ipam: IpamDriver
    missing: Callable[[], None]

    def request_pool(self, asked: m.RequestPool) -> msgspec.Struct:
        """Claim a pool."""
        claim = self.ipam.request_pool(
            asked.Pool, asked.SubPool, asked.Options or {}, 6 if asked.V6 else 4
        )
        data = {m.GATEWAY: f"{mark}/0"} if (mark := mark_of(claim)) else {}
        return m.PoolGiven(claim.id, str(claim.pool.subnet), data)

    def release_pool(self, asked: m.PoolId) -> msgspec.Struct:
        """Release a claim."""
        self.ipam.release_pool(asked.PoolID)
        return m.Empty()

    def request_address(self, asked: m.RequestAddress) -> msgspec.Struct:
        """Assign an address, or reserve one for the gateway."""
        try:
            return m.AddressGiven(str(self._given(asked)))
        except (UnknownPool, AddressTaken):
            # Docker lists the container that has it: known by the next try.
            self.missing()
            raise

    def _given(self, asked: m.RequestAddress) -> IpInterface:
        if asked.for_gateway:
            return self.ipam.request_gateway(asked.PoolID, asked.Address)
        return self.ipam.request_address(asked.PoolID, asked.Address, asked.container)

    def release_address(self, asked: m.ReleaseAddress) -> msgspec.Struct:
        """Release an address."""
        self.ipam.release_address(asked.PoolID, asked.Address)
        return m.Empty()
