"""The service: embedded gunicorn, whose one worker answers and runs the threads."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.systemd import sd_notify

from underlay.errors import AlreadyRunning, NotAllowed
from underlay.records import Records
from underlay.service import file_modes
from underlay.service.settings import Settings

if TYPE_CHECKING:
    from underlay.service.runtime import BackgroundThreads
    from underlay.service.worker import Worker

THREADS = 16
# If the server has just closed an idle connection, Docker posts to it nevertheless and
# then tries again with an empty body. So no connection is kept.
KEEPALIVE = 0
GRACEFUL_SECONDS = 20


def serve(settings: Settings) -> None:
    """Serve until TERM; raises UnderlayError if it cannot start."""
    state = Path(settings.state_dir)
    file_modes.make(state, file_modes.FOLDER_MODE)
    for folder in (settings.run_dir, settings.plugin_dir):
        file_modes.make(Path(folder), 0o755)
    os.umask(file_modes.UMASK)
    file_modes.close_off(state, settings.records)
    with _only_one(state):
        # Opened here first, where a refusal can still be shown and end the program.
        Records(settings.records, verify=True).close()
        Service(settings).run()


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
    """The gunicorn application. The parts are built in the worker, after the fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._threads: BackgroundThreads | None = None
        # gunicorn would report READY when it listens, long before it answers.
        self._notify = os.environ.pop("NOTIFY_SOCKET", "")
        super().__init__()

    def run(self) -> None:
        """Serve until TERM."""
        Master(self).run()

    def load_config(self) -> None:
        """Set gunicorn up; sockets from systemd replace `bind`."""
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
            "worker_tmp_dir": self._settings.run_dir,
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

        application, self._threads = runtime.start(self._settings)
        return application

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
        if self._threads:
            self._threads.serve_status([s.sock for s in told])
        if self._notify:
            os.environ["NOTIFY_SOCKET"] = self._notify
            sd_notify("READY=1", worker.log, unset_environment=True)

    def _stop(self) -> None:
        if self._threads:
            self._threads.stop()


def _is_called(address: object, name: str) -> bool:
    return isinstance(address, str) and Path(address).name == name


def _only_one(state: Path) -> IO[str]:
    """Hold the lock of a state directory for as long as the file is open."""
    try:
        lock = (state / file_modes.LOCK).open("a+", encoding="ascii")
    except OSError as error:
        raise NotAllowed(what=f"writing to {state}", why=error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        pid = lock.read().strip()
        lock.close()
        raise AlreadyRunning(path=state, pid=f" (pid {pid})" if pid else "") from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
