"""Whether a DHCP server serves the segment of a new network, before containers start.

Docker is not kept waiting for it. A segment without a server is a failure of the
network, until one answers there.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from underlay.dhcp import sockets
from underlay.dhcp.client import Client
from underlay.dhcp.exchange import Exchange
from underlay.dhcp.offers import Offer
from underlay.dhcp.packets import client_id_of_mac, client_id_of_text
from underlay.errors import NoDhcpServer, UnderlayError
from underlay.ipam.dhcp_servers import DhcpServers, in_words, shim_of
from underlay.ipam.subnets import derive_mac
from underlay.model import Device, Network
from underlay.model.objects import Owner
from underlay.modes import mode_name
from underlay.modes.host_access import PROBE_MARK
from underlay.records import Records

log = logging.getLogger(__name__)

# dnsmasq looks for three seconds whether an address is in use before it offers that,
# and may have missed the first message.
SECONDS = 6.0
# Where no server answered, it is asked again: later each time.
AGAIN_SECONDS, MOST_AGAIN_SECONDS = 30.0, 600.0
# After an error that is none of a server's: a full disk, say.
FAILED_SECONDS = 10.0
_ONLY_ASKED = "not asked for: a check"


@dataclass(frozen=True, slots=True)
class Offers:
    """What servers offered, by the address of each; what was asked and heard else."""

    found: dict[IPv4Address, IPv4Address]
    asked: str
    heard: str


def offers(
    device: Device,
    network: Network,
    abandoned: Callable[[], bool] = lambda: False,
    enough: int = 0,
) -> Offers:
    """Return what the servers of a network's parent offer; nothing is taken.

    Takes SECONDS, or until so many servers have answered that it is `enough`; raises
    OSError. The client is the same each time: a server that keeps its offer for a while
    has one.
    """
    mac = derive_mac("doctor", device.name, device.mac)
    client = Client(mac, client_id_of_mac(mac))
    if mode_name(network.options) == "ipvlan":
        client = Client(device.mac, client_id_of_text("underlay doctor"))
    found: dict[IPv4Address, IPv4Address] = {}

    def note(offer: Offer) -> str:
        found[offer.server] = offer.address.ip
        return _ONLY_ASKED

    def is_over() -> bool:
        return abandoned() or 0 < enough <= len(found)

    exchange = Exchange.new(client, random.random, note)
    end = sockets.since_boot() + SECONDS
    shim = shim_of(network)
    sockets.run(
        exchange, device.name, end, abandoned=is_over, shim=shim, mark=PROBE_MARK
    )
    asked = f"{exchange.sent} message{'s' if exchange.sent != 1 else ''}"
    return Offers(found, asked, in_words(exchange.heard))


@dataclass
class ServerChecks:
    """One thread asks; others tell it what is new.

    `clock` returns seconds since 1970, `monotonic` seconds since the host booted.
    `ask` is `offers`, but for tests of what comes of it.
    """

    records: Records
    servers: DhcpServers
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    ask: Callable[..., Offers] = offers
    # When a network is asked about next, and how long it was left alone before that.
    _due: dict[str, tuple[float, float]] = field(default_factory=dict)
    # Those that were there already, or are asked about.
    _known: set[str] = field(default_factory=set)
    # The parents where a server has answered a container.
    _answered: set[str] = field(default_factory=set)
    _changed: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def note_networks(self) -> None:
        """Note that there may be another network; never waits."""
        self._changed.set()

    def note_answer(self, uplink: str) -> None:
        """Note that a server has answered on a parent, by its label; never waits."""
        if self._due:
            self._answered.add(uplink)
            self._changed.set()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._changed.set()

    def begin(self) -> None:
        """Leave the networks alone that are there, but for those that are failing.

        Called before the first call of Docker.
        """
        now = self.monotonic()
        self._known = {n.id for n in self._networks()}
        self._due = dict.fromkeys(self._failing() & self._known, (now, AGAIN_SECONDS))

    def run(self) -> None:
        """Ask about new networks, and again where no server answers, until stopped."""
        pause: float | None = 0.0
        while not self._stopping.is_set():
            try:
                pause = self.look()
            except (UnderlayError, OSError) as error:
                log.warning("servers not asked, retrying", extra={"error": error})
                pause = FAILED_SECONDS
            except Exception:
                log.exception("internal error")
                pause = FAILED_SECONDS
            self._changed.wait(pause)
            self._changed.clear()

    def look(self) -> float | None:
        """Do what is due; return after how many seconds there is more to do."""
        networks, now = {n.id: n for n in self._networks()}, self.monotonic()
        for new in networks.keys() - self._known:
            self._due[new] = now, 0.0
        self._known = set(networks)
        for gone in self._failing() - networks.keys():
            self._clear(gone)
        self._due = {n: due for n, due in self._due.items() if n in networks}
        answered, self._answered = self._answered, set()
        for identity in [n for n in self._due if networks[n].parent_label in answered]:
            self._end(networks[identity])
        # Networks of one parent are asked about together.
        asked: dict[tuple[str, bool], Offers] = {}
        for identity, (due, waited) in list(self._due.items()):
            if due <= now and not self._stopping.is_set():
                self._ask(networks[identity], waited, asked)
        ends = [due for due, _ in self._due.values()]
        return max(min(ends) - self.monotonic(), 0.0) if ends else None

    def _ask(
        self, network: Network, waited: float, asked: dict[tuple[str, bool], Offers]
    ) -> None:
        """Ask about a network; where no server answers, again later."""
        pause = min(max(2 * waited, AGAIN_SECONDS), MOST_AGAIN_SECONDS)
        device = self.servers.kernel.device(network.uplink.parent)
        if device is None or device.link_fault:
            # Its own failure. It may be back at any time.
            self._due[network.id] = self.monotonic() + AGAIN_SECONDS, waited
            return
        key = device.name, mode_name(network.options) == "ipvlan"
        if key not in asked:
            try:
                asked[key] = self.ask(device, network, self._stopping.is_set, 1)
            except OSError as error:  # it went away or down just now
                asked[key] = Offers({}, "nothing", f"{device.name}: {error.strerror}")
        found = asked[key]
        if found.found:
            for server, address in found.found.items():
                facts = {"network": network.label, "server": server, "offers": address}
                log.info("DHCP server answers", extra=facts)
            self._end(network)
        elif not self._stopping.is_set():
            self._due[network.id] = self.monotonic() + pause, pause
            self._note_failure(network, found)

    def _note_failure(self, network: Network, found: Offers) -> None:
        failure = NoDhcpServer(
            device=network.parent_label,
            asked=found.asked,
            seconds=SECONDS,
            heard=found.heard,
            way_out=self.servers.way_out(network),
        )
        if network.id not in self._failing():
            facts = {"network": network.label, "error": failure}
            log.warning("no DHCP server answers for the network", extra=facts)
        with self.records.transaction(durable=False):
            if self.records.networks.get(network.id):
                mark = _mark(network.id)
                self.records.repairs.note_failure(mark, str(failure), self.clock())

    def _end(self, network: Network) -> None:
        """Note that a network has a server."""
        if network.id in self._failing():
            self._clear(network.id)
            facts = {"network": network.label}
            log.info("a DHCP server answers for the network again", extra=facts)
        # Only now: on a full disk it is asked about once more.
        self._due.pop(network.id, None)

    def _clear(self, network: str) -> None:
        with self.records.transaction(durable=False):
            self.records.repairs.clear_failure(_mark(network))

    def _networks(self) -> list[Network]:
        return [
            network
            for network in self.records.networks.all()
            if network.uplink.parent and any(s.dhcp for s in network.subnets)
        ]

    def _failing(self) -> set[str]:
        owners = (Owner.parse(f.mark) for f in self.records.repairs.failures())
        return {owner.network for owner in owners if owner.end == "dhcp"}


def _mark(network: str) -> str:
    return Owner(network, end="dhcp").mark
