"""Whatever is taken, in whatever order, in the middle of passes: all of it comes back.

Random sequences of harms to a small world on real namespaces: 60 of them, and in
`script/test long` UNDERLAY_FLAPS=500, which takes five minutes of CPU. A failure names
its seed;
UNDERLAY_FLAP_SEED=<seed> runs that one and those before it in the same world, and says
what they do.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import socket
import subprocess
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tests.fakes import Clock, engine_on
from tests.kernel.conftest import ip
from tests.lab.sandbox import Dock
from underlay.ipam.driver import IpamDriver
from underlay.kernel.linux import LinuxKernel
from underlay.model import Endpoint, Network, Subnet
from underlay.model.objects import Owner
from underlay.records import Records

SEQUENCES, BATCHES = int(os.environ.get("UNDERLAY_FLAPS", "60")), 10
# Passes until nothing is left to do, once the administrator has put his things back.
QUIET_PASSES = 6

pytestmark = pytest.mark.needs("macvlan", "nftables")

# Of each network: its options, and what is asked of IPAM for it.
NETWORKS = {
    "mac": ({"parent": "eth0", "host_access": "on"}, 1),
    "two": ({"parent": "eth1", "host_access": "off"}, 2),
    "way": ({"mode": "routed", "proxy": "eth0"}, 3),
    "bri": ({"bridge": "br1"}, 4),
}
# Sandbox by sandbox: device, network, and whether the default route goes by it.
ROOMS = (
    (("eth0", "mac", True), ("eth1", "way", False)),
    (("eth0", "mac", True),),
    (("eth0", "bri", True), ("eth1", "two", False)),
    (("eth0", "way", True),),
)
# Of each parent: its own name, the other end, and what the administrator puts on it.
PARENTS = {
    "eth0": ("wire0", ("10.1.0.1/24", "fd01::1/64")),
    "eth1": ("wire1", ("10.2.0.1/24",)),
}
BRIDGE = (
    "link add br1 address 02:00:00:00:00:b1 type bridge",
    "link set br1 up",
    "addr replace 10.4.0.1/24 dev br1",
)
FOREIGN = (
    "link add for0 type veth peer name for1",
    "link set for0 up",
    "link set for1 up",
    "addr add 203.0.113.1/24 dev for0",
    "addr add fd99::1/64 dev for0 nodad",
    "route add 198.51.100.0/24 via 203.0.113.2",
    "route add fd98::/64 via fd99::2",
)


def try_ip(*lines):
    """Run what may fail: the device may be gone."""
    batch = "".join(f"{line}\n" for line in lines)
    words = ["ip", "-force", "-batch", "-"]
    subprocess.run(words, input=batch, capture_output=True, text=True)


class World:
    """A host with two cards and a bridge, four networks, and six endpoints on them."""

    def __init__(self, path):
        self.clock = Clock()
        self.records = Records(path)
        kernel = LinuxKernel()
        self.engine = engine_on(self.records, kernel, self.clock)
        self.ipam = IpamDriver(
            self.records,
            self.clock,
            self.engine.remove_dead_endpoint,
            kernel.is_own,
            self.engine.live_endpoints,
            self.clock,
            wire=self.engine.parts.ipam.wire,
        )
        self.last = {name: name for name in PARENTS}
        self.macs = {name: f"02:00:00:00:01:0{n}" for n, name in enumerate(PARENTS)}
        for parent in PARENTS:
            try_ip(*self.make(parent, self.macs[parent]))
        try_ip(*FOREIGN, *BRIDGE)
        for tool in ("iptables", "ip6tables"):  # as Docker does
            subprocess.run([tool, "-N", "DOCKER-USER"], check=True)
        tag = f"ul{os.getpid():x}{secrets.token_hex(2)}"
        self.docks = [Dock(f"{tag}-{n}") for n in range(len(ROOMS))]
        self.claims = {name: self._network(name) for name in NETWORKS}
        self.devices = []
        for dock, room in zip(self.docks, ROOMS, strict=True):
            for place in room:
                self._container(dock, *place)
            dock.ip(*FOREIGN)
        self.until_quiet()
        # Those of the parents are a test of their own.
        self.settings = [
            s.path
            for s in self.records.host.sysctls()
            if not {*PARENTS} & {*s.path.split("/")}
        ]
        self.before = self.dump()

    def close(self):
        self.records.close()
        for dock in self.docks:
            dock.close()

    def _network(self, name):
        options, number = NETWORKS[name]
        claims, segments = [], []
        for subnet, family in ((f"10.{number}.0.0/24", 4), (f"fd0{number}::/64", 6)):
            gateway = ip_address(ip_network(subnet).network_address + 254)
            claim = self.ipam.request_pool(subnet, "", {}, family)
            self.ipam.request_gateway(claim.id, str(gateway))
            claims.append(claim.id)
            segments.append(Subnet(ip_network(subnet), gateway, pooled=True))
        self.engine.create_network(Network(name, options, subnets=tuple(segments)))
        return claims

    def _container(self, dock, device, network, default):
        four, six = (
            self.ipam.request_address(claim, "", "") for claim in self.claims[network]
        )
        identity = f"e{len(self.devices)}"
        made = self.engine.create_endpoint(Endpoint(identity, network, four, six))
        given = self.engine.join(network, identity, dock.path)
        dock.take(given, made, device, default=default)
        self.devices.append((dock, device, network, identity))

    # What the service does

    def look(self):
        """Have a pass look everywhere, as the command does."""
        self.clock.now += 0.01
        self.engine.reconcile()

    def go_round(self, seconds):
        self.clock.now += seconds
        passes = self.engine.reconciler
        passes.run_pass(None, self.clock.now, lambda _: None)

    def pause(self, dice):
        """Have some time go by, with a pass of either kind at its end, or none."""
        if dice.random() < 0.3:
            self.look()
        elif dice.random() < 0.8:
            self.go_round(dice.choice((0.05, 0.2, 3.0)))

    def until_quiet(self):
        for _ in range(QUIET_PASSES):
            self.go_round(5.0)
            if not self.engine.preview():
                return
        assert self.engine.preview() == ()

    # What the administrator does

    def name_of(self, parent):
        """Return what a parent is called now, "" if it is gone."""
        name = self.last[parent]
        return name if name in {name for _, name in socket.if_nameindex()} else ""

    def of(self, name):
        return next(parent for parent in PARENTS if self.name_of(parent) == name)

    def make(self, parent, mac):
        """Put a parent in under the name it had last, with what belongs on it."""
        wire, name = PARENTS[parent][0], self.last[parent]
        yield f"link add {name} address {mac} type veth peer name {wire}"
        yield from self.configure(parent, name)

    def configure(self, parent, name):
        wire, addresses = PARENTS[parent]
        yield f"link set {wire} up"
        yield f"link set {name} up"
        for address in addresses:
            nodad = " nodad" if ":" in address else ""
            yield f"addr replace {address} dev {name}{nodad}"

    def rename(self, parent, name):
        now = self.name_of(parent)
        yield f"link set {now} down"
        yield f"link set {now} name {name}"
        self.last[parent] = name
        yield from self.configure(parent, name)

    def comes_back(self, parent, dice):
        """Yield what puts a parent in again, as the same or as another one."""
        if not self.name_of(parent):
            mac = self.macs[parent]
            other = f"02:01:00:00:00:{dice.randrange(256):02x}"
            self.macs[parent] = dice.choice((mac, other))
            yield from self.make(parent, self.macs[parent])
            # Had no pass seen another one by its name, that could not change.
            self.look()

    def put_back(self, dice):
        """Have the host as the administrator wants it, whatever it is like now."""
        for parent in PARENTS:
            if not self.name_of(parent):
                try_ip(*self.comes_back(parent, dice))
                self.look()
        for parent in PARENTS:
            if self.name_of(parent) != parent:
                try_ip(*self.rename(parent, f"t{parent}"))
        for parent in PARENTS:
            if self.name_of(parent) != parent:
                try_ip(*self.rename(parent, parent))
            try_ip(*self.configure(parent, parent))
        try_ip(*BRIDGE)

    # What is compared

    def dump(self):
        """Return all there is, but what is necessarily new when it is made again."""
        found = {"host": shown()}
        for dock in self.docks:
            found[dock.netns] = shown("-n", dock.netns)
        rules = re.sub(r"packets \d+ bytes \d+", "", said("nft", "list", "ruleset"))
        found["filters"] = rules.splitlines()
        found["settings"] = [f"{path} {read(path)}" for path in self.settings]
        return found

    def assert_as_before(self):
        for place, lines in self.dump().items():
            before = self.before[place]
            gone = [line for line in before if line not in lines]
            new = [line for line in lines if line not in before]
            told = "\n".join((place, "gone:", *gone, "new:", *new))
            assert gone + new == [], told


def said(*words, lines=()):
    """Return what a command says."""
    given = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(
        words, input=given, check=True, capture_output=True, text=True
    )
    return done.stdout


def read(path):
    try:
        return Path("/proc/sys", path).read_text().strip()
    except FileNotFoundError:
        return "-"


LOOKS = ("link show", "addr show", "route show table all", "neigh show proxy")


def shown(*where):
    """Return what `ip` shows, a line for each thing; foreign things to the index."""
    found = []
    text = said("ip", "-o", *where, "-batch", "-", lines=LOOKS)
    for line in text.replace("\\", " ").splitlines():
        if "fe80::" in line or "ff00::/8" in line:
            continue
        if not re.match(r"\d+: for\d", line):
            line = re.sub(
                r"^\d+: |@if\d+|link-netns\w* \S+|qlen \d+|state \S+", "", line
            )
        if not where and re.match(r"(ul-|eth|wire)", line):
            line = re.sub(r"link/ether \S+", "", line)
        found.append(" ".join(line.split()))
    return sorted(found)


# Harms: each yields commands, between which a pass may come


def parent_flaps(world, dice):
    name = world.name_of(dice.choice([*PARENTS]))
    if name:
        yield f"link set {name} down"
        yield from world.configure(world.of(name), name)


def parent_goes(world, dice):
    parent = dice.choice([*PARENTS])
    name = world.name_of(parent)
    if name:
        world.look()  # had no pass seen its name, another one could take its place
        yield f"link del {name}"
        yield world.pause
    if dice.random() < 0.6:
        yield from world.comes_back(parent, dice)


def parent_is_renamed(world, dice):
    parent = dice.choice([*PARENTS])
    if world.name_of(parent):
        yield from world.rename(parent, f"lan{dice.randrange(1000)}")


def parents_are_swapped(world, dice):
    ends = dice.sample([*PARENTS], 2)
    first, second = (world.name_of(parent) for parent in ends)
    if first and second:
        yield from world.rename(ends[0], f"lan{dice.randrange(1000)}")
        yield from world.rename(ends[1], first)
        yield from world.rename(ends[0], second)


def bridge_goes(world, dice):
    yield "link del br1"
    yield world.pause
    if dice.random() < 0.6:
        yield from BRIDGE


INSIDE = (
    ("link del {0}",),
    ("link set {0} down",),
    ("link set {0} down", "link set {0} up"),
    ("link set {0} mtu 1300",),
    ("link set {0} address 02:00:00:00:00:77",),
    ("addr flush dev {0} scope global",),
    ("-4 addr flush dev {0}",),
    ("-6 addr flush dev {0} scope global",),
    ("-4 route flush dev {0}",),
    ("-6 route flush dev {0} proto boot",),
    ("route del default",),
    ("-6 route del default",),
    ("link set {0} down", "addr flush dev {0}", "link del {0}"),
)


def something_is_taken_inside(world, dice):
    dock, device, *_ = dice.choice(world.devices)
    for words in dice.choice(INSIDE):
        words = words.format(device).split()
        yield ("ip", "-n", dock.netns, *words)


def something_is_taken_in_the_host(_, dice):
    ours = re.findall(r"^\d+: (ul-\w+)", ip("-o", "link"), re.MULTILINE)
    device = dice.choice(ours or ["none"])
    shim = Owner.parse("underlay::shim/eth0").device
    yield dice.choice(
        (
            f"link del {device}",
            f"link set {device} down",
            f"link set {device} nomaster",
            f"addr flush dev {device}",
            f"link del {shim}",
            ("ip", "-4", "route", "flush", "proto", "157"),
            ("ip", "-6", "route", "flush", "proto", "157"),
            "neigh del proxy 10.3.0.1 dev eth0",
            "neigh del proxy fd03::2 dev eth0",
            f"neigh flush dev {shim} proxy",
            ("nft", "delete", "table", "netdev", "underlay"),
            ("iptables", "-F", "DOCKER-USER"),
            ("ip6tables", "-D", "DOCKER-USER", "1"),
            *(
                ("sh", "-c", f"echo 0 >/proc/sys/{path}")
                for path in (*SETTINGS, f"net/ipv6/conf/{shim}/forwarding")
            ),
        )
    )


SETTINGS = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/eth0/proxy_ndp",
)
HARMS = (
    parent_flaps,
    parent_goes,
    parent_is_renamed,
    parents_are_swapped,
    bridge_goes,
    something_is_taken_inside,
    something_is_taken_inside,
    something_is_taken_inside,
    something_is_taken_in_the_host,
    something_is_taken_in_the_host,
)


def run(world, seed, tell):
    """Do all the harm of one sequence, have the host put back, and look at the rest."""
    dice = random.Random(seed)
    for _ in range(dice.randint(3, 8)):
        harm = dice.choice(HARMS)
        tell(harm.__name__)
        for step in harm(world, dice):
            tell(step)
            match step:
                case str():
                    try_ip(step)
                case tuple():
                    subprocess.run(step, capture_output=True)
                case _:
                    step(dice)
            if dice.random() < 0.15:
                tell("pass")
                world.pause(dice)
    tell("put back")
    world.put_back(dice)
    world.until_quiet()
    world.assert_as_before()


@pytest.fixture
def world(namespace, tmp_path):
    del namespace
    for name in PARENTS:
        subprocess.run(["ip", "link", "del", name], capture_output=True)
    found = World(tmp_path / "underlay.db")
    yield found
    found.close()


ONE = os.environ.get("UNDERLAY_FLAP_SEED", "")
SEEDS = [range(n, SEQUENCES, BATCHES) for n in range(BATCHES)]
if ONE:
    # With those before it in its world: they may have left something.
    SEEDS = [range(int(ONE) % BATCHES, int(ONE) + 1, BATCHES)]


@pytest.mark.longer
@pytest.mark.parametrize("seeds", SEEDS, ids=lambda seeds: f"from-{seeds[0]}")
def test_any_sequence_of_flaps_ends_with_everything_as_before(world, seeds):
    for seed in seeds:
        try:
            run(world, seed, partial(print, seed) if ONE else lambda _: None)
        except BaseException as error:
            error.add_note(f"UNDERLAY_FLAP_SEED={seed}")
            raise


def test_parents_that_swap_their_names_keep_their_settings_apart(world):
    before = set(world.records.host.sysctls())
    for _ in range(2):
        for step in parents_are_swapped(world, random.Random(1)):
            try_ip(step)
        world.look()
    assert set(world.records.host.sysctls()) == before
