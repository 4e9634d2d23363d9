"""Decide what to do. No I/O: wanted and seen come in, ordered steps go out."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import replace

from underlay.model.objects import (
    Address,
    BridgePort,
    Link,
    MovedEntry,
    NftChain,
    Object,
    Owner,
    Route,
    Sysctl,
)
from underlay.model.steps import Amend, Create, Delete, Step
from underlay.planning.desired import DesiredState

Place = tuple[str, str]


def plan(wanted: DesiredState, seen: Iterable[Object]) -> tuple[Step, ...]:
    """Return the steps that turn `seen` into `wanted`.

    Deletions come first and top down: a new device may need the name of an old one.
    Then builds, bottom up. What Docker has in its hands is left alone. A bridge of ours
    goes last of all, when what stood on it has moved.
    """
    want: dict[Hashable, Object] = {o.key: o for o in wanted.objects}
    pairs = [(o, o.peer) for o in wanted.objects if isinstance(o, Link) and o.peer]
    have = _without_spared(wanted, seen)
    both = want.keys() & have.keys()
    replaced = {k for k in both if not want[k].is_amendable_from(have[k])}
    doomed = [o for k, o in have.items() if k not in want or k in replaced]
    gone = {place(o) for o in doomed if isinstance(o, Link)}
    dying = [o for o in sorted(doomed, key=_last_first) if _is_deleted(o, gone)]
    steps: list[Step] = [Delete(o) for o in dying]
    staying = have.keys() - {o.key for o in doomed}
    out_of_reach, along = _of_pairs(pairs, staying, wanted.in_docker_hands)
    late: list[Step] = []  # what sets links up, when their filters are there
    bare: set[str] = set()
    for key, o in sorted(want.items(), key=lambda item: item[1].build_order):
        if late and o.build_order > NftChain.build_order:
            steps += late
            late = []
        found = None if key in replaced or place(o) in gone else have.get(key)
        if isinstance(o, NftChain) and o.device in bare:
            found = None  # whatever is there may be bound to a device that is gone
        if found is None and place(o) not in out_of_reach and key not in along:
            steps.append(Create(o))
            if isinstance(o, Link) and o.up_after_filters:
                late.append(Amend(replace(o, up=False), o))
                bare.add(o.name)
        elif found is not None and not o.satisfied_by(found):
            change = Amend(found, o)
            (late if change.ends_guard else steps).append(change)
            bare |= {found.device} if change.ends_guard and found.device else set()
    return tuple(sorted((*steps, *late), key=_is_bridge_deleted))


def is_done(wanted: DesiredState, seen: Iterable[Object]) -> bool:
    """Return whether nothing differs: the usual case, without what a plan costs.

    Not so while something cannot be made, though there is no step for it.
    """
    want: dict[Hashable, Object] = {o.key: o for o in wanted.objects}
    have = _without_spared(wanted, seen)
    return want.keys() == have.keys() and all(
        o.satisfied_by(have[key]) for key, o in want.items()
    )


def without_foreign_routes(
    seen: Iterable[Object], desired: DesiredState, links: Iterable[Link]
) -> list[Object]:
    """Leave out the routes of another program that uses our protocol number as well.

    They go out by devices without our mark; `links` are ours in the host. One where a
    desired route belongs stays in: the administrator changed its device, and it is
    moved back.
    """
    devices = {o.name for o in links}
    wanted = {o.key for o in desired.objects if isinstance(o, Route)}
    return [
        o
        for o in seen
        if not isinstance(o, Route)
        or (o.device is None or o.sandbox or o.device in devices or o.key in wanted)
    ]


def hold_back_deletions(
    steps: Iterable[Step], desired: DesiredState, known: Collection[str] | None
) -> tuple[Step, ...]:
    """Return the steps to take now. `known`: ids of the networks on record, None: all.

    A mark of a network that is not on record is on a leftover, or on the work of
    records that were lost. Only Docker's list tells the two apart. Until it is there,
    only what is replaced, or belongs to a network on record, is deleted.
    """
    if known is None:
        return tuple(steps)
    wanted = {o.key for o in desired.objects}
    return tuple(
        step
        for step in steps
        if not isinstance(step, Delete)
        or step.object.key in wanted
        or (step.object.owner or Owner()).network in known
    )


def _without_spared(
    wanted: DesiredState, seen: Iterable[Object]
) -> dict[Hashable, Object]:
    """Return what was seen, by key, without what Docker has in its hands."""
    keys = {o.key for o in wanted.objects}
    ends = {o.peer.key for o in wanted.objects if isinstance(o, Link) and o.peer}
    spared = set(wanted.in_docker_hands) | ends - keys
    return {key: o for o in seen if (key := o.key) not in spared}


def _of_pairs(
    pairs: Iterable[tuple[Link, Link]],
    staying: Collection[Hashable],
    in_docker_hands: Collection[str],
) -> tuple[set[Place], set[str]]:
    """Return where nothing can be made, and the ends that come with the other one.

    Both ends of a pair are made in the same breath, and die together. So while the
    container's is in other hands, or is another kind of device, there is no making
    the host's; and the container's, taken elsewhere, is not made beside the host's.
    """
    out_of_reach, along = set(), set()
    for end, far in pairs:
        away = far.key not in staying
        if end.key in staying:
            out_of_reach |= {place(far)} if away else set()
        elif far.key in in_docker_hands or not away:
            out_of_reach.add(place(end))
        else:
            along.add(far.key)
    return out_of_reach, along


def place(found: Object) -> Place:
    """Return the device something stands on or is, and the sandbox that is in."""
    return getattr(found, "sandbox", ""), found.device or ""


def _last_first(doomed: Object) -> tuple[bool, bool, int, str]:
    """Order deletions: top down, and no device is left without its filters.

    First in sandboxes: the end of a pair there takes the one in the host with it.
    """
    in_host, text = not place(doomed)[0], str(Delete(doomed))
    return isinstance(doomed, NftChain), in_host, -doomed.build_order, text


def _is_deleted(doomed: Object, gone: set[Place]) -> bool:
    """Return whether it takes a step: what stands on a link goes with it."""
    if isinstance(doomed, Link | BridgePort | NftChain):
        # A port is free before anything moves back to it; the binding of a chain goes
        # with the device, it does not.
        return True
    # Of the addresses in sandboxes, only those of earlier leases are looked at.
    of_host = isinstance(doomed, Address) and not doomed.sandbox
    stays = of_host or isinstance(doomed, Sysctl | MovedEntry)
    return place(doomed) not in gone and not stays


def _is_bridge_deleted(step: Step) -> bool:
    link = step.object
    return isinstance(step, Delete) and isinstance(link, Link) and link.kind == "bridge"
