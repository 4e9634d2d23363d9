"""Remembering what was worked out, for as long as it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """A function whose results are kept until nobody has asked for two turns.

    A pass asks for all there is, and nearly all is as it was. A cache of a size would
    be too small for one host, where nothing is ever found in it, and keep the dead of
    another.
    """

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._now: dict[Hashable, T] = {}
        self._last: dict[Hashable, T] = {}

    def __call__(self, *given: Hashable) -> T:
        """Return what the function returns for these."""
        now = self._now
        if given in now:
            return now[given]
        last = self._last
        found = last[given] if given in last else self._make(*given)
        now[given] = found
        return found

    def turn(self) -> None:
        """Begin a turn."""
        self._last, self._now = self._now, {}
