"""The records in SQLite: one short method per statement, in `transaction()`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from underlay.records.counts import Counts
from underlay.records.database import Database
from underlay.records.dhcp_leases import DhcpLeases
from underlay.records.dhcpv6_leases import Dhcpv6Leases
from underlay.records.endings import Endings
from underlay.records.endpoints import Endpoints
from underlay.records.host import HostRecords
from underlay.records.leases import Leases
from underlay.records.migrations import copy_before_migration
from underlay.records.networks import Networks
from underlay.records.pools import Pools
from underlay.records.repairs import Repairs
from underlay.records.reservations import Reservations

__all__ = ["Records", "copy_before_migration"]


class Records:
    """All tables of one database file, by concept."""

    def __init__(
        self, path: Path, *, readonly: bool = False, verify: bool = False
    ) -> None:
        """Open the records at `path`; see Database for what it raises."""
        self._database = Database(path, readonly=readonly, verify=verify)
        self.path = path
        self.endings = Endings(self._database)
        self.networks = Networks(self._database)
        self.endpoints = Endpoints(self._database)
        self.pools = Pools(self._database)
        self.reservations = Reservations(self._database, self.pools)
        self.leases = Leases(self._database, self.pools)
        self.dhcp_leases = DhcpLeases(self._database)
        self.dhcpv6_leases = Dhcpv6Leases(self._database)
        self.repairs = Repairs(self._database)
        self.host = HostRecords(self._database)
        self.counts = Counts(self._database)

    def next_generation(self) -> None:
        """Forget rows that were not read since the last call; all are read next."""
        self.networks.next_generation()
        self.endpoints.next_generation()

    def transaction(self, *, durable: bool = True) -> AbstractContextManager[None]:
        """Hold the one write transaction; any exception rolls it back."""
        return self._database.transaction(durable=durable)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other writers out, unless no transaction can begin (full disk)."""
        return self._database.exclusive()

    def watch_commits(self, observe: Callable[[float], None]) -> None:
        """Call `observe` after each COMMIT, with the seconds that it took."""
        self._database.on_commit = observe

    def change_counter(self) -> tuple[int, int]:
        """Return a value that differs after each change, by any process."""
        return self._database.change_counter()

    def check_there(self) -> None:
        """Raise RecordsUnwritable if the file is gone or was replaced."""
        self._database.check_there()

    def close(self) -> None:
        """Close the file."""
        self._database.close()
