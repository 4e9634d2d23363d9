"""A cache that keeps results as long as they are used."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

# How many generations pass between two times of forgetting, which looks at everything.
_OFTEN = 8


class GenerationCache(Generic[T]):
    """A function whose results are kept until some generations have not used them.

    A generation is a pass, which asks for every object, and nearly all are unchanged. A
    cache of fixed size would be too small for one host and have no hits there, and keep
    removed objects on another.
    """

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._kept: dict[Hashable, _Kept[T]] = {}
        self._generation = 0

    def __call__(self, *given: Hashable) -> T:
        """Return what the function returns for these arguments."""
        # One look-up: hashing a database row costs more than the rest of this method.
        kept = self._kept.get(given)
        if kept is None:
            kept = self._kept[given] = _Kept(self._make(*given), self._generation)
        kept.asked = self._generation
        return kept.found

    def next_generation(self) -> None:
        """Begin a generation; now and then, forget what the last ones did not use."""
        self._generation += 1
        if self._generation % _OFTEN:
            return
        everything = list(self._kept.items())  # other threads may add to it meanwhile
        for given, kept in everything:
            if kept.asked < self._generation - 1:
                self._kept.pop(given, None)


@dataclass(slots=True)
class _Kept(Generic[T]):
    found: T
    asked: int
