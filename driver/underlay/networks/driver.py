"""Docker's network verbs, over one record and one kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from underlay.errors import (
    Conflict,
    EndpointDiffers,
    NetworkDiffers,
    RecordsUnwritable,
    RouteConflict,
    UnknownEndpoint,
    UnknownNetwork,
)
from underlay.ipam import conflicts, leases
from underlay.ipam.dhcp_claims import with_source
from underlay.ipam.identity import owner_of
from underlay.ipam.idle_containers import IdleContainers
from underlay.ipam.live_endpoints import LiveEndpoints
from underlay.ipam.placeholder_claims import is_placeholder, move_lease_to_network
from underlay.kernel import Kernel
from underlay.kernel.clock import Recent
from underlay.model import Endpoint, IpAddress, JoinAnswer, Network, difference
from underlay.model.objects import Object, Owner
from underlay.modes import (
    attachment,
    check,
    check_capacity,
    check_endpoint,
    mode_of,
    traits_of,
)
from underlay.modes.child_device import check_mtu
from underlay.modes.options import mtu, waits_for_parent
from underlay.networks import suffixes
from underlay.networks.bridge_takeover import BridgeTakeovers
from underlay.networks.builder import Builder
from underlay.networks.creation_log import log_created
from underlay.networks.device_names import take_back, with_name
from underlay.networks.dropper import Dropper, Ended
from underlay.networks.leftover_devices import LeftoverDevices
from underlay.networks.macs import Macs
from underlay.networks.parents import ParentTracker
from underlay.planning.checks import check_gateways, check_kernel, check_parent_sharing
from underlay.planning.desired import DesiredState, endpoint_objects, network_objects
from underlay.planning.device_lookup import has_router
from underlay.planning.parent import (
    link_fault_of,
    missing_parent,
    mtu_of_pairs,
    resolve_parent,
)
from underlay.records import Records

log = logging.getLogger(__name__)

# From CreateEndpoint until Docker has moved the device: milliseconds, as a rule.
STARTING_SECONDS = 30.0
# Docker's list may be older than an endpoint whose container is still starting.
LISTED_SECONDS = 60.0
# What an owner wanted, and the devices of it that Docker left in a sandbox.
_Had = tuple[DesiredState, frozenset[Object]]
_NOTHING: _Had = DesiredState(), frozenset()


class NetworkDriver:
    """What Docker asks of a network driver.

    `machine` identifies this host; `clock` gives seconds since
    1970, `monotonic` since the host booted.
    """

    def __init__(
        self,
        records: Records,
        kernel: Kernel,
        *,
        builder: Builder,
        parents: ParentTracker,
        takeovers: BridgeTakeovers,
        leftovers: LeftoverDevices,
        live_endpoints: LiveEndpoints,
        idle: IdleContainers,
        dropper: Dropper,
        machine: str,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.records, self.kernel = records, kernel
        self.live_endpoints, self.idle = live_endpoints, idle
        self.clock, self.monotonic = clock, monotonic
        self._builder, self._lookup = builder, builder.lookup
        self._forwarding, self._parents = builder.forwarding, parents
        self._takeovers, self._remnants = takeovers, leftovers
        self.dropper = dropper
        self._macs = Macs(records, machine, self.remove_dead_endpoint)
        # Asks DHCP servers before an endpoint is recorded; see DhcpAddresses.
        self.with_address: Callable[[Network, Endpoint], Endpoint] = lambda _, e: e
        # When this process made which endpoint: Docker may not list a young one yet.
        self._made = Recent(LISTED_SECONDS)
        self._began = monotonic()
        by = records.endings.by
        by("Leave", records.endpoints.leave)
        by("DeleteEndpoint", self._end_endpoint)
        by("DeleteNetwork", self._end_network)

    def needs_gateway(
        self, options: Mapping[str, str], family: int, *, internal: bool
    ) -> bool:
        """Return whether a network with these options needs a gateway of its pool.

        On a segment that is a router of the host's, which may be in the pool.
        """
        traits = traits_of(options)
        if internal or family not in traits.reserved_gateways:
            return False
        return traits.host_prefix or has_router(options, family, self.kernel)

    def create_network(self, asked: Network) -> None:
        """Record a network and build what it needs.

        Creating the same network again succeeds. Raises Invalid, Conflict,
        KernelRefused.
        """
        asked = with_source(self.records, asked)
        check(asked)
        found = resolve_parent(asked, self.kernel)
        uplink = replace(
            found,
            mtu=mtu_of_pairs(asked, found.base_device, self.kernel),
            link_fault=link_fault_of(found.base_device, self.kernel),
        )
        network = replace(asked, uplink=uplink, created=self.clock())
        check_mtu(network.options, found.mtu, network.parent_label)
        check_kernel(network, self.kernel)
        self._parents.ask_nft(network)
        network = self._parents.placed(network)
        routed = self.records.networks.active("routed")
        check_gateways(network, routed, self.kernel)
        self.dropper.finish(lambda ended: ended.parent == uplink.parent)
        with self._takeovers.attempt(uplink) as hops:
            self._take_over(network, hops)
            # Beside children of another kind, the shim could not be made.
            is_known = self._is_known(network)
            with self._builder.preparing(network, network_objects(network)):
                self._add_network(network)
        log_created(self._network(network.id), is_new=not is_known)

    def _take_over(self, network: Network, hops: frozenset[IpAddress]) -> None:
        """Put the bridge in its place, and prove it, before the network is recorded.

        The proof may take seconds, and so is part of no transaction.
        """
        if not network.uplink.takes_over:
            return
        self.records.check_there()
        with self.records.transaction(durable=False):
            if self._is_known(network):
                return
            self._takeovers.execute(network.uplink)
        self._takeovers.prove(network.uplink, hops)

    def _add_network(self, network: Network) -> None:
        owner = Owner(network.id)
        with self._builder.transaction(owner) as build:
            if not self._is_known(network):
                self._takeovers.confirm(network.uplink)
                routers = [hop for _, hop in self.kernel.routers()]
                seen = self.live_endpoints.seen
                network = leases.bind_claims(self.records, network, seen, routers)
                self.records.networks.add(network)
            build(self._lookup.desired_of(owner))

    def _is_known(self, network: Network) -> bool:
        """Return whether a network is recorded; raise Conflict if it cannot be.

        Part of a transaction: other networks may have come since the first check.
        """
        known = self.records.networks.get(network.id)
        if known:
            network = leases.as_bound(known, network)
            if other := difference(known, network):
                raise NetworkDiffers(network=network.id[:12], **other)
            return True
        resolve_parent(network, self.kernel, again=True)
        others = self._parents.sharing_parent(network)
        check_parent_sharing(network, others, self.kernel)
        return False

    def delete_network(self, identity: str) -> None:
        """Remove a network from the records, then drop what it had; always succeeds."""
        self.dropper.finish(lambda ended: ended.owner.network == identity)
        had: dict[Owner, _Had] = {}
        try:
            with self.records.transaction():
                had = self._had_by(identity)
                self._end_network(identity, had)
        except RecordsUnwritable as error:
            had = had or self._had_by(identity)
            self.records.endings.remember(error, "DeleteNetwork", identity)
        for owner, (what, left) in had.items():
            self._builder.drop({owner, *what.shared}, what, in_sandboxes=left)
        if any(left for _, left in had.values()):
            self._remnants.try_to_forget()
        self._takeovers.finish_pending()

    def _had_by(self, network: str) -> dict[Owner, _Had]:
        """Return what a network and its endpoints have, by owner."""
        endpoints = self.records.endpoints.of_network(network)
        owners = [Owner(network, e.id) for e in endpoints] + [Owner(network)]
        return {owner: self._had(owner) for owner in owners}

    def _had(self, owner: Owner) -> _Had:
        return self._lookup.desired_of(owner), self._remnants.left_by(owner)

    def _end_network(
        self, identity: str, had: Mapping[Owner, _Had] | None = None
    ) -> None:
        """Remove a network from the records; part of a transaction."""
        for owner, (_, left) in (had or self._had_by(identity)).items():
            if owner.endpoint:
                leases.end_of_endpoint(self.records, owner.endpoint, self.clock())
            self._remnants.note(left)
        self.records.networks.remove(identity)
        # Docker could not release it before: its PoolID was unknown here.
        for claim in self.records.pools.claims_of(identity):
            if is_placeholder(claim):
                self.live_endpoints.release(claim, self.clock())

    def create_endpoint(self, asked: Endpoint) -> Endpoint:
        """Record an endpoint and build its device; return it with its MAC.

        Creating the same endpoint again succeeds. Raises Invalid, Conflict,
        KernelRefused.
        """
        network = self._network(asked.network)
        # Reading links waits for every change of links in the kernel. Passes keep the
        # record up to date, and `_validated` reads the parent once more.
        if network.uplink.parent and not network.uplink.mtu:
            network = self._parents.resolve(network)
        self._parents.ask_nft(network, asked.options)
        if any(segment.dhcp for segment in network.subnets):
            asked = self.with_address(network, asked)
        macs = self._macs.candidates(network, asked)
        again = replace(asked, mac=asked.mac or macs[0])
        self.dropper.finish(partial(_is_in_the_way, network, again))
        want = endpoint_objects(network, asked) + self._builder.without_shim(network)
        with self._builder.preparing(network, want):
            self._takeovers.restore_bridge(network)
            return self._add_endpoint(asked, macs)

    def _add_endpoint(self, asked: Endpoint, macs: Sequence[str]) -> Endpoint:
        with self._builder.transaction(Owner(asked.network, asked.id)) as build:
            network = self._network(asked.network)
            known = self.records.endpoints.get(asked.id)
            if known:
                again = replace(asked, mac=asked.mac or known.mac)
                if other := difference(known, again):
                    raise EndpointDiffers(endpoint=asked.id[:12], **other)
                build(endpoint_objects(network, known))
                return known
            network, endpoint = self._validated(network, asked, macs)
            self.records.endpoints.add(endpoint)
            leases.assign(self.records, network, endpoint, fixed_mac=bool(asked.mac))
            move_lease_to_network(self.records, endpoint)
            if any(segment.dhcp for segment in network.subnets):
                # With what its lease brings.
                endpoint = self.records.endpoints.get(endpoint.id) or endpoint
            build(endpoint_objects(network, endpoint))
        self._made.note(endpoint.id, self.monotonic())
        self.idle.note_running(network.id, owner_of(self.records, endpoint.id))
        return endpoint

    def is_young(self, identity: str) -> bool:
        """Return whether it is so new that Docker's list may lack it."""
        return self._made.age(identity, self.monotonic()) < LISTED_SECONDS

    def delete_endpoint(self, network: str, identity: str) -> None:
        """Remove an endpoint from the records, have its device deleted.

        Always succeeds.
        """
        owner, had = Owner(network, identity), _NOTHING
        known = self.records.networks.get(network)
        endpoint = self.records.endpoints.get(identity)
        self.live_endpoints.being_deleted.add(identity)
        self.live_endpoints.forget(identity)
        self.idle.note_ended(network, owner_of(self.records, identity))
        try:
            with self.records.transaction():
                had = self._had(owner)
                self._end_endpoint(network, identity, had)
        except RecordsUnwritable as error:
            # Docker forgets the endpoint whatever the answer is.
            had = had if had != _NOTHING else self._had(owner)
            self.records.endings.remember(error, "DeleteEndpoint", network, identity)
        what, left = had
        if left:
            self._builder.drop({owner}, what, in_sandboxes=left)
            self._remnants.try_to_forget()
        self.dropper.add(Ended(owner, what, known, endpoint))

    def _end_endpoint(
        self, network: str, identity: str, had: _Had | None = None
    ) -> None:
        """Remove an endpoint from the records; part of a transaction."""
        _, left = had or self._had(Owner(network, identity))
        self._remnants.note(left)
        if self.records.endpoints.remove(network, identity):
            leases.end_of_endpoint(self.records, identity, self.clock())

    def join(
        self, network: str, identity: str, sandbox: str, ports: str = ""
    ) -> JoinAnswer:
        """Record the sandbox and ports; return the device that Docker moves there."""
        self._forwarding.join(identity)
        # No flush to the disk: a power cut destroys the sandbox itself.
        with self.records.transaction(durable=False):
            known = self._network(network)
            endpoint = self.records.endpoints.get(identity)
            if endpoint is None or endpoint.network != network:
                raise UnknownEndpoint(endpoint=identity[:12])
            conflicts.check_endpoint(self.records, identity)
            found = attachment(known, endpoint)
            self._check_ways(found, known, sandbox)
            found = with_name(found, self.records, known, endpoint, sandbox)
            self.records.endpoints.join(identity, sandbox, ports)
            self._builder.build_beside(sandbox)
        return found

    def _check_ways(self, found: JoinAnswer, network: Network, sandbox: str) -> None:
        """Raise if another network of the container leads to the same place.

        Docker would fail half way, with the device in the container.
        """
        for other in self.records.endpoints.joined_at(sandbox):
            sibling = self.records.networks.get(other.network)
            if other.network == network.id or sibling is None:
                continue
            theirs = attachment(sibling, other).destinations
            theirs |= {other.ipv4.network} if other.ipv4 else set()
            both = found.destinations & theirs
            owner = Owner(other.network, other.id)
            # Until engine 27, all devices of a start are still in the host.
            there = both and self.kernel.observe({owner.device})
            if there or (both and self._remnants.of(owner, {sandbox})):
                raise RouteConflict(
                    network=network.label,
                    destination=min(map(str, both)),
                    other=sibling.label,
                )

    def leave(self, identity: str) -> None:
        """Record that Docker takes the device out; always succeeds."""
        try:
            with self.records.transaction(durable=False):
                self.records.endpoints.leave(identity)
        except RecordsUnwritable as error:
            self.records.endings.remember(error, "Leave", identity)
        take_back(self.records, self.kernel, identity)

    def remove_dead_endpoint(self, identity: str) -> bool:
        """Remove an endpoint from the records if it is dead; return whether it was.

        Its sandbox is gone, and Docker is not about to move its device into one (until
        engine 28 Docker creates the sandbox after Join). The container stopped while
        this service or dockerd was down, and may be starting again now. Part of the
        caller's transaction.
        """
        endpoint = self.records.endpoints.get(identity)
        if endpoint is None:
            # Its address may still be on a device that is being deleted, or that the
            # kernel refused to delete; or Docker lists it, but it has no record.
            listed = self.live_endpoints.is_listed(identity)
            going = listed or identity in self.live_endpoints.being_deleted
            return not (going or self.records.endpoints.has_leftover(identity))
        owner = Owner(endpoint.network, endpoint.id)
        # An earlier process may have made it just before it ended.
        now = self.monotonic()
        age = min(self._made.age(identity, now), now - self._began)
        starting = age < STARTING_SECONDS
        if (
            not endpoint.sandbox
            or self.kernel.sandbox_exists(endpoint.sandbox)
            or (starting and self.kernel.observe({owner.device}))
        ):
            return False
        log.warning("released stale endpoint", extra={"endpoint": identity[:12]})
        self.idle.note_ended(endpoint.network, owner_of(self.records, identity))
        self.live_endpoints.forget(identity)
        had = self._lookup.desired_of(owner)
        leases.end_of_endpoint(self.records, identity, self.clock())
        self.records.endpoints.remove(endpoint.network, identity)
        self._builder.drop({owner, *had.shared}, had, writing=True)
        leases.end_returned(self.records, identity, self.clock())
        return True

    def _network(self, identity: str) -> Network:
        network = self.records.networks.get(identity)
        if network is None:
            raise UnknownNetwork(network=identity[:12])
        return network

    def _validated(
        self, network: Network, asked: Endpoint, macs: Sequence[str]
    ) -> tuple[Network, Endpoint]:
        """Return a new endpoint with its MAC, and its network as recorded now."""
        mode = mode_of(network.options)
        check_endpoint(network, asked)
        parent_mac = ""
        seat = mode.traits(network.options).parent_use
        network = self._with_parent_as_it_is(network, asked)
        if seat:
            network, parent_mac = self._on_parent(network, asked)
        if seat and seat.is_strict:
            others = self.records.networks.on_parent(network.uplink.parent)
            check_parent_sharing(network, others, self.kernel)
        if neighbour := self.records.endpoints.any_of(network.id):
            try:
                check_capacity(network, neighbour)
            except Conflict:
                if not self.remove_dead_endpoint(neighbour.id):
                    raise
        derived = self._macs.choose(macs, network)
        mac = mode.endpoint_mac(network, asked, parent_mac, derived)
        if asked.mac and seat:
            self._macs.check(asked.mac, network)
        suffixes.check(self.records, network, asked, self.remove_dead_endpoint)
        return network, replace(asked, mac=mac, created=self.clock())

    def _on_parent(self, network: Network, asked: Endpoint) -> tuple[Network, str]:
        """Return a network and its parent's MAC; create the VLANs of the network.

        Without a parent, the MAC is the last one known.
        """
        missing = network.uplink.parent_missing
        if not missing and self._builder.build_devices(network):
            network = self._with_parent_as_it_is(network, asked)
        uplink = network.uplink
        if uplink.parent_missing:
            return network, uplink.base_identity.mac
        if not uplink.mac or mtu(asked.options):
            found = self.kernel.device(uplink.parent)
            if found is None:
                raise missing_parent(network, self.kernel)
            check_mtu(asked.options, found.mtu, network.parent_label)
        return network, uplink.mac

    def _with_parent_as_it_is(self, network: Network, asked: Endpoint) -> Network:
        """Return a network with the present state of its parent or proxy; record it.

        If the device is missing, the container waits for it or is refused.
        """
        now = self._parents.resolve(network)
        self._parents.record(network, now)
        if now.uplink.parent_missing and not waits_for_parent(now, asked):
            raise missing_parent(now, self.kernel)
        return now


def _is_in_the_way(network: Network, asked: Endpoint, ended: Ended) -> bool:
    """Return whether a new endpoint must wait until an earlier one's device is gone.

    It has the same id, or an address or the MAC of the earlier one. Or its network is
    another one on the same parent, which may take one kind of child only.
    """
    if ended.owner == Owner(network.id, asked.id):
        return True
    if ended.owner.network != network.id:
        parent = network.uplink.parent
        return bool(parent) and ended.parent == parent
    if (was := ended.endpoint) is None:
        return False
    same = {a.ip for a in asked.addresses} & {a.ip for a in was.addresses}
    return bool(same) or (bool(asked.mac) and was.mac == asked.mac)
