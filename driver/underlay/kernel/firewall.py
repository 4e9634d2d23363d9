"""Our chains and rules, which nft and iptables make and list.

They are listed at first, and again only when the kernel tells of a change (ruleset.py).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property

from underlay.kernel import gates, iptables, nftables, ruleset
from underlay.kernel.dependents import container_bridges
from underlay.kernel.forward_chains import generation
from underlay.model import FAMILIES
from underlay.model.objects import (
    DOCKER_USER,
    ForwardAccept,
    NftChain,
    NftElements,
    NftTable,
    Object,
)

log = logging.getLogger(__name__)

Elements = frozenset[tuple[str, str]]
Rules = ForwardAccept | NftChain | NftTable | NftElements
RULES = ForwardAccept, NftChain, NftTable, NftElements


class Firewall:
    """What was listed last, and what the kernel told then."""

    def __init__(self) -> None:
        self._chains: frozenset[NftChain] = frozenset()
        self._told: object = None
        self._rules: frozenset[ForwardAccept] = frozenset()
        self._rules_for: object = None
        self._may_have_rules = True
        self._elements: dict[Hashable, NftElements] = {}
        self._elements_of = -1
        # How often this service changed gates: each start of a container does.
        self.changes = 0

    @cached_property
    def can_guard(self) -> bool:
        """Whether there can be gates: by nft's library, and the kernel's hooks."""
        try:
            gates.check()
        except OSError as error:
            log.warning("no gates for containers here", extra={"error": error})
            return False
        return True

    def observed(self) -> Iterator[NftChain | NftTable | NftElements]:
        """Return our nftables chains and the gates, but those in sandboxes."""
        yield from self.chains()
        yield from self._gates()

    def _gates(self) -> Iterator[NftTable | NftElements]:
        """Return the gates; their elements are listed only after a foreign change.

        A table may lose a chain without one: with the device that it is on.
        """
        now = generation()  # before the lists: what changes during them is listed again
        found = list(gates.tables())
        if not found:
            return
        if now != self._elements_of:
            listed = (e for table in found for e in gates.elements(table))
            self._elements = {e.key: e for e in listed}
            self._elements_of = now
        yield from found
        yield from list(self._elements.values())

    def chains(self) -> frozenset[NftChain]:
        """Return our nftables chains, with the marks of their rules."""
        with _assuming_no_change("nft list tables"):
            # Told before the list: what changes during it is listed the next time.
            told = ruleset.our_tables(self._chains)
            if told != self._told:
                self._chains, self._told = frozenset(nftables.chains()), told
        return self._chains

    def rules(self, wanted: Collection[ForwardAccept]) -> frozenset[ForwardAccept]:
        """Return our rules for routed traffic, and the wanted ones not needed here."""
        if not (wanted or self._may_have_rules):
            return frozenset()
        with _assuming_no_change(f"iptables -S {DOCKER_USER}"):
            bridges = container_bridges() if wanted else frozenset()
            told = [ruleset.filter_chain(f, DOCKER_USER) for f in FAMILIES]
            found_for = frozenset(wanted), bridges, told
            if found_for != self._rules_for:
                self._rules = frozenset(iptables.forward_rules(wanted, bridges))
                self._rules_for = found_for
            # Without a network that needs rules, these are listed as long as any exist.
            self._may_have_rules = bool(wanted or self._rules)
            return self._rules
        return frozenset(wanted)

    def create(self, wanted: Rules, seen: Object | None = None) -> None:
        """Create a chain, rule or gate, in place of what was seen; raises OSError."""
        if isinstance(wanted, NftTable):
            if not gates.is_there(wanted):
                with self._following():
                    gates.create(wanted)
            return
        if isinstance(wanted, NftElements):
            self._fill(wanted, seen if isinstance(seen, NftElements) else None)
            return
        if isinstance(wanted, NftChain):
            nftables.create(wanted)
            return
        self._may_have_rules = True
        iptables.create(wanted, container_bridges())

    def _fill(self, wanted: NftElements, seen: NftElements | None) -> None:
        """Make elements, in place of what was seen; raises OSError."""
        gone = seen.elements - wanted.elements if seen else frozenset()
        try:
            with self._following(wanted, gone, wanted.elements):
                gates.create(wanted, seen)
        except FileNotFoundError:
            if not gone:
                raise
            # Of what was seen, something is gone already. The next pass looks again.
            gates.create(wanted)

    @contextmanager
    def _following(
        self,
        changed: NftElements | None = None,
        gone: Elements = frozenset(),
        new: Elements = frozenset(),
    ) -> Iterator[None]:
        """Count a change of gates, and know the elements after it without a list.

        Only if it is the kernel's next change after the one that was listed last. A
        step that changes nothing, or fails, is none: the kernel's next change is then
        one of another program.
        """
        before = generation()
        known = self._elements.get(changed.key) if changed else None
        had = known.elements if known else frozenset()
        now = (had - gone) | new
        yield
        if changed and now == had and before == self._elements_of:
            return
        after = generation()
        self.changes += after != before
        if after == before:
            self._elements_of = -1  # what was known of them is wrong
        if not before == self._elements_of == after - 1:
            return
        if changed:
            self._elements.pop(changed.key, None)
            if now:
                found = replace(changed, elements=now, owner=None)
                self._elements[changed.key] = found
        self._elements_of = after

    def delete(self, doomed: Rules) -> None:
        """Delete a chain, a rule or a gate; raises OSError."""
        if isinstance(doomed, NftElements | NftTable):
            with suppress(FileNotFoundError):
                self._remove(doomed)
        elif isinstance(doomed, NftChain):
            nftables.delete(doomed)
        else:
            iptables.delete(doomed)

    def _remove(self, doomed: NftElements | NftTable) -> None:
        """Delete elements or a gate; raises OSError, also where they are gone."""
        if isinstance(doomed, NftElements):
            with self._following(doomed, gone=doomed.elements):
                gates.delete(doomed)
            return
        self._elements_of = -1  # its elements are gone as well
        with self._following():
            gates.delete(doomed)


@contextmanager
def _assuming_no_change(words: str) -> Iterator[None]:
    """Go on if a program fails: the rules are most likely as they were."""
    try:
        yield
    except OSError as error:
        facts = {"step": words, "error": error}
        log.warning("cannot read firewall rules, assuming no change", extra=facts)
