"""Failures and repairs, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one object cannot be made as recorded, and since when."""

    mark: str
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why the containers of a network are cut off by the firewall, and since when."""

    network: str
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class Notice:
    """What a check of the host found, where, and since when."""

    check: str
    where: str
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class Repair:
    """One difference from the records, and the repair.

    `mark` names the owner of the object, `place` the path of its sandbox ("" for the
    host). `before` is what was there ("" for nothing), `step` the repair, `error` why
    the kernel refused it, or "". `at` is the time of the repair, `seconds` the time
    since the difference was noticed. `network` and `container` are names or short ids.
    """

    at: float
    mark: str
    place: str
    before: str
    step: str
    seconds: float
    error: str = ""
    network: str = ""
    container: str = ""
