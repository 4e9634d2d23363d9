"""Into which sandboxes a pass looks, and with whom it has patience."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from underlay.model import Endpoint
from underlay.model.objects import Link, Owner, Route
from underlay.model.steps import Create, Step, depends_on
from underlay.planning import sandbox as inside
from underlay.records import Records

# A look into a sandbox takes a third of a millisecond.
A_FEW, MANY = 20, 500
LEAST_SECONDS, MOST_SECONDS = 1.0, 300.0
# Of the time somebody is to wait, this part will do if the host has changed meanwhile.
HASTE = 1 / 16
# So many repairs of one owner at any rate, and then one in so long.
REPAIRS, REPAIR_SECONDS = 30, 10.0
SECOND_LOOK_SECONDS, STAND_IN_SECONDS = 0.15, 2.0


@dataclass
class SandboxRotation:
    """Chooses sandboxes: those that stirred, and the rest by turns."""

    records: Records
    is_hurried: bool = True
    _last: str = ""

    def next(
        self, stirred: Collection[str] | None, waiting: Collection[Owner] = ()
    ) -> list[Endpoint]:
        """Return the endpoints into whose sandboxes to look now.

        Those of `waiting` too: it is time to try them again. None: whatever stirred was
        missed. Then, as at first, a whole round is due, in as few passes as do not keep
        those waiting that stir meanwhile.
        """
        if stirred is None:
            self.is_hurried, self._last = True, ""
        limit = MANY if self.is_hurried else A_FEW
        turn = self.records.endpoints.joined_after(self._last, limit)
        self._last = turn[-1].id if len(turn) == limit else ""
        self.is_hurried = self.is_hurried and bool(self._last)
        stirring = self.records.endpoints.joined_in(stirred) if stirred else []
        again = [e for o in waiting if (e := self.records.endpoints.get(o.endpoint))]
        joined = (e for e in again if e.sandbox and not e.left)
        found = (*stirring, *self.records.endpoints.not_learned(), *turn, *joined)
        return list({e.id: e for e in found}.values())


@dataclass
class Backoff:
    """Decides when a step that was refused is tried again: later each time.

    A refused step holds up itself and what rests on it, nothing else. An owner waits as
    a whole if its repairs are undone as soon as they are made: by a program in the
    container, say. `monotonic` in seconds since the host booted. It may help that
    something in the host has changed: then a part of the time is waited for. (Not the
    least: some hosts change all the time, and every try may be a change itself.)
    """

    monotonic: Callable[[], float]
    _waiting: dict[Owner, _Wait] = field(default_factory=dict)
    _refused: dict[Owner, dict[Hashable, _Refused]] = field(default_factory=dict)
    # Each repair takes REPAIR_SECONDS of a credit: when that will be paid back.
    _repair_debt: dict[Owner, float] = field(default_factory=dict)

    def is_due(self, owner: Owner) -> bool:
        """Return whether it is time to try."""
        wait = self._waiting.get(owner)
        return wait is None or wait.is_over(self.monotonic())

    def ready(self, owner: Owner, steps: Iterable[Step]) -> list[Step]:
        """Return the steps that it is time for."""
        now = self.monotonic()
        waits = self._refused.get(owner, {}).values()
        waiting = [wait.step for wait in waits if not wait.is_over(now)]
        return [s for s in steps if not any(depends_on(s, other) for other in waiting)]

    def refuse(self, owner: Owner, step: Step, why: str) -> None:
        """Note that a step was refused: it is not tried again for a while."""
        waits = self._refused.setdefault(owner, {})
        last = waits.get(step.object.key)
        waits[step.object.key] = _Refused(
            self.monotonic(), _longer(last), step=step, why=why
        )

    def take(self, owner: Owner, step: Step) -> None:
        """Note that a step was taken."""
        waits = self._refused.get(owner, {})
        waits.pop(step.object.key, None)
        if not waits:
            self._refused.pop(owner, None)

    def refusal(self, owner: Owner) -> str:
        """Return why a step of an owner was refused that is to be tried again."""
        return next((w.why for w in self._refused.get(owner, {}).values()), "")

    def note(self, owner: Owner, *, failed: bool, repaired: bool) -> bool:
        """Note how a try went; tell whether it was a repair too many.

        `failed`: nothing can be done for that owner for a while.
        """
        now = self.monotonic()
        wait = self._waiting.pop(owner, None)
        too_many = repaired and self._is_over_limit(owner, now)
        if failed:
            self._waiting[owner] = _Wait(now, _longer(wait))
        elif too_many:
            self._waiting[owner] = _Wait(now, REPAIR_SECONDS)
        return too_many

    def is_limited(self, owner: Owner) -> bool:
        """Return whether an owner waits because of a repair too many."""
        enough = self.monotonic() + (REPAIRS - 1) * REPAIR_SECONDS
        return not self.is_due(owner) and self._repair_debt.get(owner, 0.0) >= enough

    def _is_over_limit(self, owner: Owner, now: float) -> bool:
        credit = REPAIRS * REPAIR_SECONDS
        end = max(self._repair_debt.get(owner, now), now)
        self._repair_debt[owner] = end = min(end, now + credit) + REPAIR_SECONDS
        return end > now + credit

    def due_now(self) -> set[Owner]:
        """Return who has waited and is to be tried now; forget debts that are paid."""
        now = self.monotonic()
        self._repair_debt = {
            o: end for o, end in self._repair_debt.items() if end > now
        }
        return {owner for owner, wait in self._waits() if wait.is_over(now)}

    def forget(self, owners: Collection[Owner]) -> None:
        """Note that there is nothing to be tried for these any more."""
        now = self.monotonic()
        for owner in owners:
            if self.is_due(owner):
                self._waiting.pop(owner, None)
            waits = self._refused.pop(owner, {})
            if left := {k: w for k, w in waits.items() if not w.is_over(now)}:
                self._refused[owner] = left

    def shorten(self) -> None:
        """Have everybody tried again sooner."""
        for _, wait in self._waits():
            wait.hasty = True

    def next_due(self) -> float | None:
        """Return the seconds until the next try, None if nobody waits."""
        ends = [wait.end for _, wait in self._waits()]
        return max(0.0, min(ends) - self.monotonic()) if ends else None

    def _waits(self) -> Iterator[tuple[Owner, _Wait]]:
        yield from self._waiting.items()
        for owner, waits in self._refused.items():
            yield from ((owner, wait) for wait in waits.values())


@dataclass(slots=True)
class _Wait:
    """Since when, and how long at the most, somebody waits to be tried again."""

    tried: float
    pause: float
    hasty: bool = False

    @property
    def end(self) -> float:
        """When that is over."""
        least = max(LEAST_SECONDS, self.pause * HASTE)
        return self.tried + (min(least, self.pause) if self.hasty else self.pause)

    def is_over(self, now: float) -> bool:
        """Return whether it is over."""
        return now >= self.end


@dataclass(slots=True, kw_only=True)
class _Refused(_Wait):
    """Since when, and how long at the most, a refused step waits, and why it was."""

    step: Step
    why: str


def _longer(last: _Wait | None) -> float:
    """Return how long to wait after one more refusal."""
    pause = last.pause if last else 0.0
    return min(max(2 * pause, LEAST_SECONDS), MOST_SECONDS)


def deferral(steps: Collection[Step]) -> tuple[Hashable, float] | None:
    """Return the key of what is not to be made before a second look, seconds later.

    A default route, if nothing else is missing in a sandbox: Docker may be about to
    give it to another network, and would meet ours. What keeps the place of a device
    whose parent is gone: that comes back at once, as a rule.
    """
    made = [step.object for step in steps if isinstance(step, Create)]
    for o in made:
        if isinstance(o, Link) and o.placeholder and o.peer and o.peer.sandbox:
            return o.key, STAND_IN_SECONDS
    ways = [o for o in made if isinstance(o, Route) and inside.is_default(o)]
    if len(ways) == len(steps) and ways[0].sandbox:
        return ways[0].key, SECOND_LOOK_SECONDS
    return None
