"""Gates on a real kernel: nft's library makes them, netlink reads them."""

from __future__ import annotations

import errno
import os
import re
import resource
import secrets
import subprocess
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.kernel.conftest import ip
from tests.kernel.world import nft
from tests.lab import net
from underlay.kernel import gates, libnftables
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import NftElements, NftTable, Owner, SharedOwner
from underlay.model.steps import Amend, Create, Delete
from underlay.modes.gate import elements, table
from underlay.modes.gate_rules import BRIDGED, ROUTED, body, in_sandbox, on_parent
from underlay.modes.port_policy import Policy

pytestmark = [pytest.mark.needs("nftables"), pytest.mark.usefixtures("namespace")]
PLACES = {
    "parent": on_parent("eth0"),
    "sandbox": in_sandbox("eth0"),
    "bridge": BRIDGED,
    "routed": ROUTED,
}
NETWORKS = ("10.0.0.0/8", "192.0.2.9/32", "fd00::/64", "fd01::1/128")
POLICY = Policy(
    "published",
    "subnet",
    ping=False,
    allow_from=tuple(map(ip_network, NETWORKS)),
    published=((4, "tcp", 80), (6, "udp", 53), (4, "sctp", 65535)),
    for_host=((4, "tcp", 22),),
    near=(ip_network("10.1.0.0/24"), ip_network("fd01::/64")),
)
OWNER = Owner("n", "e")
OPEN = replace(POLICY, allow_from=(), egress="none")


def gate_at(place):
    return table(place, SharedOwner("gate", "eth0").owner, "eth0")


def filled(gate, place):
    """Return elements of two containers behind a gate."""
    one, two = '"ul-0123456789ab"', '"ul-ba9876543210"'
    if place.kind == "ether_addr":
        one, two = "02:00:00:00:00:01", "02:00:00:00:00:02"
    hosts = ["10.0.0.1", "fd00::1"]
    return [
        NftElements(
            gate.family, gate.name, who, frozenset(elements(policy, who, hosts))
        )
        for who, policy in ((one, POLICY), (two, OPEN))
    ]


def seen(kind):
    return {o for o in LinuxKernel().observe() if isinstance(o, kind)}


def repair(kernel, gate):
    """Amend a gate that is seen to differ, and see it as it should be."""
    (found,) = seen(NftTable)
    assert not gate.satisfied_by(found)
    kernel.apply(Amend(found, gate))
    (found,) = seen(NftTable)
    assert gate.satisfied_by(found)


@pytest.mark.parametrize("place", [p for p in PLACES if p != "sandbox"])
def test_gate_is_observed_as_it_was_made_and_goes_without_a_trace(place):
    before, kernel = nft("list", "ruleset"), LinuxKernel()
    gate = gate_at(PLACES[place])
    inside = filled(gate, PLACES[place])
    assert sum(len(found.elements) for found in inside) > 20
    for made in (gate, *inside):
        kernel.apply(Create(made))
        kernel.apply(Create(made))  # as a verb does that does not look
    (found,) = seen(NftTable)
    assert gate.satisfied_by(found)
    assert seen(NftElements) == set(inside)
    shut = replace(inside[0], elements=frozenset({("closed", inside[0].who)}))
    kernel.apply(Amend(inside[0], shut))
    assert seen(NftElements) == {shut, inside[1]}
    for doomed in (shut, inside[1], gate):
        kernel.apply(Delete(doomed))
        kernel.apply(Delete(doomed))
    assert nft("list", "ruleset") == before


@pytest.mark.parametrize("place", PLACES)
def test_nft_prints_every_rule_of_a_gate(place):
    """Nothing of a body is lost on the way through the library."""
    gate = gate_at(PLACES[place])
    gates.create(gate)
    listed = nft("list", "table", gate.family, gate.name)
    rules = [line for line in gate.body if line.startswith("rule ")]
    assert listed.count(gate.mark) == len(rules)
    assert len(re.findall("^\tchain ", listed, re.MULTILINE)) == (
        sum(line.startswith("chain ") for line in gate.body)
    )


@pytest.mark.parametrize("way", ["a rule is gone", "a rule is strange", "flushed"])
def test_repaired_gate_keeps_its_elements(way):
    kernel, gate = LinuxKernel(), gate_at(ROUTED)
    inside = filled(gate, ROUTED)
    for made in (gate, *inside):
        kernel.apply(Create(made))
    # Connections of containers, as the rules note them.
    spoken = f"{gate.family} {gate.name} talking4"
    nft("add", "element", *spoken.split(), "{ ul-1 . 10.0.0.2 . 53 . 4000 }")
    name = (gate.family, gate.name)
    if way == "flushed":
        nft("flush", "chain", *name, "judged")
    elif way == "a rule is strange":
        nft("insert", "rule", *name, "judged", "accept")
    else:
        handles = re.findall(r"# handle (\d+)", nft("-a", "list", "chain", *name, "in"))
        nft("delete", "rule", *name, "in", "handle", handles[-1])
    repair(kernel, gate)
    assert seen(NftElements) == set(inside)
    assert "10.0.0.2" in nft("list", "set", *spoken.split())


