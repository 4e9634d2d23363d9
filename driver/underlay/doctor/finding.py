"""What a check found, and the check itself, as values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from underlay.doctor.examined import Examined

Level = Literal["ok", "skipped", "warning", "failure"]
_ORDER: tuple[Level, ...] = ("ok", "warning", "failure")


@dataclass(frozen=True, slots=True)
class Fix:
    """A safe step, as a command, and the command that reverts it.

    `apply` raises OSError.
    """

    step: str
    revert: str
    apply: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong.

    `where` is a device, a network, a file or a program; `why` says what that leads to,
    and `remedy` how to fix it.
    """

    level: Level
    where: str
    what: str
    why: str
    remedy: str
    fix: Fix | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A check by its id, and what is true of a host that passes it.

    `lacks` returns why it can look at nothing on a host, "" if it can.
    """

    id: str
    passes: str
    run: Callable[[Examined], Iterator[Finding]]
    lacks: Callable[[Examined], str] = lambda _: ""


@dataclass(frozen=True, slots=True)
class Result:
    """What one check found, or why it was skipped."""

    check: Check
    findings: tuple[Finding, ...]
    skipped: str = ""

    @property
    def level(self) -> Level:
        """Return the worst level that was found."""
        if self.skipped:
            return "skipped"
        return max((f.level for f in self.findings), key=_ORDER.index, default="ok")
