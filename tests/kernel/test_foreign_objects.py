"""Other people's things that are named like ours survive whatever this driver does."""

from __future__ import annotations

import hashlib
import subprocess

import pytest

from tests.fakes import engine_on
from tests.kernel.conftest import ip
from tests.kernel.world import bring_about, chains, nft
from tests.worlds import LAN, ROUTED, WEB, network
from underlay.kernel import links
from underlay.kernel.linux import LinuxKernel
from underlay.model import Network
from underlay.model.objects import MARK, PREFIX, NftChain, Owner, Route

pytestmark = pytest.mark.usefixtures("namespace")

# Name, alias, group and kind: the word is the usual one for the network under a fabric.
DEVICES = [
    ("spine1", "underlay: to spine1", "0", "vxlan id 5 dstport 4789"),
    ("br-spine", "underlay:", "0", "bridge"),
    ("to-spine", "underlay:vni100:spine1", "0", "veth peer name wire5"),
    ("ul-spine", "underlay::to spine2", "0", "bridge"),
    ("ul-leaf", "underlay:leaf:port1", "0", "veth peer name wire6"),
    ("ul-wan", "", "157", "veth peer name wire7"),
    ("ul-0123456789ab", "underlay: uplink", "157", "veth peer name wire8"),
    ("bridged", "underlay::bridge/eth0", "0", "bridge"),
]
TABLES = """
table inet underlay {
    set spines { type ipv4_addr; elements = { 192.0.2.1 }; }
    chain input { type filter hook input priority 0; ip saddr @spines accept; }
    chain lonely { }
}
table ip6 underlay { chain egress-ul-0123456789ab { }; }
table ip underlay {
    map leaves { type ipv4_addr : verdict; }
    chain post { type nat hook postrouting priority 100; oifname "eth0" masquerade; }
    chain nat-ul-0123456789ab { tcp dport 22 accept comment "underlay: ssh"; }
}
table netdev underlay { set macs { type ether_addr; }; }
"""
WAYS = [
    "route add 198.51.100.0/24 dev eth0 scope link proto 157",
    "route add 198.51.101.0/24 via 192.0.2.9 proto 157",
    "route add blackhole 198.51.102.0/24 proto 157",
    "route add blackhole 198.51.103.0/24 proto 157 metric 20 table 99",
    "route add 2001:db8:9::/64 dev eth0 proto 157 metric 1024",
    "neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent protocol 157",
]


def put_strangers():
    ip("addr", "add", "192.0.2.2/24", "dev", "eth0")
    for number, (name, alias, group, kind) in enumerate(DEVICES):
        ip("link", "add", name, "group", group, "type", *kind.split())
        if alias:
            ip("link", "set", name, "alias", alias)
        ip("link", "set", name, "up")
        ip("addr", "add", f"198.18.{number}.1/24", "dev", name)
    for way in WAYS:
        ip(*way.split())
    script = TABLES.encode()
    done = subprocess.run(["nft", "-f", "-"], input=script, capture_output=True)
    assert done.returncode == 0, done.stderr


def all_there_is():
    shown = ["-d -o link", "-o addr", "route show table all", "-6 route show table all"]
    shown += ["neigh show nud permanent"]
    found = {words: sorted(ip(*words.split()).splitlines()) for words in shown}
    # What passes with time, or with the carrier of a device.
    routes = found["route show table all"]
    found["route show table all"] = [x.replace(" linkdown", "") for x in routes]
    # An address of a link takes a second to be tried.
    for words in ("-o addr", "-d -o link", *(x for x in shown if "route" in x)):
        found[words] = [x for x in found[words] if "fe80" not in x and "ff00" not in x]
    found["-d -o link"] = [
        x.split()[1] + x[x.find("alias") :] if "alias" in x else x.split()[1]
        for x in found["-d -o link"]
    ]
    return found | {"nft": nft("list", "ruleset")}


@pytest.mark.needs("nftables", "vxlan")
def test_foreign_objects_survive_passes_verbs_and_the_last_network(records):
    put_strangers()
    before = all_there_is()
    kernel = LinuxKernel()
    assert {type(o) for o in kernel.observe()} == {Route}
    engine = engine_on(records, kernel)
    for _ in range(2):
        assert engine.reconcile() == []
        assert engine.preview() == ()
    assert all_there_is() == before
    engine.create_network(LAN)
    engine.create_endpoint(WEB)
    engine.create_network(network("n2", **ROUTED))
    assert engine.reconcile() == []
    engine.delete_endpoint("n1", "e1")
    for identity in ("n1", "n2"):
        engine.delete_network(identity)
    assert engine.reconcile() == []
    assert all_there_is() == before


@pytest.mark.needs("nftables", "vxlan")
def test_driver_chains_come_and_go_in_tables_shared_with_others():
    put_strangers()
    device = Owner.parse("underlay::shim/eth0").device
    ip("link", "add", device, "type", "veth", "peer", "name", "wire9")
    before = nft("list", "ruleset")
    kernel = LinuxKernel()
    assert kernel.can_filter
    wanted = chains()
    bring_about(kernel, *wanted)
    seen = {o.key for o in LinuxKernel().observe() if isinstance(o, NftChain)}
    assert seen == {o.key for o in wanted}
    bring_about(kernel)
    assert nft("list", "ruleset") == before


@pytest.mark.needs("nftables")
def test_emptied_driver_chain_is_still_recognized():
    device = Owner.parse("underlay::shim/eth0").device
    ip("link", "add", device, "type", "veth", "peer", "name", "wire9")
    kernel = LinuxKernel()
    bring_about(kernel, *chains())
    for chain in chains():
        nft("flush", "chain", chain.family, "underlay", chain.name)
    bring_about(kernel)
    assert nft("list", "ruleset") == ""


@pytest.mark.parametrize("name", ["ul-wan", "ul-0123456789ab"])
def test_foreign_device_with_a_driver_like_name_is_an_ordinary_parent(records, name):
    ip("link", "add", name, "type", "veth", "peer", "name", "wire9")
    engine = engine_on(records, LinuxKernel())
    engine.create_network(Network("n1", {"parent": name}))
    assert records.networks.get("n1").uplink.parent == name
    assert records.networks.get("n1").uplink.base_device.name == name


@pytest.mark.parametrize(
    ("alias", "kind", "ours"),
    [
        ("underlay:n1:e1", "macvlan", True),
        ("underlay:n1:e1/host", "macvlan", True),
        ("underlay:n1:e1/guest", "macvlan", False),
        ("underlay:n1:", "dummy", True),
        ("underlay::eth0.50", "vlan", True),
        ("underlay::eth0.50.7", "vlan", True),
        ("underlay::eth0", "vlan", False),
        ("underlay::bridge/eth0", "bridge", True),
        ("underlay::ring/eth0", "bridge", False),
        ("underlay: n1:e1", "macvlan", False),
        ("underlay:n1:e1", "vxlan", False),
        ("underlay:n1", "veth", False),
        ("to the underlay:n1:e1", "veth", False),
    ],
)
def test_driver_devices_are_recognized_by_kind_mark_and_derived_name(alias, kind, ours):
    name = PREFIX + hashlib.sha256(alias.removeprefix(MARK).encode()).hexdigest()[:12]
    of = Owner.of_device(alias) if kind in links.KINDS else None
    raw = links.RawLink(1, name, kind, alias=alias, owner=of)
    assert raw.ours is ours
    other = links.RawLink(1, "ul-wan", kind, alias=alias, owner=of)
    assert not other.ours
