"""What DHCP servers were asked and answered, counted for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from underlay.dhcp.exchange import Kind
from underlay.ipam.dhcp_servers import RESULTS, Result
from underlay.model.text import printable

# A server that knows the lease answers in a millisecond, dnsmasq after its ping of 3 s.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class DhcpMetrics(Collector):
    """Counts exchanges; `answering` returns how many servers each parent has."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answering: Callable[[], Mapping[str, int]] = dict
        self._exchanges = Counter(
            "underlay_dhcp_exchanges",
            "What DHCP servers were asked (new, reboot, renew, rebind), and the result"
            " (given, refused, silent, unsent)",
            ["family", "kind", "result"],
            registry=registry,
        )
        self._seconds = Histogram(
            "underlay_dhcp_exchange_seconds",
            "Time until a DHCP server gave or refused what was asked for",
            ["family", "kind"],
            buckets=_SECONDS,
            registry=registry,
        )
        for family, kind in product(("4", "6"), get_args(Kind)):
            if (family, kind) == ("6", "reboot"):
                continue  # there it is a rebind
            self._seconds.labels(family, kind)
            for result in RESULTS:
                self._exchanges.labels(family, kind, result)
        registry.register(self)

    def exchanged(
        self, kind: Kind, result: Result, seconds: float, family: str = "4"
    ) -> None:
        """Count an exchange."""
        self._exchanges.labels(family, kind, result).inc()
        if result in ("given", "refused"):
            self._seconds.labels(family, kind).observe(seconds)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: what there is, is known at the scrape only."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the number of servers on each parent."""
        family = GaugeMetricFamily(
            "underlay_dhcp_servers",
            "DHCP servers that answered on a parent in the last hour",
            labels=["parent"],
        )
        for parent, number in self.answering().items():
            family.add_metric([printable(parent)], float(number))
        yield family
