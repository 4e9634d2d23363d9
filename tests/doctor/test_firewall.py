"""Every kind of firewall in a real namespace: which traffic it lets pass."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from tests.fakes import Clock
from tests.lab import net
from underlay.api.facts import HealthReport
from underlay.model import Endpoint, Subnet
from underlay.model.docker import DockerEngine
from underlay.networks.forward_path import ForwardPath

pytestmark = pytest.mark.needs("nftables")
FOUR, SIX = Subnet(ip_network("10.9.0.0/24")), Subnet(ip_network("fd09::/64"))
CHAIN = "add table {0} t; add chain {0} t fw {{ type filter hook forward priority 0;"
DROP, ACCEPT = CHAIN + " policy drop; }}", CHAIN + " policy accept; }}"
RULE = "; add rule inet t fw "
UFW = (
    "-P FORWARD DROP;-N ufw-user-forward;-N ufw-before-forward"
    ";-A FORWARD -j ufw-before-forward"
    ";-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    ";-A ufw-before-forward -p icmp --icmp-type echo-request -s 10.1.0.0/16 -j ACCEPT"
    ";-A ufw-before-forward -j ufw-user-forward"
)
FIREWALLD = (
    "add table inet firewalld; add chain inet firewalld filter_FORWARD {"
    " type filter hook forward priority 10; policy accept; };"
    "add chain inet firewalld POLICIES;"
    "add rule inet firewalld filter_FORWARD ct state { established, related } accept;"
    "add rule inet firewalld filter_FORWARD ct status dnat accept;"
    'add rule inet firewalld filter_FORWARD iifname "lo" accept;'
    "add rule inet firewalld filter_FORWARD jump POLICIES;"
    "add rule inet firewalld filter_FORWARD reject with icmpx type admin-prohibited;"
    'add rule inet firewalld POLICIES iifname "docker0" oifname "docker0" accept'
)


def nft(script):
    subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)


def iptables(tool, lines):
    for line in lines.split(";"):
        subprocess.run([tool, *line.split()], check=True)


def output(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def run(remedy):
    subprocess.run(["sh", "-ec", remedy], check=True)


@pytest.fixture
def routed(bench):
    net.ip("addr add 10.77.0.9/24 dev eth0", "route add default via 10.77.0.1")
    bench.network("lan", "", (FOUR,), mode="routed")
    return bench


def levels(bench):
    return [(f.level, f.where) for f in bench.check("firewall")]


BLOCKING = {
    "policy drop": DROP.format("inet"),
    "policy drop of the family": DROP.format("ip"),
    "rule at the end": ACCEPT.format("inet") + RULE + "reject",
    "other devices": DROP.format("inet") + RULE + 'iifname "docker0" accept',
    "only answers": DROP.format("inet")
    + RULE
    + "ct state vmap { established : accept, related : accept, invalid : drop }",
    "by subnet": ACCEPT.format("inet") + RULE + "ip saddr 10.0.0.0/8 drop",
}
PASSING = {
    "nothing": "",
    "policy accept": ACCEPT.format("inet"),
    "other family": DROP.format("ip6"),
    "frames": DROP.format("bridge"),
    "by name": DROP.format("inet")
    + RULE
    + 'iifname "ul-*" oifname { "eth0", "eth1" } accept'
    + RULE
    + 'oifname "ul-*" accept',
    "by group": DROP.format("inet")
    + RULE
    + "iifgroup 0x756c accept"
    + RULE
    + "oifgroup 0x756c accept",
    "by subnet": DROP.format("inet")
    + RULE
    + "ip saddr 10.9.0.0/16 accept"
    + RULE
    + "ip daddr 10.9.0.0/16 accept",
    "by something unknown": DROP.format("inet") + RULE + "meta mark 7 accept",
}


@pytest.mark.parametrize("name", BLOCKING)
def test_native_chain_that_drops_routed_traffic_fails_and_its_remedy_works(
    routed, name
):
    nft(BLOCKING[name])
    (found,) = routed.check("firewall")
    assert (found.level, found.where) == ("failure", "network lan")
    assert found.what.startswith("the chain fw of table i")
    run(found.remedy)
    assert routed.check("firewall") == ()


@pytest.mark.parametrize(
    ("table", "chain"), [("t", "fwd"), ("drop", "c"), ("t", "f;w")]
)
def test_remedy_works_for_names_that_nft_takes_in_json_only(routed, table, chain):
    made = {"family": "inet", "table": table, "name": chain, "type": "filter",
            "hook": "forward", "prio": 0, "policy": "drop"}  # fmt: skip
    added = [{"table": {"family": "inet", "name": table}}, {"chain": made}]
    facts = json.dumps({"nftables": [{"add": one} for one in added]})
    subprocess.run(["nft", "-j", "-f", "-"], input=facts, text=True, check=True)
    (found,) = routed.check("firewall")
    assert found.what.startswith(f"the chain {chain} of table inet {table} drops")
    run(found.remedy)
    assert routed.check("firewall") == ()


@pytest.mark.parametrize("name", PASSING)
def test_native_chain_that_accepts_routed_traffic_passes(routed, name):
    nft(PASSING[name])
    assert routed.check("firewall") == ()


def test_chain_that_drops_only_new_connections_to_containers_warns(routed):
    nft(DROP.format("inet") + RULE + 'ct state established accept; add rule inet t fw'
        ' iifname "ul-*" accept')  # fmt: skip
    assert levels(routed) == [("warning", "network lan")]


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
def test_forward_policy_of_either_back_end_fails_without_docker_s_chain(routed, tool):
    """As a Docker with nftables leaves the policy of an earlier one."""
    iptables(tool, "-P FORWARD DROP;-A FORWARD -i docker0 -o docker0 -j ACCEPT")
    engine = DockerEngine("29.1.0", firewall="nftables")
    (found,) = routed.check("firewall", ask_engine=lambda: engine)
    assert "Docker uses nftables here, without the chain DOCKER-USER" in found.why
    (found,) = routed.check("firewall")
    assert "Docker uses nftables" not in found.why
    assert found.what == f"the chain FORWARD of {tool} drops its IPv4 traffic"
    run(found.remedy)
    assert routed.check("firewall") == ()


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
def test_accept_in_docker_s_chain_passes_the_policy_drop_of_its_own_table(routed, tool):
    iptables(
        tool,
        "-P FORWARD DROP;-N DOCKER-USER;-A FORWARD -j DOCKER-USER"
        ";-A DOCKER-USER -m devgroup --src-group 0x756c -j ACCEPT"
        ";-A DOCKER-USER -m devgroup --dst-group 0x756c -j ACCEPT",
    )
    assert routed.check("firewall") == ()
    nft(DROP.format("inet"))
    assert levels(routed) == [("failure", "network lan")]


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("end", ["", ";-A DOCKER-USER -j RETURN"])
def test_rules_that_the_service_adds_with_the_first_container_count(bench, tool, end):
    docker = "-P FORWARD DROP;-N DOCKER-USER;-A FORWARD -j DOCKER-USER"
    iptables(tool, docker + end)
    net.ip(
        "addr add 10.77.0.9/24 dev eth0",
        "route add default via 10.77.0.1",
        "link add br0 type bridge nf_call_iptables 1",
    )
    bench.network("routed", "", (FOUR,), mode="routed")
    bench.network("lan", "br0", (Subnet(ip_network("10.8.0.0/24")),), bridge="br0")
    assert bench.check("firewall") == ()
    iptables(tool, "-I DOCKER-USER -i ul-+ -j DROP")
    assert levels(bench) == [("failure", "network routed")]
    iptables(tool, "-F FORWARD")  # nothing leads to the chain
    assert levels(bench)[:1] == [("failure", "network lan")]


def test_chain_that_the_service_does_not_add_its_rules_to_is_judged_as_it_is(routed):
    """Docker moved to nft, and the chains of legacy are there until a reboot."""
    docker = "-P FORWARD DROP;-N DOCKER-USER;-A FORWARD -j DOCKER-USER"
    used = "nft" if "nf_tables" in output("iptables", "-V") else "legacy"
    other = {"nft": "legacy", "legacy": "nft"}[used]
    iptables(f"iptables-{used}", docker)
    assert routed.check("firewall") == ()
    iptables(f"iptables-{other}", docker)
    found = routed.check("firewall")
    assert [(f.level, f.where) for f in found] == [
        ("failure", "network lan"), ("warning", "host"),
    ]  # fmt: skip
    assert found[0].what.startswith(f"the chain FORWARD of iptables-{other} drops")
    run(found[0].remedy)
    assert levels(routed) == [("warning", "host")]


def test_rules_of_legacy_that_cannot_be_listed_are_not_taken_for_none(
    routed, tmp_path, monkeypatch
):
    iptables("iptables-legacy", "-P FORWARD DROP")
    assert levels(routed) == [("failure", "network lan")]
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    tool = tmp_path / "iptables-legacy"
    tool.write_text("#!/bin/sh\necho 'holding the xtables lock' >&2; exit 4\n")
    tool.chmod(0o755)
    (found,) = routed.check("firewall")
    assert found.what == "this could not be checked: [Errno 1] holding the xtables lock"


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
def test_quotes_in_names_and_comments_of_any_text_are_read(routed, tool):
    def add(*words):
        subprocess.run([tool, "-A", "FORWARD", *words], check=True)

    def comment(text):
        return "-m", "comment", "--comment", text

    iptables(tool, "-P FORWARD DROP")
    for name in ("br'0", 'br"0', '"br0'):
        add("-i", name, "-j", "ACCEPT")
    add("-i", "br0", *comment("one\n-j ACCEPT 'two\" \\"), "-j", "ACCEPT")
    add("-i", "br0", *comment(""), "-j", "ACCEPT")
    assert levels(routed) == [("failure", "network lan")]
    add("-s", "10.9.0.0/24", *comment("it's\n\"\n"), "-j", "ACCEPT")
    add("-d", "10.9.0.0/24", *comment("-j DROP"), "-j", "ACCEPT")
    assert routed.check("firewall") == ()


@pytest.mark.parametrize(("version", "runs"), [("1.0.6", 1), ("1.0.2", 2), ("", 2)])
def test_elements_of_sets_are_not_listed_where_nft_can_leave_them_out(
    routed, tmp_path, monkeypatch, version, runs
):
    """With -t, nft 1.0.2 leaves out those within rules too; older ones refuse it."""
    nft(DROP.format("inet") + RULE + 'iifname { "ul-*", "x" } accept'
        "; add set inet t many { type ipv4_addr; elements = { 192.0.2.1 } }"
        + RULE + 'oifname { "ul-*", "y" } accept')  # fmt: skip
    (tmp_path / "nft").write_text(f"""#!/bin/sh
        echo "$*" >> {tmp_path}/calls
        [ "$2" = -t ] && [ -z "{version}" ] && exit 1
        {shutil.which("nft")} "$@" | sed 's/"version": "[0-9.]*"/"version": "{version}"/
            '$([ "$2" = -t ] && [ {version} != 1.0.6 ] && echo 's/"ul-\\*", //')
    """)
    (tmp_path / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert routed.check("firewall") == ()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["-j -t list ruleset", "-j list ruleset"][:runs]


def test_iptables_of_the_other_back_end_does_not_stand_in_for_a_missing_tool(
    routed, tmp_path, monkeypatch
):
    """A host with the program iptables alone, and rules of legacy by a container."""
    iptables("iptables-nft", "-A FORWARD -j ACCEPT")
    iptables("iptables-legacy", "-A FORWARD -j ACCEPT")
    for name, program in (("iptables", "iptables-nft"), ("nft", "nft")):
        (tmp_path / name).symlink_to(Path(shutil.which(program)).resolve())
    monkeypatch.setenv("PATH", str(tmp_path))
    chains = routed.given["kernel"].forward_chains()
    assert [chain.table for chain in chains] == ["iptables"]


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
def test_ufw_is_recognized_and_its_own_command_is_the_remedy(routed, tool):
    iptables(tool, UFW)
    (found,) = routed.check("firewall")
    assert found.what.startswith("the chain FORWARD of ufw (")
    assert found.remedy == (
        "ufw route allow from 10.9.0.0/24; ufw route allow to 10.9.0.0/24"
    )
    # What these commands make.
    for way in ("-s", "-d"):
        iptables(tool, f"-A ufw-user-forward {way} 10.9.0.0/24 -j ACCEPT")
    assert routed.check("firewall") == ()


def test_firewalld_is_recognized_by_its_table(routed):
    nft(FIREWALLD)
    (found,) = routed.check("firewall")
    assert found.what.startswith("the chain filter_FORWARD of firewalld drops")
    assert "firewall-cmd --permanent --zone=trusted --add-source=10.9.0.0/24" in (
        found.remedy
    )


def test_rules_of_both_back_ends_of_iptables_warn(routed):
    for tool in ("iptables-nft", "iptables-legacy"):
        iptables(tool, "-A FORWARD -j ACCEPT")
    (found,) = routed.check("firewall")
    assert (found.level, found.where) == ("warning", "host")
    assert found.what.startswith("iptables-legacy and iptables-nft both have rules")


def test_dual_stack_network_fails_for_the_blocked_family_only(bench):
    bench.network("lan", "", (FOUR, SIX), mode="routed")
    nft(DROP.format("ip6"))
    (found,) = bench.check("firewall")
    assert "drops its IPv6 traffic" in found.what
    assert "ip6 saddr fd09::/64 accept" in found.remedy


def test_macvlan_networks_bypass_the_firewall(bench):
    bench.network("lan", "eth0", (FOUR,))
    nft(DROP.format("inet"))
    assert bench.check("firewall") == ()


def test_bridge_network_fails_behind_a_dropping_chain_for_frames(bench):
    net.ip("link add br0 type bridge", "link set br0 up")
    bench.network("lan", "br0", (FOUR,), bridge="br0")
    with open("/proc/sys/net/bridge/bridge-nf-call-iptables", "w") as file:  # noqa: PTH123
        file.write("0")
    nft(DROP.format("inet"))
    assert bench.check("firewall") == ()  # frames do not pass it
    nft(DROP.format("bridge"))
    assert levels(bench) == [("failure", "network lan")]
    run(bench.check("firewall")[0].remedy)
    assert bench.check("firewall") == ()


def test_bridge_network_fails_behind_a_native_chain_that_sees_bridged_packets(bench):
    net.ip("link add br0 type bridge nf_call_iptables 1", "link set br0 up")
    bench.network("lan", "br0", (FOUR,), bridge="br0")
    nft(DROP.format("inet"))
    assert levels(bench) == [("failure", "network lan")]
    nft('add rule inet t fw iifname "br0" oifname "br0" accept')
    assert bench.check("firewall") == ()


def test_status_says_failing_while_a_chain_cuts_containers_off(routed):
    kernel, time = routed.given["kernel"], Clock()
    path = ForwardPath(routed.records, kernel, time)
    (network,) = routed.records.networks.all()

    def health():
        time.now += 1000
        path.update()
        return HealthReport(routed.records, time()).of_network(network)

    assert health().health == "ok"
    nft(DROP.format("inet"))
    found = health()
    assert found.health == "failing"
    assert found.error.startswith("E-405 containers of network lan are cut off: the")
    assert health().since == found.since  # and not since the last look
    nft("delete table inet t")
    assert health().health == "ok"


def test_bridge_that_chains_begin_to_see_is_judged_again_without_a_change_of_rules(
    bench,
):
    net.ip("link add br0 type bridge", "link set br0 up")
    network = bench.network("lan", "br0", (FOUR,), bridge="br0")
    Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("0", "ascii")
    nft(DROP.format("inet"))
    path = ForwardPath(bench.records, bench.given["kernel"], Clock())
    path.update()
    assert not bench.records.host.obstacles()
    net.ip("link set br0 type bridge nf_call_iptables 1")
    path.update()
    assert [o.network for o in bench.records.host.obstacles()] == [network.id]
    net.ip("link set br0 type bridge nf_call_iptables 0")
    path.update()
    assert not bench.records.host.obstacles()


def test_text_of_the_status_has_the_name_that_docker_tells_later(routed):
    nft(DROP.format("inet"))
    path = ForwardPath(routed.records, routed.given["kernel"], Clock())
    path.update()
    (network,) = routed.records.networks.all()
    with routed.records.transaction():
        routed.records.networks.rename(network.id, "office")
    path.update()
    (found,) = routed.records.host.obstacles()
    assert found.text.startswith("E-405 containers of network office are cut off")


def test_rules_are_listed_only_after_the_kernel_told_of_a_change(routed, monkeypatch):
    kernel, time, listed = routed.given["kernel"], Clock(), []
    path = ForwardPath(routed.records, kernel, time)
    look = kernel.forward_chains
    monkeypatch.setattr(kernel, "forward_chains", lambda: listed.append(1) or look())

    def update():
        time.now += 1000
        path.update()
        return len(listed)

    assert [update() for _ in range(3)] == [1, 1, 1]
    nft(ACCEPT.format("inet"))
    assert [update(), update()] == [2, 2]
    iptables("iptables-legacy", "-P FORWARD DROP")
    assert [update(), update()] == [3, 3]
    net.ip("route del default")
    assert [update(), update()] == [4, 4]


def test_bridge_network_with_dhcp_is_judged_by_the_subnet_of_its_leases(bench):
    net.ip("link add br0 type bridge", "link set br0 up")
    nft(ACCEPT.format("bridge") + "; add rule bridge t fw ip saddr 10.0.0.0/8 drop")
    everywhere = Subnet(ip_network("0.0.0.0/0"), pooled=True, dhcp=True)
    bench.network("lan", "br0", (everywhere,), mode="bridge", bridge="br0")
    judge = ForwardPath(bench.records, bench.given["kernel"], Clock())
    judge.update()
    assert (levels(bench), bench.records.host.obstacles()) == ([], [])
    web = Endpoint("e1", "lan", ip_interface("10.9.0.5/24"))
    with bench.records.transaction():
        bench.records.endpoints.add(web)
    judge.update()
    (cut_off,) = bench.records.host.obstacles()
    assert "E-405" in cut_off.text
    (found,) = [f for f in bench.check("firewall") if f.level == "failure"]
    assert "10.9.0.0/24" in found.remedy
    run(found.remedy)
    assert levels(bench) == []
