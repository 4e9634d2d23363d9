"""Whether the firewall of the host lets the packets of routed and bridge networks pass.

Docker's chain DOCKER-USER, where the service has its rules, is one chain of several on
the hook forward, and a packet must pass them all. What another program drops there, the
service does not repair: it says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial

from underlay.errors import ForwardingBlocked
from underlay.kernel import Kernel
from underlay.model import Family, Network, Obstacle, as_leased
from underlay.model.objects import CONTAINER_GROUP, DOCKER_USER, PREFIX
from underlay.model.ruleset import BaseChain, Packet, Rule, State
from underlay.modes import mode_name, traits_of
from underlay.records import Records

log = logging.getLogger(__name__)

# A port of a container: rules know them by the beginning of their names, or the group.
_PORT = f"{PREFIX}000000000000"
# What the service's own rules do with the packets that are judged here.
_ACCEPT, _RETURN = Rule((), "accept"), Rule((), "return", "RETURN")


@dataclass
class ForwardPath:
    """Records which networks are cut off by a chain of the firewall.

    `clock` gives seconds since 1970.
    """

    records: Records
    kernel: Kernel
    clock: Callable[[], float]
    _looked_at: object = None

    def update(self) -> None:
        """Judge the networks again if rules, networks or bridge settings changed.

        The kernel tells whether rules changed; only then they are listed. Raises
        OSError and UnderlayError.
        """
        networks = [
            as_leased(n, self.records.endpoints.of_network(n.id))
            for n in self.records.networks.all()
            if is_forwarded(n)
        ]
        if not (networks or self._looked_at or self.records.host.obstacles()):
            return
        uplink = self.kernel.default_device() or ""
        known = [(n.id, n.label, n.uplink.parent, n.proxy, n.subnets) for n in networks]
        bridged = [self._filtered(n) for n in networks]
        # Told before the list: what changes during it is listed the next time.
        mark = self.kernel.forward_change_mark() if networks else None
        state = known, bridged, uplink, mark
        if state == self._looked_at:
            return
        chains = self.kernel.forward_chains() if networks else []
        found = dict(cut_off(networks, chains, self.kernel, uplink))
        self._record(found)
        self._looked_at = state

    def _filtered(self, network: Network) -> list[Family]:
        """Return the families of a bridge network whose frames the chains see."""
        if traits_of(network.options).host_prefix:
            return []
        see = partial(self.kernel.filters_bridged, network.uplink.parent)
        return [family for family in network.families if see(family)]

    def _record(self, found: dict[str, str]) -> None:
        before = {o.network: o for o in self.records.host.obstacles()}
        if {n: o.text for n, o in before.items()} == found:
            return
        now = self.clock()
        after = [
            Obstacle(network, text, before[network].since if network in before else now)
            for network, text in found.items()
        ]
        with self.records.transaction():
            self.records.host.set_obstacles(after)
        for obstacle in after:
            log.warning("containers are cut off", extra={"error": obstacle.text})
        for network in before.keys() - found.keys():
            log.info(
                "containers are no longer cut off", extra={"network": network[:12]}
            )


def is_forwarded(network: Network) -> bool:
    """Return whether chains on the hook forward see the traffic of a network."""
    return traits_of(network.options).host_prefix or mode_name(network.options) == (
        "bridge"
    )


def cut_off(
    networks: Collection[Network],
    chains: Collection[BaseChain],
    kernel: Kernel,
    uplink: str,
) -> Iterator[tuple[str, str]]:
    """Return the networks whose containers reach nothing, by id, and why.

    `uplink` is the device of the default route.
    """
    for network in networks:
        for chain, packet in blocked(network, chains, kernel, uplink, way="out"):
            error = ForwardingBlocked(
                network=network.label,
                chain=f"{chain.name} ({chain.table})",
                family=packet.family,
                parent=network.uplink.parent or uplink or "the uplink",
            )
            yield network.id, str(error)
            break


def blocked(
    network: Network,
    chains: Collection[BaseChain],
    kernel: Kernel,
    uplink: str,
    *,
    way: str,
) -> Iterator[tuple[BaseChain, Packet]]:
    """Return the chains that drop what a network needs, each with such a packet.

    `way`: "out" for a connection of a container and the answers to it, "in" for a
    connection to a container.
    """
    for family in network.families:
        for chain in chains:
            if not _sees(network, chain, kernel, family):
                continue
            found = partial(_packets, network, chain, uplink, family)
            whole = _with_ours(chain)
            dropped = next((p for p in found(way) if whole.blocks(p)), None)
            if dropped:
                yield chain, dropped


def _sees(network: Network, chain: BaseChain, kernel: Kernel, family: Family) -> bool:
    if traits_of(network.options).host_prefix:
        return not chain.bridged
    return chain.bridged or kernel.filters_bridged(network.uplink.parent, family)


def _with_ours(chain: BaseChain) -> BaseChain:
    """Return a chain as it is once the service has added its rules.

    They come with the first container of a network, and a pass restores them.
    """
    rules = chain.chains.get(DOCKER_USER)
    if rules is None or not chain.takes_ours:
        return chain
    # Older engines end the chain with a RETURN, and ours come before that.
    theirs = rules[:-1] if rules[-1:] == (_RETURN,) else rules
    whole = {**chain.chains, DOCKER_USER: (*theirs, _ACCEPT)}
    return replace(chain, chains=whole)


def _packets(
    network: Network, chain: BaseChain, uplink: str, family: Family, way: str
) -> Iterator[Packet]:
    subnet = next(s.subnet for s in network.subnets if s.subnet.version == family)
    near, far = _PORT, network.proxy or uplink
    group: int | None = CONTAINER_GROUP
    if not traits_of(network.options).host_prefix:
        bridge = network.uplink.parent
        # iptables and nft see the bridge as both devices, its own tables the ports.
        near, far, group = (
            (_PORT, "", None) if chain.bridged else (bridge, bridge, None)
        )
    outward = partial(
        Packet, family, reads=near, leaves=far, from_group=group, source=subnet
    )
    inward = partial(
        Packet, family, reads=far, leaves=near, to_group=group, target=subnet
    )
    new: State = "new"
    if way == "out":
        yield outward(state=new)
        yield inward(state="established")
    else:
        yield inward(state=new)
