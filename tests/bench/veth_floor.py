"""What a veth alone costs a round trip, and what it would cost past the host's stack.

No service runs here. Beside the host itself, one container is reached by a veth and
forwarding without a single rule, and then by two eBPF programs that hand packets from
the NIC to the container's end of the pair and back (`bpf_redirect_peer`,
`bpf_redirect_neigh`), as Cilium's host routing does. `python -m tests.bench.veth_floor
attach NIC VETH` attaches them in the namespace that it runs in.
"""

from __future__ import annotations

import ctypes
import os
import platform
import secrets
import socket
import struct
import sys
from contextlib import ExitStack

from tests.bench.load import PING_PORT, PINGPONG, on_lan, trips
from tests.bench.tables import paired, say, spread, table, tell
from tests.lab.net import Namespace, ip

HOST, VETH, PASSED_BY = "the host itself", "a veth, no rule", "a veth, past the stack"
WAYS = HOST, VETH, PASSED_BY
HOST_ADDRESS, BOX_ADDRESS = "10.5.0.2", "10.5.1.2"
SECONDS = 1
BEFORE = ("nice", "-n", "-20", "taskset", "-c", str((os.cpu_count() or 1) - 1))
# Of linux/bpf.h: the command and the program type, and two helpers.
_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _SCHED_CLS, _REDIRECT_NEIGH, _REDIRECT_PEER = 5, 3, 152, 155
_PROTOCOL_OF_PACKET = 16


def veth_floor(rounds: int) -> bool:
    """Measure and print it; there is no aim to miss, so it is always met."""
    name = f"ul{secrets.token_hex(3)}"
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        lan, host, box = (
            stack.enter_context(Namespace(f"{name}-{end}", ""))
            for end in ("lan", "host", "box")
        )
        _connect(lan, host, box)
        for place in (host, box):
            place.start(*BEFORE, *PINGPONG, "serve", str(PING_PORT))
        for turn in range(-1, rounds):
            tell(f"round {turn + 1} of {rounds}")
            for way in WAYS:
                if way == PASSED_BY:
                    words = ("-m", "tests.bench.veth_floor", "attach", "nic", "pair")
                    host.run(sys.executable, *words)
                address = HOST_ADDRESS if way == HOST else BOX_ADDRESS
                spent = trips(on_lan(lan, *BEFORE), address, PING_PORT, SECONDS).p50
                if way == PASSED_BY:
                    for device in ("nic", "pair"):
                        host.run("tc", "qdisc", "del", "dev", device, "clsact")
                if turn >= 0:
                    found[way].append(spent)
    say(f"{os.cpu_count()} cores, Linux {platform.release()}, {rounds} rounds")
    shares = {way: 1 / paired(found[way], found[HOST]) for way in WAYS}
    table(
        "A round trip of one byte from the LAN",
        ("to", "microseconds, p50: median (min to max)", "the host's / this"),
        [(way, spread(found[way]), f"{shares[way]:.2f}") for way in WAYS],
    )
    return True


def _connect(lan: Namespace, host: Namespace, box: Namespace) -> None:
    ip(
        f"link add wire netns {lan.netns} type veth peer name nic netns {host.netns}",
        f"link add pair netns {host.netns} type veth peer name eth0 netns {box.netns}",
    )
    for place, lines in (
        (lan, ("addr add 10.5.0.1/24 dev wire", "link set wire up")),
        (host, (f"addr add {HOST_ADDRESS}/24 dev nic", "link set nic up")),
        (host, ("addr add 10.5.1.1/24 dev pair", "link set pair up")),
        (box, (f"addr add {BOX_ADDRESS}/24 dev eth0", "link set eth0 up")),
        (box, ("route add default via 10.5.1.1",)),
        (lan, (f"route add 10.5.1.0/24 via {HOST_ADDRESS}",)),
    ):
        for line in lines:
            place.run("ip", *line.split())
    host.run("sh", "-ec", "echo 1 > /proc/sys/net/ipv4/ip_forward")


def attach(nic: str, pair: str) -> None:
    """Have packets of IPv4 pass by the stack of this namespace, both ways."""
    from pyroute2 import IPRoute

    into, out = socket.if_nametoindex(pair), socket.if_nametoindex(nic)
    with IPRoute() as route:
        for index, target, helper in (
            (out, into, _REDIRECT_PEER),
            (into, out, _REDIRECT_NEIGH),
        ):
            program = _load(target, helper)
            route.tc("add", "clsact", index)
            route.tc(
                "add-filter", "bpf", index, ":1", fd=program, name=b"past",
                parent="ffff:fff2", classid=1, direct_action=True,
            )  # fmt: skip
            os.close(program)


def _load(target: int, helper: int) -> int:
    """Return a program that hands packets of IPv4 to another device by a helper."""

    def step(
        code: int, to: int = 0, by: int = 0, offset: int = 0, value: int = 0
    ) -> bytes:
        return struct.pack("<BBhi", code, by << 4 | to, offset, value)

    program = b"".join(
        (
            step(0x61, 2, 1, _PROTOCOL_OF_PACKET),  # r2 = packet's protocol
            step(0x55, 2, 0, 6, socket.htons(0x0800)),  # if not IPv4: to the end
            step(0xB7, 1, value=target),
            *(step(0xB7, register) for register in (2, 3, 4)),
            step(0x85, value=helper),
            step(0x95),
            step(0xB7, 0),
            step(0x95),
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"GPL")
    places = ctypes.addressof(code), ctypes.addressof(licence)
    asked = struct.pack("=IIQQ", _SCHED_CLS, len(program) // 8, *places)
    block = ctypes.create_string_buffer(asked.ljust(128, b"\0"), 128)
    libc = ctypes.CDLL(None, use_errno=True)
    found: int = libc.syscall(_SYS_BPF[platform.machine()], _PROG_LOAD, block, 128)
    if found < 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no such program")
    return found


if __name__ == "__main__":
    _, what, *devices = sys.argv
    if what == "attach":
        attach(*devices)
