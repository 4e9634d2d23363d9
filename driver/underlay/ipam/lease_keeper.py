"""Leases of DHCP servers are renewed while containers have them, and given back.

One thread waits for what is due next, and a few ask servers. A lease is renewed from
inside the sandbox, on the container's own device: there no firewall, no other client
and no paused container is in the way. What is on record says what is due; the queue
only says when to look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from underlay.ipam.contested_leases import ContestedLeases
from underlay.ipam.dhcp_clients import host_name_of
from underlay.ipam.dhcp_servers import Answer, DhcpServers, Given, with_given
from underlay.ipam.lease_queue import STARTING_SECONDS, LeaseQueue
from underlay.ipam.lease_states import error_of
from underlay.model import DhcpLease, Endpoint, Lease
from underlay.model.lease_options import LeaseOptions
from underlay.modes import attachment
from underlay.modes.dhcp_options import hold, host_name_is_sent, is_dropped
from underlay.records import Records

log = logging.getLogger(__name__)

# RFC 2131, 4.4.5: again after half of the time that is left, but not sooner than this.
LEAST_AGAIN_SECONDS = 60.0
# After the end of a lease no server is asked more seldom than this.
MOST_AGAIN_SECONDS = 600.0
# So many leases of a parent that is back are asked about in a second.
PER_SECOND = 20
# A lease that was asked for is on record after this time at the latest.
LATE_SECONDS = 60.0
# So many entries of the history of an address are looked through.
HISTORY_MOST = 100
# How long a lease waits for the start of a container that was created.
START_SECONDS = 120.0


@dataclass
class LeaseKeeper(LeaseQueue):
    """Renews and releases leases.

    `clock` returns seconds since 1970, `monotonic` seconds since the host booted.
    `on_change` is called with the path of a sandbox in which another address, router,
    route or MTU is to be; it must not fail or wait.
    """

    records: Records
    servers: DhcpServers
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    on_change: Callable[[str], None] = lambda _sandbox: None
    # The next try for a lease whose server does not answer, in seconds since the boot,
    # and when it was given: if a command has renewed it since, that try is void.
    _again: dict[int, tuple[float, float]] = field(default_factory=dict)
    # When the lease was asked for that was renewed last, in seconds since the boot.
    _newest: float = 0.0
    # The leases that may not hold any more, and since when: their parent may be on
    # another segment now. Its switch may let frames through only half a minute later.
    _doubted: dict[int, float] = field(default_factory=dict)
    # Those whose server does not know the container's name yet.
    _named: set[int] = field(default_factory=set)
    # Until when those of containers that were created wait for the start, since boot,
    # and when they were given: if the container has started since, that is void.
    _ahead: dict[int, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.monotonic)
        self._contested = ContestedLeases(self.records, self.servers, self.monotonic)

    def note(self, lease: DhcpLease) -> None:
        """Look at a lease when it is due; never waits long."""
        due = self._due(lease)
        if due is not None:
            self._look_at(lease.id, due)

    def note_ahead(self, lease: DhcpLease) -> None:
        """Give a lease back if its container, which is created, does not start soon."""
        due = self.monotonic() + START_SECONDS
        self._ahead[lease.id] = due, lease.since
        self._look_at(lease.id, due)

    def note_started(self, uplink: str, container: str) -> None:
        """Note that a container starts for which a lease may be waiting."""
        if lease := self.records.dhcp_leases.get(uplink, "name", container):
            self._ahead.pop(lease.id, None)

    def note_back(self, network: str) -> None:
        """Ask whether the leases of a network hold: its parent is back, or another."""
        now = self.monotonic()
        for number, lease in enumerate(self.records.dhcp_leases.of_network(network)):
            self._doubted[lease.id] = now
            self._again.pop(lease.id, None)
            self._look_at(lease.id, now + number / PER_SECOND)

    def note_named(self, endpoint: str) -> None:
        """Tell the server at once the name of a container that Docker told late.

        It has been asked without a host name.
        """
        with self.records.transaction():
            lease = self.records.dhcp_leases.of_endpoint(endpoint)
            network = self.records.networks.get(lease.network) if lease else None
            if not (lease and network and host_name_is_sent(network.options)):
                return
            name = host_name_of(lease.container)
            if lease.hostname or not name:
                return
            self.records.dhcp_leases.save(replace(lease, hostname=name))
        self._named.add(lease.id)
        self._look_at(lease.id, self.monotonic())

    def note_contested(self, endpoint: str) -> None:
        """Decline the lease of an endpoint, if it has one: a machine claims it."""
        lease = self.records.dhcp_leases.of_endpoint(endpoint)
        if lease and self._contested.note(lease):
            self._again.pop(lease.id, None)
            self._look_at(lease.id, self.monotonic())

    def note_all(self) -> None:
        """Look at all leases when they are due."""
        for lease in self.records.dhcp_leases.given():
            self.note(lease)

    def note_listed(self, names: Collection[str]) -> None:
        """Record which containers Docker lists: those of others are given back."""
        if found := self.records.dhcp_leases.misjudged(names):
            now = self.clock()
            with self.records.transaction(durable=False):
                for lease in found:
                    gone = 0.0 if lease.gone else now
                    self.records.dhcp_leases.note_gone(lease.id, gone)
        for lease in (*self.records.dhcp_leases.going(), *self._renewed()):
            self.note(lease)

    def _renewed(self) -> list[DhcpLease]:
        """Return the leases that may have been renewed since this was called last.

        By a command too, which another process runs.
        """
        since = self._newest - LATE_SECONDS
        found = self.records.dhcp_leases.asked_after(self.servers.boot(), since)
        self._newest = max((one.uptime for one in found), default=self._newest)
        return found

    def renew(self, lease: DhcpLease) -> DhcpLease | None:
        """Renew the lease of a running container now; return it as it is then.

        Any server may do so, or give another address. None if the container is starting
        or ending. Raises LeaseNotRenewed if no server answers.
        """
        endpoint = self.records.endpoints.get(lease.endpoint)
        if endpoint is None or endpoint.left or not endpoint.learned:
            return None
        answer = self._answer(endpoint, lease)
        answer = answer if answer.given else self.servers.rebind(endpoint, lease)
        if not answer.given:
            raise error_of(lease)
        self._extend(endpoint, lease, answer.given)
        return self.records.dhcp_leases.by_id(lease.id)

    def release(self, lease: DhcpLease) -> bool:
        """Give a lease back, and forget its container; return whether that was done.

        Not if a container has it or starts with it, or Docker lists its container again
        since.
        """
        with ExitStack() as later, self.records.transaction():
            known = self.records.dhcp_leases.by_id(lease.id)
            if known is None or known.endpoint or known.gone != lease.gone:
                return False
            if self._is_starting(known):
                return False
            self.records.dhcp_leases.remove(lease.id)
            self._tell_server(lease, later, "lease given back")
        return True

    def _tell_server(self, lease: DhcpLease, later: ExitStack, event: str) -> None:
        """Give a lease back; part of the transaction that records it.

        After a death before its end, the lease is given back once more. After one
        behind it, nothing would know of the lease but the server.
        """
        if lease.address and lease.server:
            network = self.records.networks.get(lease.network)
            device = network.uplink.parent if network else lease.uplink
            self.servers.release(device, lease, later)
            facts = {"address": lease.address.ip, "container": lease.value}
            log.info(event, extra=facts)

    def _is_starting(self, lease: DhcpLease) -> bool:
        """Return whether Docker knows the address of a lease, and has no endpoint."""
        held = self.records.leases.having(lease.address.ip) if lease.address else ()
        return any((h.network, h.endpoint) == (lease.network, "") for h in held)

    def run(self) -> None:
        """Look at leases as they become due, until told to stop."""
        self.note_all()
        super().run()

    def stop(self) -> None:
        """End the threads without waiting for a server."""
        self.servers.stop()
        super().stop()

    def _due(self, lease: DhcpLease) -> float | None:
        """Return when something is to be done about a lease, None if nothing is.

        A container that has none yet may be starting with it.
        """
        if lease.gone and not lease.endpoint:
            return self._release_due(lease)
        waits_until, given = self._ahead.get(lease.id, (0.0, 0.0))
        if waits_until and given == lease.since and not lease.endpoint:
            return waits_until
        is_asked = lease.id in self._doubted or lease.id in self._named
        is_asked |= self._contested.has(lease)
        if (is_asked and lease.endpoint) or _is_lost(lease):  # at once
            return self._next_try(lease)
        if not lease.renew:
            return None
        return max(self.servers.moment(lease, lease.renew), self._next_try(lease))

    def _next_try(self, lease: DhcpLease) -> float:
        """Return when a server that did not answer is asked again, 0 if all did."""
        due, given = self._again.get(lease.id, (0.0, lease.since))
        return due if given == lease.since else 0.0

    def _release_due(self, lease: DhcpLease) -> float:
        """Return when the lease of a removed container is given back.

        Of a removed network too: Compose takes both down, and makes them again.
        """
        seconds = hold(self.records.networks.options_of(lease.network))
        return self.servers.when(lease.gone + seconds)

    def _keep(self, identity: int) -> None:
        lease = self.records.dhcp_leases.by_id(identity)
        due = self._due(lease) if lease else None
        if lease is None or due is None:
            self._again.pop(identity, None)
            self._ahead.pop(identity, None)
            self._doubted.pop(identity, None)
            self._contested.forget(identity)
            return
        if due > self.monotonic():
            self._look_at(identity, due)
        elif lease.endpoint:
            self._renew(lease)
        elif lease.gone:
            self.release(lease)
        elif self._ahead.pop(lease.id, (0.0, 0.0))[1] == lease.since:
            self._give_back(lease)

    def _give_back(self, lease: DhcpLease) -> None:
        """Give a lease back whose container did not start; it stays known as it is."""
        with ExitStack() as later, self.records.transaction():
            known = self.records.dhcp_leases.by_id(lease.id)
            if known is None or known.endpoint or self._is_starting(known):
                return
            self.records.dhcp_leases.save(replace(known, address=None, server=None))
            event = "lease given back: the container has not started"
            self._tell_server(lease, later, event)

    def _renew(self, lease: DhcpLease) -> None:
        """Ask for more time; record what comes of it, or try again later."""
        endpoint = self.records.endpoints.get(lease.endpoint)
        if endpoint is None or endpoint.left:
            self._named.discard(lease.id)
            return  # whatever ends the endpoint lets the lease go
        if not (endpoint.sandbox and endpoint.learned):
            self._look_at(lease.id, self.monotonic() + STARTING_SECONDS)
            return
        began = self.monotonic()
        if self._is_over(lease) and self._drops(lease):
            lease = self._drop(endpoint, lease)
        answer = self._answer(endpoint, lease)
        if answer.given:
            self._extend(endpoint, lease, answer.given)
            return
        pause = self._pause(lease, began)
        due = self.monotonic() + pause
        self._again[lease.id] = due, lease.since
        told = {
            "address": lease.address,
            "server": lease.server,
            "pause": f"{pause:.0f}",
        }
        log.warning("lease not renewed: no server answers", extra=told)
        self._look_at(lease.id, due)

    def _answer(self, endpoint: Endpoint, lease: DhcpLease) -> Answer:
        """Ask for more time, and for another lease if that is refused."""
        answer = self._ask(endpoint, lease)
        if not answer.refused:
            return answer
        log.warning(
            "lease refused, asking for another one",
            extra={"address": lease.address, "server": lease.server},
        )
        return self.servers.replace(endpoint, lease)

    def _ask(self, endpoint: Endpoint, lease: DhcpLease) -> Answer:
        """Ask the server that gave the lease, later any server, at last for another.

        After its end the container keeps its address, unless the network says
        otherwise: a router that boots must not take the services down.
        """
        self._named.discard(lease.id)  # whatever is asked now tells the name
        if self._contested.has(lease):
            return self._contested.decline(endpoint, lease)
        if _is_lost(lease):
            return self.servers.rebind(endpoint, lease)
        if self._is_over(lease) or lease.id in self._doubted:
            answer = self.servers.confirm(endpoint, lease)
            is_silent = not (answer.given or answer.refused)
            return self.servers.replace(endpoint, lease) if is_silent else answer
        if self.monotonic() >= self.servers.moment(lease, lease.rebind):
            return self.servers.rebind(endpoint, lease)
        return self.servers.renew(endpoint, lease)

    def _is_over(self, lease: DhcpLease) -> bool:
        """Return whether the time of a lease is over."""
        ends = bool(lease.expires) and not _is_lost(lease)
        return ends and self.monotonic() >= self.servers.moment(lease, lease.expires)

    def _drops(self, lease: DhcpLease) -> bool:
        options = self.records.networks.options_of(lease.network)
        return is_dropped(options) and not lease.is_dropped

    def _drop(self, endpoint: Endpoint, lease: DhcpLease) -> DhcpLease:
        """Record that a container must not have the address of a lease any more."""
        assert lease.address  # noqa: S101 - it was given
        with self.records.transaction():
            known = self.records.dhcp_leases.by_id(lease.id)
            if known is None or known.endpoint != lease.endpoint:
                return lease
            if known.since != lease.since:  # a command has just renewed it
                return known
            former = (*known.former, lease.address)
            dropped = self.records.dhcp_leases.save(replace(known, former=former))
            for held in self._held(lease):
                self.records.leases.end(held, self.clock())
        log.warning(
            "lease has ended, taking the address out of the container",
            extra={"address": lease.address, "server": lease.server},
        )
        self.on_change(endpoint.sandbox)
        return dropped

    def _pause(self, lease: DhcpLease, began: float) -> float:
        """Return after how many seconds a server is asked again, silent from `began`.

        After half of the time that is left for that (RFC 2131, 4.4.5). After the end of
        the lease: later each time.
        """
        if _is_lost(lease) or self._contested.has(lease):
            return LEAST_AGAIN_SECONDS
        now = self.monotonic()
        if since := self._doubted.get(lease.id):
            return min(max(now - since, LEAST_AGAIN_SECONDS), MOST_AGAIN_SECONDS)
        for limit in (lease.rebind, lease.expires):
            if began < self.servers.moment(lease, limit):
                left = self.servers.moment(lease, limit) - now
                return max(left / 2, min(LEAST_AGAIN_SECONDS, left / 4), 1.0)
        over = now - self.servers.moment(lease, lease.expires)
        return min(max(over, LEAST_AGAIN_SECONDS), MOST_AGAIN_SECONDS)

    def _extend(self, endpoint: Endpoint, lease: DhcpLease, given: Given) -> None:
        """Record a lease that was renewed, unless the container has ended meanwhile."""
        with self.records.transaction():
            known = self.records.dhcp_leases.by_id(lease.id)
            if known is None or known.endpoint != lease.endpoint:
                return
            network = self.records.networks.get(known.network)
            # Others of the lease may be the container's own.
            routes = attachment(network, endpoint).destinations if network else ()
            now = with_given(known, given, self.servers.boot(), routes=routes)
            saved = self.records.dhcp_leases.save(now)
            self.records.dhcp_leases.take_over(saved)
            if saved.address != lease.address or known.is_dropped:
                self._move(known, saved)
        # Only now: on a full disk it is asked once more.
        self._again.pop(lease.id, None)
        self._contested.forget(lease.id)
        self._doubted.pop(lease.id, None)
        if saved.address != lease.address:
            facts = {"from": lease.address, "to": saved.address, "server": given.server}
            log.warning("container has another address by its lease", extra=facts)
        if _brought(saved) != _brought(lease):
            self.on_change(endpoint.sandbox)
        self.note(saved)

    def _move(self, before: DhcpLease, after: DhcpLease) -> None:
        """Record in the history that an endpoint has another address now."""
        assert before.address  # noqa: S101 - it had one
        assert after.address  # noqa: S101 - it was given
        leases, now = self.records.leases, self.clock()
        for held in self._held(before):
            if not held.until:
                leases.end(held, now)
            address = after.address.ip
            leases.start(replace(held, address=address, since=now, until=0.0, fixed=0))

    def _held(self, lease: DhcpLease) -> list[Lease]:
        """Return the entry of the history about an endpoint and its lease, if any.

        The last one that has ended, where the address was taken out of the container.
        """
        assert lease.address  # noqa: S101 - it was given
        ip, leases = lease.address.ip, self.records.leases
        found = (
            leases.history(str(ip), HISTORY_MOST)
            if lease.is_dropped
            else leases.live_of_endpoint(lease.endpoint)
        )
        mine = [h for h in found if (h.endpoint, h.address) == (lease.endpoint, ip)]
        return mine[:1]


def _brought(lease: DhcpLease) -> tuple[object, ...]:
    """Return what a container has by its lease."""
    said = LeaseOptions.of_area(lease.options)
    return lease.address, lease.is_dropped, lease.router, said


def _is_lost(lease: DhcpLease) -> bool:
    """Return whether it is not known which server gave a lease that a container has."""
    return bool(lease.endpoint and lease.address) and lease.server is None
