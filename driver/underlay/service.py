"""The service: gunicorn embedded, one process that answers, threads that watch."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from gunicorn.app.base import BaseApplication

from underlay import __version__, status
from underlay.errors import AlreadyRunning, NotAllowed, UnderlayError
from underlay.kernel.events import listen
from underlay.metrics import Metrics
from underlay.reconciler import Loop
from underlay.records import Records
from underlay.settings import Settings
from underlay.wire.app import create_app
from underlay.wire.calls import methods
from underlay.wiring import Parts, build

log = logging.getLogger(__name__)

THREADS = 16
# Docker posts without looking whether the server just closed an idle connection, and
# then tries again with an empty body: so no connection is ever kept.
KEEPALIVE = 0
GRACEFUL_SECONDS = 20
EVENTS_SETTLE_SECONDS = 0.25
EVENTS_RETRY_SECONDS = 1.0
# Names are asked for when Docker has finished what it called us for.
NAMES_SETTLE_SECONDS = 1.0

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


def serve(settings: Settings) -> None:
    """Serve until TERM; raises UnderlayError if this host will not have it."""
    for folder in (settings.state_dir, settings.run_dir, settings.plugin_dir):
        _make(Path(folder))
    with _only_one(Path(settings.state_dir)):
        # Opened here first, where a refusal can still be shown and end the program.
        Records(settings.records, verify=True).close()
        Service(settings).run()


class Service(BaseApplication):  # type: ignore[misc]
    """The gunicorn application. The parts are built in the worker, after the fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._watchers: Watchers | None = None
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn up; what systemd hands over takes the place of `bind`."""
        chosen = {
            "bind": self._addresses(),
            "workers": 1,
            "worker_class": "underlay.worker.Worker",
            "threads": THREADS,
            "keepalive": KEEPALIVE,
            "umask": 0o117,
            "graceful_timeout": GRACEFUL_SECONDS,
            "timeout": 60,
            "control_socket_disable": True,
            "worker_tmp_dir": self._settings.run_dir,
            "loglevel": "warning",
            "proc_name": "underlay",
            "worker_exit": lambda _arbiter, _worker: self._stop(),
        }
        for key, value in chosen.items():
            self.cfg.set(key, value)

    def load(self) -> Wsgi:
        """Build the parts and start the watchers; called in the worker."""
        parts = build(self._settings)
        metrics = Metrics()
        self._watchers = Watchers(parts, self._settings)
        plugin = create_app(
            methods(parts.engine, parts.ipam, self._watchers.names.wake), metrics.call
        )
        told = status.create_app(
            parts.records, _health(parts.records, time.time()), metrics.text
        )
        self._watchers.start()
        log.info("ready", extra={"version": __version__, "pid": os.getpid()})
        return _by_socket(plugin, told, self._settings.plugin_socket.name)

    def _addresses(self) -> list[str]:
        found = [
            f"unix:{self._settings.plugin_socket}",
            f"unix:{self._settings.status_socket}",
        ]
        listen_too = self._settings.status_listen
        return [*found, listen_too] if listen_too else found

    def _stop(self) -> None:
        if self._watchers:
            self._watchers.stop()


class Watchers:
    """The threads beside the requests: the pass, kernel events, Docker's view."""

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._records = parts.records
        self._stop_events, self._events_stopped = socket.socketpair()
        self._pass = Loop(
            parts.engine.reconcile,
            period=settings.period,
            settle=EVENTS_SETTLE_SECONDS,
        )
        self.names = Loop(
            lambda: _tidy(parts),
            period=settings.period,
            settle=NAMES_SETTLE_SECONDS,
        )
        jobs = {
            "pass": self._pass.run,
            "names": self.names.run,
            "events": self._hear,
        }
        self._threads = [
            threading.Thread(target=job, name=name, daemon=True)
            for name, job in jobs.items()
        ]

    def start(self) -> None:
        """Start watching."""
        for thread in self._threads:
            thread.start()

    def _hear(self) -> None:
        """Listen to the kernel; what is missed while that fails, a pass finds."""
        while True:
            try:
                listen(self._pass.wake, self._events_stopped)
            except OSError as error:
                log.warning("kernel events lost, trying on", extra={"error": error})
                self._pass.wake()
                time.sleep(EVENTS_RETRY_SECONDS)
            else:
                return

    def stop(self) -> None:
        """Stop watching; a Docker API that hangs is not waited for."""
        self._pass.stop()
        self.names.stop()
        self._stop_events.close()
        for thread in self._threads:
            thread.join(timeout=2)
        self._records.close()


def _tidy(parts: Parts) -> None:
    parts.cleanup.forget()
    parts.cleanup.heed(parts.dockerd.look())


def _by_socket(plugin: Wsgi, told: Wsgi, plugin_name: str) -> Wsgi:
    """Tell the two applications apart by the listener a request came in on."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        address = environ["gunicorn.socket"].getsockname()
        here = isinstance(address, str) and Path(address).name == plugin_name
        return (plugin if here else told)(environ, start_response)

    return application


def _health(records: Records, started: float) -> Callable[[], dict[str, Any]]:
    facts = {"version": __version__, "pid": os.getpid(), "started": started}

    def health() -> dict[str, Any]:
        try:
            records.check_there()
        except UnderlayError as error:
            return {"ok": False, "error": str(error), **facts}
        return {"ok": True, "error": "", **facts}

    return health


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise NotAllowed(what=f"making {folder}", why=error) from error


def _only_one(state: Path) -> IO[str]:
    """Hold the lock of a state directory for as long as the file is open."""
    try:
        lock = (state / "lock").open("a+", encoding="ascii")
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
