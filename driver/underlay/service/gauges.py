"""What is on record now, for Prometheus: read at each scrape, by a few queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from underlay import __version__
from underlay.errors import UnderlayError
from underlay.ipam import conflicts, lease_states
from underlay.model import FAMILIES, Network
from underlay.model.objects import Owner
from underlay.model.text import printable
from underlay.modes import mode_name
from underlay.records import Records

# A name may have a megabyte. What is cut off alike is counted together.
MOST_CHARACTERS = 128
Labels = tuple[str, ...]


class Gauges(Collector):
    """Reads gauges from the records.

    `records` is a connection of its own, `health` what /healthz answers, `view_seconds`
    the age of Docker's view, `clock` seconds since 1970. `by_container`: one series for
    each endpoint too.
    """

    def __init__(
        self,
        records: Records,
        health: Callable[[], Mapping[str, Any]],
        view_seconds: Callable[[], float],
        clock: Callable[[], float],
        *,
        by_container: bool,
    ) -> None:
        self._records = records
        self._health = health
        self._view_seconds = view_seconds
        self._clock = clock
        self._by_container = by_container

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: what there is, is known at the scrape only."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the families; those of records that cannot be read are left out."""
        health = self._health()
        build: dict[Labels, float] = {(__version__,): 1.0}
        yield _family("build_info", "Version of this program", ["version"], build)
        yield _single("healthy", "Whether /healthz says ok", health["ok"])
        unwritten = len(health["unwritten"])
        yield _single("unwritten_endings", "Endings not recorded yet", unwritten)
        yield _single(
            "docker_view_age_seconds",
            "Time since dockerd last listed its networks, or since the start",
            self._view_seconds(),
        )
        sizes: dict[Labels, float] = dict(self._sizes())
        yield _family(
            "records_size_bytes", "Size of the files of the records", ["file"], sizes
        )
        try:
            found = [*self._of_networks(), *self._of_pools(), *self._of_leases()]
            found += self._of_endpoints() if self._by_container else ()
        except UnderlayError:
            return  # /healthz and the log have the reason
        yield from found

    def _sizes(self) -> Iterator[tuple[Labels, float]]:
        for kind, end in (("database", ""), ("wal", "-wal")):
            path = self._records.path
            with suppress(OSError):
                yield (kind,), path.with_name(path.name + end).stat().st_size

    def _of_networks(self) -> Iterator[GaugeMetricFamily]:
        networks = {n.id: n for n in self._records.networks.all()}
        names = {n.id: _text(n.label) for n in networks.values()}
        counts = self._records.counts

        def by_name(found: Iterable[tuple[str, str, int]]) -> Counter[Labels]:
            """Add up those of one name: two networks of Docker may share it."""
            total: Counter[Labels] = Counter()
            for network, state, number in found:
                total[names.get(network, _text(network[:12])), state] += number
            return total

        modes: Counter[Labels] = Counter(
            (mode_name(n.options),) for n in networks.values()
        )
        yield _family("networks", "Networks by mode", ["mode"], modes)
        yield _family(
            "endpoints",
            "Endpoints of containers (created: not moved there yet; joined; left)",
            ["network", "state"],
            by_name(counts.endpoints()),
        )
        yield _family(
            "addresses",
            "Leased addresses (assigned, unassigned: no endpoint yet, gateway, aux)",
            ["network", "state"],
            by_name(counts.addresses()),
        )
        yield _single(
            "conflicts",
            "Addresses of pools that other machines have",
            len(self._records.leases.conflicts()),
        )
        yield from self._of_findings(names)
        yield from self._of_parents(networks.values())

    def _of_findings(self, names: Mapping[str, str]) -> Iterator[GaugeMetricFamily]:
        cut_off = [o.network for o in self._records.host.obstacles()]
        others = [
            *conflicts.failures(self._records),
            *lease_states.failures(self._records, self._clock()),
        ]
        marks = [*self._records.counts.failing(), *(found.mark for found in others)]
        marked = [Owner.parse(mark).network for mark in marks]
        failing: Counter[Labels] = Counter(
            (names.get(network, ""),) for network in marked + cut_off
        )
        yield _family(
            "failing_objects",
            'Objects that cannot be repaired now; network "": shared by networks',
            ["network"],
            failing,
        )
        checks: Counter[Labels] = Counter(
            (notice.check,) for notice in self._records.host.notices()
        )
        yield _family(
            "notices", "What quick checks of the host found", ["check"], checks
        )

    def _of_parents(self, networks: Iterable[Network]) -> Iterator[GaugeMetricFamily]:
        up: dict[Labels, float] = {}
        devices: dict[Labels, set[str]] = {}
        for network in networks:
            uplink, label = network.uplink, (_text(network.parent_label),)
            if uplink.parent:
                is_up = float(not uplink.cut_off_reason)
                up[label] = min(is_up, up.get(label, 1.0))
                devices.setdefault(label, set()).add(uplink.parent)
        macs = self._records.counts.macs()
        carried: dict[Labels, float] = {
            label: sum(macs.get(device, 0) for device in those)
            for label, those in devices.items()
        }
        yield _family(
            "parent_up", "Whether a parent is there, up and has carrier", ["parent"], up
        )
        yield _family(
            "parent_macs",
            "MAC addresses of containers on a parent, without its own",
            ["parent"],
            carried,
        )

    def _of_pools(self) -> Iterator[GaugeMetricFamily]:
        labels = ["domain", "subnet", "range"]
        found = {
            (_text(r.domain), r.subnet, r.span): r
            for r in self._records.counts.ranges()
        }
        yield _family(
            "pool_addresses",
            "Addresses of a range that networks draw from",
            labels,
            {key: r.size for key, r in found.items()},
        )
        yield _family(
            "pool_free_addresses",
            "Addresses of a range that no container, gateway or other use has",
            labels,
            {key: r.free for key, r in found.items()},
        )

    def _of_leases(self) -> Iterator[GaugeMetricFamily]:
        counts, now = self._records.counts, self._clock()
        states = {6: counts.dhcpv6_leases(now), 4: counts.dhcp_leases(now)}
        yield _family(
            "leases",
            "Leases from DHCP servers (bound: a container has it; unanswered: it has,"
            " and no server renews it; held; ended; removed; unserved)",
            ["family", "state"],
            {
                (str(family), state): states[family].get(state, 0)
                for family in FAMILIES
                for state in lease_states.STATES
            },
        )
        first = counts.first_dhcp_end()
        yield _family(
            "lease_seconds_left_min",
            "Time until the first lease of a container ends, if it is not renewed",
            [],
            {(): first - now} if first else {},
        )
        yield _single(
            "stale_addresses",
            "Containers that have another address by their lease than Docker shows",
            counts.stale_addresses(),
        )

    def _of_endpoints(self) -> Iterator[GaugeMetricFamily]:
        names = {n.id: _text(n.label) for n in self._records.networks.all()}
        found: dict[Labels, float] = {}
        for e in self._records.endpoints.all():
            leased = e.leased6 and not e.leased6.is_lost and e.leased6.address
            both = e.ipv4, e.ipv6 or leased or None
            ipv4, ipv6 = (str(a.ip) if a else "" for a in both)
            name = names.get(e.network, e.network[:12])
            found[name, _text(e.container), e.id[:12], ipv4, ipv6, e.mac] = 1.0
        labels = ["network", "container", "endpoint", "ipv4", "ipv6", "mac"]
        yield _family("endpoint_info", "An endpoint and its addresses", labels, found)


def _text(name: str) -> str:
    return printable(name[:MOST_CHARACTERS])


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"underlay_{name}", text, value=float(value))


def _family(
    name: str, text: str, labels: list[str], found: Mapping[Labels, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"underlay_{name}", text, labels=labels)
    for values, number in found.items():
        family.add_metric(values, float(number))
    return family
