"""The chain that lets containers pass and nothing else, on a real kernel."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time

import pytest

from tests.kernel.conftest import ip
from tests.lab import net
from tests.worlds import ROUTED, life, parts
from underlay.kernel import iptables, nftables
from underlay.kernel.linux import LinuxKernel
from underlay.model import FAMILIES
from underlay.model.objects import GOT, SENT, ForwardAccept
from underlay.model.steps import Amend, Create, Delete
from underlay.networks.forwarding import chain, is_door
from underlay.planning.desired import DesiredState
from underlay.planning.plan import plan

FORWARDING = "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"
PEERS = {"a": ("10.1.0.2", "fd01::2"), "b": ("10.2.0.2", "fd02::2")}


@pytest.mark.needs("nftables")
@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("family", FAMILIES)
def test_forward_chain_is_recognized_again_and_follows_foreign_bridges(family):
    kernel = LinuxKernel()
    few = chain(family, (), {"br0"})
    many = chain(family, {"docker0", "shop", 'a"b'}, {"docker0", "shop", "br0"})
    kernel.apply(Create(few))
    assert plan(DesiredState((few,)), kernel.observe()) == ()
    (step,) = plan(DesiredState((many,)), kernel.observe())
    assert isinstance(step, Amend)
    kernel.apply(step)
    assert plan(DesiredState((many,)), LinuxKernel().observe()) == ()
    kernel.apply(Delete(many))
    assert not any(is_door(o) for o in LinuxKernel().observe())


@pytest.mark.needs("nftables")
@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("family", FAMILIES)
def test_forward_rule_that_disappears_meanwhile_is_no_error(family, monkeypatch):
    """A verb and a pass may be at it at once."""
    tool = "iptables" if family == 4 else "ip6tables"
    subprocess.run([tool, "-N", "DOCKER-USER"], check=True)
    rules, change = (
        [ForwardAccept(family, match) for match in (SENT, GOT)],
        iptables._change,
    )
    for rule in rules:
        iptables.create(rule)

    def overtaken(*asked):
        monkeypatch.undo()
        iptables.delete(rules[0])
        change(*asked)

    monkeypatch.setattr(iptables, "_change", overtaken)
    iptables.delete(rules[0])
    assert set(iptables.forward_rules(())) == {rules[1]}


@pytest.mark.needs("nftables")
@pytest.mark.usefixtures("namespace")
def test_nftables_table_that_disappears_meanwhile_is_no_error(monkeypatch):
    made, listed = chain(4, (), ()), nftables._list
    nftables.create(made)

    def overtaken(*what):
        subprocess.run(["nft", "delete", "table", "ip", "underlay"], check=True)
        return listed(*what)

    monkeypatch.setattr(nftables, "_list", overtaken)
    nftables.delete(made)
    monkeypatch.undo()
    assert list(nftables.chains()) == []


@pytest.fixture
def strangers():
    """Two machines, each on a network of its own that this namespace is on as well."""
    tag = f"ul{os.getpid():x}k"
    try:
        for name, (four, six) in PEERS.items():
            net.ip(f"netns add {tag}{name}")
            here = [f"{four[:-1]}1/24", f"{six[:-1]}1/64 nodad"]
            net.ip(
                f"link add nic-{name} type veth peer name eth0 netns {tag}{name}",
                f"link set nic-{name} up",
                *(f"addr add {x} dev nic-{name}" for x in here),
            )
            subprocess.run(
                ["nsenter", f"--net=/run/netns/{tag}{name}", "sh", "-ec",
                 f"ip link set eth0 up; ip addr add {four}/24 dev eth0;"
                 f" ip addr add {six}/64 dev eth0 nodad;"
                 f" ip route add default via {four[:-1]}1;"
                 f" ip -6 route add default via {six[:-1]}1"],
                check=True,
            )  # fmt: skip
        yield tag
    finally:
        for name in PEERS:
            subprocess.run(["ip", "netns", "del", f"{tag}{name}"], check=False)


def reaches(tag, address):
    """Tell whether the first stranger gets an answer from the other one."""
    script = (
        "import socket, sys\n"
        "family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
        "s = socket.socket(family, socket.SOCK_STREAM)\n"
        "s.settimeout(1)\n"
        "sys.exit(s.connect_ex((sys.argv[1], 9)) != 111)"  # nothing listens: refused
    )
    asked = ["nsenter", f"--net=/run/netns/{tag}a", "python3", "-c", script, address]
    return subprocess.run(asked, check=False).returncode == 0


@pytest.mark.needs("nftables")
@pytest.mark.usefixtures("namespace")
def test_foreign_traffic_is_forwarded_only_where_the_host_routed_before(
    tmp_path, strangers
):
    engine, ipam = parts(tmp_path / "underlay.db", LinuxKernel())
    create, start, *_ = life(engine, ipam, {"mode": "routed"})
    create()
    start()
    assert [value(path) for path in FORWARDING] == ["1", "1"]
    assert not any(reaches(strangers, address) for address in PEERS["b"])
    engine.delete_network("n1")
    assert [value(path) for path in FORWARDING] == ["0", "0"]
    assert "underlay" not in subprocess.check_output(
        ["nft", "list", "tables"], text=True
    )
    for path in FORWARDING:
        with open(path, "w") as file:  # noqa: PTH123
            file.write("1")
    engine, ipam = parts(tmp_path / "other.db", LinuxKernel())
    create, start, *_ = life(engine, ipam, {"mode": "routed"})
    create()
    start()
    assert all(reaches(strangers, address) for address in PEERS["b"])
    engine.delete_network("n1")


def value(path):
    with open(path) as file:  # noqa: PTH123
        return file.read().strip()


@pytest.mark.needs("nftables")
@pytest.mark.usefixtures("namespace")
def test_hanging_iptables_delays_one_start_once_and_no_other(tmp_path, monkeypatch):
    hanging = tmp_path / "bin"
    hanging.mkdir()
    for tool in ("iptables", "ip6tables"):
        path = hanging / tool
        path.write_text("#!/bin/sh\nexec sleep 600\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{hanging}:{os.environ['PATH']}")
    engine, ipam = parts(tmp_path / "underlay.db", LinuxKernel())
    create, start, *_ = life(engine, ipam, ROUTED)
    create()
    began = time.monotonic()
    start()
    assert time.monotonic() - began < 30
    assert engine.records.endpoints.get("e1")
    assert "ul-" in ip("link")
    engine.delete_network("n1")


@pytest.mark.usefixtures("namespace")
def test_each_network_namespace_counts_as_its_own_boot():
    kernel = LinuxKernel()
    here = kernel.boot()
    assert here == LinuxKernel().boot() != ""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c",
         "from underlay.kernel.linux import LinuxKernel; print(LinuxKernel().boot())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() != here
