"""What could not be done, and what was repaired."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be done about one object, and since when."""

    mark: str
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class Repair:
    """One drift from the records, and what a pass did about it.

    `mark` says whose object it was, `place` where: the path of a sandbox, "" for the
    host. `before` is what was seen there ("" for nothing), `step` what was done,
    `error` why that was refused, "" if it was not. `at` is when, and `seconds` how long
    after it was noticed. `network` and `container` are names, or short ids.
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
