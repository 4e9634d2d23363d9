"""Addresses of DHCPv6 servers for running containers: asked for, renewed, given back.

A container starts without waiting for one. As soon as its device was seen in its
sandbox and its name is known, servers are asked there; a pass puts the address in. Its
lease lives like one of IPv4 (lease_keeper.py): it is the container's, and is kept at a
stop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv6Address
from math import inf
from typing import Any

from underlay.errors import UnderlayError
from underlay.ipam.contested_leases import DECLINED_SECONDS
from underlay.ipam.dhcpv6_clients import Dhcpv6Clients
from underlay.ipam.dhcpv6_servers import (
    Answer,
    Dhcpv6Servers,
    Given,
    with_given,
    without_address,
)
from underlay.ipam.lease_keeper import (
    LATE_SECONDS,
    LEAST_AGAIN_SECONDS,
    MOST_AGAIN_SECONDS,
    PER_SECOND,
)
from underlay.ipam.lease_queue import LeaseQueue
from underlay.ipam.lease_states import error_of, unserved_error
from underlay.model import Dhcpv6Lease, Endpoint, Lease, Network
from underlay.modes import ipv6
from underlay.modes.dhcp_options import hold, is_dropped
from underlay.records import Records

log = logging.getLogger(__name__)

# A device that cannot speak yet is looked at again so soon, and later each time.
UNREADY_SECONDS, UNREADY_MOST_SECONDS = 0.25, 60.0


@dataclass
class Dhcpv6Keeper(LeaseQueue):
    """Asks for leases, renews and releases them.

    `clock` returns seconds since 1970, `monotonic` seconds since the host booted.
    `on_change` is called with the path of a sandbox whose address, or how long it is
    used, is to change, and with whether the address does; it must not fail or wait.
    """

    records: Records
    servers: Dhcpv6Servers
    clients: Dhcpv6Clients
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    on_change: Callable[[str, bool], None] = lambda _sandbox, _is_new: None
    # When a silent server is asked again, in seconds since the boot, and when the lease
    # was given: if a command has renewed it since, that is void.
    _again: dict[int, tuple[float, float]] = field(default_factory=dict)
    # Leases that may not hold any more: of containers that have just started, and where
    # the parent may be on another segment now.
    _doubted: set[int] = field(default_factory=set)
    # Addresses that another machine has, by the lease.
    _failed: dict[int, IPv6Address] = field(default_factory=dict)
    # When one was declined last, by the lease, in seconds since the boot.
    _declined: dict[int, float] = field(default_factory=dict)
    # How often a device could not speak yet.
    _unready: dict[int, int] = field(default_factory=dict)
    # When the lease was asked for that was renewed last, in seconds since the boot.
    _newest: float = 0.0

    def __post_init__(self) -> None:
        super().__init__(self.monotonic)

    def run(self) -> None:
        """Look at leases as they become due, until told to stop."""
        self.follow()
        for lease in self.records.dhcpv6_leases.concerned():
            self.note(lease)
        super().run()

    def follow(self) -> None:
        """Begin with running containers that are new; does not ask servers itself."""
        for identity in self.records.dhcpv6_leases.unknown():
            endpoint = self.records.endpoints.get(identity)
            network = self.records.networks.get(endpoint.network) if endpoint else None
            if endpoint and network and ipv6.hears_routers(network, endpoint):
                try:
                    self._begin(network, endpoint)
                except UnderlayError as error:  # a full disk; the next pass asks again
                    facts = {"container": endpoint.container, "error": error}
                    log.warning("DHCPv6 client not recorded, retrying", extra=facts)

    def _begin(self, network: Network, endpoint: Endpoint) -> None:
        """Record which client a container is; what it had before, it has at once."""
        with self.records.transaction():
            if self.records.dhcpv6_leases.of_endpoint(endpoint.id):
                return  # another thread was first
            lease = self._in_this_boot(self.clients.of_running(network, endpoint))
            saved = self.records.dhcpv6_leases.save(lease)
            if saved.address and not saved.is_dropped:
                self._start(saved)
        if saved.address:
            self._doubted.add(saved.id)
            self.on_change(endpoint.sandbox, True)
        self._look_now(saved)

    def _in_this_boot(self, lease: Dhcpv6Lease) -> Dhcpv6Lease:
        """Return a held lease with times that count from now, in this boot.

        One whose time is over is not used before a server gives it again.
        """
        if lease.address is None:
            return lease
        servers = self.servers.servers
        over = lease.expires and self._moment(lease, lease.expires) <= self.monotonic()
        if lease.boot != servers.boot():
            now, uptime = self.clock(), self.monotonic()
            lease = replace(lease, boot=servers.boot(), since=now, uptime=uptime)
        lost = [lease.address] if over and lease.address else []
        return replace(lease, former=tuple(lost))

    def note(self, lease: Dhcpv6Lease) -> None:
        """Look at a lease when it is due; never waits long."""
        due = self._due(lease)
        if due is not None:
            self._look_at(lease.id, due)

    def note_back(self, network: str) -> None:
        """Ask whether the leases of a network hold: its parent is back, or another."""
        now, found = self.monotonic(), self.records.dhcpv6_leases.bound_to(network)
        for number, lease in enumerate(found):
            self._doubted.add(lease.id)
            self._look_now(lease, now + number / PER_SECOND)

    def note_failed(self, endpoint: str) -> None:
        """Decline the lease of an endpoint: another machine has the address."""
        lease = self.records.dhcpv6_leases.of_endpoint(endpoint)
        if lease and lease.address and self._failed.get(lease.id) != lease.address.ip:
            self._failed[lease.id] = lease.address.ip
            self._look_now(lease)

    def _look_now(self, lease: Dhcpv6Lease, due: float = 0.0) -> None:
        """Look at a lease at once, or when it is due; how often it failed is void."""
        self._again.pop(lease.id, None)
        self._unready.pop(lease.id, None)
        self._look_at(lease.id, due or self.monotonic())

    def note_listed(self, names: Collection[str]) -> None:
        """Record which containers Docker lists: those of others are given back."""
        table = self.records.dhcpv6_leases
        if found := table.misjudged(names):
            now = self.clock()
            with self.records.transaction(durable=False):
                for lease in found:
                    table.note_gone(lease.id, 0.0 if lease.gone else now)
        boot, since = self.servers.servers.boot(), self._newest - LATE_SECONDS
        renewed = table.asked_after(boot, since)  # by a command too
        self._newest = max((one.uptime for one in renewed), default=self._newest)
        for lease in (*table.going(), *renewed):
            self.note(lease)

    def renew(self, lease: Dhcpv6Lease) -> Dhcpv6Lease | None:
        """Renew the lease of a running container now; return it as it is then.

        None if the container is starting or ending. Raises LeaseNotRenewed or
        NoDhcpv6Server if no server answers.
        """
        endpoint = self._running(lease)
        if endpoint is None:
            return None
        answer = self._answer(endpoint, lease, is_due=False)
        if answer.given is None:
            silent = replace(lease, silent=lease.silent or self.clock())
            raise error_of(lease) if lease.address else unserved_error(silent)
        self._extend(endpoint, lease, answer.given)
        return self.records.dhcpv6_leases.by_id(lease.id)

    def release(self, lease: Dhcpv6Lease) -> bool:
        """Give a lease back, and forget its container; return whether that was done.

        Not if a container has it, or Docker lists its container again since.
        """
        with ExitStack() as later, self.records.transaction():
            known = self.records.dhcpv6_leases.by_id(lease.id)
            if known is None or known.endpoint or known.gone != lease.gone:
                return False
            self.records.dhcpv6_leases.remove(lease.id)
            if known.address and known.duid:
                network = self.records.networks.get(known.network)
                device = network.uplink.parent if network else known.uplink
                self.servers.release(device, known, later)
                facts = {"address": known.address.ip, "container": known.value}
                log.info("lease given back", extra=facts)
        return True

    def _running(self, lease: Dhcpv6Lease) -> Endpoint | None:
        endpoint = self.records.endpoints.get(lease.endpoint)
        is_there = endpoint and endpoint.sandbox and endpoint.learned
        return endpoint if endpoint and is_there and not endpoint.left else None

    def _moment(self, lease: Dhcpv6Lease, at: float) -> float:
        return self.servers.servers.moment(lease, at)

    def _due(self, lease: Dhcpv6Lease) -> float | None:
        """Return when something is to be done about a lease, None if nothing is."""
        if not lease.endpoint:
            if not lease.gone:
                return None
            seconds = hold(self.records.networks.options_of(lease.network))
            return self.servers.servers.when(lease.gone + seconds)
        due, given = self._again.get(lease.id, (0.0, lease.since))
        again = due if given == lease.since else 0.0
        is_asked = lease.id in self._doubted or self._has_failed(lease)
        if is_asked or lease.address is None or lease.is_dropped:
            return again
        return max(self._moment(lease, lease.renew), again) if lease.renew else None

    def _has_failed(self, lease: Dhcpv6Lease) -> bool:
        failed = self._failed.get(lease.id)
        return bool(lease.address and failed == lease.address.ip)

    def _keep(self, identity: int) -> None:
        lease = self.records.dhcpv6_leases.by_id(identity)
        due = self._due(lease) if lease else None
        if lease is None or due is None:
            self._forget(identity)
        elif due > self.monotonic():
            self._look_at(identity, due)
        elif not lease.endpoint:
            self.release(lease)
        elif endpoint := self._running(lease):
            self._ask(endpoint, lease)
        # Else whatever ends the endpoint lets the lease go, or it is joined once more.
        else:
            self._wait_for(lease)

    def _forget(self, lease: int) -> None:
        known: list[dict[int, Any]]
        known = [self._again, self._failed, self._declined, self._unready]
        for facts in known:
            facts.pop(lease, None)
        self._doubted.discard(lease)

    def _ask(self, endpoint: Endpoint, lease: Dhcpv6Lease) -> None:
        """Ask for what is due; record what comes of it, or try again later."""
        began = self.monotonic()
        if self._is_over(lease) and not lease.is_dropped and self._drops(lease):
            lease = self._drop(endpoint, lease)
        answer = self._answer(endpoint, lease, is_due=True)
        if answer.unready:
            self._wait_for(lease)
            return
        self._unready.pop(lease.id, None)
        if answer.given:
            self._extend(endpoint, lease, answer.given)
            return
        pause = self._pause(lease, began)
        self._again[lease.id] = self.monotonic() + pause, lease.since
        if not lease.silent:
            with self.records.transaction():
                known = self.records.dhcpv6_leases.by_id(lease.id)
                if known and known.endpoint == lease.endpoint:
                    now = replace(known, silent=self.clock())
                    self.records.dhcpv6_leases.save(now)
        log.warning(
            "no DHCPv6 server answers",
            extra={"container": lease.value, "address": lease.address}
            | {"server": lease.server, "pause": f"{pause:.0f}"},
        )
        self._look_at(lease.id, self._again[lease.id][0])

    def _wait_for(self, lease: Dhcpv6Lease) -> None:
        """Look at a lease again when the device may be there, and able to speak."""
        times = self._unready.get(lease.id, 0)
        self._unready[lease.id] = times + 1
        pause = min(UNREADY_SECONDS * 2 ** min(times, 10), UNREADY_MOST_SECONDS)
        self._again[lease.id] = self.monotonic() + pause, lease.since
        self._look_at(lease.id, self._again[lease.id][0])

    def _answer(
        self, endpoint: Endpoint, lease: Dhcpv6Lease, *, is_due: bool
    ) -> Answer:
        """Ask for more time, and for another address if that is refused.

        `is_due`: the lease's own server comes first. Else any may answer.
        """
        answer = self._asked(endpoint, lease, is_due=is_due)
        own = self.servers.servers.kernel.is_own
        if answer.given is None or not own(answer.given.address.ip):
            return answer
        # On a macvlan parent, the container's kernel does not find that out.
        self._failed[lease.id] = answer.given.address.ip
        boot = self.servers.servers.boot()
        self.servers.decline(endpoint, with_given(lease, answer.given, boot))
        facts = {"address": answer.given.address, "server": answer.given.server}
        log.warning("lease declined: the address is this host's own", extra=facts)
        return Answer()

    def _asked(self, endpoint: Endpoint, lease: Dhcpv6Lease, *, is_due: bool) -> Answer:
        accept = partial(self._refusal, lease)
        if self._has_failed(lease):
            before = self._declined.get(lease.id)
            self._decline(endpoint, lease)
            if before and self.monotonic() - before < 2 * DECLINED_SECONDS:
                return Answer()  # a machine with every address must not use up all
            return self.servers.new(endpoint, lease, accept)
        if lease.address is None or lease.is_dropped or self._is_over(lease):
            return self.servers.new(endpoint, lease, accept)
        ends = self._moment(lease, lease.rebind) if lease.rebind else inf
        is_early = is_due and self.monotonic() < ends
        if is_early and lease.duid and lease.id not in self._doubted:
            answer = self.servers.renew(endpoint, lease, accept)
        else:
            answer = self.servers.rebind(endpoint, lease, accept)
        if not answer.refused:
            return answer
        log.warning(
            "lease refused, asking for another one",
            extra={"address": lease.address, "server": lease.server},
        )
        return self.servers.new(endpoint, lease, accept)

    def _decline(self, endpoint: Endpoint, lease: Dhcpv6Lease) -> None:
        """Tell the server of a lease that another machine has the address.

        The container cannot use it, and has none then.
        """
        self.servers.decline(endpoint, lease)
        self._declined[lease.id] = self.monotonic()
        log.warning(
            "lease declined: another machine has the address",
            extra={"address": lease.address, "server": lease.server},
        )
        with self.records.transaction():
            known = self.records.dhcpv6_leases.by_id(lease.id)
            if known and (known.endpoint, known.since) == (lease.endpoint, lease.since):
                self.records.dhcpv6_leases.save(without_address(known))
                self._end(lease)
        self.on_change(endpoint.sandbox, True)

    def _refusal(self, lease: Dhcpv6Lease, offered: IPv6Address) -> str:
        """Return why a container cannot have an address, "" if it can."""
        if self._failed.get(lease.id) == offered:
            return "of an address that another machine has"
        for held in self.records.leases.having(offered):
            network = self.records.networks.get(held.network)
            is_here = network and network.parent_label == lease.uplink
            if is_here and held.endpoint not in ("", lease.endpoint):
                return f"of {offered}, which another container has here"
        return ""

    def _is_over(self, lease: Dhcpv6Lease) -> bool:
        """Return whether the time of a lease is over."""
        ends = lease.address and lease.expires
        return bool(ends) and self.monotonic() >= self._moment(lease, lease.expires)

    def _drops(self, lease: Dhcpv6Lease) -> bool:
        return is_dropped(self.records.networks.options_of(lease.network))

    def _drop(self, endpoint: Endpoint, lease: Dhcpv6Lease) -> Dhcpv6Lease:
        """Record that a container must not have the address of a lease any more."""
        assert lease.address  # noqa: S101 - its time is over
        with self.records.transaction():
            known = self.records.dhcpv6_leases.by_id(lease.id)
            if known is None or known.endpoint != lease.endpoint:
                return lease
            if known.since != lease.since:  # a command has just renewed it
                return known
            former = (*known.former, lease.address)
            dropped = self.records.dhcpv6_leases.save(replace(known, former=former))
            self._end(lease)
        log.warning(
            "lease has ended, taking the address out of the container",
            extra={"address": lease.address, "server": lease.server},
        )
        self.on_change(endpoint.sandbox, True)
        return dropped

    def _pause(self, lease: Dhcpv6Lease, began: float) -> float:
        """Return after how many seconds a server is asked again, silent from `began`.

        After half of the time that is left for that. Without an address, after the end
        of the lease, and while that is in doubt: later each time.
        """
        now, is_plain = self.monotonic(), lease.address and not self._has_failed(lease)
        is_plain = is_plain and lease.id not in self._doubted
        for limit in (lease.rebind, lease.expires) if is_plain else ():
            if limit and began < self._moment(lease, limit):
                left = self._moment(lease, limit) - now
                return max(left / 2, min(LEAST_AGAIN_SECONDS, left / 4), 1.0)
        begun = lease.silent or lease.expires or self.clock()
        over = now - self.servers.servers.when(begun)
        return min(max(over, LEAST_AGAIN_SECONDS), MOST_AGAIN_SECONDS)

    def _extend(self, endpoint: Endpoint, lease: Dhcpv6Lease, given: Given) -> None:
        """Record what a server gave, unless the container has ended meanwhile."""
        table = self.records.dhcpv6_leases
        with self.records.transaction():
            known = table.by_id(lease.id)
            if known is None or known.endpoint != lease.endpoint:
                return
            saved = table.save(with_given(known, given, self.servers.servers.boot()))
            table.take_over(saved)
            is_new = known.address != saved.address or known.is_dropped
            if is_new:
                self._end(known)
                self._start(saved)
        # Only now: on a full disk it is asked once more.
        self._again.pop(lease.id, None)
        self._failed.pop(lease.id, None)
        self._doubted.discard(lease.id)
        if known.address and saved.address != known.address:
            facts = {"from": known.address, "to": saved.address, "server": given.server}
            log.warning("container has another address by its lease", extra=facts)
        self.on_change(endpoint.sandbox, is_new)
        self.note(saved)

    def _start(self, lease: Dhcpv6Lease) -> None:
        """Enter in the history that an endpoint has an address now."""
        assert lease.address  # noqa: S101 - it was given
        self.records.leases.start(
            Lease(
                id=0,
                address=lease.address.ip,
                role="endpoint",
                network=lease.network,
                endpoint=lease.endpoint,
                mac=lease.mac,
                container=lease.container,
                since=self.clock(),
            )
        )

    def _end(self, lease: Dhcpv6Lease) -> None:
        """Enter in the history that an endpoint has an address no more."""
        for held in self.records.leases.live_of_endpoint(lease.endpoint):
            if lease.address and held.address == lease.address.ip:
                self.records.leases.end(held, self.clock())
