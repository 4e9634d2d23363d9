"""Notices: what quick checks of the host find, in the log and in the status.

They run in the thread that asks Docker, a second after a network was created and every
period. A start of a container does not cost them. No call of Docker waits for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from underlay.doctor.checks import CHECKS, examine
from underlay.doctor.examined import Examined
from underlay.model import Network, Notice
from underlay.records import Records

log = logging.getLogger(__name__)

# Those that start no program and send nothing.
QUICK = (
    "wireless", "hardware", "reverse-path", "router-advertisements",
    "mac-budget", "identities",
)  # fmt: skip


# They look at each endpoint: with thousands of these, a look costs a tenth of a second.
LEAST_SECONDS = 10.0


class Notices:
    """Records what the quick checks find. `monotonic` returns seconds."""

    def __init__(
        self,
        records: Records,
        examined: Callable[[], Examined],
        monotonic: Callable[[], float],
    ) -> None:
        self._records, self._examined = records, examined
        self._monotonic = monotonic
        self._checks = [check for check in CHECKS if check.id in QUICK]
        self._networks: list[Network] = []
        self._looked = float("-inf")

    def update(self) -> None:
        """Run the checks if they may find more, and log what is new.

        At once if networks have changed, else after ten seconds. Raises UnderlayError.
        """
        networks, now = self._records.networks.all(), self._monotonic()
        if networks == self._networks and now - self._looked < LEAST_SECONDS:
            return
        self._look()
        self._networks, self._looked = networks, now

    def _look(self) -> None:
        host = self._examined()
        found = {
            (result.check.id, finding.where, f"{finding.what}: {finding.why}")
            for result in examine(host, self._checks)
            for finding in result.findings
        }
        known = {(n.check, n.where, n.text): n for n in self._records.host.notices()}
        if found == known.keys():
            return
        notices = [known.get(key) or Notice(*key, host.now) for key in sorted(found)]
        with self._records.transaction():
            self._records.host.set_notices(notices)
        for check, where, text in sorted(found - known.keys()):
            log.warning(text, extra={"check": check, "device": where})
