"""Leases of DHCP servers for containers that Docker is still creating.

From engine 29 on, Docker names the container that starts. So servers are asked as soon
as it is created. Compose creates all containers before it starts the first: the others
find their leases waiting, however long a server looks at an address before its offer.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from underlay.errors import UnderlayError
from underlay.ipam.dhcp import DhcpAddresses
from underlay.ipam.identity import name_of
from underlay.ipam.lease_keeper import LeaseKeeper
from underlay.model import Claim, IpInterface, Network
from underlay.model.docker import ListedContainer

log = logging.getLogger(__name__)

# A server that pings each address answers many questions later than few.
AT_ONCE = 4


@dataclass
class LeasesAhead:
    """Takes leases at the creation of containers, and hands them out at the start."""

    dhcp: DhcpAddresses
    keeper: LeaseKeeper
    # By the parents and the names of containers, as long as servers are asked: in two
    # networks of a parent a container is one client until it has its first lease.
    _asked: dict[tuple[str, str], Future[None]] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(AT_ONCE, "ahead")
    )

    def note_created(self, container: ListedContainer) -> None:
        """Have servers asked for a new container; does not wait for them."""
        for network in self.dhcp.records.networks.all():
            is_named = {network.id, network.name} & set(container.drawing)
            if is_named and any(s.dhcp and s.pooled for s in network.subnets):
                self._ask(network, name_of(container.name))

    def request_address(
        self, claim: Claim, address: str, container: str
    ) -> IpInterface:
        """Return the address that a server gives a container; see DhcpAddresses."""
        name = name_of(container)
        if network := self.dhcp.records.networks.get(claim.network):
            asked = self._asked.get((network.parent_label, name))
            if asked and not asked.cancel():
                wait((asked,))
            self.keeper.note_started(network.parent_label, name)
        return self.dhcp.request_address(claim, address, container)

    def stop(self) -> None:
        """End the threads; what is being asked, is abandoned with the keeper's."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, network: Network, name: str) -> None:
        key = network.parent_label, name
        if key in self._asked:
            return
        asked = self._pool.submit(self._take, network, name)
        self._asked[key] = asked
        asked.add_done_callback(lambda _: self._asked.pop(key, None))

    def _take(self, network: Network, name: str) -> None:
        try:
            if lease := self.dhcp.take_ahead(network, name):
                self.keeper.note_ahead(lease)
        except (UnderlayError, OSError) as error:
            # The start asks again, and fails aloud.
            facts = {"container": name, "network": network.label, "error": error}
            log.info("no lease yet for a new container", extra=facts)
        except Exception:
            log.exception("internal error")
