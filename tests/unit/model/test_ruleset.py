"""What becomes of a forwarded packet, by rules that are only partly known."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from underlay.model.ruleset import UNKNOWN, BaseChain, Match, Packet, Rule

OUT = Packet(
    4, "new", reads="ul-000000000000", leaves="eth0", from_group=0x756C,
    source=ip_network("10.9.0.0/24"),
)  # fmt: skip
BY_NAME = Match("iifname", ("ul-*",))


def blocks(*rules, policy="drop", packet=OUT, families=(4, 6), **chains):
    return BaseChain("t", "f", policy, families, {"f": rules, **chains}).blocks(packet)


def accept(*matches):
    return Rule(matches, "accept")


@pytest.mark.parametrize(
    ("match", "is_blocked"),
    [
        (BY_NAME, False),
        (Match("iifname", ("docker0", "br-*")), True),
        (Match("iifname", ("docker0",), negated=True), False),
        (Match("oifname", ("eth1",)), True),
        (Match("iifgroup", (0x756C,)), False),
        (Match("state", ("established", "related")), True),
        (Match("state", ("new",)), False),
        (Match("status", ("dnat",)), True),
        (Match("family", (6,)), True),
        (Match("saddr", (ip_network("10.0.0.0/8"),)), False),
        (Match("saddr", (ip_network("10.0.0.0/8"),), negated=True), True),
        (Match("saddr", (ip_network("10.9.0.0/25"),)), False),
        (Match("saddr", (ip_network("192.168.0.0/16"),)), True),
        (Match("saddr", (ip_network("fd00::/8"),)), True),
        (Match("daddr", (ip_network("10.0.0.0/8"),)), False),
        (Match("iifname", (UNKNOWN,)), False),
        (Match(UNKNOWN), False),
    ],
)
def test_packet_is_blocked_only_if_no_rule_can_accept_it(match, is_blocked):
    assert blocks(accept(match)) == is_blocked
    assert not blocks(accept(match), policy="accept")


def test_unknown_drop_before_the_end_blocks_nothing_by_itself():
    assert not blocks(Rule((Match(UNKNOWN),), "drop"), policy="accept")
    assert blocks(Rule((BY_NAME,), "drop"), accept(), policy="accept")
    assert blocks(Rule((Match(UNKNOWN),), "drop"))


def test_jump_comes_back_and_goto_does_not():
    jump, leave = Rule((), "jump", "sub"), Rule((), "goto", "sub")
    assert not blocks(jump, accept(), sub=(Rule((Match("state", ("x",)),), "drop"),))
    assert blocks(leave, accept(), sub=())
    assert blocks(jump, accept(), sub=(Rule((), "drop"),))
    assert not blocks(jump, sub=(accept(BY_NAME),))
    assert not blocks(jump, accept(), sub=(Rule((), "return"), Rule((), "drop")))


def test_jump_in_a_circle_or_to_an_unknown_chain_returns():
    assert blocks(Rule((), "jump", "f"), Rule((), "jump", "LOG"))
    assert not blocks(Rule((), "jump", "LOG"), accept())


def test_chain_of_another_family_blocks_nothing():
    assert not blocks(families=(6,))
