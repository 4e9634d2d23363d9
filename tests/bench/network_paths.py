"""The ways from a process to the LAN that are compared: a few lines for each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.bench.load import PING_PORT, STREAM_PORT

LAN = ("--subnet", "10.77.0.0/24", "--gateway", "10.77.0.1")
OURS = ("-d", "underlay", "--ipam-driver", "underlay")
ROUTED, UNCHECKED = "10.64.0.0/24", "10.65.0.0/24"
PORTS = STREAM_PORT, PING_PORT
# Where the NAT bridge publishes the two ports: the host's own servers have theirs.
PUBLISHED = 1000
BRIDGED = "bridged"


@dataclass(frozen=True)
class Way:
    """How a container comes to the LAN; without words for `docker run` it is a host.

    `on` names the host it is on; on BRIDGED eth0 is a port of br0. `routed` is what
    the LAN must be told to reach through that host, and `aim` the least share of the
    plain host namespace's figures. `unguarded` names the same way without rules that
    look at each packet.
    """

    name: str
    network: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    address: str = ""
    published: int = 0
    on: str = "plain"
    routed: str = ""
    aim: float | None = None
    unguarded: str = ""


HOST = Way("host namespace")
MACVLAN = Way(
    "macvlan",
    network=(*OURS, "-o", "parent=eth0", *LAN),
    run=("--ip", "10.77.0.101"),
    address="10.77.0.101",
    aim=0.98,
)
WAYS = (
    HOST,
    Way(
        "Docker's NAT bridge",
        run=tuple(f"--publish={port + PUBLISHED}:{port}" for port in PORTS),
        published=PUBLISHED,
    ),
    MACVLAN,
    Way(
        "macvlan, policy=published",
        network=(*MACVLAN.network, "-o", "policy=published"),
        run=("--ip", "10.77.0.104", *(f"--publish={port}" for port in PORTS)),
        address="10.77.0.104",
        on="guarded",
        unguarded=MACVLAN.name,
    ),
    Way(
        "routed, strict=off",
        network=(
            *OURS, "-o", "mode=routed", "-o", "strict=off", "--subnet", UNCHECKED,
        ),
        run=("--ip", "10.65.0.2"),
        address="10.65.0.2",
        on="unchecked",
        routed=UNCHECKED,
    ),
    Way(
        "routed",
        network=(
            *OURS, "-o", "mode=routed", "--subnet", ROUTED, "--gateway", "10.64.0.1",
        ),
        run=("--ip", "10.64.0.2"),
        address="10.64.0.2",
        routed=ROUTED,
        aim=0.95,
        unguarded="routed, strict=off",
    ),
    Way("host namespace, address on br0", on=BRIDGED),
    Way(
        "bridge",
        network=(*OURS, "-o", "bridge=br0", *LAN),
        run=("--ip", "10.77.0.102"),
        address="10.77.0.102",
        on=BRIDGED,
    ),
)  # fmt: skip
# In a kernel that has it: with macvlan too, to tell that kernel from this machine's,
# and on a host of its own, for a parent has one or the other.
OTHER_KERNEL_WAYS = (
    HOST,
    replace(MACVLAN, on="other", aim=None),
    Way(
        "ipvlan",
        network=(*OURS, "-o", "ipvlan_mode=l2", "-o", "parent=eth0", *LAN),
        run=("--ip", "10.77.0.103"),
        address="10.77.0.103",
        aim=0.98,
    ),
)
