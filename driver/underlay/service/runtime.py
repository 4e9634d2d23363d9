"""What the worker runs: the application for Docker, and the background threads."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from underlay import __version__
from underlay.api import paths
from underlay.api.call import Call
from underlay.api.httpd import Answer, Server
from underlay.api.methods import IpamCalls, NetworkCalls, methods
from underlay.api.plugin import create_app
from underlay.api.refusals import Refusals
from underlay.errors import UnderlayError
from underlay.kernel.clock import since_boot
from underlay.kernel.events import Listener
from underlay.model.objects import PREFIX
from underlay.networks.forward_path import ForwardPath
from underlay.reconcile.defender import Defender
from underlay.reconcile.log_once import LogOnce
from underlay.reconcile.new_names import NewNames
from underlay.records import Records
from underlay.service.gauges import Gauges
from underlay.service.hosts_file import HostsFile
from underlay.service.loop import Calls, PeriodicJob
from underlay.service.metrics import Metrics
from underlay.service.notices import Notices
from underlay.service.segments import Segments
from underlay.service.settings import Settings
from underlay.service.supervision import WatchedKernel
from underlay.service.wiring import Parts, build, examination, observe

log = logging.getLogger(__name__)

# One action of Docker or an administrator causes a few events in a row.
EVENTS_SETTLE_SECONDS = 0.05
# What happens to devices and rules of others is looked at, but does not hurry.
FOREIGN_SETTLE_SECONDS = 1.0
# Lists of thousands of rules take long: they take at most this part of the time.
RULES_SHARE = 0.1
PASS_LEAST_SECONDS = 0.25
# Most events are of what Docker and its calls do. A pass that waits until Docker is
# done is one instead of four, and leaves Docker the processor and the kernel's locks.
# Not for long: only then is a new container announced on the LAN.
CALLS_SETTLE_SECONDS, CALLS_LONGEST_SECONDS = 0.1, 1.0
# So many calls in a second are those of four containers.
RUSH_CALLS = 40
EVENTS_RETRY_SECONDS = 1.0
# Docker is asked for names when it has finished what it called the driver for.
NAMES_SETTLE_SECONDS = 1.0
# And for a new network sooner: an administrator may look for it at once.
NEW_NAME_SECONDS = 0.2
# How soon a dockerd that did not answer is asked again: lost records wait for it.
NAMES_RETRY_SECONDS = 5.0
# A request waits dozens of times for the kernel. Each time, a pass in another thread
# may then keep the interpreter for this long; the default is five milliseconds. At
# 10,000 endpoints one call in a hundred took 107 ms with 1 ms, and takes 44 ms so.
SWITCH_SECONDS = 0.0001

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


def start(settings: Settings) -> tuple[Wsgi, BackgroundThreads]:
    """Build the parts and start the threads; return the application and the threads."""
    sys.setswitchinterval(SWITCH_SECONDS)
    kernel = WatchedKernel()
    parts = build(settings, kernel=kernel)
    parts.recovery.begin()
    parts.checks.begin()
    for endpoint in parts.records.endpoints.all():
        parts.ipam.idle.note_running(endpoint.network, endpoint.container)
    metrics = Metrics()
    observe(parts, metrics)
    # Its own connection: long reads for the status must not delay Docker's calls.
    reading = Records(settings.records, readonly=True)
    clock = time.time
    health = _health(parts.records, clock())
    metrics.add(_gauges(reading, health, metrics, clock, settings))
    refusals = Refusals(clock, time.monotonic)
    threads = BackgroundThreads(parts, settings, reading, metrics)
    sources = paths.Sources(
        reading, health, metrics.text, refusals.recent, threads.ask_for_names
    )
    threads.answer_with(paths.answering(sources))
    kernel.used = threads.note_progress

    def note(call: Call) -> None:
        metrics.call(call)
        refusals.note(call)

    network = NetworkCalls(parts.engine, threads.note_networks, threads.note_joined)
    pool = IpamCalls(parts.ipam, threads.ask_for_names)
    plugin = create_app(methods(network, pool), note)
    threads.start()
    log.info("ready", extra={"version": __version__, "pid": os.getpid()})

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        threads.calls.note()
        return plugin(environ, start_response)

    return application, threads


class BackgroundThreads:
    """The threads besides Docker's calls: passes, events, Docker's list, status."""

    def __init__(
        self,
        parts: Parts,
        settings: Settings,
        reading: Records,
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        # Whether Docker has listed another network since it was asked last.
        self._is_new = False
        self._records, self._reading = parts.records, reading
        names = socket.gethostname(), *settings.status_names
        self._status = Server(self._answer, names)
        self._stop_events, events_stopped = socket.socketpair()
        self._listener = Listener(events_stopped, self._is_concerned)
        # The names of parents; None: any device may become one.
        self._parents: frozenset[str] | None = None
        self._is_urgent, self._reconciler = True, parts.reconciler
        self._ahead, self._keeper6 = parts.ahead, parts.keeper6
        self.calls = Calls(RUSH_CALLS)
        self._lock = threading.Lock()
        self._changed: frozenset[str] | None = None
        self._noticed = 0.0
        self._pass = PeriodicJob(
            self._run_pass,
            period=settings.period,
            settle=self._settle,
            least=self._least,
            retry=EVENTS_RETRY_SECONDS,
        )
        self._rules = _rules_job(parts.forward_path, settings.period)
        self.names = self._names_job(parts, settings)
        self._dockerd, self._ipam = parts.dockerd, parts.ipam
        self._segments, self._checks = _segments(parts), parts.checks
        self._stopping, self._period = threading.Event(), settings.period
        jobs = self._jobs().items()
        self._threads = [
            threading.Thread(target=j, name=n, daemon=True) for n, j in jobs
        ]
        self._hup = self._threads[-1]

    def _names_job(self, parts: Parts, settings: Settings) -> PeriodicJob:
        look, once = partial(self.note, None), LogOnce()
        host = parts.records, parts.kernel, settings, parts.dockerd
        examined = partial(examination, *host)
        notices = Notices(parts.records, examined, time.monotonic)
        self._hosts = HostsFile(parts.records, settings.hosts_file)
        named = NewNames(parts.records)

        def follow() -> float | None:
            try:
                return _sync_with_docker(parts, once, look, self._metrics)
            finally:
                # With the names that Docker has just told.
                with once.trying("new names"):
                    if places := named.places():
                        self.note(places)
                with once.trying("quick checks of the host"):
                    notices.update()
                with once.trying(f"writing {settings.hosts_file}"):
                    self._hosts.update()

        return PeriodicJob(
            follow,
            period=settings.period,
            settle=lambda waited: NAMES_SETTLE_SECONDS - waited,
            least=self._names_least,
            retry=NAMES_RETRY_SECONDS,
        )

    def _names_least(self, since: float) -> float:
        """Return how long Docker is not asked still because of the last time."""
        is_new, self._is_new = self._is_new, False
        return (NEW_NAME_SECONDS if is_new else NAMES_SETTLE_SECONDS) - since

    def _jobs(self) -> dict[str, Callable[[], object]]:
        """Return what the threads run, by their names."""
        return {
            "pass": self._pass.run,
            "rules": self._rules.run,
            "names": self.names.run,
            "events": self._listen_to_kernel,
            "docker": self._listen_to_docker,
            "announcer": self._reconciler.announcer.run,
            "dropper": self._reconciler.dropper.run,
            "wire": self._ipam.wire.run,
            "leases": self._ahead.keeper.run,
            "servers": self._checks.run,
            "leases6": self._keeper6.run,
            "watch": self._segments.listen,
            "hup": self._wait_for_hup,
        }

    def _least(self, since: float) -> float:
        """Return how long a pass waits still because of the last one.

        Not at all if Docker has called since: a new container is to be announced.
        """
        is_called = self.calls.quiet_seconds < since
        return 0.0 if is_called else PASS_LEAST_SECONDS - since

    def _settle(self, waited: float) -> float:
        """Return how long a pass waits still: for the next event, and for Docker."""
        least = EVENTS_SETTLE_SECONDS if self._is_urgent else FOREIGN_SETTLE_SECONDS
        calls = CALLS_SETTLE_SECONDS - self.calls.quiet_seconds
        pause = max(least - waited, min(calls, CALLS_LONGEST_SECONDS - waited))
        # What comes meanwhile may be urgent.
        return min(pause, EVENTS_SETTLE_SECONDS)

    def ask_for_names(self) -> None:
        """Ask Docker at once, or soon if it is starting many containers."""
        if self.calls.is_rush:
            self.names.wake()
        else:
            self.names.hurry()

    def note_networks(self) -> None:
        """Note that there is another network, or one less: its segment is heard now."""
        with suppress(UnderlayError):  # the next pass follows it, and fails aloud
            self._segments.follow()
        self._checks.note_networks()
        self.names.wake()

    def note_joined(self, endpoint: str) -> None:
        """Note that a container starts: name servers know it before it runs."""
        self._hosts.add(endpoint)
        self.ask_for_names()

    def _hear_docker(self, *, is_created: bool = False) -> None:
        """Ask Docker for what changed: at once for the name of a new network."""
        if is_created:
            self._is_new = True
            self.ask_for_names()
        else:
            self.names.wake()

    def _note_lease(self, sandbox: str, is_new: bool = True) -> None:
        """Note that a lease brings a container another address or router.

        Or only another end of the same one.
        """
        self.note(frozenset({sandbox}))
        if is_new:
            self.names.wake()  # for the file of names

    def note_progress(self) -> None:
        """Note that a pass gets on, if this is the thread of the passes."""
        self._pass.note_progress()

    @property
    def stalled_seconds(self) -> float:
        """For how long the present pass has not got on; 0 between two passes."""
        return self._pass.stalled_seconds

    def start(self) -> None:
        """Start the threads."""
        self._ahead.keeper.on_change = self._note_lease
        self._keeper6.on_change = self._note_lease
        self._reconciler.on_addresses = self.names.wake  # for the file of names
        for thread in self._threads:
            thread.start()

    def answer_with(self, answer: Callable[[str], Answer]) -> None:
        """Set what answers a path of the status sockets."""
        self._answer_to = answer

    def _answer(self, path: str) -> Answer:
        self._reading.endings.take_over_from(self._records.endings.all())
        return self._answer_to(path)

    def serve_status(self, listeners: Collection[socket.socket]) -> None:
        """Serve health, status and metrics on listening sockets."""
        self._status.start(listeners)

    def _listen_to_kernel(self) -> None:
        """Listen to the kernel; after a failure, a pass finds the missed changes."""
        while True:
            try:
                heard = self._reconciler.duplicates.hear
                self._listener.listen(self.note, self._rules.wake, heard)
            except OSError as error:
                log.warning("kernel events lost, retrying", extra={"error": error})
            except Exception:
                # Whatever the kernel sent, it must not end the listening for good.
                log.exception("internal error")
            else:
                return
            self._pass.wake()
            time.sleep(EVENTS_RETRY_SECONDS)

    def _listen_to_docker(self) -> None:
        """Listen to dockerd; if it does not answer, the job `names` logs that."""
        refused = 0
        while not self._stopping.is_set():
            began, pause = time.monotonic(), NAMES_RETRY_SECONDS
            try:
                created = self._ahead.note_created
                self._dockerd.listen(self._hear_docker, self._ipam.idle, created)
                # If the stream ends at once, each try has dockerd list everything.
                short = time.monotonic() - began < NAMES_RETRY_SECONDS
                refused = refused + 1 if short else 0
            except OSError:
                refused, pause = 0, EVENTS_RETRY_SECONDS
            except Exception:
                # Whatever dockerd sent, it must not end the listening for good.
                log.exception("internal error")
            self._ipam.forget_made()
            self._stopping.wait(min(pause * (1 + refused), self._period))

    def _wait_for_hup(self) -> None:
        """Have a pass look everywhere on HUP, which all other threads block.

        A handler would interrupt whatever the main thread is doing.
        """
        while True:
            signal.sigwait({signal.SIGHUP})
            if self._stopping.is_set():
                return
            self.note(None)

    def note(self, paths: frozenset[str] | None, is_urgent: bool = True) -> None:
        """Have a pass look where something changed, or everywhere (None)."""
        self._remember(paths)
        if is_urgent:
            self._is_urgent = True
        self._pass.wake()

    def _is_concerned(self, device: str) -> bool:
        """Return whether what happens to a device of the host is urgent."""
        names = self._parents
        return names is None or device.startswith(PREFIX) or device in names

    def _remember(self, paths: frozenset[str] | None) -> None:
        with self._lock:
            seen = self._changed
            if seen == frozenset():
                self._noticed = since_boot()
            self._changed = None if seen is None or paths is None else seen | paths

    def _run_pass(self) -> float | None:
        """Look where something changed since the last pass began; None: anywhere."""
        with self._lock:
            changed, self._changed = self._changed, frozenset()
            noticed = self._noticed if changed else since_boot()
            self._is_urgent = False
        began = time.perf_counter()
        try:
            pause = self._reconciler.run_pass(changed, noticed, self._listener.watch)
            scope = "events" if changed else "period"
            self._metrics.finished_pass(
                "everywhere" if changed is None else scope, time.perf_counter() - began
            )
            self._parents = self._reconciler.parents.device_names()
            self._segments.follow()
            self._keeper6.follow()
            self._rules.wake()  # for a new network, or another default route
            if not changed:
                _settle_heap()
        except BaseException:
            self._metrics.failed_pass()
            self._remember(changed)  # for the next pass
            raise
        return pause

    def stop(self) -> None:
        """Stop the threads; a hanging call to Docker is not awaited."""
        self._stopping.set()
        self._dockerd.hang_up()
        passes, ahead = self._reconciler, self._ahead
        for running in (
            self._pass, self._rules, self.names, passes.announcer, passes.dropper,
            self._ipam.wire, ahead.keeper, self._keeper6, ahead, self._checks,
            self._segments,
        ):  # fmt: skip
            running.stop()
        self._stop_events.close()
        if self._hup.ident:
            signal.pthread_kill(self._hup.ident, signal.SIGHUP)
        self._status.stop()
        for thread in self._threads:
            thread.join(timeout=2)
        self._reading.close()
        self._records.close()


def _segments(parts: Parts) -> Segments:
    wire, found = parts.ipam.wire, (parts.reconciler.announcer, since_boot)
    defender = Defender(parts.records, wire, *found, parts.keeper.note_contested)
    return Segments(wire, defender)


def _settle_heap() -> None:
    """Take what lives on out of the sight of Python's garbage collection.

    At 10,000 endpoints it went through 700,000 objects in 0.3 s, while a call of Docker
    waited. Every full pass does so, which goes through what is new since the last one.
    """
    gc.collect()
    gc.freeze()


def _rules_job(forward_path: ForwardPath, period: float) -> PeriodicJob:
    """Return the job that judges what the rules of all programs let pass."""
    took = 0.0

    def judge() -> None:
        nonlocal took
        began = time.monotonic()
        try:
            forward_path.update()
        finally:
            # Also of a list that failed: a program that hangs does so for seconds.
            took = time.monotonic() - began

    return PeriodicJob(
        judge,
        period=period,
        settle=lambda waited: FOREIGN_SETTLE_SECONDS - waited,
        least=lambda since: took / RULES_SHARE - since,
        retry=EVENTS_RETRY_SECONDS,
    )


def _sync_with_docker(
    parts: Parts, once: LogOnce, look: Callable[[], None], metrics: Metrics
) -> float | None:
    """Make the records follow Docker's list; `look` has a pass look everywhere.

    Returns after how many seconds at most it is to be done again, None for any time.
    """
    with once.trying("history that is too old"):
        parts.cleanup.forget()
    with once.trying("what Docker ended"):
        parts.records.endings.write()
    before, changes = parts.recovery.snapshot(), parts.ipam.idle.changes
    try:
        view = parts.dockerd.look()
    except OSError:
        if parts.recovery.do_without():
            look()
        raise
    metrics.looked_at_docker()
    parts.ipam.idle.update(view.containers, changes)
    if parts.cleanup.note_listed(view):
        look()
    with once.trying("what Docker lists"):
        if parts.recovery.rebuild(view, before):
            look()
    parts.cleanup.run(view)
    with once.trying("reconnects of containers"):
        return parts.reconnects.run(view)
    return None


def _gauges(
    reading: Records,
    health: Callable[[], dict[str, Any]],
    metrics: Metrics,
    clock: Callable[[], float],
    settings: Settings,
) -> Gauges:
    return Gauges(
        reading,
        health,
        lambda: metrics.docker_view_seconds,
        clock,
        by_container=settings.metrics_by_container,
    )


def _health(records: Records, started: float) -> Callable[[], dict[str, Any]]:
    facts = {"version": __version__, "pid": os.getppid(), "started": started}

    def health() -> dict[str, Any]:
        unwritten = [" ".join(ending) for ending in records.endings.all()]
        error = records.endings.why
        try:
            records.check_there()
        except UnderlayError as found:
            error = str(found)
        return {"ok": not error, "error": error, "unwritten": unwritten, **facts}

    return health
