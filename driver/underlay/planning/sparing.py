"""What a pass leaves alone: what is not ours, or may not be until Docker was asked.

A mark that belongs to no network on record is a leftover of ours, or the work of
records that were lost. Only Docker's list tells the two apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from underlay.model.objects import Link, Object, Owner, Route
from underlay.model.steps import Delete, Step
from underlay.planning.desired import DesiredState
from underlay.records import Records


def without_foreign_routes(seen: Collection[Object], want: DesiredState) -> set[Object]:
    """Leave out routes of another program that has our protocol number as well.

    Those are by devices that are not ours. One in the place of a route of ours is to be
    moved: somebody changed its device.
    """
    devices = {o.name for o in seen if isinstance(o, Link) and not o.sandbox}
    wanted = {o.key for o in want.objects if isinstance(o, Route)}
    return {
        o
        for o in seen
        if not isinstance(o, Route)
        or (o.device is None or o.sandbox or o.device in devices or o.key in wanted)
    }


def hold_back_deletions(
    records: Records, want: DesiredState, steps: Iterable[Step]
) -> tuple[Step, ...]:
    """Return the steps to take now.

    As long as networks are awaited that may be listed by Docker and are not on record,
    nothing is deleted but what is replaced, or belongs to a network that is on record.
    """
    if not records.notes.missing_networks():
        return tuple(steps)
    known = {network.id for network in records.networks.all()}
    wanted = {o.key for o in want.objects}
    return tuple(
        step
        for step in steps
        if not isinstance(step, Delete)
        or step.object.key in wanted
        or (step.object.owner or Owner()).network in known
    )
