"""From the records to the objects that must be in the kernel."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from underlay.model import Endpoint, Network, Setting, Takeover
from underlay.model.objects import Held, Link, Object, Owner, Permit, Port, Sysctl
from underlay.modes import mode_of
from underlay.modes import veth as pair
from underlay.planning import sandbox as inside


@dataclass(frozen=True, slots=True)
class Wanted:
    """Every object that must exist here, and the marks Docker has in its hands.

    A handed-over object is somewhere between host and sandbox, where Docker moves and
    renames it: it is neither made, changed nor deleted in the host. `reasons` are those
    for which the host itself must be set (`forwarding/4`).
    """

    objects: tuple[Object, ...] = ()
    handed_over: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()

    def __add__(self, other: Wanted) -> Wanted:
        return Wanted(
            self.objects + other.objects,
            self.handed_over | other.handed_over,
            self.reasons | other.reasons,
        )

    def __bool__(self) -> bool:
        return bool(self.objects)

    def of(self, owner: Owner) -> Wanted:
        """Return the part that exists for one owner."""
        mine = (o for o in self.objects if o.owner and o.owner.whole == owner)
        return Wanted(tuple(mine), self.handed_over & {owner.mark})

    @property
    def shared(self) -> set[Owner]:
        """Return the owners of what others may need as well."""
        return {o.owner for o in self.objects if o.owner and o.owner.shared}


def of_network(network: Network) -> Wanted:
    """Return what the network itself needs, without its endpoints."""
    if not network.has_ground:
        return Wanted()
    return Wanted(tuple(mode_of(network.options).network_objects(network)))


def of_endpoint(network: Network, endpoint: Endpoint, *, there: bool = False) -> Wanted:
    """Return what one endpoint needs: in the host, shared with others, in its sandbox.

    In the sandbox only if somebody has been `there` to look, it is known how the device
    is to be, and Docker is not about to move it.
    """
    mode = mode_of(network.options)
    objects: tuple[Object, ...] = tuple(mode.endpoint_objects(network, endpoint))
    if not network.has_ground:
        # Ports of a bridge are there still, and what lets them reach each other.
        permits = (o for o in objects if isinstance(o, Permit))
        objects = (pair.stand_in(network, endpoint), *permits)
    reasons = frozenset(mode.reasons(network))
    if not endpoint.sandbox:
        return Wanted(objects, reasons=reasons)
    if there and endpoint.inside and not endpoint.left:
        found = inside.objects(network, endpoint, endpoint.inside, objects)
        return Wanted(tuple(found), reasons=reasons)
    mark = Owner(network.id, endpoint.id).mark
    here = (o for o in objects if not (isinstance(o, Link) and o.key == mark))
    return Wanted(tuple(here), frozenset({mark}), reasons)


def of_takeover(found: Takeover) -> Wanted:
    """Return a bridge with its parent as a port and what stands on it; or all back."""
    owner = Owner(shared=f"bridge/{found.parent}")
    ends = found.bridge, found.parent
    here, apart = ends if found.state == "on" else ends[::-1]
    held = [Held(f, here, apart, turn, owner) for turn, f in enumerate(found.facts)]
    if found.state != "on":
        return Wanted(tuple(held))
    bridge = Link(
        found.bridge,
        "bridge",
        owner,
        like=found.parent,
        up=True,
        inherited=found.settings,
    )
    return Wanted((bridge, Port(found.parent, found.bridge, owner), *held))


def of_settings(settings: Iterable[Setting], needed: Collection[str]) -> Wanted:
    """Return the sysctls of the host: as somebody needs them, else as they were."""
    return Wanted(
        tuple(
            Sysctl(s.path, s.value, s.turn, Owner(shared=s.reason))
            if s.reason in needed
            else Sysctl(s.path, s.before, -s.turn, Owner(shared=s.reason))
            for s in settings
            if s.value or s.reason not in needed
        )
    )


class Needs:
    """What endpoints need, worked out again only for those that are new or changed."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Network, Endpoint, bool, Wanted]] = {}
        self._now: dict[str, tuple[Network, Endpoint, bool, Wanted]] = {}

    def begin(self) -> None:
        """Forget who was not asked for since the last time."""
        self._last, self._now = self._now, {}

    def of_endpoint(
        self, network: Network, endpoint: Endpoint, *, there: bool
    ) -> Wanted:
        """Return what one endpoint needs, as the function of that name."""
        known = self._last.get(endpoint.id)
        if not (
            known
            and (known[0] is network or known[0] == network)
            and (known[1] is endpoint or known[1] == endpoint)
            and known[2] == there
        ):
            found = of_endpoint(network, endpoint, there=there)
            known = network, endpoint, there, found
        self._now[endpoint.id] = known
        return known[3]


def wanted(
    networks: Iterable[Network],
    endpoints: Iterable[Endpoint],
    there: Collection[str] = (),
    remembered: Needs | None = None,
) -> Wanted:
    """Return what all of them need. Endpoints of unknown networks need nothing.

    `there` are the ids of those whose sandboxes were looked at; `remembered` is what
    they needed the last time.
    """
    memory = remembered or Needs()
    memory.begin()
    known = {network.id: network for network in networks}
    objects: list[Object] = []
    handed_over: set[str] = set()
    reasons: set[str] = set()
    for part in (
        *(of_network(n) for n in known.values()),
        *(
            memory.of_endpoint(known[e.network], e, there=e.id in there)
            for e in endpoints
            if e.network in known
        ),
    ):
        objects += part.objects
        handed_over |= part.handed_over
        reasons |= part.reasons
    return Wanted(tuple(objects), frozenset(handed_over), frozenset(reasons))
