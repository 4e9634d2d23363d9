"""Plan only what may differ from a host in which nothing differed.

To plan for ten thousand endpoints takes longer than to observe them, and from one pass
to the next only few of them change. So the service remembers what was wanted and what
was seen when both were the same. In the next pass it plans only for the objects that
have changed on either side since then, and for all that depends on them.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from underlay.model.objects import Link, Object
from underlay.model.steps import Step
from underlay.planning.desired import DesiredState, total
from underlay.planning.plan import (
    hold_back_deletions,
    is_done,
    place,
    plan,
    without_foreign_routes,
)

# What each network and endpoint wants, by its id.
Parts = Mapping[str, DesiredState]


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen: in the `host`, and `inside` sandboxes as far as it concerns us.

    `links` are the links in the host.
    """

    host: frozenset[Object]
    links: Collection[Link]
    inside: frozenset[Object]


class Comparison:
    """Plans, and remembers the last host that was as wanted."""

    def __init__(self) -> None:
        self._last: tuple[Parts, frozenset[Object]] | None = None

    def plan(
        self,
        parts: Parts,
        there: Parts,
        observed: Observed,
        known: Collection[str] | None,
    ) -> tuple[Step, ...]:
        """Return the steps that make what was seen match what is wanted, in order.

        `parts`: what is wanted in the host. `there`: what those endpoints want, in host
        and sandbox, whose sandboxes were observed. `known`: the ids of the networks on
        record if some are missing, see `hold_back_deletions`.
        """
        last, inside = self._last, observed.inside
        if last == (parts, observed.host) and is_done(_in_sandboxes(there), inside):
            return ()
        want = total({**parts, **there}.values())
        seen: Iterable[Object] = (*observed.host, *inside)
        if last:
            keys = _changed(last, parts, observed.host)
            keys |= {o.key for part in there.values() for o in part.objects}
            keys |= {o.key for o in inside}
            moved = {o for o in observed.host ^ last[1] if isinstance(o, Link)}
            want, seen = _restricted(want, tuple(seen), keys, map(place, moved))
        seen = without_foreign_routes(seen, want, observed.links)
        if is_done(want, seen):
            self._last = parts, observed.host
            return ()
        return hold_back_deletions(plan(want, seen), want, known)


def _in_sandboxes(there: Parts) -> DesiredState:
    """Return the wanted objects in sandboxes."""
    found = (o for part in there.values() for o in part.objects)
    return DesiredState(tuple(o for o in found if getattr(o, "sandbox", "")))


def _changed(
    last: tuple[Parts, frozenset[Object]], parts: Parts, host: frozenset[Object]
) -> set[Hashable]:
    """Return the keys of what is wanted or seen otherwise than it was."""
    wanted, seen = last
    keys: set[Hashable] = {o.key for o in host ^ seen}
    nothing = DesiredState()
    for identity in {*parts, *wanted}:
        old, new = wanted.get(identity, nothing), parts.get(identity, nothing)
        if old is not new:
            differing = frozenset(old.objects) ^ frozenset(new.objects)
            keys |= {o.key for o in differing}
            keys |= {o.peer.key for o in differing if isinstance(o, Link) and o.peer}
            keys |= old.in_docker_hands ^ new.in_docker_hands
    return keys


def _restricted(
    want: DesiredState,
    seen: Collection[Object],
    keys: set[Hashable],
    moved: Iterable[tuple[str, str]],
) -> tuple[DesiredState, Collection[Object]]:
    """Return what of both has these keys, with what depends on it.

    The other end of a pair does, and what stands on a link that changed (at the places
    `moved`), or that is not as it must be.
    """
    for o in want.objects:
        if isinstance(o, Link) and o.peer and not keys.isdisjoint({o.key, o.peer.key}):
            keys |= {o.key, o.peer.key}
    wanted = {o.key: o for o in want.objects if o.key in keys}
    have = {o.key: o for o in seen if o.key in keys}
    places = {*moved, *map(place, _unsatisfied_links(wanted, have))}
    if places:
        # By key in both: nft does not tell the device of every chain.
        keys |= {o.key for o in (*want.objects, *seen) if place(o) in places}
        wanted = {o.key: o for o in want.objects if o.key in keys}
        have = {o.key: o for o in seen if o.key in keys}
    return replace(want, objects=tuple(wanted.values())), tuple(have.values())


def _unsatisfied_links(
    wanted: Mapping[Hashable, Object], have: Mapping[Hashable, Object]
) -> Iterator[Link]:
    """Return the links that are missing, surplus, or not as they must be."""
    for key in wanted.keys() | have.keys():
        o, found = wanted.get(key), have.get(key)
        for link in (o, found):
            if isinstance(link, Link) and not (o and found and o.satisfied_by(found)):
                yield link
