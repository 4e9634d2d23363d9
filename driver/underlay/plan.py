"""Decide what to do. No I/O: wanted and seen come in, ordered steps go out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace

from underlay.objects import Address, Chain, Held, Link, Object, Port, Sysctl
from underlay.steps import Amend, Create, Delete, Step
from underlay.wanted import Wanted


def plan(wanted: Wanted, seen: Iterable[Object]) -> tuple[Step, ...]:
    """Return the steps that turn `seen` into `wanted`.

    Deletions come first and top down: a new device may need the name of an old one.
    Then builds, bottom up. What Docker has in its hands is left alone. A bridge of ours
    goes last of all, when what stood on it has moved.
    """
    want: dict[Hashable, Object] = {o.key: o for o in wanted.objects}
    spared: set[Hashable] = set(wanted.handed_over) | {
        o.peer.key for o in wanted.objects if isinstance(o, Link) and o.peer
    }
    have = {key: o for o in seen if (key := o.key) not in spared}
    replaced = {k for k, o in have.items() if k in want and not want[k].same(o)}
    doomed = [o for k, o in have.items() if k not in want or k in replaced]
    gone = {o.name for o in doomed if isinstance(o, Link)}
    steps: list[Step] = [
        Delete(o) for o in sorted(doomed, key=_last_first) if _is_deleted(o, gone)
    ]
    out_of_reach = {
        o.device
        for o in want.values()
        if _is_half_away(o, wanted) and o.key not in have
    }
    late: list[Link] = []
    for key, o in sorted(want.items(), key=lambda item: item[1].rank):
        if late and not isinstance(o, Link | Chain):
            steps += _set_up(late)
        found = None if key in replaced or o.device in gone else have.get(key)
        if isinstance(o, Chain) and any(link.name == o.device for link in late):
            found = None  # whatever is there was bound to a device that is gone
        if found is None and o.device not in out_of_reach:
            steps.append(Create(o))
            if isinstance(o, Link) and o.guarded:
                late.append(o)
        elif found is not None and not o.satisfied_by(found):
            steps.append(Amend(found, o))
    return tuple(sorted((*steps, *_set_up(late)), key=_is_bridge_deleted))


def _set_up(late: list[Link]) -> list[Step]:
    """Return the steps that set links up whose filters are there by now."""
    steps: list[Step] = [Amend(replace(link, up=False), link) for link in late]
    late.clear()
    return steps


def _last_first(doomed: Object) -> tuple[bool, int, str]:
    """Order deletions: top down, and no device is left without its filters."""
    return isinstance(doomed, Chain), -doomed.rank, str(Delete(doomed))


def _is_deleted(doomed: Object, gone: set[str]) -> bool:
    """Tell whether it takes a step: what stands on a link goes with it."""
    if isinstance(doomed, Link | Port | Chain):
        # A port is free before anything moves back to it; the binding of a chain goes
        # with the device, it does not.
        return True
    return doomed.device not in gone and not isinstance(doomed, Address | Sysctl | Held)


def _is_bridge_deleted(step: Step) -> bool:
    link = step.object
    return isinstance(step, Delete) and isinstance(link, Link) and link.kind == "bridge"


def _is_half_away(wanted: Object, whole: Wanted) -> bool:
    """Tell whether the other end of a pair is Docker's, so that none can be made."""
    return (
        isinstance(wanted, Link)
        and wanted.peer is not None
        and wanted.peer.key in whole.handed_over
    )
