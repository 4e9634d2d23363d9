"""What a pass leaves alone until Docker was asked: its record may be what is missing.

A mark that belongs to no network on record is a leftover of ours, or the work of
records that were lost. Only Docker's list tells the two apart.
"""

from __future__ import annotations

from collections.abc import Iterable

from underlay.objects import Owner
from underlay.records import Records
from underlay.steps import Delete, Step
from underlay.wanted import Wanted


def due(records: Records, want: Wanted, steps: Iterable[Step]) -> tuple[Step, ...]:
    """Return the steps to take now.

    As long as networks are awaited that may be listed by Docker and are not on record,
    nothing is deleted but what is replaced, or belongs to a network that is on record.
    """
    if not records.notes.awaited():
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
