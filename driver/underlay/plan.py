"""Decide what to do. No I/O: wanted and seen come in, ordered steps go out."""

from __future__ import annotations

from collections.abc import Iterable

from underlay.objects import Object
from underlay.steps import Amend, Create, Delete, Step
from underlay.wanted import Wanted


def plan(wanted: Wanted, seen: Iterable[Object]) -> tuple[Step, ...]:
    """Return the steps that turn `seen` into `wanted`.

    Deletions come first and top down: a new device may need the name of an old one.
    Then builds, bottom up. What Docker has in its hands is left alone.
    """
    want = {o.key: o for o in wanted.objects}
    have = {o.key: o for o in seen if o.key not in wanted.handed_over}
    replaced = {
        key for key, o in have.items() if key in want and not want[key].same_device(o)
    }
    doomed = [o for key, o in have.items() if key not in want or key in replaced]
    steps: list[Step] = [
        Delete(o) for o in sorted(doomed, key=lambda o: (-o.rank, o.key))
    ]
    for o in sorted(want.values(), key=lambda o: (o.rank, o.key)):
        found = None if o.key in replaced else have.get(o.key)
        if found is None:
            steps.append(Create(o))
        elif not o.satisfied_by(found):
            steps.append(Amend(found, o))
    return tuple(steps)
