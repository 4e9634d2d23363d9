"""The counters of this process, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5)


class Metrics:
    """A registry of its own: nothing global, nothing from other libraries."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._calls = Histogram(
            "underlay_call_seconds",
            "Docker's calls by method: how many, and how long they took",
            ["method"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._refusals = Counter(
            "underlay_refusals_total",
            "Docker's calls that were refused, by method and error id",
            ["method", "id"],
            registry=self._registry,
        )

    def call(self, method: str, outcome: str, seconds: float) -> None:
        """Count one call; `outcome` is "ok" or the id of the refusal."""
        self._calls.labels(method).observe(seconds)
        if outcome != "ok":
            self._refusals.labels(method, outcome).inc()

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)
