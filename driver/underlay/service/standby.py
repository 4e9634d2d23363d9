"""A service that cannot work yet: it answers each request with the reason.

Only where systemd holds the sockets. There Docker's calls wait whether the service runs
or not: without an answer, `docker run` would hang.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from underlay import __version__
from underlay.api.httpd import Server
from underlay.api.methods import refusing
from underlay.api.paths import answering_without_records
from underlay.api.plugin import create_app
from underlay.errors import UnderlayError
from underlay.reconcile.log_once import LogOnce
from underlay.service.metrics import Metrics

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0


class Standby:
    """Refuses what needs the records, and has the service restarted when they open.

    `why`: the fault; `check` raises UnderlayError as long as there is one. `names` are
    those by which clients may ask for the status on a port.
    """

    stalled_seconds = 0.0  # it runs no passes

    def __init__(
        self, why: UnderlayError, check: Callable[[], None], names: Collection[str]
    ) -> None:
        self._why, self._check = why, check
        self._started = time.time()
        metrics = Metrics()
        self.application = create_app(refusing(lambda: self._why), metrics.call)
        answer = answering_without_records(self._health, metrics.text)
        self._status = Server(answer, names)
        self._stopping = threading.Event()
        self._once = LogOnce()
        self._thread = threading.Thread(target=self._run, name="retry", daemon=True)

    def start(self) -> None:
        """Start to try again."""
        self._thread.start()

    def serve_status(self, listeners: Collection[socket.socket]) -> None:
        """Serve health and metrics on listening sockets."""
        self._status.start(listeners)

    def stop(self) -> None:
        """Stop trying and answering."""
        self._stopping.set()
        self._status.stop()

    def _run(self) -> None:
        self._report()
        while not self._stopping.wait(RETRY_SECONDS):
            try:
                self._check()
            except UnderlayError as error:
                self._why = error
                self._report()
            except Exception:
                log.exception("internal error")
            else:
                # A new process starts as any other. Docker's calls wait in the sockets.
                log.info("the fault is over, restarting")
                os.kill(os.getppid(), signal.SIGTERM)
                return

    def _report(self) -> None:
        if self._once.is_news("start", self._why):
            facts = {"error": self._why}
            log.error("every call is refused until this is repaired", extra=facts)

    def _health(self) -> dict[str, Any]:
        return {
            "ok": False,
            "error": str(self._why),
            "unwritten": [],
            "version": __version__,
            "pid": os.getppid(),
            "started": self._started,
        }
