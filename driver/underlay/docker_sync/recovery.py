"""Rebuild records that were lost, or are too old, from Docker's own list.

Docker keeps its networks, endpoints and PoolIDs whatever happens to the records, and
the kernel keeps what was built. So what Docker lists and the records lack is recorded
again, under the marks that it has in the kernel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Interface, IPv6Interface

from underlay.errors import RecordsUnwritable, UnderlayError
from underlay.ipam import identity, leases, subnets
from underlay.ipam.adoption import Adoption, RecordsSnapshot
from underlay.ipam.dhcp import DhcpAddresses
from underlay.ipam.dhcp_claims import EVERYWHERE
from underlay.ipam.placeholder_claims import reserve_in_all_pools
from underlay.kernel import Kernel
from underlay.model import BridgeTakeover, Endpoint, IpAddress, Network, Subnet
from underlay.model.docker import (
    DockerContainer,
    DockerEndpoint,
    DockerNetwork,
    DockerView,
)
from underlay.model.objects import Address, Link, Owner
from underlay.modes import traits_of
from underlay.networks import reboot
from underlay.networks.driver import NetworkDriver
from underlay.networks.parents import ParentTracker
from underlay.planning.device_lookup import device_replaced_by
from underlay.planning.parent import mtu_of_pairs, resolve_parent
from underlay.reconcile.log_once import LogOnce
from underlay.reconcile.repair_log import repair_of
from underlay.reconcile.sandbox_state import SandboxObserver
from underlay.records import Records
from underlay.records.host import ANY

log = logging.getLogger(__name__)

# A program in a container may give its devices marks like ours. That must neither take
# whole pools nor delay the start. A host has far fewer containers.
MOST_KEPT = 4096
LOST, REBUILT = "not on record", "rebuilt from Docker's list"


@dataclass
class Recovery:
    """Rebuilds records from Docker's list. `clock` returns seconds since 1970.

    `containers` asks dockerd for containers by their ids; it raises OSError.
    """

    records: Records
    kernel: Kernel
    engine: NetworkDriver
    parents: ParentTracker
    observer: SandboxObserver
    clock: Callable[[], float]
    containers: Callable[[Collection[str]], Mapping[str, DockerContainer]]
    dhcp: DhcpAddresses
    _once: LogOnce = field(default_factory=LogOnce)
    _is_begun: bool = False

    def begin(self) -> None:
        """Note that Docker was not asked yet: the records may be lost, or old.

        Call it before an address is leased: it reserves what the kernel shows on the
        devices of unknown containers. Nothing is repaired in a sandbox until Docker has
        answered, or failed to.
        """
        self.observer.is_waiting = True
        try:
            self._begin()
        except RecordsUnwritable as error:
            # Then no address can be leased either.
            log.warning("cannot write the records yet", extra={"error": error})

    def _begin(self) -> None:
        reboot.forget_last_boot(self.records, self.kernel)
        with self.records.transaction():
            self.records.host.set_missing_networks({ANY})
            self._keep_addresses()
        self._is_begun = True

    def _keep_addresses(self) -> None:
        sandboxes = {e.sandbox for e in self.records.endpoints.all()} - {""}
        known = self.records.endpoints.containers()
        seen = [
            (owner, address)
            for mark, addresses in self.kernel.addresses_in_other_namespaces(
                sandboxes
            ).items()
            if (owner := Owner.parse(mark)).endpoint and owner.endpoint not in known
            for address in addresses
        ]
        if len(seen) > MOST_KEPT:
            facts = {"addresses": len(seen), "kept": MOST_KEPT}
            log.error("too many addresses without a record, keeping some", extra=facts)
        self.engine.live_endpoints.keep(seen[:MOST_KEPT])
        reserve_in_all_pools(self.records, seen[:MOST_KEPT], self.clock())

    def snapshot(self) -> RecordsSnapshot:
        """Return what is recorded now; call it before Docker is asked."""
        if not self._is_begun:
            with suppress(RecordsUnwritable):
                self._begin()
        self.engine.live_endpoints.expect()
        return RecordsSnapshot.of(self.records)

    def do_without(self) -> bool:
        """Let passes go on though Docker does not answer; return if they waited.

        Not if nothing could be written at the start: then the records may lack what
        Docker ended while the last process lived.
        """
        goes_on = self.observer.is_waiting and self._is_begun
        if goes_on:
            self.observer.is_waiting = False
        return goes_on

    def rebuild(self, view: DockerView, before: RecordsSnapshot) -> bool:
        """Record what Docker lists and the records lack.

        Returns whether that gives a pass something to do. Raises OSError if dockerd
        does not describe its containers.
        """
        self.engine.live_endpoints.update(view)
        told = self.containers(
            {e.container for n in view.networks for e in self._lost(n, before)}
        )
        networks = tuple(self._completed(n, told) for n in view.networks)
        view = replace(view, networks=networks)
        live, now = self.engine.live_endpoints, self.clock()
        adoption = Adoption(
            self.records, view, before, self.engine.remove_dead_endpoint, live, now
        )
        with self.records.transaction():
            for network in sorted(view.networks, key=lambda n: not n.ours):
                adoption.adopt(network)
            for pool in live.take_unknown():
                adoption.add_unknown_claim(pool)
        lacking = [
            (network, lost)
            for network in view.networks
            if (lost := list(self._lost(network, before)))
            or (network.ours and network.id not in before.networks)
        ]
        if lacking:
            # nft may hang, so it is asked once, before the transactions below.
            _ = self.kernel.can_filter
        missing = {
            network.id
            for network, lost in lacking
            if not self._rebuild(network, lost, told, before)
        }
        return self._await(missing) or bool(lacking)

    def _lost(
        self, network: DockerNetwork, before: RecordsSnapshot
    ) -> Iterator[DockerEndpoint]:
        """Return endpoints of our networks that Docker lists and the records lack."""
        for endpoint in network.endpoints if network.ours else ():
            known = endpoint.id in before.endpoints
            if not known and self.records.endpoints.get(endpoint.id) is None:
                yield endpoint

    def _await(self, missing: set[str]) -> bool:
        """Record which listed networks are missing; return whether that is news."""
        if self.records.host.missing_networks() == missing:
            return False
        with self.records.transaction():
            self.records.host.set_missing_networks(missing)
        return True

    def _rebuild(
        self,
        network: DockerNetwork,
        lost: list[DockerEndpoint],
        told: Mapping[str, DockerContainer],
        before: RecordsSnapshot,
    ) -> bool:
        """Record a network and its endpoints; return whether all of it worked."""
        add = partial(self._add_network, network)
        done = network.id in before.networks or self._try(network, None, add)
        for endpoint in lost if done else ():
            container = told.get(endpoint.container)
            sandbox = container.sandbox if container else ""
            # A container without a sandbox starts or stops just now.
            if container and sandbox and self.kernel.sandbox_exists(sandbox):
                put = partial(self._add_endpoint, network, endpoint, container)
                done &= self._try(network, endpoint, put)
                self.dhcp.note_adopted(endpoint.id)
        return done

    def _try(
        self,
        network: DockerNetwork,
        endpoint: DockerEndpoint | None,
        add: Callable[[], bool],
    ) -> bool:
        """Record something and log the repair; log a refusal once."""
        owner = Owner(network.id, endpoint.id if endpoint else "")
        names = network.name, endpoint.name if endpoint else ""
        repair = repair_of(owner, names, LOST, REBUILT, self.clock(), 0.0)
        try:
            with self.records.transaction():
                if add():
                    log.warning(REBUILT, extra={"mark": repair.mark})
                    self.records.repairs.note([repair])
        except UnderlayError as error:
            if self._once.is_news(str(error), error):
                facts = {"mark": repair.mark, "error": error}
                log.warning("cannot rebuild a record, retrying", extra=facts)
                with self.records.transaction():
                    self.records.repairs.note([replace(repair, error=str(error))])
            return False
        return True

    def _add_network(self, listed: DockerNetwork) -> bool:
        if self.records.networks.get(listed.id):
            return False
        subnets = listed.subnets
        if not subnets and listed.options.get("source") == "dhcp":
            subnets = (Subnet(EVERYWHERE, dhcp=True),)  # with the null IPAM driver
        asked = Network(
            listed.id, listed.options, internal=listed.internal, subnets=subnets
        )
        found = resolve_parent(asked, self.kernel, again=True)
        self._note_bridge(found.parent)
        mtu = mtu_of_pairs(asked, found.base_device, self.kernel)
        network = replace(asked, uplink=replace(found, mtu=mtu), created=self.clock())
        self.records.networks.add(network)
        # At once: a pass may be about to delete what depends on the host's addresses.
        self.parents.record(network, self.parents.resolve(network))
        self.records.networks.rename(listed.id, listed.name)
        return True

    def _note_bridge(self, bridge: str) -> None:
        """Record a take-over by a bridge of ours that is there."""
        device = device_replaced_by(bridge, self.kernel.devices())
        if device and not self.records.host.takeover(device.name):
            settings = self.kernel.device_sysctls(device.name)
            self.records.host.note_takeover(
                BridgeTakeover(device.name, bridge, "on", (), settings)
            )

    def _add_endpoint(
        self, network: DockerNetwork, listed: DockerEndpoint, told: DockerContainer
    ) -> bool:
        known = self.records.networks.get(network.id)
        if known is None or self.records.endpoints.get(listed.id):
            return False
        given = listed.addresses
        endpoint = Endpoint(
            id=listed.id,
            network=network.id,
            ipv4=next((a for a in given if isinstance(a, IPv4Interface)), None),
            ipv6=next((a for a in given if isinstance(a, IPv6Interface)), None),
            mac=listed.mac.lower(),
            options=told.options.get(network.id, {}),
            container=listed.name,
            created=self.clock(),
        )
        self.records.endpoints.add(endpoint)
        self.records.endpoints.join(endpoint.id, told.sandbox)
        leases.assign(self.records, known, endpoint)
        if endpoint.ipv4 and any(segment.dhcp for segment in known.subnets):
            mark = Owner(network.id, listed.id).mark
            there = self._address_there(told.sandbox, mark, endpoint.ipv4)
            self.dhcp.adopt(known, endpoint, there)
        self.records.leases.name_container(endpoint.id, endpoint.container)
        identity.keep_for(self.records, endpoint.id, endpoint.container)
        self.engine.idle.note_running(network.id, endpoint.container)
        return True

    def _address_there(
        self, sandbox: str, mark: str, told: IPv4Interface
    ) -> IPv4Interface:
        """Return the address of a device in its sandbox.

        A server may have changed it since Docker was told of one.
        """
        room = self.kernel.observe_sandboxes({sandbox}).get(sandbox, ())
        names = {o.name for o in room if isinstance(o, Link) and o.key == mark}
        found = [
            o.interface
            for o in room
            if isinstance(o, Address)
            and o.device in names
            and isinstance(o.interface, IPv4Interface)
            and not o.interface.is_link_local
        ]
        return found[0] if len(found) == 1 else told

    def _completed(
        self, network: DockerNetwork, told: Mapping[str, DockerContainer]
    ) -> DockerNetwork:
        """Return a network with the gateways that Docker has and does not list."""
        segments = [
            segment
            if segment.gateway or segment.dhcp
            else replace(segment, gateway=self._gateway(network, segment, span, told))
            for segment, span in zip(network.subnets, network.ranges, strict=True)
        ]
        return replace(network, subnets=tuple(segments))

    def _gateway(
        self,
        network: DockerNetwork,
        segment: Subnet,
        span: str,
        told: Mapping[str, DockerContainer],
    ) -> IpAddress | None:
        """Return the gateway of a subnet that Docker lists without one.

        It is the gateway of a container, else a router of the host. On no segment, or
        in a network of another driver, it is the first address, as IPAM chooses it.
        """
        for container in told.values():
            for address in container.gateways.get(network.id, ()):
                if address in segment.subnet:
                    return address
        family = segment.subnet.version
        internal = network.internal
        try:
            if network.ours and not self.engine.needs_gateway(
                network.options, family, internal=internal
            ):
                return None
        except UnderlayError:
            return None
        used = {a.ip for e in network.endpoints for a in e.addresses}
        used.update(segment.aux)
        for _, router in self.kernel.routers():
            if router in segment.subnet and router not in used:
                return router
        if network.ours and not traits_of(network.options).host_prefix:
            return None
        first, _ = subnets.parse_range("" if segment.pooled else span, segment.subnet)
        return None if first in used else first
