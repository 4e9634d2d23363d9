"""IPv6 addresses that the kernel of a container removes: a machine has them already.

The kernel of a container asks whether a machine has an address before it uses that
(duplicate address detection, RFC 4862). It removes one that a machine has at once, and
makes it again with the next advertisement. So nothing is left to look at, and only an
event tells of it. Which machine it is, the kernel does not tell.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from underlay.ipam import conflicts
from underlay.model import Endpoint, Lease
from underlay.modes import ipv6
from underlay.records import Records

log = logging.getLogger(__name__)

# Routers advertise every half hour at least (RFC 4861, 6.2.1). When nothing has been
# heard of an address for this time, no router advertises its prefix any more.
SILENT_SECONDS = 3600.0
# Of a container that makes and loses addresses all the time, few are remembered.
HEARD_MOST = 64
# A kernel makes no more addresses than this of a device's prefixes (max_addresses): a
# router that advertises others all the time does not fill the records.
RECORDED_MOST = 16


@dataclass
class Duplicates:
    """Records such addresses as conflicts, until the container can use them.

    `clock` returns seconds since 1970, `monotonic` seconds since the host booted.
    """

    records: Records
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    # Called with the id of an endpoint when a machine has the address that a DHCPv6
    # server gave it; must not fail or wait. One that never ends is not removed.
    on_failed_address: Callable[[str], None] = lambda _endpoint: None
    # What was heard and not recorded yet: a path of a sandbox, and an address.
    _new: dict[tuple[str, IPv6Address], None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    # When each conflict was heard of last, by endpoint and address; None: the records
    # of an earlier process have not been read yet.
    _heard: dict[tuple[str, str], float] | None = None

    def hear(self, sandbox: str, address: IPv6Address) -> None:
        """Note that an address in a sandbox was found to be in use; never waits."""
        with self._lock:
            if len(self._new) < HEARD_MOST:
                self._new[sandbox, address] = None

    def record(self) -> None:
        """Record what was heard since, and what is over; raises RecordsUnwritable."""
        now = self.monotonic()
        if self._heard is None:
            before = conflicts.of_routers(self.records)
            self._heard = {_key(found): now for found in before}
        with self._lock:
            new, self._new = self._new, {}
        for sandbox, address in new:
            for endpoint in self.records.endpoints.joined_at(sandbox):
                if endpoint.leased6 and endpoint.leased6.address.ip == address:
                    self.on_failed_address(endpoint.id)
                elif self._is_fixed(endpoint, address):
                    self._note(self._heard, endpoint, address)
        if any(now - last >= SILENT_SECONDS for last in self._heard.values()):
            self._end_silent(self._heard, now)

    def _note(
        self,
        heard: dict[tuple[str, str], float],
        endpoint: Endpoint,
        address: IPv6Address,
    ) -> None:
        key = endpoint.id, str(address)
        if key in heard or sum(e == endpoint.id for e, _ in heard) < RECORDED_MOST:
            self._begin(endpoint, address)
            heard[key] = self.monotonic()

    def _is_fixed(self, endpoint: Endpoint, address: IPv6Address) -> bool:
        """Return whether a container has only this address to make of a prefix.

        Without a suffix, the kernel makes another one by itself. What a DHCPv6 server
        gave before is declined already.
        """
        network = self.records.networks.get(endpoint.network)
        if network and ipv6.is_by_dhcp(network.options):
            return False
        known = endpoint.learned
        made = ipv6.slaac(network, endpoint, known) if network and known else None
        if made is None:
            return False
        if not made.token:
            facts = {"address": address, "container": endpoint.container}
            event = "address in use by a machine, the kernel makes another"
            log.info(event, extra=facts)
            return False
        return made.token == ipv6.last_half(address)

    def _begin(self, endpoint: Endpoint, address: IPv6Address) -> None:
        """Record a conflict, unless it is known, or over by now."""
        made = endpoint.learned.from_routers if endpoint.learned else ()
        live = self.records.leases.live_of_endpoint(endpoint.id)
        if address in {a.ip for a in made} or any(
            (held.role, held.address) == ("conflict", address) for held in live
        ):
            return
        found = Lease(
            id=0,
            address=address,
            role="conflict",
            network=endpoint.network,
            endpoint=endpoint.id,
            container=endpoint.container,
            since=self.clock(),
        )
        with self.records.transaction(durable=False):
            self.records.leases.start(found)
        facts = {"address": address, "container": endpoint.container}
        log.warning("address in use by another machine", extra=facts)

    def _end_silent(self, heard: dict[tuple[str, str], float], now: float) -> None:
        over = {key for key, last in heard.items() if now - last >= SILENT_SECONDS}
        with self.records.transaction(durable=False):
            for found in list(self._among(over)):
                self.records.leases.end(found, self.clock())
        for key in over:
            del heard[key]

    def _among(self, keys: set[tuple[str, str]]) -> Iterator[Lease]:
        found = conflicts.of_routers(self.records)
        return (conflict for conflict in found if _key(conflict) in keys)


def _key(conflict: Lease) -> tuple[str, str]:
    return conflict.endpoint, str(conflict.address)
