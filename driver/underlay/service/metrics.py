"""What happens in this process, counted for Prometheus; gauges.py has what is."""

from __future__ import annotations

import re
import time
from collections.abc import Collection

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector

from underlay.api.call import Call
from underlay.model import Repair
from underlay.model.steps import Step
from underlay.service.dhcp_metrics import DhcpMetrics

_CALL_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0)
_PASS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_REPAIR_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0)
_COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)


class Metrics:
    """A registry of its own: nothing global, nothing of other libraries.

    The methods are called by several threads. Labels are methods, error ids, kinds of
    kernel objects and other small sets, never what a request chooses.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # twice the series
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._count_calls()
        self._count_passes()
        self.dhcp = DhcpMetrics(self._registry)
        self._looked = time.monotonic()

    def _count_calls(self) -> None:
        self._calls = self._histogram(
            "underlay_call_seconds",
            "Docker's calls by method and outcome (done, refused, failed)",
            _CALL_SECONDS,
            "method",
            "outcome",
        )
        self._refusals = self._counter(
            "underlay_refusals",
            "Docker's calls that were refused or failed, by method and error id",
            "method",
            "id",
        )
        self._errors = Gauge(
            "underlay_last_error_timestamp_seconds",
            "When a call or a repair last ended with this error id",
            ["id"],
            registry=self._registry,
        )
        self._commits = self._histogram(
            "underlay_records_commit_seconds",
            "Time to commit a change of the records to the disk",
            _COMMIT_SECONDS,
        )

    def _count_passes(self) -> None:
        self._passes = self._histogram(
            "underlay_pass_seconds",
            "Passes of the reconciler by scope (everywhere, events, period)",
            _PASS_SECONDS,
            "scope",
        )
        self._failed_passes = self._counter(
            "underlay_failed_passes", "Passes that an error ended early"
        )
        self._drift = self._counter(
            "underlay_drift",
            "Differences of the kernel from the records, counted in each pass",
            "kind",
        )
        self._repairs = self._counter(
            "underlay_repairs",
            "Steps of repairs by kind of object, action, place and result",
            "kind",
            "action",
            "place",
            "result",
        )
        self._repair_seconds = self._histogram(
            "underlay_repair_seconds",
            "Time from the event of a difference to its repair",
            _REPAIR_SECONDS,
        )
        self._announcements = self._counter(
            "underlay_announcements", "Addresses announced on their segments"
        )
        self._confirmations = self._counter(
            "underlay_announcements_confirmed",
            "Announced addresses that the gateway then answered",
        )
        self._probes = self._counter(
            "underlay_conflict_probes",
            "Addresses that segments were asked for (free, used, contested, unasked)",
            "result",
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)

    def add(self, collector: Collector) -> None:
        """Ask a collector at each scrape too."""
        self._registry.register(collector)

    def call(self, call: Call) -> None:
        """Count one call of Docker."""
        method, refusal = call.method, call.refusal
        if refusal is None:
            outcome = "done"
        else:
            outcome = "failed" if refusal.status >= 500 else "refused"
            self._refusals.labels(method, refusal.id).inc()
            self._errors.labels(refusal.id).set_to_current_time()
        self._calls.labels(method, outcome).observe(call.seconds)

    def commit(self, seconds: float) -> None:
        """Count a commit of the records."""
        self._commits.observe(seconds)

    def finished_pass(self, scope: str, seconds: float) -> None:
        """Count a pass."""
        self._passes.labels(scope).observe(seconds)

    def failed_pass(self) -> None:
        """Count a pass that an error ended."""
        self._failed_passes.inc()

    def drift(self, steps: Collection[Step]) -> None:
        """Count differences that a pass found."""
        for step in steps:
            self._drift.labels(_kind(step)).inc()

    def repair(self, step: Step, entry: Repair) -> None:
        """Count a step of a repair, applied or refused."""
        action = type(step).__name__.lower()
        place = "container" if entry.place else "host"
        result = "refused" if entry.error else "done"
        self._repairs.labels(_kind(step), action, place, result).inc()
        if entry.error:
            self._errors.labels(entry.error.split()[0]).set_to_current_time()
        else:
            self._repair_seconds.observe(max(entry.seconds, 0.0))

    def announced(self, sent: int, confirmed: int) -> None:
        """Count announced addresses, and those that the gateway confirmed."""
        self._announcements.inc(sent)
        self._confirmations.inc(confirmed)

    def asked(self, result: str, number: int) -> None:
        """Count addresses that a segment was asked for; unasked: it could not be."""
        self._probes.labels(result).inc(number)

    def looked_at_docker(self) -> None:
        """Note that dockerd answered with its list of networks."""
        self._looked = time.monotonic()

    @property
    def docker_view_seconds(self) -> float:
        """Return how long ago dockerd last answered, or this process started."""
        return time.monotonic() - self._looked

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)


def _kind(step: Step) -> str:
    """Return the kind of a step's object: link, address, nft_chain ..."""
    name = type(step.object).__name__
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
