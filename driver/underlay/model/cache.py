"""Remembering what was worked out, for as long as it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class GenerationCache(Generic[T]):
    """A function whose results are kept until nobody has asked for two turns.

    A pass asks for all there is, and nearly all is as it was. A cache of a size would
    be too small for one host, where nothing is ever found in it, and keep the dead of
    another.
    """

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._kept: dict[Hashable, _Kept[T]] = {}
        self._turn = 0

    def __call__(self, *given: Hashable) -> T:
        """Return what the function returns for these."""
        # One look-up: hashing a row of the database takes longer than all else here.
        kept = self._kept.get(given)
        if kept is None:
            kept = self._kept[given] = _Kept(self._make(*given), self._turn)
        kept.asked = self._turn
        return kept.found

    def next_generation(self) -> None:
        """Begin a turn."""
        self._turn += 1
        everything = list(self._kept.items())  # others may be asking meanwhile
        for given, kept in everything:
            if kept.asked < self._turn - 1:
                self._kept.pop(given, None)


@dataclass(slots=True)
class _Kept(Generic[T]):
    found: T
    asked: int
