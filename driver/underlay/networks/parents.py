"""The parents of networks, followed through renames, exchanges and absences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from underlay.errors import UnderlayError
from underlay.kernel import Kernel
from underlay.model import Device, DeviceIdentity, Network, Uplink
from underlay.model.objects import ForwardAccept
from underlay.model.steps import Step
from underlay.modes import traits_of
from underlay.modes.masquerade import lists_bridges
from underlay.networks.forwarding import is_door
from underlay.planning.checks import check_guards, check_parent_sharing
from underlay.planning.device_lookup import (
    find_device,
    has_moved,
    identity_of,
    is_same_nic,
)
from underlay.planning.parent import (
    follow_parent,
    link_fault_of,
    missing_reason,
    mtu_of_pairs,
)
from underlay.records import Records

log = logging.getLogger(__name__)


class HostSnapshot:
    """The host's devices at one moment: each is looked up once.

    Every look takes the kernel's one lock for links, which dockerd needs too. A name
    that is `taken` by another NIC counts as missing.
    """

    def __init__(self, kernel: Kernel, taken: Callable[[str, Device], bool]) -> None:
        self._kernel = kernel
        self._taken = taken
        self._found: dict[str, Device | None] = {}

    def device(self, name: str) -> Device | None:
        """Return a device by its name or alternative name."""
        if name not in self._found:
            found = self._kernel.device(name)
            self._found[name] = None if found and self._taken(name, found) else found
        return self._found[name]

    def __getattr__(self, asked: str) -> Any:
        return getattr(self._kernel, asked)


@dataclass(frozen=True, slots=True)
class ParentChange:
    """A network before and after its parent changed.

    `may_carry_again`: the parent came up, has its carrier again, or is a bond that
    sends by another port. The path to a container may lead over another switch port.
    """

    before: Network
    after: Network
    may_carry_again: bool = False

    @property
    def has_new_mac(self) -> bool:
        """Whether the parent has another MAC."""
        was, now = self.before.uplink.base_device, self.after.uplink.base_device
        return bool(was and now and was.mac != now.mac)

    @property
    def has_moved(self) -> bool:
        """Whether the parent is another device, or has another name."""
        was, now = self.before.uplink.base_device, self.after.uplink.base_device
        return bool(was and now and has_moved(was, now))


@dataclass
class ParentTracker:
    """Compares what is on record about parents with the host."""

    records: Records
    kernel: Kernel
    # What passes and verbs recorded, until the next pass takes it: each once, although
    # a verb that fails, or a full disk, makes it be found again.
    _changes: list[ParentChange] = field(default_factory=list)
    # The ports that bonds sent by when they were last looked at.
    _ports: dict[str, str] = field(default_factory=dict)
    # What was logged last of a network, by network and subject.
    _said: dict[tuple[str, str], str] = field(default_factory=dict)
    # The bridges of containers, as the last pass saw them, or the first new network
    # that needs them: no other verb looks for them. None: no network needed them.
    _container_bridges: tuple[str, ...] | None = None
    # Whether the last pass found other bridges of containers than the one before.
    _has_other_bridges: bool = False

    def is_following(self, step: Step) -> bool:
        """Return whether a step follows a change of the host, and so is no repair.

        Docker makes a bridge with each network of its own. Called a repair, each of
        them would mark the networks beside it, and thirty of them as failing (E-403).
        """
        made = step.object
        if not (
            isinstance(made, ForwardAccept) or is_door(made) or lists_bridges(made)
        ):
            return False
        # Rules are planned with the bridges of that moment, maybe later than the look.
        return (
            self._has_other_bridges or self._find_bridges() != self._container_bridges
        )

    def take_changes(self) -> list[ParentChange]:
        """Return what passes and verbs have recorded since the last call."""
        found = []
        while self._changes:
            found.append(self._changes.pop(0))
        return found

    def _add(self, change: ParentChange) -> None:
        matters = change.has_new_mac or change.has_moved or change.may_carry_again
        if matters and change not in self._changes:
            self._changes.append(change)

    def device_names(self) -> frozenset[str] | None:
        """Return the names of the devices that networks stand on.

        None: any device may matter, because one is missing.
        """
        uplinks = [network.uplink for network in self.records.networks.all()]
        if any(uplink.parent_missing for uplink in uplinks):
            return None
        return frozenset(
            name
            for uplink in uplinks
            for name in (uplink.parent, uplink.base_name, uplink.base_identity.name)
        )

    def follow_all(self) -> None:
        """Record the state of all parents, all renames in one transaction."""
        known = self.records.networks.all()
        self._follow_bonds(known)
        traits = [traits_of(n.options) for n in known]
        needed = any(t.nftables_option or t.host_prefix for t in traits)
        last = self._container_bridges
        now = self._find_bridges() if needed else None
        self._has_other_bridges = None not in (last, now) and last != now
        self._container_bridges = now
        if all(self.resolve(network) == network for network in known):
            return
        with self.records.transaction(durable=False):
            self._note_all({})

    def _find_bridges(self) -> tuple[str, ...]:
        return tuple(sorted(self.kernel.container_bridges()))

    def _follow_bonds(self, known: Iterable[Network]) -> None:
        """Note the networks on a bond that sends by another port than before.

        Switches still expect the containers' MACs at the old port.
        """
        on_bonds: dict[str, list[Network]] = {}
        for network in known:
            base = network.uplink.base_identity
            if base.kind == "bond":
                on_bonds.setdefault(base.name, []).append(network)
        for bond, networks in on_bonds.items():
            device = self.kernel.device(bond)
            if device and device.active_port:
                if self._ports.get(bond, device.active_port) != device.active_port:
                    for network in networks:
                        self._add(ParentChange(network, network, True))
                self._ports[bond] = device.active_port

    def resolve(self, network: Network) -> Network:
        """Return a network with the present state of its parent."""
        routed = traits_of(network.options).parent_use is None
        now = self._proxy_now(network) if routed else self._parent_now(network)
        return replace(network, uplink=now)

    def _parent_now(self, network: Network) -> Uplink:
        last = network.uplink
        glance = self._glance(last.base_device)
        try:
            found = follow_parent(network, glance)
        except UnderlayError as error:
            return replace(last, parent_missing=str(error))
        if found is None:
            return replace(last, parent_missing=missing_reason(network, glance))
        now = replace(
            last,
            parent=found.parent,
            vlans=found.vlans,
            mtu=found.mtu,
            base_device=found.base_device or last.base_device,
            parent_missing="",
            link_fault=link_fault_of(found.base_device, glance),
        )
        if now.parent != last.parent:
            # The kernel would silently change the mode of all children there.
            others = self.records.networks.on_parent(now.parent)
            try:
                check_parent_sharing(replace(network, uplink=now), others, self.kernel)
            except UnderlayError as error:
                return replace(last, parent_missing=str(error))
        return self._placed(network, now, glance.device(now.parent))

    def _glance(self, base: DeviceIdentity | None) -> HostSnapshot:
        return HostSnapshot(self.kernel, partial(self._is_taken, base))

    def _is_taken(self, base: DeviceIdentity | None, name: str, device: Device) -> bool:
        """Return whether the device with the name of a network's NIC is another one.

        At boot, NICs get their names in the order they appear: another network's NIC
        may have the name first. A network asked for by that name owns no other NIC.
        """
        if base is None or name != base.name or is_same_nic(base, device):
            return False
        if not is_same_nic(identity_of(device), device):
            return False  # this kind of device has no identity but its name
        known = (n for n in self.records.networks.all() if not _is_wish(name, n))
        others = (n.uplink.base_device for n in known)
        return any(is_same_nic(other, device) for other in others if other)

    def sharing_parent(self, network: Network) -> list[Network]:
        """Return the networks that are now on the parent of a new one."""
        parent = network.uplink.parent
        known = (self.resolve(n) for n in self.records.networks.on_parent(parent))
        return [n for n in known if n.uplink.parent == parent]

    def record(self, before: Network, after: Network) -> None:
        """Record what changed; part of a transaction."""
        if before == after:
            return
        if ParentChange(before, after).has_moved:
            self._note_all({before.id: after})
            return
        self._rename([(before, after)])
        self._note(before, after)

    def _note_all(self, looked: Mapping[str, Network]) -> None:
        """Record the state of all networks; `looked` are those resolved already.

        All at once: NICs may have exchanged their names, and a network recorded alone
        would find its new name taken.
        """
        pairs = [
            (n, looked.get(n.id) or self.resolve(n))
            for n in self.records.networks.all()
        ]
        self._rename(pairs)
        for old, new in pairs:
            self._note(old, new)

    def _rename(self, pairs: Collection[tuple[Network, Network]]) -> None:
        """Record the new names of devices, which other records have, too."""
        names: dict[str, str] = {}
        for old, new in pairs:
            names |= _renamed(old, new)
        self.records.host.rename_devices(names)
        labels = {old.parent_label: new.parent_label for old, new in pairs}
        labels = {old: new for old, new in labels.items() if old != new}
        if labels:
            self.records.dhcp_leases.rename_uplinks(labels)
            self.records.dhcpv6_leases.rename_uplinks(labels)

    def _note(self, before: Network, after: Network) -> None:
        if before == after:
            return
        was, now = before.uplink, after.uplink
        if was.cut_off_reason != now.cut_off_reason:
            self._say_state(after)
        carries = bool(was.link_fault and not now.cut_off_reason)
        change = ParentChange(before, after, carries)
        if change.has_moved and now.base_device:
            facts = {"parent": now.base_device.name}
            self._say(after, "name", "parent changed", facts)
        self._add(change)
        self.records.networks.move(after)

    def _say_state(self, network: Network) -> None:
        """Log that a parent is missing, has no link, or is available again."""
        uplink = network.uplink
        event = "parent missing" if uplink.parent_missing else "parent has no link"
        facts = {"reason": uplink.cut_off_reason}
        if not uplink.cut_off_reason:
            event, facts = "parent available", {"parent": network.parent_label}
        self._say(network, "state", event, facts)

    def _say(
        self, network: Network, subject: str, event: str, facts: dict[str, str]
    ) -> None:
        """Log an event of a parent; once, if the records cannot be written."""
        news = f"{event} {facts}"
        if self._said.get((network.id, subject)) != news:
            self._said[network.id, subject] = news
            log.warning(event, extra={"network": network.label, **facts})

    def _proxy_now(self, network: Network) -> Uplink:
        """Return the present state of the device that answers for a routed network.

        The network has no child devices on it, so it shares it with any network.
        """
        last = network.uplink
        if not network.options.get("proxy"):
            return last
        known = last.base_device or DeviceIdentity(network.options["proxy"])
        device = self._glance(last.base_device).device
        found = find_device(known, device, self.kernel.devices)
        if found is None:
            now = replace(last, base_device=known)
            why = missing_reason(replace(network, uplink=now), self.kernel)
            return replace(now, parent_missing=why)
        base = identity_of(found)
        now = replace(
            last, base_device=base, parent_missing="", link_fault=found.link_fault
        )
        return replace(now, mtu=mtu_of_pairs(network, base, self._glance(base)))

    def ask_nft(self, network: Network, given: Mapping[str, str] | None = None) -> None:
        """Find out whether nft works, if a network needs that; it is asked once.

        nft may hang, so the caller must not hold the write lock. Raises KernelLacks if
        what options need is missing, `given` for an endpoint or for the network.
        """
        check_guards(network, given or {}, self.kernel)
        for known in (network, *self.records.networks.on_parent(network.uplink.parent)):
            self._can_guard(known)

    def _can_guard(self, network: Network) -> bool:
        """Return whether the shim of a network can be filtered, if it needs that."""
        needed = traits_of(network.options).nftables_option
        return not needed or self.kernel.can_filter

    def placed(self, network: Network) -> Network:
        """Return a new network with what its parent shows, if that is there already.

        While passes had no reason to look for bridges, the network looks for itself.
        Else the first pass would find a chain missing, and show a repair.
        """
        needed = traits_of(network.options).nftables_option
        if needed and self._container_bridges is None:
            self._container_bridges = self._find_bridges()
        uplink = network.uplink
        parent = self.kernel.device(uplink.parent) if uplink.parent else None
        return replace(network, uplink=self._placed(network, uplink, parent))

    def _placed(
        self, network: Network, uplink: Uplink, parent: Device | None
    ) -> Uplink:
        """Return an uplink with the parent's MAC and the host's addresses on it.

        The addresses only if the mode uses them, and the shim can be filtered.
        """
        if parent is None:
            return replace(uplink, mac="")
        traits, here = traits_of(network.options), uplink.host_addresses
        if traits.host_objects:
            unguarded = not self._can_guard(network)
            # In a VRF the host's address there is no address of the main table.
            apart = unguarded or (parent.master and parent.kind != "bridge")
            here = () if apart else self.kernel.addresses_of(parent.name)
        asks = here and traits.nftables_option
        bridges: tuple[str, ...] = ()
        if asks:
            known = self._container_bridges
            bridges = uplink.container_bridges if known is None else known
        return replace(
            uplink, host_addresses=here, mac=parent.mac, container_bridges=bridges
        )


def _is_wish(name: str, network: Network) -> bool:
    """Return whether a network was asked for on a device of this name."""
    asked = network.options.get("parent") or network.options.get("proxy", "")
    return asked == name or asked.startswith(f"{name}.")


def _renamed(before: Network, after: Network) -> dict[str, str]:
    """Return the new names of renamed devices of a network, by their old names."""
    old, new = before.uplink, after.uplink
    names = {old.parent: new.parent}
    if old.base_device and new.base_device:
        names[old.base_device.name] = new.base_device.name
    return {was: now for was, now in names.items() if was != now}
