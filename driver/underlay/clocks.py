"""The clock for durations; what is shown to people is told by another one."""

from __future__ import annotations

import time


def since_boot() -> float:
    """Return the seconds since the host booted, those it was suspended included.

    Nobody sets this clock: not an administrator, not NTP after a boot without a clock.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)
