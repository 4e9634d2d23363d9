"""From the records to the objects that must be in the kernel."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from underlay.model import BridgeTakeover, Endpoint, Network, SysctlBackup
from underlay.model.objects import (
    PREFIX,
    AltName,
    BridgePort,
    ForwardAccept,
    Link,
    MovedEntry,
    NftElements,
    Object,
    Owner,
    SharedOwner,
    Sysctl,
    SysctlReason,
)
from underlay.modes import mode_of, strict
from underlay.modes.veth import placeholder
from underlay.planning.sandbox import sandbox_objects

# Names of containers, as Docker takes them, that fit into a name of 127 bytes.
_READABLE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,123}")


@dataclass(frozen=True, slots=True)
class DesiredState:
    """Every object that must exist here, and what Docker is moving now.

    `in_docker_hands` are the marks of devices between host and sandbox: Docker moves
    and renames them, so they are neither created, changed nor deleted in the host.
    `reasons` are why sysctls of the host must be set (`forwarding/4`).
    """

    objects: tuple[Object, ...] = ()
    in_docker_hands: frozenset[str] = frozenset()
    reasons: frozenset[SysctlReason] = frozenset()

    def __add__(self, other: DesiredState) -> DesiredState:
        return DesiredState(
            self.objects + other.objects,
            self.in_docker_hands | other.in_docker_hands,
            self.reasons | other.reasons,
        )

    def __bool__(self) -> bool:
        return bool(self.objects)

    def of_owner(self, owner: Owner) -> DesiredState:
        """Return the part that exists for one owner."""
        mine = (o for o in self.objects if o.owner and o.owner.endpoint_owner == owner)
        return DesiredState(tuple(mine), self.in_docker_hands & {owner.mark})

    def without_optional(self) -> DesiredState:
        """Return the part that a host needs which can have no gates."""
        kept = (o for o in self.objects if not getattr(o, "optional", False))
        return replace(self, objects=tuple(kept))

    @property
    def shared(self) -> set[Owner]:
        """Return the owners of objects that others may need as well."""
        return {o.owner for o in self.objects if o.owner and o.owner.shared}


def network_objects(network: Network) -> DesiredState:
    """Return what the network itself needs, without its endpoints."""
    if not network.uplink.has_parent_now:
        return DesiredState()
    return DesiredState(tuple(mode_of(network.options).network_objects(network)))


def endpoint_objects(
    network: Network, endpoint: Endpoint, *, there: bool = False
) -> DesiredState:
    """Return what one endpoint needs: in the host, shared with others, in its sandbox.

    What is in the sandbox counts only if the sandbox was observed (`there`), the state
    of the device is recorded, and Docker is not about to move the device.
    """
    mode = mode_of(network.options)
    objects: tuple[Object, ...] = tuple(mode.endpoint_objects(network, endpoint))
    if not network.uplink.has_parent_now:
        # The ports of the bridge are still there, and so is the rule between them.
        accepts = (o for o in objects if isinstance(o, ForwardAccept))
        objects = (placeholder(network, endpoint), *accepts)
    objects = (*objects, *_host_names(objects, endpoint))
    reasons = frozenset(mode.sysctl_reasons(network))
    if not endpoint.sandbox:
        return DesiredState(objects, reasons=reasons)
    if there and endpoint.learned and not endpoint.left:
        found = sandbox_objects(network, endpoint, endpoint.learned, objects)
        return DesiredState(tuple(found), reasons=reasons)
    mark = Owner(network.id, endpoint.id).mark
    here = (o for o in objects if not (isinstance(o, Link) and o.key == mark))
    return DesiredState(tuple(here), frozenset({mark}), reasons)


def _host_names(objects: Iterable[Object], endpoint: Endpoint) -> Iterator[AltName]:
    """Return the name by which people find the host's end of a container's veth.

    None for a container that is called like a device of ours (twelve hex digits).
    """
    called = endpoint.container
    if not _READABLE.fullmatch(called) or Owner.is_device(f"{PREFIX}{called}"):
        return
    for o in objects:
        if isinstance(o, Link) and o.owner and o.owner.end:
            yield AltName(f"{PREFIX}{called}", o.name, o.owner)


def beside_objects(
    networks: Mapping[str, Network], endpoints: Collection[Endpoint]
) -> dict[str, DesiredState]:
    """Return what lets a container send from the addresses of its other networks.

    By the ids of its endpoints. What came by one network may be answered by another:
    the default route decides.
    """
    rooms = defaultdict(list)
    for endpoint in endpoints:
        rooms[endpoint.sandbox].append(endpoint)
    return {
        endpoint.id: DesiredState(tuple(_beside(network, endpoint, room)))
        for room in rooms.values()
        for endpoint in room
        if len(room) > 1 and (network := networks.get(endpoint.network))
    }


def _beside(
    network: Network, endpoint: Endpoint, room: Iterable[Endpoint]
) -> Iterator[NftElements]:
    more = [
        address
        for beside in room
        if beside.id != endpoint.id
        for address in strict.given_addresses(beside)
        if not address.is_link_local
    ]
    for o in endpoint_objects(network, endpoint).objects if more else ():
        if isinstance(o, NftElements) and ("strict", o.who) in o.elements:
            yield replace(o, elements=strict.beside(more, o.who))


def takeover_objects(found: BridgeTakeover) -> DesiredState:
    """Return a bridge with its port and the moved entries, or entries moved back."""
    owner = SharedOwner("bridge", found.parent).owner
    ends = found.bridge, found.parent
    here, apart = ends if found.state == "on" else ends[::-1]
    held = [
        MovedEntry(f, here, apart, turn, owner) for turn, f in enumerate(found.entries)
    ]
    if found.state != "on":
        return DesiredState(tuple(held))
    bridge = Link(
        found.bridge,
        "bridge",
        owner,
        copy_from=found.parent,
        up=True,
        initial_sysctls=found.sysctls,
    )
    return DesiredState((bridge, BridgePort(found.parent, found.bridge, owner), *held))


def sysctl_objects(
    settings: Iterable[SysctlBackup], needed: Collection[SysctlReason]
) -> DesiredState:
    """Return the sysctls of the host: as a reason needs them, else as they were."""
    return DesiredState(
        tuple(
            Sysctl(s.path, s.value, s.write_order, s.reason.owner)
            if s.reason in needed
            else Sysctl(s.path, s.before, -s.write_order, s.reason.owner)
            for s in settings
            if s.value or s.reason not in needed
        )
    )


class Needs:
    """What endpoints need in the host, derived only for new and changed endpoints."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Network, Endpoint, DesiredState]] = {}

    def of_all(
        self, networks: Mapping[str, Network], endpoints: Iterable[Endpoint]
    ) -> dict[str, DesiredState]:
        """Return what each needs, by its id; those of unknown networks need nothing.

        The others that were asked for before are forgotten.
        """
        last, self._known = self._known, {}
        for endpoint in endpoints:
            if network := networks.get(endpoint.network):
                known = last.get(endpoint.id)
                if known is None or known[:2] != (network, endpoint):
                    found = endpoint_objects(network, endpoint)
                    known = network, endpoint, found
                self._known[endpoint.id] = known
        return {identity: found for identity, (_, _, found) in self._known.items()}

    def are_of(self, endpoint: Endpoint) -> bool:
        """Return whether an endpoint, seen in its sandbox, is as it was asked for."""
        known = self._known.get(endpoint.id)
        seen = replace(endpoint, learned=None)
        return known is not None and replace(known[1], learned=None) == seen


def total(parts: Iterable[DesiredState]) -> DesiredState:
    """Return what all of them want together."""
    objects: list[Object] = []
    in_docker_hands: set[str] = set()
    reasons: set[SysctlReason] = set()
    for part in parts:
        objects += part.objects
        in_docker_hands |= part.in_docker_hands
        reasons |= part.reasons
    return DesiredState(tuple(objects), frozenset(in_docker_hands), frozenset(reasons))
