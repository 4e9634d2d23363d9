"""What a pass found and did, kept until it can be written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from underlay.model import Repair
from underlay.objects import Owner
from underlay.records import Records
from underlay.steps import Amend, Create, Step


@dataclass
class Ledger:
    """Entries and troubles of one pass. `clock`: seconds since 1970.

    They are written at the end and at one go: what cannot be written is no reason not
    to repair.
    """

    records: Records
    clock: Callable[[], float]
    noticed: float = 0.0
    _entries: list[Repair] = field(default_factory=list)
    _troubles: dict[str, str] = field(default_factory=dict)

    def enter(self, owner: Owner, step: Step, refused: str) -> None:
        """Enter what was found, and what became of it."""
        network = self.records.networks.get(owner.network)
        endpoint = self.records.networks.endpoint(owner.endpoint)
        before = step.seen if isinstance(step, Amend) else step.object
        now = self.clock()
        entry = Repair(
            at=now,
            mark=owner.mark,
            place=getattr(step.object, "sandbox", ""),
            before="" if isinstance(step, Create) else str(Create(before)),
            step=str(step),
            seconds=now - self.noticed,
            error=refused,
            network=network.label if network else owner.network[:12],
            container=endpoint.container or endpoint.id[:12] if endpoint else "",
        )
        self._entries.append(entry)

    def close(self, owner: Owner, refusal: str) -> None:
        """Note how it ended with an owner: the first refusal, or ""."""
        self._troubles[owner.mark] = refusal

    def write(self) -> None:
        """Write everything down; raises RecordsUnwritable, and then it is lost."""
        entries, self._entries = self._entries, []
        troubles, self._troubles = self._troubles, {}
        if not (entries or troubles):
            return
        with self.records.writing(durable=False):
            # What is refused as it was the last time is no news, and would push all
            # that is out of the ledger in the end.
            known = {t.mark: t.text for t in self.records.notes.troubles()}
            stale = {mark for mark, text in troubles.items() if known.get(mark) == text}
            news = (e for e in entries if not (e.error and e.mark in stale))
            self.records.repairs.note(news)
            for mark, refusal in troubles.items():
                if refusal:
                    self.records.notes.note_trouble(mark, refusal, self.clock())
                else:
                    self.records.notes.clear_trouble(mark)
