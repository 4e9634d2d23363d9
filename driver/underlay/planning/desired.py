"""From the records to the objects that must be in the kernel."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from underlay.model import BridgeTakeover, Endpoint, Network, SysctlBackup
from underlay.model.objects import (
    BridgePort,
    ForwardAccept,
    Link,
    MovedEntry,
    Object,
    Owner,
    SharedOwner,
    Sysctl,
    SysctlReason,
)
from underlay.modes import mode_of
from underlay.modes.veth import placeholder
from underlay.planning.sandbox import sandbox_objects


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
    reasons = frozenset(mode.sysctl_reasons(network))
    if not endpoint.sandbox:
        return DesiredState(objects, reasons=reasons)
    if there and endpoint.learned and not endpoint.left:
        found = sandbox_objects(network, endpoint, endpoint.learned, objects)
        return DesiredState(tuple(found), reasons=reasons)
    mark = Owner(network.id, endpoint.id).mark
    here = (o for o in objects if not (isinstance(o, Link) and o.key == mark))
    return DesiredState(tuple(here), frozenset({mark}), reasons)


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
    """What endpoints need, derived again only for new and changed endpoints."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Network, Endpoint, bool, DesiredState]] = {}
        self._now: dict[str, tuple[Network, Endpoint, bool, DesiredState]] = {}

    def begin(self) -> None:
        """Forget the endpoints that were not asked for since the last call."""
        self._last, self._now = self._now, {}

    def of_endpoint(
        self, network: Network, endpoint: Endpoint, *, there: bool
    ) -> DesiredState:
        """Return what one endpoint needs, as the function of that name."""
        known = self._last.get(endpoint.id)
        if not (
            known
            and (known[0] is network or known[0] == network)
            and (known[1] is endpoint or known[1] == endpoint)
            and known[2] == there
        ):
            found = endpoint_objects(network, endpoint, there=there)
            known = network, endpoint, there, found
        self._now[endpoint.id] = known
        return known[3]


def desired_state(
    networks: Iterable[Network],
    endpoints: Iterable[Endpoint],
    there: Collection[str] = (),
    remembered: Needs | None = None,
) -> DesiredState:
    """Return what all of them need. Endpoints of unknown networks need nothing.

    `there` are the ids of the endpoints whose sandboxes were observed; `remembered` is
    what endpoints needed in the last pass.
    """
    memory = remembered or Needs()
    memory.begin()
    known = {network.id: network for network in networks}
    objects: list[Object] = []
    in_docker_hands: set[str] = set()
    reasons: set[SysctlReason] = set()
    for part in (
        *(network_objects(n) for n in known.values()),
        *(
            memory.of_endpoint(known[e.network], e, there=e.id in there)
            for e in endpoints
            if e.network in known
        ),
    ):
        objects += part.objects
        in_docker_hands |= part.in_docker_hands
        reasons |= part.reasons
    return DesiredState(tuple(objects), frozenset(in_docker_hands), frozenset(reasons))