def test_gate_of_another_kind_is_replaced():
    """What an older version made, with other sets."""
    gate = gate_at(ROUTED)
    libnftables.run(
        f"add table inet {gate.name}; add set inet {gate.name} closed"
        " { type ipv4_addr; }"
    )
    gates.create(gate)
    assert [gate.satisfied_by(found) for found in seen(NftTable)] == [True]


@pytest.mark.parametrize("place", [p for p in PLACES if p != "sandbox"])
def test_gate_with_a_chain_of_another_program_is_repaired_and_keeps_elements(place):
    kernel, gate = LinuxKernel(), gate_at(PLACES[place])
    inside = filled(gate, PLACES[place])
    for made in (gate, *inside):
        kernel.apply(Create(made))
    name = (gate.family, gate.name)
    nft("add", "chain", *name, "mine")
    nft("add", "rule", *name, "mine", "accept")
    repair(kernel, gate)
    assert seen(NftElements) == set(inside)


@pytest.mark.parametrize("name", ['a"b', "eth*", "a\\b", "a\ufffd", "\x01", "*", '"'])
def test_name_that_nft_cannot_say_is_refused_before_nft_reads_it(name):
    """One of these has the library abort, and the service with it."""
    made = NftTable("netdev", f"underlay-{OWNER.device}", body(in_sandbox(name)), name)
    with pytest.raises(OSError, match="no words for the name"):
        gates.create(made)


def test_port_for_the_host_is_not_reached_by_those_it_forwards_for():
    """They pass the bridge's output hook as what the host sends itself."""
    made = set(elements(replace(POLICY, ping=True), '"ul-1"', ["10.1.0.1"]))
    gate = gate_at(BRIDGED)
    names = [f"ulg{secrets.token_hex(3)}" for _ in range(2)]
    with net.Namespace(names[0], "") as inside, net.Namespace(names[1], "") as far:
        net.ip("link add br0 type bridge", "link set br0 up")
        net.ip("addr add 10.1.0.1/24 dev br0")
        for room, own, here, net_of in (
            (inside, "ul-1", "", "10.1.0"),
            (far, "far0", "10.9.0.1/24", "10.9.0"),
        ):
            net.ip(f"link add {own} type veth peer name eth0 netns {room.netns}")
            net.ip(f"link set {own} up")
            if here:
                net.ip(f"addr add {here} dev {own}")
            room.run(
                "sh",
                "-ec",
                f"ip link set eth0 up; ip addr add {net_of}.2/24 dev eth0;"
                f" ip route add default via {net_of}.1",
            )
        net.ip("link set ul-1 master br0")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        gates.create(gate)
        gates.create(NftElements(gate.family, gate.name, '"ul-1"', frozenset(made)))
        # Nothing listens there: what passes is refused, what does not times out.
        assert asked("10.1.0.2") == "ConnectionRefusedError"
        command = far.run("python3", "-c", ASK, "10.1.0.2").stdout
        assert command.strip() == "TimeoutError"


ASK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 22), 1)
except OSError as error:
    print(type(error).__name__)
"""


def asked(address):
    words = ["python3", "-c", ASK, address]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.strip()


# Sends from a port of each IP family to some ports of a machine.
SPEAK = """
import socket, sys
for family, address in ((socket.AF_INET, "10.9.0.2"), (socket.AF_INET6, "fd09::2")):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind(("", int(sys.argv[1])))
    for port in range(40000, 40000 + int(sys.argv[2])):
        s.sendto(b"!", (address, port))
