"""The segments that networks are on are listened to, and told what is leased."""

from __future__ import annotations

import logging
import threading

from underlay.errors import UnderlayError
from underlay.ipam.wire import Wire
from underlay.kernel.conflict_watch import ConflictWatch
from underlay.reconcile.defender import Defender

log = logging.getLogger(__name__)

# How soon after a failure it is listened again.
RETRY_SECONDS = 1.0


class Segments:
    """One thread listens while others follow, catch up, or stop it."""

    def __init__(self, wire: Wire, defender: Defender) -> None:
        self._watch, self._defender = ConflictWatch(), defender
        self._stopping = threading.Event()
        wire.hold, wire.catch_up = self._watch.hold, self._catch_up

    def follow(self) -> None:
        """Listen on the segments of the networks that there are now."""
        self._watch.watch(self._defender.follow())

    def listen(self) -> None:
        """Listen to machines that say an address is theirs; after a failure, again."""
        while not self._stopping.is_set():
            try:
                self._watch.listen(self._defender.hear)
            except (OSError, UnderlayError) as error:
                log.warning("segments not heard, retrying", extra={"error": error})
            except Exception:
                # Whatever was heard, it must not end the listening for good.
                log.exception("internal error")
            self._stopping.wait(RETRY_SECONDS)

    def stop(self) -> None:
        """End the listening, for good."""
        self._stopping.set()
        self._watch.stop()

    def _catch_up(self) -> None:
        """Hear what was said until now, in a thread that answers Docker."""
        try:
            self._watch.catch_up()
        except Exception:
            # What was heard is lost. Docker is answered.
            log.warning("segments not heard", exc_info=True)
