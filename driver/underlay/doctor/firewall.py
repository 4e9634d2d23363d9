"""Which firewall decides about containers here, and whether it lets them pass.

A packet must pass every chain on the hook forward: iptables of both back ends, and all
tables of nft, those of firewalld and Docker included.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace

from underlay.doctor.examined import Examined
from underlay.doctor.finding import Finding
from underlay.kernel.nftables import is_word
from underlay.model import IpNetwork, Network
from underlay.model.ruleset import BaseChain, Packet
from underlay.networks.forward_path import blocked, is_forwarded

_UFW = "ufw-"


def forward_chains(host: Examined) -> Iterator[Finding]:
    """Find chains that drop what routed and bridge networks need."""
    networks = [host.as_leased(n) for n in host.networks if is_forwarded(n)]
    chains = host.kernel.forward_chains() if networks else []
    uplink = host.kernel.default_device() or ""
    for network in networks:
        seen = set()
        for way in ("out", "in"):
            for chain, packet in blocked(network, chains, host.kernel, uplink, way=way):
                if (key := (chain.table, chain.name, packet.family)) not in seen:
                    seen.add(key)
                    found = _finding(network, chain, packet, way)
                    yield replace(found, why=f"{found.why}{_leftover(host, chain)}")
    yield from _back_ends(chains)


def _finding(network: Network, chain: BaseChain, packet: Packet, way: str) -> Finding:
    is_out = way == "out"
    return Finding(
        "failure" if is_out else "warning",
        f"network {network.label}",
        f"the chain {chain.name} of {_owner(chain)} drops its IPv{packet.family}"
        f" traffic{'' if is_out else ' from outside'}",
        "its containers are cut off: an accept elsewhere, as in DOCKER-USER, does not"
        " override a drop here"
        if is_out
        else "nothing on the LAN can open a connection to its containers",
        _remedy(network, chain, packet),
    )


def _leftover(host: Examined, chain: BaseChain) -> str:
    """Return that a chain of iptables is left from another firewall of Docker's."""
    engine = host.engine
    if not engine or "nftables" not in engine.firewall or "table " in chain.table:
        return ""
    return (
        ". Docker uses nftables here, without the chain DOCKER-USER: these rules of"
        " iptables are left from before, and a reboot removes them"
    )


def _owner(chain: BaseChain) -> str:
    """Return the firewall that a chain is of, by the names that it uses."""
    if any(name.startswith(_UFW) for name in chain.chains):
        return f"ufw ({chain.table})"
    return "firewalld" if chain.table.endswith(" firewalld") else chain.table


def _remedy(network: Network, chain: BaseChain, packet: Packet) -> str:
    """Return the commands that accept the traffic of a network in a chain."""
    subnet = next(
        s.subnet for s in network.subnets if s.subnet.version == packet.family
    )
    owner = _owner(chain)
    if owner.startswith("ufw"):
        return f"ufw route allow from {subnet}; ufw route allow to {subnet}"
    if owner == "firewalld":
        return (
            f"firewall-cmd --permanent --zone=trusted --add-source={subnet};"
            " firewall-cmd --permanent --new-policy=underlay; firewall-cmd"
            " --permanent --policy=underlay --add-ingress-zone=ANY"
            " --add-egress-zone=trusted --set-target=ACCEPT; firewall-cmd --reload"
        )
    if chain.table.startswith("table "):
        family, table = chain.table.removeprefix("table ").split(" ", 1)
        if not (is_word(table) and is_word(chain.name)):
            return _in_json(family, table, chain.name, subnet)
        where = f"nft insert rule {family} {table} {chain.name}"
        word = "ip" if packet.family == 4 else "ip6"
        return (
            f"{where} {word} saddr {subnet} accept; {where} {word} daddr {subnet}"
            + (" accept")
        )
    where = f"{chain.table} -I {chain.name}"
    return f"{where} -s {subnet} -j ACCEPT; {where} -d {subnet} -j ACCEPT"


def _in_json(family: str, table: str, chain: str, subnet: IpNetwork) -> str:
    """Return the same for names that nft takes in JSON only."""
    protocol = "ip" if subnet.version == 4 else "ip6"
    prefix = {"addr": str(subnet.network_address), "len": subnet.prefixlen}
    commands = []
    for field in ("saddr", "daddr"):
        fact = {"payload": {"protocol": protocol, "field": field}}
        match = {"op": "==", "left": fact, "right": {"prefix": prefix}}
        place = {"family": family, "table": table, "chain": chain}
        then = {"expr": [{"match": match}, {"accept": None}]}
        commands.append({"insert": {"rule": {**place, **then}}})
    return f"echo {shlex.quote(json.dumps({'nftables': commands}))} | nft -j -f -"


def _back_ends(chains: list[BaseChain]) -> Iterator[Finding]:
    """Find that both back ends of iptables have rules."""
    tools = {chain.table for chain in chains if chain.table.startswith("ip")}
    legacy = {tool for tool in tools if tool.endswith("-legacy")}
    if legacy and tools - legacy:
        yield Finding(
            "warning",
            "host",
            f"{' and '.join(sorted(tools))} both have rules for forwarded packets",
            "a packet must pass both, and each tool shows its own rules only",
            "find out which one Docker uses (iptables -V as root), and remove the rules"
            " of the other: a reboot does, if no script writes them",
        )
