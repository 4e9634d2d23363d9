"""Which ports of a container answer: on the LAN, on the host, and beside it."""

from __future__ import annotations

import json
import sys

import pytest

from tests.docker.conftest import IPAM
from tests.docker.site import inside
from tests.lab.host import ENVIRONMENT
from tests.lab.service import wait_until

# Connects to ports over TCP, or sends to them over UDP, and prints those that answer.
SCAN = """
import json, select, socket, sys
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
    s.send(b"?")
    waiting[s] = ("udp", port)
import time
end = time.monotonic() + float(sys.argv[4])
while waiting and (left := end - time.monotonic()) > 0:
    streams = [s for s, (kind, _) in waiting.items() if kind == "tcp"]
    read, written, _ = select.select(list(set(waiting) - set(streams)), streams, [], left)
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
# Listens on ports, in both IP families, and answers what comes over UDP.
LISTEN = """
import json, select, socket, sys
tcp, udp = json.loads(sys.argv[1]), json.loads(sys.argv[2])
socks = []
for kind, ports in ((socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)):
    for port in ports:
        s = socket.socket(socket.AF_INET6, kind)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("::", port))
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
TCP, UDP = [22, 80, 443, 8080, 9000], [53, 5353]
EVERY = sorted([*(f"{p}/tcp" for p in TCP if p != 8080), *(f"{p}/udp" for p in UDP)])
PORTS = ("-p", "8080:80", "-p", "53:53/udp", "-p", "127.0.0.1:9000:9000")


@pytest.fixture
def listening(site):
    """Have containers listen on ports; ends with the test."""
    running = []

    def start(container):
        net = f"--net=/proc/{site.host.pid_of(container)}/ns/net"
        words = (json.dumps([p for p in TCP if p != 8080]), json.dumps(UDP))
        process = site.host._spawn(
            ["nsenter", net, *PYTHON, LISTEN, *words], ENVIRONMENT, stdout=-1
        )
        running.append(process)
        assert process.stdout.readline()

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def scan(site, where, address, seconds=1.0):
    """Return the ports of an address that answer: on the LAN, the host, in a peer."""
    words = (SCAN, address, json.dumps(TCP), json.dumps(UDP), str(seconds))
    if where == "lan":
        done = site.lan.run(*PYTHON[2:], *words)
    elif where == "host":
        done = site.host.run(*PYTHON, *words)
    else:
        net = f"--net=/proc/{site.host.pid_of(where)}/ns/net"
        done = site.host.run("nsenter", net, *PYTHON, *words)
    return json.loads(done.stdout)


def test_only_published_ports_answer(site, listening):
    site.dual("lan", "-o", "policy=published", "--ip-range", "10.77.0.64/27")
    site.run("web", "lan", *PORTS)
    site.run("peer", "lan")
    listening("web")
    four, six, _ = site.attached("web", "lan")
    for address in (four, six):
        for where in ("lan", "peer"):
            assert scan(site, where, address) == ["53/udp", "80/tcp"]
    assert scan(site, "host", six) == ["53/udp", "80/tcp"]
    assert scan(site, "host", four) == ["53/udp", "80/tcp", "9000/tcp"]
    site.ping_from("web", "10.77.0.1")
    site.ping_from_lan(four)
    site.clear()
    site.assert_nothing_left()
