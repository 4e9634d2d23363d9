"""Leases of addresses that other machines claim, though the container defends them.

RFC 5227 (2.4 b) has a host give such an address up, and RFC 2131 (3.1) has it decline
the lease and ask for another one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Interface

from underlay.ipam import conflicts
from underlay.ipam.dhcp_servers import Answer, DhcpServers
from underlay.model import DhcpLease, Endpoint, Lease
from underlay.records import Records

log = logging.getLogger(__name__)

# The lease in place of a declined one is not declined sooner: a machine that claims
# every address must not use up all that a server has (RFC 5227, 2.1.1).
DECLINED_SECONDS = 60.0


@dataclass
class ContestedLeases:
    """Those that are to be declined; used by many threads.

    `monotonic` returns seconds since the host booted.
    """

    records: Records
    servers: DhcpServers
    monotonic: Callable[[], float]
    # Endpoint and address of each, by its id: it may be another one's later.
    _noted: dict[int, tuple[str, IPv4Interface | None]] = field(default_factory=dict)
    # When a lease was declined last, by the endpoint.
    _declined: dict[str, float] = field(default_factory=dict)

    def note(self, lease: DhcpLease) -> bool:
        """Note that a lease is to be declined; return False if one was just now."""
        now = self.monotonic()
        for endpoint, at in list(self._declined.items()):
            if now - at >= DECLINED_SECONDS:
                self._declined.pop(endpoint, None)
        if lease.endpoint in self._declined:
            return False
        self._noted[lease.id] = lease.endpoint, lease.address
        return True

    def forget(self, lease: int) -> None:
        """Note that a lease was replaced, by its id, or that no container has it."""
        self._noted.pop(lease, None)

    def has(self, lease: DhcpLease) -> bool:
        """Return whether a lease is to be declined: not when the machine is silent."""
        noted = self._noted.get(lease.id) == (lease.endpoint, lease.address)
        return noted and self._conflict(lease) is not None

    def decline(self, endpoint: Endpoint, lease: DhcpLease) -> Answer:
        """Decline a lease, and ask from inside the sandbox for another address.

        The container has its own until a server gives another one.
        """
        self._declined[lease.endpoint] = self.monotonic()
        network = self.records.networks.get(lease.network)
        if lease.server and network:
            self.servers.decline(network.uplink.parent, lease)
        found = self._conflict(lease)
        facts = {"address": lease.address, "server": lease.server}
        log.warning(
            "lease declined: another machine claims the address",
            extra={**facts, "mac": found.mac if found else ""},
        )
        return self.servers.replace(endpoint, lease, declined=True)

    def _conflict(self, lease: DhcpLease) -> Lease | None:
        """Return the conflict about the address of a lease, as is on record."""
        address = lease.address and lease.address.ip
        for held in self.records.leases.live_of_endpoint(lease.endpoint):
            if held.address == address:
                return conflicts.of_holder(self.records, held)
        return None
