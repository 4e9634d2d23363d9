"""Ports of containers: what listens there, and which answer, from three places."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager

from tests.docker.conftest import GATEWAY4, GATEWAY6, IPAM, LAN4, LAN6
from tests.lab.host import ENVIRONMENT
from tests.lab.net import enter

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
# Asks for ports of an address all the time, and prints those that ever answered when
# it is told to end.
WATCH = """
import errno, json, select, socket, sys, time
from contextlib import suppress
address, tcp, udp = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
answered, rounds = set(), 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    rounds += 1
    streams = {}
    for port in tcp:
        s = socket.socket()
        s.setblocking(False)
        if s.connect_ex((address, port)) in (0, errno.EINPROGRESS):
            streams[s] = port
    asked = {}
    for port in udp:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setblocking(False)
        with suppress(OSError):
            s.connect((address, port))
            s.send(b"?")
        asked[s] = port
    end = time.monotonic() + 0.03
    while (left := end - time.monotonic()) > 0:
        read, written, _ = select.select([*asked], [*streams], [], left)
        for s in written:
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                answered.add(f"{streams[s]}/tcp")
            del streams[s]
            s.close()
        for s in read:
            with suppress(OSError):
                s.recv(1)
                answered.add(f"{asked[s]}/udp")
            del asked[s]
            s.close()
    for s in (*streams, *asked):
        s.close()
print(json.dumps([sorted(answered), rounds]))
"""
# The machine's, on a host and in its containers.
PYTHON = ("chroot", "/outer", sys.executable, "-c")
MODES = ["macvlan", "bridge", "routed"]
TCP, UDP = [22, 80, 443, 8080, 9000], [53, 5353]
# In a container, from its first moment on.
SERVE = "for p in 22 443 9000; do httpd -p $p -h /etc; done; httpd -f -p 80 -h /etc"


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


@contextmanager
def watching(site, address, where, watched):
    """Ask for every port of an address meanwhile; note what answered, and how often."""
    words = (WATCH, address, json.dumps(TCP), json.dumps(UDP))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    if where == "lan":
        command = [*enter(site.lan.netns), *PYTHON[2:], *words]
        process = subprocess.Popen(command, **pipes)
    else:
        net = f"--net=/proc/{site.host.pid_of(where)}/ns/net" if where != "host" else ""
        command = ["nsenter", net, *PYTHON, *words] if net else [*PYTHON, *words]
        process = site.host._spawn(command, ENVIRONMENT, **pipes)
    with process:
        assert process.stdout.readline() == "ready\n"
        yield
        out, _ = process.communicate("end", 30)
    watched[where] = json.loads(out)


def watched_meanwhile(site, address, act, places=("lan", "peer", "host")):
    """Return what answered on the LAN, in a container and on the host meanwhile."""
    found = {}
    with ExitStack() as watches:
        for where in places:
            watches.enter_context(watching(site, address, where, found))
        act()
    assert all(rounds > 20 for _, rounds in found.values()), found
    return {where: answered for where, (answered, _) in found.items()}
