"""What a program changes or deletes in the host: seen, heard, and repaired alone."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.kernel.containers import Room, calm
from tests.kernel.world import LONG_ENOUGH, Hearing
from tests.worlds import MACVLAN, ROUTED, SUBNETS, network, parts
from underlay.kernel.linux import LinuxKernel
from underlay.model import Endpoint
from underlay.model.objects import Owner
from underlay.modes import host_access, routed

pytestmark = pytest.mark.needs("nftables")

SHIM = Owner.parse("underlay::shim/eth0").device
PAIR = Owner("n1", "e1").host_end.device
HEARD, SAID = (f"netdev underlay {way}-{SHIM}" for way in ("ingress", "egress"))
NAT = f"ip underlay nat-{Owner('n1').device}"
MODES = {"macvlan": MACVLAN, "routed": ROUTED}
THEIRS = """
    nft add table netdev theirs
    nft add chain netdev theirs in '{ type filter hook ingress device lo priority 0; }'
    nft add rule netdev theirs in counter comment '"underlaid"'
    nft add table ip theirs
    iptables -N DOCKER-USER
    iptables -A DOCKER-USER -s 198.51.100.9 -j DROP
    ip6tables -N DOCKER-USER
    ip neigh add 10.0.0.77 lladdr 02:00:00:00:00:77 nud permanent dev eth0
    ip neigh add proxy 10.0.0.78 dev eth0
    ip route add blackhole 198.51.100.0/24 proto static
"""


# A chain's rules with their handles, and the handle of its first one.
WORDS = """
    rules() { nft -a list chain $1 | grep -v chain | grep handle; }
    first() { rules "$1" | head -1 | sed 's/.*# //'; }
"""


def sh(script):
    done = subprocess.run(["sh", "-ec", WORDS + script], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout


def everything():
    """All of the host's network that a driver could change, as text.

    Not the addresses that the kernel gives a device by itself, nor the state of a wire.
    """
    shown = sh(
        "ip -d -o link; ip -o addr; ip neigh show nud permanent; ip neigh show proxy;"
        "ip route show table all; ip -6 route show table all; nft list ruleset;"
        "grep -rs '' /proc/sys/net/ipv?/conf /proc/sys/net/ipv?/neigh | grep -v secret"
    )
    volatile = r"packets \d+ bytes \d+|expires \S+|promiscuity \d+|.*fe80::.*"
    volatile += r"|state [A-Z]+|,?(NO-CARRIER|LOWER_UP|M-DOWN),?|tentative| linkdown"
    lines = re.sub(volatile, "", shown).splitlines()
    return *sorted(filter(None, lines)), sh(f"nft list chain {HEARD} || true")


def other(settings, device):
    """The commands that set each setting of a device to another value, by its name."""
    for setting in settings:
        path, value = setting.replace("*", device).split("=")
        value = "0" if value != "0" else "80" if "delay" in path else "1"
        yield Path(path).name, f"echo {value} >/proc/sys/{path}"


IN_HOST = {
    "macvlan": {
        **dict(other(host_access.SETTINGS, SHIM)),
        "the way to a container": f"ip route change 10.0.0.5 proto 157 dev {SHIM}",
        "its IPv6 way": (
            f"ip route del fd00::5 dev {SHIM};"
            f"ip route add fd00::5 dev {SHIM} proto 157 metric 1024"
        ),
        "a neighbour": f"ip neigh del 10.0.0.5 dev {SHIM}",
        "all neighbours": f"ip neigh flush dev {SHIM} nud permanent",
        "a neighbour's MAC": (
            f"ip neigh replace fd00::5 lladdr 02:00:00:00:00:66 dev {SHIM}"
        ),
        "a neighbour that ages": f"ip neigh change 10.0.0.5 nud stale dev {SHIM}",
        "what the shim answers for": f"ip neigh del proxy fd00::9 dev {SHIM}",
        "what the shim says": f"nft replace rule {SAID} $(first '{SAID}') accept",
        "what the shim hears": f"nft replace rule {HEARD} $(first '{HEARD}') accept",
        "the order of filters": (
            f"""rule="$(rules '{HEARD}' | head -1 | sed 's/ # .*//')";"""
            f"nft delete rule {HEARD} $(first '{HEARD}');"
            f'nft add rule {HEARD} "$rule"'
        ),
        "one rule more": f"nft insert rule {SAID} accept",
        "all filters": "nft delete table netdev underlay",
    },
    "routed": {
        **dict(other(routed.HOST_END, PAIR)),
        "the way to a container": (
            f"ip route change 10.0.0.5 proto 157 dev {PAIR} src 192.0.2.9"
        ),
        "the way's device": "ip route change 10.0.0.5 proto 157 dev eth0",
        "the rule of Docker's chain": "iptables -D DOCKER-USER 2",
        "the masquerade": f"nft replace rule {NAT} $(first '{NAT}') accept",
        "the masquerade chain": f"nft delete chain {NAT}",
        "the masquerade's hook": (
            f"""rule="$(rules '{NAT}' | head -1 | sed 's/ # .*//')";"""
            f"nft delete chain {NAT};"
            f"nft add chain {NAT} '{{ type nat hook postrouting priority 77; }}';"
            f'nft add rule {NAT} "$rule"'
        ),
        "what the proxy answers for": "ip neigh del proxy 10.0.0.5 dev eth0",
    },
}
# What no event tells is found by the period.
SILENT = {
    *("arp_filter", "accept_ra", "accept_dad", "proxy_delay"),
    *("what the shim answers for", "what the proxy answers for"),
}


@pytest.fixture(params=IN_HOST)
def host(request, tmp_path):
    """A host with a container of a mode, and things of other people's."""
    request.getfixturevalue("namespace")
    here = ("10.0.0.9/24", "fd00::9/64") if request.param == "macvlan" else ()
    lines = [f"ip address add {a} dev eth0 nodad\n" for a in ("192.0.2.9/24", *here)]
    sh("".join(lines) + THEIRS)
    # Their own addresses would come and go in the middle of a test.
    for device in ("eth0", "wire0"):
        sh(f"ip link set {device} addrgenmode none")
        sh(f"ip -6 addr flush dev {device} scope link")
    engine, ipam = parts(tmp_path / "underlay.db", LinuxKernel())
    pools = [ipam.request_pool(subnet, "", {}, f).id for subnet, f in SUBNETS]
    for pool, gateway in zip(pools, ("10.0.0.1", "fd00::1"), strict=True):
        ipam.request_gateway(pool, gateway)
    engine.create_network(network("n1", **MODES[request.param]))
    asked = zip(pools, ("10.0.0.5", "fd00::5"), strict=True)
    four, six = (ipam.request_address(pool, address, "") for pool, address in asked)
    with Room() as room:
        room.start(engine, Endpoint("e1", "n1", four, six))
        yield request.param, engine, room.path


@pytest.mark.parametrize(
    ("host", "taken"),
    [(mode, taken) for mode in IN_HOST for taken in IN_HOST[mode]],
    indirect=["host"],
)
def test_each_host_change_is_detected_and_repaired_alone(host, taken):
    mode, engine, sandbox = host
    hearing = Hearing()
    try:
        hearing.listener.watch(sandbox)
        before = everything()
        hearing.hush()
        sh(IN_HOST[mode][taken])
        time.sleep(LONG_ENOUGH)
    finally:
        hearing.close()
    assert any("" in told for told in hearing.told) == (taken not in SILENT)
    assert everything() != before
    calm(engine)
    assert everything() == before
