"""Docker's network verbs and the reconciler's pass, over one record and one kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from underlay import gateways, pools, sparing, tenures, uplink
from underlay.builder import Builder
from underlay.errors import (
    BadMac,
    Conflict,
    EndpointDiffers,
    MacTaken,
    NetworkDiffers,
    UnderlayError,
    UnknownEndpoint,
    UnknownNetwork,
)
from underlay.failures import KernelRefused, RecordsUnwritable
from underlay.kernel import Kernel
from underlay.model import Address, Attachment, Device, Endpoint, Network, difference
from underlay.modes import mode_of
from underlay.modes.child import check_mtu
from underlay.objects import Link, Object, Owner, Permit, Sysctl
from underlay.plan import plan
from underlay.records import Records
from underlay.steps import Step
from underlay.takeovers import Takeovers
from underlay.wanted import Wanted, of_settings, wanted

log = logging.getLogger(__name__)

# From CreateEndpoint until Docker has moved the device: milliseconds, as a rule.
STARTING_SECONDS = 30.0


@dataclass
class Engine:
    """What Docker asks of a network driver, and what the reconciler does.

    `machine` is what tells this host from others for good; `clock` gives seconds since
    1970.
    """

    records: Records
    kernel: Kernel
    machine: str
    clock: Callable[[], float]

    @cached_property
    def _builder(self) -> Builder:
        return Builder(self.records, self.kernel)

    @cached_property
    def _identity(self) -> str:
        return self.records.notes.identity(self.machine)

    @cached_property
    def _takeovers(self) -> Takeovers:
        return Takeovers(self.records, self.kernel)

    # Docker's verbs

    def needs_gateway(
        self, options: Mapping[str, str], family: int, *, internal: bool
    ) -> bool:
        """Tell whether a network of these options needs its pool's gateway."""
        return not internal and mode_of(options).keeps_gateway(options, family)

    def create_network(self, asked: Network) -> None:
        """Put a network on record and build what it needs.

        The same network again is success; raises Invalid, Conflict or KernelRefused.
        """
        mode_of(asked.options).check(asked)
        found = uplink.find(asked, self.kernel)
        network = replace(
            asked, parent=found.parent, vlans=found.vlans, created=self.clock()
        )
        check_mtu(network.options, found.mtu, network.uplink)
        uplink.check_kernel(network, self.kernel)
        routed = self.records.networks.in_use("routed")
        gateways.check(network, routed, self.kernel)
        hops = self._takeovers.prepare(found)
        try:
            self._add_network(network, found, hops)
        except UnderlayError:
            self._takeovers.settle()
            raise
        log.info("network created", extra={"network": network.id[:12]})

    def _add_network(
        self, network: Network, found: uplink.Uplink, hops: frozenset[Address]
    ) -> None:
        with self._builder.building(Owner(network.id)):
            known = self.records.networks.get(network.id)
            if known:
                if other := difference(known, network):
                    raise NetworkDiffers(network=network.id[:12], **other)
                return
            others = self.records.networks.on_parent(network.parent)
            uplink.check_company(network, others, self.kernel)
            self._takeovers.carry_out(found, hops)
            self.records.networks.add(network)
            tenures.bind_claims(self.records, network)

    def delete_network(self, identity: str) -> None:
        """Take a network off the record, then drop what it had; always succeeds."""
        with self.records.writing():
            endpoints = self.records.networks.endpoints(identity)
            owners = [Owner(identity, e.id) for e in endpoints] + [Owner(identity)]
            had = {owner: self._builder.wanted_of(owner) for owner in owners}
            for endpoint in endpoints:
                tenures.end_own(self.records, endpoint.id, self.clock())
            self.records.networks.remove(identity)
        for owner, what in had.items():
            self._builder.drop({owner, *what.shared}, what)
        self._takeovers.settle()

    def create_endpoint(self, asked: Endpoint) -> Endpoint:
        """Put an endpoint on record and build its device; return it with its MAC.

        The same endpoint again is success; raises Invalid, Conflict or KernelRefused.
        """
        network = self._placed(self._network(asked.network))
        self._builder.note_settings(set(mode_of(network.options).reasons(network)))
        self._takeovers.stand(network)
        with self._builder.building(Owner(asked.network, asked.id)):
            network = self._network(asked.network)
            known = self.records.networks.endpoint(asked.id)
            if known:
                again = replace(asked, mac=asked.mac or known.mac)
                if other := difference(known, again):
                    raise EndpointDiffers(endpoint=asked.id[:12], **other)
                return known
            endpoint = self._admitted(network, asked)
            self.records.networks.add_endpoint(endpoint)
            tenures.begin(self.records, network, endpoint)
        return endpoint

    def delete_endpoint(self, network: str, identity: str) -> None:
        """Take an endpoint off the record, then drop its device; always succeeds."""
        owner, had = Owner(network, identity), Wanted()
        try:
            with self.records.writing():
                had = self._builder.wanted_of(owner)
                if self.records.networks.remove_endpoint(network, identity):
                    tenures.end_own(self.records, identity, self.clock())
        except RecordsUnwritable as error:
            # Docker forgets the endpoint whatever we answer, so its device goes; the
            # clean-up takes it off the record when there is room again.
            log.warning("not recorded", extra={"error": error})
            self._builder.drop({owner}, had, Wanted())
        else:
            self._builder.drop({owner, *had.shared}, had)

    def join(self, network: str, identity: str, sandbox: str) -> Attachment:
        """Note the sandbox; return the device Docker is to move into it."""
        # No flush to the disk: a power cut takes the sandbox itself.
        with self.records.writing(durable=False):
            known = self._network(network)
            endpoint = self.records.networks.endpoint(identity)
            if endpoint is None or endpoint.network != network:
                raise UnknownEndpoint(endpoint=identity[:12])
            self.records.networks.join(identity, sandbox)
        return mode_of(known.options).attachment(known, endpoint)

    def leave(self, identity: str) -> None:
        """Note that the device is on its way out; always succeeds."""
        try:
            with self.records.writing(durable=False):
                self.records.networks.leave(identity)
        except RecordsUnwritable as error:
            log.warning("not recorded", extra={"error": error})

    def reap(self, identity: str) -> bool:
        """Take an endpoint off the record if it is dead already; tell whether it was.

        Its sandbox is gone, and Docker is not about to move its device into one (until
        engine 28 the sandbox comes after Join). It was stopped while this service or
        dockerd was away, and what starts now may be the same container. Part of the
        caller's transaction.
        """
        endpoint = self.records.networks.endpoint(identity)
        if endpoint is None:
            return True
        owner = Owner(endpoint.network, endpoint.id)
        starting = self.clock() - endpoint.created < STARTING_SECONDS
        if (
            not endpoint.sandbox
            or self.kernel.sandbox_lives(endpoint.sandbox)
            or (starting and self.kernel.observe({owner.device}))
        ):
            return False
        log.warning("endpoint freed", extra={"endpoint": identity[:12]})
        had = self._builder.wanted_of(owner)
        tenures.end_own(self.records, identity, self.clock())
        self.records.networks.remove_endpoint(endpoint.network, identity)
        self._builder.drop({owner, *had.shared}, had, writing=True)
        return True

    # The pass

    def reconcile(self, only: str | None = None) -> list[Step]:
        """Put right what differs from the records; return the steps that failed.

        The bulk look only finds who is concerned: each is then settled as a verb would,
        alone, under the lock, from what the kernel and the records say at that moment.
        """
        failed: list[Step] = []
        self._takeovers.settle()
        for network in self.records.networks.all():
            self._placed(network)
        self._builder.settle_settings(self.clock())
        for owner, steps in self._stirred(only).items():
            with self.records.writing():
                failed += self._settle(owner, steps)
        self._forgive(only)
        return failed

    def preview(self) -> tuple[Step, ...]:
        """Return the steps a pass would take now, in order."""
        taken, held = self._takeovers.wanted()
        seen = self.kernel.observe() | held
        want = self._wanted_beside(seen) + taken
        seen |= self.kernel.permits([o for o in want.objects if isinstance(o, Permit)])
        seen |= self.kernel.sysctls([o for o in want.objects if isinstance(o, Sysctl)])
        settings = of_settings(self.records.settings.all(), want.reasons)
        due = sparing.due(self.records, want, plan(want, seen))
        return due + self._builder.setting_steps(settings)

    def _stirred(self, only: str | None) -> dict[Owner, list[Step]]:
        """Return whose objects differ with the steps, in the plan's order."""
        found: dict[Owner, list[Step]] = {}
        concerned = self._builder.all_owners(only) if only else set()
        for step in self.preview():
            owner = (step.object.owner or Owner()).whole
            if only in (None, owner.network) or owner in concerned:
                found.setdefault(owner, []).append(step)
        return found

    def _wanted_beside(self, seen: Iterable[Object]) -> Wanted:
        """Return what must be in the host, and whose part in it Docker has.

        Of the joined endpoints only those that have something in the host count here: a
        pass costs what moves, not what is at rest in thousands of sandboxes.
        """
        records = self.records.networks
        networks = records.all()
        endpoints = {e.id: e for e in records.not_joined()}
        for network in networks:
            if mode_of(network.options).has_host_part(network.options):
                endpoints |= {e.id: e for e in records.endpoints(network.id)}
        for found in seen:
            identity = found.owner.endpoint if found.owner else ""
            joined = None if identity in endpoints else records.endpoint(identity)
            if joined:
                endpoints[joined.id] = joined
        return wanted(networks, endpoints.values())

    def _settle(self, owner: Owner, stirred: list[Step]) -> list[Step]:
        """Take the steps for one owner; note those the kernel refuses, and go on."""
        failed: list[Step] = []
        refusal = ""
        for network in self.records.networks.on_vlan(owner.vlan):
            self._stand_again(network)
        for step in self._steps_again(owner, stirred):
            if any(step.object.key == other.object.key for other in failed):
                continue  # the second half of a replacement
            log.info("step", extra={"step": str(step)})
            try:
                self._builder.apply(step, sweeping=True)
            except KernelRefused as error:
                failed.append(step)
                refusal = str(error)
                log.warning("step refused", extra={"error": error})
        if refusal:
            self.records.notes.note_trouble(owner.mark, refusal, self.clock())
        else:
            self.records.notes.clear_trouble(owner.mark)
        return failed

    def _steps_again(self, owner: Owner, stirred: list[Step]) -> Iterable[Step]:
        """Plan once more for one owner, now that nobody else is writing.

        What carries no owner in the kernel (a route, say) and nobody wanted is compared
        with everything once more before it is deleted.
        """
        if owner == Owner() and any(not isinstance(s.object, Link) for s in stirred):
            again = set(self.preview())
            return [step for step in stirred if step in again]
        if any(isinstance(s.object, Sysctl) for s in stirred):
            return [s for s in self.preview() if s.object.owner == owner]
        keys = {step.object.key for step in stirred}
        devices = {step.object.device or "" for step in stirred}
        return [
            step
            for step in self._builder.steps({owner}, devices)
            if isinstance(step.object, Link) or step.object.key in keys
        ]

    def _forgive(self, only: str | None) -> None:
        """Clear the troubles of what has come right by itself."""
        troubled = self.records.notes.troubles()
        if not troubled:
            return
        owners = (step.object.owner or Owner() for step in self.preview())
        still = {owner.whole.mark for owner in owners}
        for trouble in troubled:
            owner = Owner.parse(trouble.mark)
            if trouble.mark not in still and only in (None, owner.network):
                self.records.notes.clear_trouble(trouble.mark)

    def _network(self, identity: str) -> Network:
        network = self.records.networks.get(identity)
        if network is None:
            raise UnknownNetwork(network=identity[:12])
        return network

    def _admitted(self, network: Network, asked: Endpoint) -> Endpoint:
        mode = mode_of(network.options)
        mode.check_endpoint(network, asked)
        parent_mac = ""
        seat = mode.seat(network.options)
        if seat:
            network, parent = self._on_parent(network)
            check_mtu(asked.options, parent.mtu, network.uplink)
            parent_mac = parent.mac
        if seat and seat.is_strict:
            others = self.records.networks.on_parent(network.parent)
            uplink.check_company(network, others, self.kernel)
        if neighbour := self.records.networks.neighbour(network.id):
            try:
                mode.check_room(network, neighbour)
            except Conflict:
                if not self.reap(neighbour.id):
                    raise
        subject = str(asked.addresses[0].ip) if asked.addresses else asked.id
        derived = pools.derive_mac(self._identity, network.id, subject)
        mac = mode.endpoint_mac(network, asked, parent_mac, derived)
        if asked.mac and seat:
            self._check_mac(asked.mac, network)
        return replace(asked, mac=mac, created=self.clock())

    def _on_parent(self, network: Network) -> tuple[Network, Device]:
        """Return a network with its parent, made again if it is ours and gone."""
        parent = self.kernel.device(network.parent)
        if parent is None or parent.name != network.parent:
            network = self._stand_again(network)
        if owners := self._builder.owners(network.id):
            uplink.check_base(network, self.kernel)
            self._builder.build(owners)
        return network, uplink.parent_of(network, self.kernel)

    def _placed(self, network: Network) -> Network:
        """Note the host's own place on a parent, if the mode goes by it, and may."""
        mode = mode_of(network.options)
        unguarded = mode.filters(network.options) and not self.kernel.can_filter
        seat = mode.seat(network.options)
        if not seat or not mode.has_host_part(network.options):
            return network
        parent = self.kernel.device(network.parent)
        if parent is None:
            return network
        here = () if unguarded else self.kernel.addresses_of(parent.name)
        if (network.here, network.mac) == (here, parent.mac):
            return network
        with self.records.writing(durable=False):
            self.records.networks.place(network.id, here, parent.mac)
        return replace(network, here=here, mac=parent.mac)

    def _stand_again(self, network: Network) -> Network:
        """Note what a network stands on if somebody has made it anew or renamed it."""
        found = uplink.find_again(network, self.kernel)
        if (found.parent, found.vlans) == (network.parent, network.vlans):
            return network
        network = replace(network, parent=found.parent, vlans=found.vlans)
        self.records.networks.move(network)
        return network

    def _check_mac(self, mac: str, network: Network) -> None:
        if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
            raise BadMac(mac=mac, why="it is not the address of one device")
        holders = [
            f"container {e.container or e.id[:12]} of network {n.label} has it"
            for e, n in self.records.networks.with_mac(mac)
            if n.parent == network.parent and not self.reap(e.id)
        ]
        if holders:
            raise MacTaken(mac=mac, parent=network.uplink, holder=holders[0])
