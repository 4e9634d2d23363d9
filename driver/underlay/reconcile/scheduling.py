"""Which sandboxes a pass observes, and when a refused step is tried again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from underlay.model import Endpoint
from underlay.model.objects import Link, Owner, Route
from underlay.model.steps import Create, Step, depends_on
from underlay.planning import sandbox
from underlay.records import Records

# A look into a sandbox takes a third of a millisecond.
A_FEW, MANY = 20, 500
LEAST_SECONDS, MOST_SECONDS = 1.0, 300.0
# If the host has changed meanwhile, this part of the time to wait is enough.
HASTE = 1 / 16
# So many repairs of one owner at once, and then one in so many seconds.
REPAIRS, REPAIR_SECONDS = 30, 10.0
SECOND_LOOK_SECONDS, PLACEHOLDER_SECONDS = 0.15, 2.0


@dataclass
class SandboxRotation:
    """Chooses sandboxes: those with events, and the others in rotation."""

    records: Records
    is_hurried: bool = True
    _last: str = ""

    def next(
        self, changed: Collection[str] | None, waiting: Collection[Owner] = ()
    ) -> list[Endpoint]:
        """Return the endpoints whose sandboxes to observe now.

        Those of `waiting` too: they are due again. `changed` is None if events were
        missed. Then, as at first, all sandboxes are due, in passes that are short
        enough for those with events meanwhile.
        """
        if changed is None:
            self.is_hurried, self._last = True, ""
        limit = MANY if self.is_hurried else A_FEW
        turn = self.records.endpoints.joined_after(self._last, limit)
        self._last = turn[-1].id if len(turn) == limit else ""
        self.is_hurried = self.is_hurried and bool(self._last)
        with_events = self.records.endpoints.joined_in(changed) if changed else []
        again = [e for o in waiting if (e := self.records.endpoints.get(o.endpoint))]
        joined = (e for e in again if e.sandbox and not e.left)
        found = (*with_events, *self.records.endpoints.not_learned(), *turn, *joined)
        return list({e.id: e for e in found}.values())


@dataclass
class Backoff:
    """Decides when a refused step is tried again: later each time.

    A refused step holds up itself and what depends on it, nothing else. An owner waits
    as a whole if its repairs are reverted at once, by a program in the container for
    example. After a change in the host a part of the time is enough, because the change
    may help. (LEAST_SECONDS would be too short: some hosts change all the time, and
    each try may itself be a change.) `monotonic` returns seconds since the host booted.
    """

    monotonic: Callable[[], float]
    _waiting: dict[Owner, _Wait] = field(default_factory=dict)
    _refused: dict[Owner, dict[Hashable, _Refused]] = field(default_factory=dict)
    # Each repair takes REPAIR_SECONDS of a credit: when that is full again.
    _repair_debt: dict[Owner, float] = field(default_factory=dict)

    def is_due(self, owner: Owner) -> bool:
        """Return whether an owner is due for a try."""
        wait = self._waiting.get(owner)
        return wait is None or wait.is_over(self.monotonic())

    def ready(self, owner: Owner, steps: Iterable[Step]) -> list[Step]:
        """Return the steps that are due, and depend on none that waits."""
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
        """Note that a step was applied."""
        waits = self._refused.get(owner, {})
        waits.pop(step.object.key, None)
        if not waits:
            self._refused.pop(owner, None)

    def refusal(self, owner: Owner) -> str:
        """Return why a waiting step of an owner was refused, "" if none waits."""
        return next((w.why for w in self._refused.get(owner, {}).values()), "")

    def note(self, owner: Owner, *, failed: bool, repaired: bool) -> bool:
        """Note the result of a try; return whether it was a repair too many.

        `failed`: the owner as a whole waits now.
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
        """Return the owners whose wait is over; forget credits that are full again."""
        now = self.monotonic()
        self._repair_debt = {
            o: end for o, end in self._repair_debt.items() if end > now
        }
        return {owner for owner, wait in self._waits() if wait.is_over(now)}

    def forget(self, owners: Collection[Owner]) -> None:
        """Note that these owners need nothing any more."""
        now = self.monotonic()
        for owner in owners:
            if self.is_due(owner):
                self._waiting.pop(owner, None)
            waits = self._refused.pop(owner, {})
            if left := {k: w for k, w in waits.items() if not w.is_over(now)}:
                self._refused[owner] = left

    def shorten(self) -> None:
        """Shorten all waits: the host has changed."""
        for _, wait in self._waits():
            wait.hasty = True

    def next_due(self) -> float | None:
        """Return the seconds until the next try, None if nothing waits."""
        ends = [wait.end for _, wait in self._waits()]
        return max(0.0, min(ends) - self.monotonic()) if ends else None

    def _waits(self) -> Iterator[tuple[Owner, _Wait]]:
        yield from self._waiting.items()
        for owner, waits in self._refused.items():
            yield from ((owner, wait) for wait in waits.values())


@dataclass(slots=True)
class _Wait:
    """Since when, and how long at most, an owner or step waits for the next try."""

    tried: float
    pause: float
    hasty: bool = False

    @property
    def end(self) -> float:
        """When the wait is over."""
        least = max(LEAST_SECONDS, self.pause * HASTE)
        return self.tried + (min(least, self.pause) if self.hasty else self.pause)

    def is_over(self, now: float) -> bool:
        """Return whether the wait is over."""
        return now >= self.end


@dataclass(slots=True, kw_only=True)
class _Refused(_Wait):
    """The wait of a refused step, and why the step was refused."""

    step: Step
    why: str


def _longer(last: _Wait | None) -> float:
    """Return how long to wait after one more refusal."""
    pause = last.pause if last else 0.0
    return min(max(2 * pause, LEAST_SECONDS), MOST_SECONDS)


def deferral(steps: Collection[Step]) -> tuple[Hashable, float] | None:
    """Return the key of an object that needs a second look, and after how many seconds.

    A default route, if nothing else is missing in a sandbox: Docker may be about to
    give it to another network, and ours would be in its way. Or the placeholder of a
    device whose parent is gone: usually the parent comes back at once.
    """
    made = [step.object for step in steps if isinstance(step, Create)]
    for o in made:
        if isinstance(o, Link) and o.placeholder and o.peer and o.peer.sandbox:
            return o.key, PLACEHOLDER_SECONDS
    ways = [o for o in made if isinstance(o, Route) and sandbox.is_default(o)]
    if len(ways) == len(steps) and ways[0].sandbox:
        return ways[0].key, SECOND_LOOK_SECONDS
    return None
