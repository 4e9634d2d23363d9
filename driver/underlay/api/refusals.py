"""The refusals of the last hour: what Docker was refused, why, and for which network.

They are kept in memory: the log has them for longer. A refusal that comes again, as of
a container that Docker starts again and again, is one entry that counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from underlay.api.call import Call
from underlay.errors import UnderlayError
from underlay.records import Records

KEPT_SECONDS = 3600.0
MOST_KEPT = 256
# A request may name what it likes, in a megabyte.
MOST_CHARACTERS = 2000
Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal, the last time it came; `at` in seconds since 1970.

    `network`, `endpoint`, `pool` and `address` are those of the request, "" for none;
    `container` is the name of the container that engines send from 29 on.
    """

    id: str
    error: str
    method: str
    call: str
    at: float
    network: str = ""
    endpoint: str = ""
    pool: str = ""
    address: str = ""
    container: str = ""
    times: int = 1


class Refusals:
    """The latest refusals; `clock`: seconds since 1970, `monotonic`: of any start."""

    def __init__(
        self, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # By method and text, the latest last, with its time by the monotonic clock.
        self._known: dict[tuple[str, str], tuple[float, Refusal]] = {}

    def note(self, call: Call) -> None:
        """Keep a call that was refused."""
        if call.refusal is None:
            return
        entry = _entry(call, call.refusal, self._clock())
        key = entry.method, entry.error
        with self._lock:
            if before := self._known.pop(key, None):
                entry = replace(entry, times=before[1].times + 1)
            self._known[key] = self._monotonic(), entry
            while len(self._known) > MOST_KEPT:
                del self._known[next(iter(self._known))]

    def recent(self) -> list[Refusal]:
        """Return those of the last hour, newest first."""
        with self._lock:
            since = self._monotonic() - KEPT_SECONDS
            self._known = {k: e for k, e in self._known.items() if e[0] >= since}
            return [entry for _, entry in reversed(self._known.values())]


def _entry(call: Call, refusal: UnderlayError, now: float) -> Refusal:
    def asked(name: str) -> str:
        return str(getattr(call.asked, name, "") or "")[:MOST_CHARACTERS]

    text = str(refusal)
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]} ..."
    return Refusal(
        refusal.id,
        text,
        call.method,
        call.id,
        now,
        network=asked("NetworkID"),
        endpoint=asked("EndpointID"),
        pool=asked("PoolID") or asked("Pool"),
        address=asked("Address"),
        container=asked("container"),
    )


def described(records: Records, refusals: list[Refusal]) -> list[Facts]:
    """Return refusals as facts, with the names that the records know."""
    return [_facts(records, refusal) for refusal in refusals]


def _facts(records: Records, refusal: Refusal) -> Facts:
    claim = records.pools.claim(refusal.pool) if refusal.pool else None
    network_id = refusal.network or (claim.network if claim else "")
    network = records.networks.get(network_id) if network_id else None
    endpoint = records.endpoints.get(refusal.endpoint) if refusal.endpoint else None
    return {
        "at": refusal.at,
        "id": refusal.id,
        "error": refusal.error,
        "times": refusal.times,
        "method": refusal.method,
        "network": network.label if network else network_id[:12],
        "container": refusal.container or (endpoint.container if endpoint else ""),
        "endpoint": refusal.endpoint[:12],
        "pool": claim.pool.label if claim else refusal.pool,
        "address": refusal.address,
        "call": refusal.call,
    }
