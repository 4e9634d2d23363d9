"""What a pass found and did, kept until it is written at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from underlay.model import Network, Repair
from underlay.model.objects import Owner
from underlay.model.steps import Step, describe_before
from underlay.records import Records


@dataclass
class RepairLog:
    """Entries and failures of one pass.

    `clock`: seconds since 1970; `monotonic` and `noticed`: since the host booted.
    They are written at the end, in one transaction: repairs do not wait for it.
    """

    records: Records
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    noticed: float = 0.0
    # Called with each step that was applied or refused; must not fail or wait.
    on_repair: Callable[[Step, Repair], None] = lambda _step, _repair: None
    _entries: list[Repair] = field(default_factory=list)
    _failures: dict[str, str] = field(default_factory=dict)
    _refused: set[tuple[str, str]] = field(default_factory=set)

    def add(self, owner: Owner, step: Step, refused: str) -> None:
        """Add what a step found, and its result."""
        entry = self._entry(owner, describe_before(step), str(step))
        place = getattr(step.object, "sandbox", "")
        entry = replace(entry, place=place, error=refused)
        self._entries.append(entry)
        self.on_repair(step, entry)

    def parent_moved(self, last: Network, now: Network) -> None:
        """Add that a network has another parent, or one that was renamed."""
        was, to = (f"parent {_base(n)}" for n in (last, now))
        if last.uplink.base_device and was != to:
            self._entries.append(self._entry(Owner(now.id), was, f"follow {to}"))

    def _entry(self, owner: Owner, was: str, step: str) -> Repair:
        called, took = names(self.records, owner), self.monotonic() - self.noticed
        return repair_of(owner, called, was, step, self.clock(), took)

    def finish(self, owner: Owner, refusal: str) -> None:
        """Note the result for an owner: the first refusal, or ""."""
        self._failures[owner.mark] = refusal

    def write(self) -> None:
        """Write everything; if this raises RecordsUnwritable, everything is lost."""
        entries, self._entries = self._entries, []
        failures, self._failures = self._failures, {}
        if not (entries or failures):
            return
        with self.records.transaction(durable=False):
            # The same refusal as the last time is not written again: it would push all
            # else out of the repair log in the end.
            refused = {(e.mark, e.error) for e in entries if e.error}
            news = (e for e in entries if (e.mark, e.error) not in self._refused)
            self.records.repairs.note(news)
            failing = {failure.mark for failure in self.records.repairs.failures()}
            waiting = failing - failures.keys()
            self._refused = refused | {r for r in self._refused if r[0] in waiting}
            for mark, refusal in failures.items():
                if refusal:
                    self.records.repairs.note_failure(mark, refusal, self.clock())
                else:
                    self.records.repairs.clear_failure(mark)


def repair_of(
    owner: Owner, called: tuple[str, str], was: str, step: str, at: float, took: float
) -> Repair:
    """Return a repair in the host; `called` are the names of network and container."""
    return Repair(at, owner.mark, "", was, step, took, "", *called)


def names(records: Records, owner: Owner) -> tuple[str, str]:
    """Return the names of a network and a container of it, or their short ids."""
    network = records.networks.get(owner.network)
    endpoint = records.endpoints.get(owner.endpoint)
    return (
        network.label if network else owner.network[:12],
        endpoint.container or endpoint.id[:12] if endpoint else "",
    )


def _base(network: Network) -> str:
    base = network.uplink.base_device
    if base is None:
        return network.uplink.parent
    mac = base.permanent_mac or base.mac
    return f"{base.name} ({mac})" if mac else base.name
