"""Ports of containers: what listens there, and which answer, from three places."""

from __future__ import annotations

import json
import sys

from tests.docker.conftest import GATEWAY4, GATEWAY6, IPAM, LAN4, LAN6
from tests.lab.host import ENVIRONMENT

# Connects to ports over TCP, or sends to them over UDP, and prints those that answer.
SCAN = """
import json, select, socket, sys, time
from contextlib import suppress
address, tcp, udp = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
waiting, open_ = {}, []
for port in tcp:
    s = socket.socket(family, socket.SOCK_STREAM)
    s.setblocking(False)
    s.connect_ex((address, port))
    waiting[s] = ("tcp", port)
for port in udp:
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.connect((address, port))
    with suppress(PermissionError):  # a filter of this machine drops it
        s.send(b"?")
    waiting[s] = ("udp", port)
end = time.monotonic() + float(sys.argv[4])
while waiting and (left := end - time.monotonic()) > 0:
    streams = [s for s, (kind, _) in waiting.items() if kind == "tcp"]
    others = list(waiting.keys() - set(streams))
    read, written, _ = select.select(others, streams, [], left)
    for s in read + written:
        kind, port = waiting.pop(s)
        if kind == "tcp":
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                open_.append(f"{port}/tcp")
            continue
        try:
            s.recv(1)
            open_.append(f"{port}/udp")
        except OSError:
            pass
print(json.dumps(sorted(open_)))
"""
# Listens: each socket has a protocol, an address, a port, and whether it is for IPv6
# only. Answers what comes over UDP.
LISTEN = """
import json, select, socket, sys
socks = []
for protocol, address, port, six_only in json.loads(sys.argv[1]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    s = socket.socket(family, kind)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, six_only)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    if kind == socket.SOCK_STREAM:
        s.listen(100)
    socks.append(s)
print("ready", flush=True)
while True:
    for s in select.select(socks, [], [])[0]:
        if s.type == socket.SOCK_STREAM:
            s.accept()[0].close()
        else:
            data, who = s.recvfrom(2000)
            s.sendto(b"!" + data, who)
"""
# The machine's, on a host and in its containers.
PYTHON = ("chroot", "/outer", sys.executable, "-c")
MODES = ["macvlan", "bridge", "routed"]


class Listeners:
    """Processes in containers that listen."""

    def __init__(self, site):
        self._site, self._running = site, []

    def start(self, container, sockets):
        """Have a container listen; each socket as LISTEN has it."""
        net = f"--net=/proc/{self._site.host.pid_of(container)}/ns/net"
        process = self._site.host._spawn(
            ["nsenter", net, *PYTHON, LISTEN, json.dumps(sockets)],
            ENVIRONMENT,
            stdout=-1,
        )
        self._running.append(process)
        assert process.stdout.readline()

    def stop(self):
        """End them all."""
        for process in self._running:
            process.kill()
            process.wait()
            process.stdout.close()
        self._running.clear()


def scan_ports(site, where, address, tcp, udp, seconds=1.0):
    """Return the ports of an address that answer: on the LAN, the host, in a peer."""
    words = (SCAN, address, json.dumps(tcp), json.dumps(udp), str(seconds))
    if where == "lan":
        done = site.lan.run(*PYTHON[2:], *words)
    elif where == "host":
        done = site.host.run(*PYTHON, *words)
    else:
        net = f"--net=/proc/{site.host.pid_of(where)}/ns/net"
        done = site.host.run("nsenter", net, *PYTHON, *words)
    return json.loads(done.stdout)


def create(site, mode, *words, name="lan"):
    """Create a network of a mode, with both IP families, that the LAN reaches."""
    ways = {
        "macvlan": ("-o", "parent=eth0"),
        "bridge": ("-o", "parent=eth0", "-o", "mode=bridge", "-o", "takeover=yes"),
        "routed": ("-o", "mode=routed", "-o", "proxy=eth0"),
    }
    subnets = ("--subnet", "10.77.0.160/27", "--ipv6", "--subnet", "fd77::a000/120")
    if mode != "routed":
        subnets = (
            "--subnet", LAN4, "--gateway", GATEWAY4, "--ip-range", "10.77.0.160/27",
            "--ipv6", "--subnet", LAN6, "--gateway", GATEWAY6,
        )  # fmt: skip
    site.docker(
        "network",
        "create",
        "-d",
        "underlay",
        *IPAM,
        *ways[mode],
        *subnets,
        *words,
        name,
    )
