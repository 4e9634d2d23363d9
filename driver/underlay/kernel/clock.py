"""The clock for durations. Times that are shown come from the clock on the wall."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


def since_boot() -> float:
    """Return the seconds since the host booted, those it was suspended included.

    Nothing sets this clock: neither an administrator, nor NTP after a boot.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class Recent:
    """When ids were noted, for `seconds` each; safe for threads.

    `now` is of the clock above, and never earlier than it was at the last call.
    """

    seconds: float
    _noted: dict[str, float] = field(default_factory=dict)

    def note(self, identity: str, now: float) -> None:
        """Note a thing, and forget those that were noted too long ago."""
        for known, noted in list(self._noted.items()):
            if now - noted < self.seconds:
                break  # they are in the order in which they were noted
            self._noted.pop(known, None)
        self._noted.pop(identity, None)  # noted again, it is the last in that order
        self._noted[identity] = now

    def age(self, identity: str, now: float) -> float:
        """Return the seconds since a thing was noted, infinity if it is not known."""
        return now - self._noted.get(identity, float("-inf"))

    def clear(self) -> None:
        """Forget everything."""
        self._noted.clear()
