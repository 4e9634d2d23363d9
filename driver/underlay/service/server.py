"""The service: embedded gunicorn, whose one worker answers and runs the threads."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.util import parse_address

from underlay.errors import UnderlayError
from underlay.service import file_modes, logs
from underlay.service.settings import Settings, load
from underlay.service.startup import claim
from underlay.service.supervision import Supervisor, holds_sockets

if TYPE_CHECKING:
    from underlay.service.runtime import BackgroundThreads
    from underlay.service.standby import Standby
    from underlay.service.worker import Worker

log = logging.getLogger(__name__)

# Most of them wait: for DHCP servers, for what the network says of an address.
THREADS = 64
# If the server has just closed an idle connection, Docker posts to it nevertheless and
# then tries again with an empty body. So no connection is kept.
KEEPALIVE = 0
GRACEFUL_SECONDS = 20


def serve(environment: MutableMapping[str, str]) -> None:
    """Serve until TERM; raises UnderlayError if it cannot start.

    With sockets from systemd it always starts, and answers why it cannot work: Docker's
    calls wait in these sockets.
    """
    os.umask(file_modes.UMASK)
    is_held = holds_sockets(environment)
    settings, claimed, fault = Settings(), None, None
    logs.set_up(settings.log_level)
    try:
        settings = load(environment)
        logs.set_up(settings.log_level)
        claimed = claim(settings)
    except UnderlayError as error:
        if not is_held:
            raise
        fault = error

    def check() -> None:
        if claimed:
            claimed.check_records()
        else:
            claim(load(environment)).lock.close()

    Service(settings, Supervisor(environment), fault, check, is_held=is_held).run()


class Master(Arbiter):  # type: ignore[misc]
    """gunicorn's master; HUP does not make it replace the worker."""

    def handle_hup(self) -> None:
        """Pass HUP on to the worker, where a pass then looks everywhere."""
        self.kill_workers(signal.SIGHUP)


class Log(Logger):  # type: ignore[misc]
    """gunicorn's log as part of the service's: one escaped line per record."""

    def setup(self, cfg: Any) -> None:
        """Hand records on to the root logger's handler."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class Service(BaseApplication):  # type: ignore[misc]
    """The gunicorn application. The parts are built in the worker, after the fork.

    `fault`: why they cannot be built. `check` raises an UnderlayError while that is so.
    `is_held`: systemd holds the sockets; otherwise the service ends then.
    """

    def __init__(
        self,
        settings: Settings,
        supervisor: Supervisor,
        fault: UnderlayError | None,
        check: Callable[[], None],
        *,
        is_held: bool,
    ) -> None:
        self._settings = settings
        # gunicorn would report READY when it listens, long before it answers.
        self._supervisor = supervisor
        self._fault, self._check, self._is_held = fault, check, is_held
        self._threads: BackgroundThreads | Standby | None = None
        super().__init__()

    def run(self) -> None:
        """Serve until TERM."""
        Master(self).run()

    def load_config(self) -> None:
        """Set gunicorn up; sockets from systemd replace `bind`."""
        run_dir = self._settings.run_dir
        chosen = {
            "bind": self._addresses(),
            "workers": 1,
            "worker_class": "underlay.service.worker.Worker",
            "threads": THREADS,
            "keepalive": KEEPALIVE,
            "umask": 0o117,
            "graceful_timeout": GRACEFUL_SECONDS,
            "timeout": 60,
            "control_socket_disable": True,
            "worker_tmp_dir": run_dir if Path(run_dir).is_dir() else None,
            "loglevel": "warning",
            "logger_class": Log,
            "proc_name": "underlay",
            "post_worker_init": self._ready,
            "worker_exit": lambda _arbiter, _worker: self._stop(),
        }
        for key, value in chosen.items():
            self.cfg.set(key, value)

    def load(self) -> Any:
        """Return the application; called in the worker, after the fork."""
        # Imported here, so that the master stays half the size.
        from underlay.service import runtime
        from underlay.service.standby import Standby

        if self._fault is None:
            try:
                application, self._threads = runtime.start(self._settings)
            except UnderlayError as error:
                if not self._is_held:
                    raise
                self._fault = error
            else:
                return application
        names = socket.gethostname(), *self._settings.status_names
        self._threads = Standby(self._fault, self._check, names)
        self._threads.start()
        return self._threads.application

    def _addresses(self) -> list[str]:
        found = [
            f"unix:{self._settings.plugin_socket}",
            f"unix:{self._settings.status_socket}",
        ]
        listen_too = self._settings.status_address
        return [*found, listen_too] if listen_too else found

    def _ready(self, worker: Worker) -> None:
        """Assign the sockets and report READY to systemd, which then starts Docker.

        Called in the worker. All sockets but the plugin socket are status sockets.
        """
        name = self._settings.plugin_socket.name
        told = [s for s in worker.sockets if not _is_called(s.getsockname(), name)]
        worker.sockets = [s for s in worker.sockets if s not in told]
        status = [s.sock for s in told]
        if all(s.family == socket.AF_UNIX for s in status):
            status += _listening(self._settings.status_address)
        if self._threads:
            self._threads.serve_status(status)
            self._supervisor.watch(lambda: self._stalled_seconds)
        self._supervisor.tell_ready(str(self._fault or ""))

    @property
    def _stalled_seconds(self) -> float:
        return self._threads.stalled_seconds if self._threads else 0.0

    def _stop(self) -> None:
        self._supervisor.stop()
        if self._threads:
            self._threads.stop()


def _is_called(address: object, name: str) -> bool:
    return isinstance(address, str) and Path(address).name == name


def _listening(address: str) -> list[socket.socket]:
    """Listen for status on a TCP address that systemd does not hold."""
    if not address:
        return []
    try:
        host, port = parse_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return [socket.create_server((host, port), family=family)]
    except (OSError, RuntimeError, ValueError) as error:
        facts = {"address": address, "error": error}
        log.warning("cannot listen on status_listen", extra=facts)
        return []
