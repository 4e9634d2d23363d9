"""Docker's network verbs, over one record and one kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial

from underlay.errors import (
    BadMac,
    Conflict,
    EndpointDiffers,
    MacTaken,
    NetworkDiffers,
    RecordsUnwritable,
    RouteConflict,
    UnknownEndpoint,
    UnknownNetwork,
)
from underlay.ipam import leases
from underlay.ipam.live_endpoints import LiveEndpoints
from underlay.ipam.placeholder_claims import is_placeholder, move_lease_to_network
from underlay.ipam.subnets import derive_mac
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
    withholds_way_out,
)
from underlay.modes.child_device import check_mtu
from underlay.modes.options import mtu, waits_for_parent
from underlay.networks.bridge_takeover import BridgeTakeovers
from underlay.networks.builder import Builder
from underlay.networks.dropper import Dropper, Ended
from underlay.networks.leftover_devices import LeftoverDevices
from underlay.networks.parents import ParentTracker
from underlay.planning.checks import (
    check_gateways,
    check_kernel,
    check_parent_sharing,
)
from underlay.planning.desired import DesiredState, endpoint_objects, network_objects
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
# Docker's name server in a container forwards from inside the container. From engine 28
# on it asks the host's name servers only if a network gives a default route.
NAMES = (
    "this network gives no default route: a container on this network alone resolves"
    " outside names only with --dns and a name server on the segment"
)
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
        dropper: Dropper,
        machine: str,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.records, self.kernel = records, kernel
        self.live_endpoints = live_endpoints
        self.clock, self.monotonic = clock, monotonic
        self._builder, self._lookup = builder, builder.lookup
        self._forwarding, self._parents = builder.forwarding, parents
        self._takeovers, self._remnants = takeovers, leftovers
        self.dropper = dropper
        self._machine = machine
        # When this process made which endpoint: Docker may not list a young one yet.
        self._made = Recent(LISTED_SECONDS)
        self._began = monotonic()
        by = records.endings.by
        by("Leave", records.endpoints.leave)
        by("DeleteEndpoint", self._end_endpoint)
        by("DeleteNetwork", self._end_network)

    @cached_property
    def _identity(self) -> str:
        return self.records.host.identity(self._machine)

    def needs_gateway(
        self, options: Mapping[str, str], family: int, *, internal: bool
    ) -> bool:
        """Return whether a network with these options needs its pool's gateway."""
        return not internal and family in traits_of(options).reserved_gateways

    def create_network(self, asked: Network) -> None:
        """Record a network and build what it needs.

        Creating the same network again succeeds. Raises Invalid, Conflict,
        KernelRefused.
        """
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
        self.dropper.finish(lambda ended: _parent_of(ended) == uplink.parent)
        with self._takeovers.attempt(uplink) as hops:
            self._take_over(network, hops)
            # Beside children of another kind, the shim could not be made.
            self._is_known(network)
            with self._builder.preparing(network, network_objects(network)):
                self._add_network(network)
        log.info("network created", extra={"network": network.id[:12]})
        if withholds_way_out(network):
            log.warning(NAMES, extra={"network": network.id[:12]})

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
                self.records.networks.add(network)
                leases.bind_claims(self.records, network, self.live_endpoints.seen)
            build(self._lookup.desired_of(owner))

    def _is_known(self, network: Network) -> bool:
        """Return whether a network is recorded; raise Conflict if it cannot be.

        Part of a transaction: other networks may have come since the first check.
        """
        known = self.records.networks.get(network.id)
        if known:
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
        self._parents.ask_nft(network)
        self.dropper.finish(partial(_is_in_the_way, network, asked))
        want = endpoint_objects(network, asked) + self._builder.without_shim(network)
        with self._builder.preparing(network, want):
            self._takeovers.restore_bridge(network)
            return self._add_endpoint(asked)

    def _add_endpoint(self, asked: Endpoint) -> Endpoint:
        with self._builder.transaction(Owner(asked.network, asked.id)) as build:
            network = self._network(asked.network)
            known = self.records.endpoints.get(asked.id)
            if known:
                again = replace(asked, mac=asked.mac or known.mac)
                if other := difference(known, again):
                    raise EndpointDiffers(endpoint=asked.id[:12], **other)
                build(endpoint_objects(network, known))
                return known
            network, endpoint = self._validated(network, asked)
            self.records.endpoints.add(endpoint)
            leases.assign(self.records, network, endpoint)
            move_lease_to_network(self.records, endpoint)
            build(endpoint_objects(network, endpoint))
        self._made.note(endpoint.id, self.monotonic())
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

    def join(self, network: str, identity: str, sandbox: str) -> JoinAnswer:
        """Record the sandbox; return the device that Docker moves into it."""
        self._forwarding.join(identity)
        # No flush to the disk: a power cut destroys the sandbox itself.
        with self.records.transaction(durable=False):
            known = self._network(network)
            endpoint = self.records.endpoints.get(identity)
            if endpoint is None or endpoint.network != network:
                raise UnknownEndpoint(endpoint=identity[:12])
            found = attachment(known, endpoint)
            self._check_ways(found, known, sandbox)
            self.records.endpoints.join(identity, sandbox)
        return found

    def _check_ways(self, found: JoinAnswer, network: Network, sandbox: str) -> None:
        """Raise if another network of the container has a route to the same place.

        Docker would fail half way, with the device in the container.
        """
        for other in self.records.endpoints.joined_at(sandbox):
            sibling = self.records.networks.get(other.network)
            if other.network == network.id or sibling is None:
                continue
            theirs = attachment(sibling, other).destinations
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

    def _validated(self, network: Network, asked: Endpoint) -> tuple[Network, Endpoint]:
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
        address = next(iter(asked.addresses), None)
        subject = str(address.ip) if address else asked.id
        derived = derive_mac(self._identity, network.id, subject)
        mac = mode.endpoint_mac(network, asked, parent_mac, derived)
        if asked.mac and seat:
            self._check_mac(asked.mac, network)
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

    def _check_mac(self, mac: str, network: Network) -> None:
        if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
            raise BadMac(
                mac=mac,
                why="it is not a unicast address. Use one such as 02:00:00:00:00:01, or"
                " leave --mac-address out",
            )
        holders = [
            f"container {e.container or e.id[:12]} of network {n.label} has it"
            for e in self.records.endpoints.with_mac(mac)
            if (n := self.records.networks.get(e.network))
            and n.uplink.parent == network.uplink.parent
            and not self.remove_dead_endpoint(e.id)
        ]
        if holders:
            raise MacTaken(mac=mac, parent=network.parent_label, holder=holders[0])


def _is_in_the_way(network: Network, asked: Endpoint, ended: Ended) -> bool:
    """Return whether a new endpoint must wait until an earlier one's device is gone.

    It has the same id, or an address or the MAC of the earlier one. Or its network is
    another one on the same parent, which may take one kind of child only.
    """
    if ended.owner == Owner(network.id, asked.id):
        return True
    if ended.owner.network != network.id:
        parent = network.uplink.parent
        return bool(parent) and _parent_of(ended) == parent
    was = ended.endpoint
    addresses = {a.ip for a in asked.addresses}
    if was is None:
        return False
    has_mac = bool(asked.mac) and was.mac == asked.mac
    return has_mac or any(a.ip in addresses for a in was.addresses)


def _parent_of(ended: Ended) -> str:
    return ended.network.uplink.parent if ended.network else ""
