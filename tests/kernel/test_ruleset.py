"""Rules are listed by programs only after the kernel told of a change."""

from __future__ import annotations

import socket
import subprocess

import pytest

from underlay.kernel import command, ruleset
from underlay.kernel.linux import LinuxKernel
from underlay.model import FAMILIES
from underlay.model.objects import GOT, SENT, ForwardAccept
from underlay.model.steps import Create, Delete
from underlay.networks.forwarding import chain

CHAIN = chain(4, (), ())
TABLE = f"{CHAIN.family} underlay"
RULES = {ForwardAccept(4, match) for match in (SENT, GOT)}


@pytest.fixture
def programs(monkeypatch):
    """The programs that were run, by their names."""
    started, run = [], command.run

    def noted(*words, **options):
        started.append(words[0])
        return run(*words, **options)

    monkeypatch.setattr(command, "run", noted)
    return started


def sh(line):
    subprocess.run(["sh", "-c", line], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.needs("nftables")
@pytest.mark.usefixtures("namespace")
def test_observation_runs_no_program_while_the_rules_stay_as_they_are(programs):
    kernel = LinuxKernel()
    kernel.apply(Create(CHAIN))
    sh("iptables -N DOCKER-USER")
    for rule in RULES:
        kernel.apply(Create(rule))
    for _ in range(2):
        seen = kernel.observe() | kernel.forward_rules(RULES)
    programs.clear()
    for unrelated in (
        "iptables -A INPUT -s 192.0.2.1 -j DROP",
        "nft add table ip other",
        "ip link add stranger type veth",
    ):
        sh(unrelated)
        assert kernel.observe() | kernel.forward_rules(RULES) == seen
    assert {o.key for o in seen} >= {CHAIN.key, *(rule.key for rule in RULES)}
    assert programs == []


@pytest.mark.needs("nftables")
@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize(
    "change",
    [
        f"nft flush chain {TABLE} {CHAIN.name}",
        f"nft add rule {TABLE} {CHAIN.name} accept",
        f"nft 'chain {TABLE} {CHAIN.name} {{ policy drop; }}'",
        f"nft delete table {TABLE}",
        f"nft -f - <<< 'delete rule {TABLE} {CHAIN.name} handle 3'",
    ],
)
def test_change_of_our_chain_is_seen(change):
    kernel = LinuxKernel()
    kernel.apply(Create(CHAIN))
    for _ in range(2):
        before = kernel.observe()
    subprocess.run(["bash", "-c", change], check=True)
    assert kernel.observe() == LinuxKernel().observe() != before


@pytest.mark.needs("nftables")
@pytest.mark.usefixtures("namespace")
def test_chain_that_another_program_adds_to_our_table_is_seen():
    """As a process of this service that was started beside it would."""
    kernel, other = LinuxKernel(), chain(4, (), {"br0"})
    kernel.observe()
    LinuxKernel().apply(Create(other))
    assert other.key in {o.key for o in kernel.observe()}
    LinuxKernel().apply(Delete(other))
    assert kernel.observe() == frozenset()


@pytest.mark.needs("nftables")
@pytest.mark.usefixtures("namespace")
def test_filter_of_a_device_that_is_deleted_is_not_seen_any_more():
    """The kernel then deletes the chain, or its hook, and counts no change."""
    kernel = LinuxKernel()
    sh("ip link add shim type veth")
    sh("nft add table netdev underlay")
    name = "egress-ul-0123456789ab"
    hook = "type filter hook egress device shim priority 0;"
    sh(f"nft 'add chain netdev underlay {name} {{ {hook} }}'")
    for _ in range(2):
        assert name in {getattr(o, "name", "") for o in kernel.observe()}
    sh("ip link delete shim")
    assert kernel.observe() == LinuxKernel().observe()


@pytest.mark.needs("nftables")
@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("back_end", ["nft", "legacy"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("change", "is_seen"),
    [
        ("-N DOCKER-USER", True),
        ("-A DOCKER-USER -j RETURN", True),
        ("-D DOCKER-USER 1", True),
        ("-Z", False),
    ],
)
def test_change_of_docker_s_chain_is_told(back_end, family, change, is_seen):
    tool = {4: "iptables", 6: "ip6tables"}[family] + f"-{back_end}"
    source = {4: "192.0.2.1", 6: "2001:db8::1"}[family]
    if change != "-N DOCKER-USER":
        sh(f"{tool} -N DOCKER-USER; {tool} -A DOCKER-USER -s {source} -j DROP")
        sh(f"{tool} -A OUTPUT -j DOCKER-USER")
    before = ruleset.filter_chain(family, "DOCKER-USER")
    assert ruleset.filter_chain(family, "DOCKER-USER") == before
    sh(f"{tool} {change}")
    assert (ruleset.filter_chain(family, "DOCKER-USER") != before) == is_seen


@pytest.mark.needs("nftables")
@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("back_end", ["nft", "legacy"])
def test_packets_that_rules_count_are_no_change(back_end):
    sh("ip link set lo up")
    sh(f"iptables-{back_end} -N DOCKER-USER")
    sh(f"iptables-{back_end} -A DOCKER-USER -j RETURN")
    sh(f"iptables-{back_end} -A OUTPUT -j DOCKER-USER")
    before = ruleset.filter_chain(4, "DOCKER-USER")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", ("127.0.0.1", 9))
    shown = [f"iptables-{back_end}", "-v", "-S", "DOCKER-USER"]
    assert "-c 0 0" not in subprocess.check_output(shown, text=True)
    assert ruleset.filter_chain(4, "DOCKER-USER") == before