"""


def test_machines_that_ask_a_published_port_take_no_room_among_the_peers():
    """Else they fill the set, and no container behind the gate gets its answers."""
    policy = Policy("published", published=((4, "udp", 53), (6, "udp", 53)))
    gate = gate_at(ROUTED)
    made = frozenset(elements(policy, '"ul-1"'))
    with net.Namespace(f"ulg{secrets.token_hex(3)}", "") as inside:
        net.ip(f"link add ul-1 type veth peer name eth0 netns {inside.netns}")
        net.ip("link set ul-1 up", "addr add 10.9.0.1/24 dev ul-1")
        net.ip("addr add fd09::1/64 dev ul-1 nodad")
        inside.run(
            "sh", "-ec",
            "ip link set eth0 up; ip addr add 10.9.0.3/24 dev eth0;"
            " ip addr add fd09::3/64 dev eth0 nodad;"
            " ip route add 10.9.0.2 via 10.9.0.1; ip route add fd09::2 via fd09::1",
        )  # fmt: skip
        gates.create(gate)
        gates.create(NftElements(gate.family, gate.name, '"ul-1"', made))
        inside.run("python3", "-c", SPEAK, "53", "50")
        for version in (4, 6):
            assert peers(gate, version) == []
        inside.run("python3", "-c", SPEAK, "5000", "3")
        for version in (4, 6):
            assert peers(gate, version) == ["40000", "40001", "40002"]


def peers(gate, version, of="talking"):
    """Return the ports of those that containers have spoken to, or were asked by."""
    shown = nft("list", "set", gate.family, gate.name, f"{of}{version}")
    return sorted(re.findall(r"[12] \. (\d+) \. ", shown))


ANSWER = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 53))
print("ready", flush=True)
while True:
    data, asker = s.recvfrom(100)
    s.sendto(data, asker)
"""
ASK_BY_UDP = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 4000))
s.settimeout(2)
s.sendto(b"?", ("10.1.0.2", 53))
print(s.recv(100))
"""
DNS = (4, "udp", 53)


@pytest.mark.parametrize(
    ("policy", "is_kept"),
    [
        (Policy(egress="none"), True),
        (Policy("published", egress="none", published=(DNS,)), True),
        (Policy("published", egress="none", for_host=(DNS,)), True),
        (Policy("published", published=(DNS,)), False),
    ],
    ids=["open", "published", "for the host", "not bound"],
)
def test_answer_by_udp_leaves_a_container_that_may_not_connect(policy, is_kept):
    """And those that ask one that may connect take no room in the set."""
    gate = gate_at(ROUTED)
    made = frozenset(elements(policy, '"ul-1"'))
    with net.Namespace(f"ulg{secrets.token_hex(3)}", "") as inside:
        net.ip(f"link add ul-1 type veth peer name eth0 netns {inside.netns}")
        net.ip("link set lo up", "link set ul-1 up", "addr add 10.1.0.1/24 dev ul-1")
        words = "ip link set eth0 up; ip addr add 10.1.0.2/24 dev eth0"
        inside.run("sh", "-ec", words)
        gates.create(gate)
        gates.create(NftElements(gate.family, gate.name, '"ul-1"', made))
        command = ["ip", "netns", "exec", inside.netns, "python3", "-c", ANSWER]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout.readline() == b"ready\n"
                words = ["python3", "-c", ASK_BY_UDP]
                done = subprocess.run(words, capture_output=True, text=True, check=True)
            finally:
                server.kill()
        assert done.stdout == "b'?'\n"
        assert peers(gate, 4, "asked") == (["4000"] if is_kept else [])


def test_container_that_may_not_connect_reaches_no_sibling_by_the_parent():
    """Also if it has taken the gate off its own device."""
    place = on_parent("eth0")
    gate, one = gate_at(place), "02:00:00:00:00:01"
    names = [f"ulg{secrets.token_hex(3)}" for _ in range(2)]
    with net.Namespace(names[0], "") as first, net.Namespace(names[1], "") as second:
        net.ip("link set eth0 up", "link set wire0 up")
        for n, room in enumerate((first, second), start=1):
            kind = f"address 02:00:00:00:00:0{n} type macvlan mode bridge"
            net.ip(f"link add link eth0 name m{n} {kind}")
            net.ip(f"link set m{n} netns {room.netns}")
            words = f"ip link set m{n} up; ip addr add 10.1.0.{n}/24 dev m{n}"
            room.run("sh", "-ec", words)

        def said(room, address):
            """Return how a connection fails: refused, or without an answer."""
            return room.run("python3", "-c", ASK, address).stdout.strip()

        assert said(first, "10.1.0.2") == "ConnectionRefusedError"
        gates.create(gate)
        made = frozenset(elements(Policy(egress="none"), one))
        gates.create(NftElements(gate.family, gate.name, one, made))
        assert said(first, "10.1.0.2") == "TimeoutError"
        assert said(second, "10.1.0.1") == "ConnectionRefusedError"


def test_gate_on_a_parent_survives_the_parent_s_return():
    kernel, gate = LinuxKernel(), gate_at(on_parent("eth0"))
    kernel.apply(Create(gate))
    ip("link", "del", "eth0")
    ip("link", "add", "eth0", "type", "veth", "peer", "name", "wire0")
    for found in seen(NftTable):
        if not gate.satisfied_by(found):
            kernel.apply(Amend(found, gate))
    if not seen(NftTable):
        kernel.apply(Create(gate))
    assert 'device "eth0"' in nft("list", "table", gate.family, gate.name)


def test_elements_in_a_body_are_exactly_those_after_a_change():
    """In a sandbox the elements are a part of the table."""
    name = f"underlay-{Owner('n', 'e').device}"

    def made(*ports):
        lines = (f'element published4 {{ "eth0" . tcp . {p} }}' for p in ports)
        return NftTable("netdev", name, (*body(in_sandbox("eth0")), *lines))

    gates.create(made(80, 443))
    gates.create(made(443, 22))
    shown = nft("list", "set", "netdev", name, "published4")
    assert re.findall(r"tcp \. (\d+)", shown) in (["443", "22"], ["22", "443"])


@pytest.fixture
def room():
    """The namespace of a container, with a device that is filtered there."""
    with net.Namespace(f"ulroom{secrets.token_hex(3)}", "") as found:
        found.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "x")
        yield found


@pytest.mark.parametrize(
    "act",
    [
        "add element netdev {0} published4 {{ eth0 . tcp . 22 }}",
        'insert rule netdev {0} judged accept comment "{mark}"',
        "flush chain netdev {0} in",
        "delete table netdev {0}",
    ],
    ids=["a port more", "a rule with our mark", "no rules", "no table"],
)
def test_container_that_changes_its_own_gate_is_noticed(room, act):
    path, name = f"/run/netns/{room.netns}", f"underlay-{Owner('n', 'e').device}"
    filled = 'element published4 { "eth0" . tcp . 80 }'
    made = NftTable(
        "netdev", name, (*body(in_sandbox("eth0")), filled), "eth0", None, path
    )
    kernel = LinuxKernel()

    def is_right():
        (seen,) = kernel.observe_sandboxes({path}).values()
        return any(made.satisfied_by(o) for o in seen if isinstance(o, NftTable))

    kernel.apply(Create(made))
    assert is_right()
    room.run("nft", act.format(name, mark=made.mark))
    assert not is_right()
    kernel.apply(Amend(made, made))
    assert is_right()
    assert (
        "22" not in room.run("nft", "list", "set", "netdev", name, "published4").stdout
    )


@pytest.mark.parametrize("with_redirect_first", [True, False])
def test_container_with_two_tables_that_changes_one_is_noticed(
    room, with_redirect_first
):
    path, name = f"/run/netns/{room.netns}", f"underlay-{OWNER.device}"
    filled = 'element published4 { "eth0" . tcp . 80 }'
    lines = (*body(in_sandbox("eth0")), filled)
    redirects = (
        "chain redirected { type nat hook prerouting priority dstnat; }",
        "rule redirected tcp dport 8080 redirect to :80",
    )
    gate = NftTable("netdev", name, lines, "eth0", None, path)
    both = [gate, NftTable("inet", name, redirects, "eth0", None, path)]
    kernel = LinuxKernel()
    for made in reversed(both) if with_redirect_first else both:
        kernel.apply(Create(made))

    def right():
        (found,) = kernel.observe_sandboxes({path}).values()
        tables = [o for o in found if isinstance(o, NftTable)]
        return [
            made.satisfied_by(o) for made in both for o in tables if o.key == made.key
        ]

    assert right() == [True, True]
    room.run("nft", f"add element netdev {name} published4 {{ eth0 . tcp . 22 }}")
    assert right() == [False, True]
    kernel.apply(Amend(gate, gate))
    assert right() == [True, True]


def test_process_without_a_free_file_survives():
    """The library would end the process if it got no socket."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    libnftables.run("list tables")  # the library itself is loaded
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            libnftables.run("list tables")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_errors_say_what_kind_they_are():
    for script, number in (
        ("delete table inet none", errno.ENOENT),
        ("no words of nft", errno.EINVAL),
    ):
        with pytest.raises(OSError, match="Error") as refused:
            libnftables.run(script)
        assert refused.value.errno == number


def test_host_without_the_library_has_no_gates(monkeypatch):
    assert LinuxKernel().can_guard
    monkeypatch.setattr(libnftables, "_NAME", "libnftables-none.so.1")
    libnftables._library.cache_clear()
    try:
        assert not LinuxKernel().can_guard
    finally:
        monkeypatch.undo()
        libnftables._library.cache_clear()


def test_tables_of_others_with_such_a_name_are_left_alone():
    nft("add", "table", "inet", "underlay-mine")
    nft("add", "table", "ip", "underlay-ul-0123456789ab")
    assert seen(NftTable) == set()
