"""Notices: what quick checks of the host find, in the log and in the status.

They run in the thread that asks Docker, a second after a network was created and every
period. No call of Docker waits for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from underlay.doctor.checks import CHECKS, examine
from underlay.doctor.examined import Examined
from underlay.model import Notice
from underlay.records import Records

log = logging.getLogger(__name__)

# Those that start no program and send nothing.
QUICK = (
    "wireless", "hardware", "reverse-path", "router-advertisements",
    "mac-budget",
)  # fmt: skip


class Notices:
    """Records what the quick checks find."""

    def __init__(self, records: Records, examined: Callable[[], Examined]) -> None:
        self._records, self._examined = records, examined
        self._checks = [check for check in CHECKS if check.id in QUICK]

    def update(self) -> None:
        """Run the checks, and log what is new; raises UnderlayError."""
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
