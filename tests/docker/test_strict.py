"""What leaves a container that sends from foreign addresses; and isolated networks."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest

from tests.docker.conftest import GATEWAY4, GATEWAY6, IPAM, LAN4, LAN6
from tests.docker.site import inside
from tests.lab.capture import Capture
from tests.lab.service import wait_until

# Sends frames on eth0, as any container can that Docker has not taken NET_RAW from. A
# number in front of a frame is what the kernel is to take it for; else what it says.
SEND = """
import json, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
for text in json.loads(sys.argv[1]):
    kind, _, frame = text.rpartition(":")
    try:
        s.sendto(bytes.fromhex(frame), ("eth0", int(kind or "0")))
    except OSError:  # a chain on the device drops it
        pass
"""
# Prints the texts of the datagrams to a port of this host until one says "<last>".
LISTEN = """
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 5000))
s.settimeout(10)
print("ready", flush=True)
while (text := s.recv(100).decode()) != "<last>":
    print(text)
"""
PYTHON = ("chroot", "/outer", sys.executable, "-c")
PORT = "01:80:c2:00:00:0e"
FOREIGN, BROADCAST = "02:00:00:00:00:99", "ff:ff:ff:ff:ff:ff"
NONE = "0.0.0.0"  # noqa: S104 - what a container sends before it has an address
ARP, IP, IP6, TAG, LLDP = 0x0806, 0x0800, 0x86DD, 0x8100, 0x88CC
ICMP, IGMP, UDP, FRAGMENT, ICMP6, OPTIONS = 1, 2, 17, 44, 58, 60
POOL = {"4": "10.77.0.160/27", "6": "fd77::a000/120"}
MODES = ["macvlan", "bridge", "routed"]


def create(site, mode, *words, name="lan"):
    """Create a network of a mode, with both IP families, that the LAN reaches."""
    ways = {
        "macvlan": ("-o", "parent=eth0"),
        "bridge": ("-o", "parent=eth0", "-o", "mode=bridge", "-o", "takeover=yes"),
        "routed": ("-o", "mode=routed", "-o", "proxy=eth0"),
    }
    subnets = ("--subnet", POOL["4"], "--ipv6", "--subnet", POOL["6"])
    if mode != "routed":
        subnets = (
            "--subnet", LAN4, "--gateway", GATEWAY4, "--ip-range", POOL["4"],
            "--ipv6", "--subnet", LAN6, "--gateway", GATEWAY6,
        )  # fmt: skip
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, *ways[mode], *subnets, *words,
        name,
    )  # fmt: skip


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


def summed(protocol, source, target, data, at):
    """Return a datagram with its checksum, which is at an offset."""
    pseudo = source.packed + target.packed + struct.pack(">II", len(data), protocol)
    found = checksum(pseudo + data)
    return data[:at] + found + data[at + 2 :]


def packet(source, target, protocol, data):
    """Return an IP packet of either family."""
    source, target = ip_address(source), ip_address(target)
    at = {UDP: 6, ICMP6: 2}.get(protocol)
    if at:
        data = summed(protocol, source, target, data, at)
    if source.version == 6:
        head = struct.pack(">IHBB", 6 << 28, len(data), protocol, 255)
        return head + source.packed + target.packed + data
    head = struct.pack(">BBHIBBH", 0x45, 0, 20 + len(data), 0, 64, protocol, 0)
    head += source.packed + target.packed
    return head[:10] + checksum(head) + head[12:] + data


def udp(source, target, text, ports=(4000, 5000)):
    data = struct.pack(">HHHH", *ports, 8 + len(text), 0) + text.encode()
    return packet(source, target, UDP, data)


def icmp6(source, target, kind, text, about=None):
    """Return an ICMPv6 message about an address, with an unknown option of a text."""
    address = ip_address(about).packed if about else b""
    option = b"\xc8" + bytes([(len(text) + 9) // 8]) + text.encode()
    data = struct.pack(">BBHI", kind, 0, 0, 0) + address
    if kind == 134:
        data += struct.pack(">II", 0, 0)
    return packet(source, target, ICMP6, data + option + b"\0" * (-len(option) % 8))


def icmp(source, target, kind, text):
    data = struct.pack(">BBHI", kind, 0, 0, 0) + text.encode()
    return packet(source, target, ICMP, data[:2] + checksum(data) + data[4:])


def first_fragment(source, text, data, size):
    """Return the first part of a packet whose ICMPv6 message comes after options.

    The options have a text, and `size` bytes of the message are in the part.
    """
    padding = b"\x1e" + bytes([len(text) + 2]) + text.encode()
    padding += b"\x01" + bytes([26 - len(padding)])
    options = (bytes([ICMP6, 3]) + padding).ljust(32, b"\0") + data
    part = bytes([OPTIONS, 0]) + struct.pack(">HI", 1, 7) + options[: 32 + size]
    return packet(source, GATEWAY6, FRAGMENT, part)


def arp(operation, mac, address, target, text):
    """Return an ARP packet, with a text in what fills the frame."""
    head = struct.pack(">HHBBH", 1, IP, 6, 4, operation)
    ends = mac_bytes(mac) + ip_address(address).packed
    return head + ends + bytes(6) + ip_address(target).packed + text.encode()


def of_mac(mac):
    octets = mac_bytes(mac)
    made = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ip_address(bytes.fromhex("fe80000000000000") + made))


class Container:
    """A container that sends frames, each with its name in it."""

    def __init__(self, site, name="web"):
        self.site, self.name = site, name
        self.four, self.six, self.mac = site.attached(name, "lan")
        # The packets of a routed container are for the host.
        site.ping_from(name, GATEWAY4)
        site.ping_from(name, GATEWAY6)
        shown = site.host.run("nsenter", self.net, "ip", "neigh").stdout
        self.hop = re.search(r"lladdr (\S+)", shown)[1]

    @property
    def net(self):
        return f"--net=/proc/{self.site.host.pid_of(self.name)}/ns/net"

    def frame(self, kind, payload, source=None, target=None):
        ends = mac_bytes(target or self.hop) + mac_bytes(source or self.mac)
        return (ends + struct.pack(">H", kind) + payload).hex()

    def send(self, frames):
        """Return the names of the frames that were seen on the LAN's side."""
        port = f"p-{self.site.host.name}"
        last = self.frame(IP, udp(self.four, GATEWAY4, "<last>"))
        words = json.dumps([*frames.values(), last])
        with Capture(self.site.lan.netns, port) as wire:
            self.site.host.run("nsenter", self.net, *PYTHON, SEND, words)
            wait_until(lambda: seen(wire, ["last"]), 5)
        return seen(wire, frames)

    def forged(self, mode):
        """Return frames that no container should send, by their names."""
        four, six, near, mac = self.four, self.six, of_mac(self.mac), self.mac
        found = {
            "mac": self.frame(IP, udp(four, GATEWAY4, "<mac>"), source=FOREIGN),
            "address": self.frame(IP, udp("10.77.0.99", GATEWAY4, "<address>")),
            "address6": self.frame(IP6, udp("fd77::99", GATEWAY6, "<address6>")),
            "redirect": self.frame(IP, icmp(four, GATEWAY4, 5, "<redirect>")),
            "dhcp": self.frame(IP, udp(four, GATEWAY4, "<dhcp>", (67, 68))),
            "dhcp-port": self.frame(IP, udp(four, GATEWAY4, "<dhcp-port>", (99, 68))),
            "dhcp6": self.frame(IP6, udp(six, GATEWAY6, "<dhcp6>", (547, 546))),
        }
        messages = {
            "ra": (six, 134, None),
            "na": (six, 136, GATEWAY6),
            "redirect6": (six, 137, GATEWAY6),
        }
        if mode == "macvlan":
            for kind, source, to, name in (
                (ARP, "10.77.0.99", GATEWAY4, "lie"),
                (IP, "fd77::99", GATEWAY6, "lie6"),
            ):
                said = IP if name == "lie" else IP6
                lie = self.frame(said, udp(source, to, f"<{name}>"))
                found[name] = f"{kind}:{lie}"
        if mode != "routed":
            # Of the second, not even the headers are in the first part.
            na = struct.pack(">BBHI", 136, 0, 0, 0) + ip_address(GATEWAY6).packed
            for name, size in (("part", 8), ("headers", -8)):
                part = first_fragment(near, f"<{name}>", na, size)
                found[name] = self.frame(IP6, part)
            messages["ra-near"] = (near, 134, None)
            messages["dad"] = ("::", 135, GATEWAY6)
            found |= {
                "answer": self.frame(ARP, arp(2, mac, GATEWAY4, four, "<answer>")),
                "answer-mac": self.frame(
                    ARP, arp(2, FOREIGN, four, GATEWAY4, "<answer-mac>")
                ),
                "lldp": self.frame(LLDP, b"<lldp>"),
                "tag": self.frame(
                    TAG,
                    struct.pack(">HH", 5, IP) + udp("10.77.0.99", GATEWAY4, "<tag>"),
                ),
            }
        for name, (source, kind, about) in messages.items():
            text = f"<{name}>"
            found[name] = self.frame(IP6, icmp6(source, GATEWAY6, kind, text, about))
        return found

    def own(self, mode):
        """Return frames that every container may send, by their names."""
        four, six, near, mac = self.four, self.six, of_mac(self.mac), self.mac
        found = {
            "udp": self.frame(IP, udp(four, GATEWAY4, "<udp>")),
            "udp6": self.frame(IP6, udp(six, GATEWAY6, "<udp6>")),
            "na-own": self.frame(IP6, icmp6(six, GATEWAY6, 136, "<na-own>", six)),
        }
        if mode == "routed":
            return found
        messages = {
            "ns": (near, 135, GATEWAY6),
            "na-near": (near, 136, near),
            "dad-own": ("::", 135, six),
            "dad-near": ("::", 135, near),
            "rs": (near, 133, None),
            "mld": ("::", 143, None),
        }
        for name, (source, kind, about) in messages.items():
            text = f"<{name}>"
            found[name] = self.frame(IP6, icmp6(source, "ff02::1", kind, text, about))
        everywhere = "255.255.255.255"
        return found | {
            "probe": self.frame(ARP, arp(1, mac, NONE, GATEWAY4, "<probe>")),
            "answer-own": self.frame(ARP, arp(2, mac, four, GATEWAY4, "<answer-own>")),
            "discover": self.frame(
                IP, udp(NONE, everywhere, "<discover>", (68, 67)), None, BROADCAST
            ),
            "solicit": self.frame(IP6, udp(near, "ff02::1:2", "<solicit>", (546, 547))),
            "igmp": self.frame(IP, packet(NONE, "224.0.0.22", IGMP, b"<igmp>")),
        }

    def parts(self):
        """Return the first part of a packet that may be sent in parts, by its name."""
        part = first_fragment(self.six, "<whole>", bytes([128, 0, *bytes(30)]), 16)
        return {"whole": self.frame(IP6, part)}


def seen(wire, names):
    """Return those of the names that are in frames which the host has sent."""
    sent = [frame.payload for frame in wire.frames if not frame.outgoing]
    return sorted(n for n in names if any(f"<{n}>".encode() in one for one in sent))


@pytest.mark.parametrize("mode", MODES)
def test_nothing_forged_leaves_a_strict_container(site, mode):
    def repairs():
        return site.service.on_record()["repairs"]

    before = {r["at"] for r in repairs()}
    create(site, mode, *(("-o", "strict=on") if mode == "macvlan" else ()))
    site.run("web", "lan")
    web = Container(site)
    assert web.send(web.forged(mode)) == []
    own = web.own(mode) | (web.parts() if mode != "routed" else {})
    assert web.send(own) == sorted(own)
    # What is longer than the MTU goes in parts.
    for address in (GATEWAY4, GATEWAY6):
        inside(site, "web", "ping", "-c1", "-W3", "-s4000", address)
    site.ping_from_lan(web.four)
    site.ping_from_lan(web.six)
    site.wait_for_passes()
    # A start makes what is in the sandbox a moment later.
    assert {r["at"] for r in repairs() if not r["place"]} <= before
    site.clear()
    site.assert_nothing_left()


@pytest.mark.parametrize("mode", MODES)
def test_everything_leaves_a_container_that_is_not_strict(site, mode):
    create(site, mode)
    words = () if mode == "macvlan" else (",driver-opt=strict=off",)
    one = ("--network", "".join(("name=lan", *words)))
    site.docker("run", "-d", "--name", "web", *one, "bb", "sleep", "1000")
    web = Container(site)
    assert web.send(web.forged(mode)) == sorted(web.forged(mode))
    site.clear()
    site.assert_nothing_left()


def test_foreign_addresses_stay_in_when_a_container_undoes_its_own_rules(site):
    create(site, "macvlan", "-o", "strict=on")
    site.run("web", "lan")
    web = Container(site)
    forged = web.forged("macvlan")
    name = site.host.run("nsenter", web.net, *PYTHON[:2], "nft", "list", "tables")
    table = re.search(r"netdev \S+", name.stdout)[0]
    delete = ("chroot", "/outer", "nft", "delete", "table", *table.split())
    site.host.run("nsenter", web.net, *delete)
    kept = ("address", "address6", "answer", "na", "ra", "lie", "lie6", "part")
    assert web.send({n: forged[n] for n in kept}) == []
    # What is for a sibling does not leave the host, and passes the parent as well.
    site.run("mate", "lan")
    mate = site.attached("mate", "lan")[0]
    inside(site, "web", "ip", "addr", "add", "10.77.0.99/32", "dev", "eth0")
    ping = ("ping", "-c1", "-W1", mate, "-I")
    inside(site, "web", *ping, web.four)
    with pytest.raises(subprocess.CalledProcessError):
        inside(site, "web", *ping, "10.77.0.99")
    site.clear()
    site.assert_nothing_left()


def test_no_frame_to_a_port_of_a_bridge_itself_brings_the_host_packets(newest):
    site = newest
    create(site, "bridge")
    site.run("web", "lan")
    web = Container(site)
    four, six = site.host.ipv4, site.host.ipv6
    ends = (("10.77.0.99", four), (web.four, four), ("fd77::99", six), (web.six, six))
    frames = [
        web.frame(IP6 if ":" in to else IP, udp(source, to, "<past>"), target=PORT)
        for source, to in ends
    ]
    last = web.frame(IP, udp(web.four, four, "<last>"), target=BROADCAST)
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(site.host.run, *PYTHON, LISTEN)
        wait_until(lambda: ":5000" in site.host.run("ss", "-lun").stdout, 5)
        words = json.dumps([*frames, last])
        site.host.run("nsenter", web.net, *PYTHON, SEND, words)
        assert heard.result().stdout.split() == ["ready"]


def test_isolated_networks_do_not_reach_each_other(site):
    create(site, "routed", "-o", "isolate=on")
    other = ("-o", "mode=routed", "-o", "proxy=eth0", "--subnet", "10.77.0.192/27")
    six = ("--ipv6", "--subnet", "fd77::b000/120")
    site.docker("network", "create", "-d", "underlay", *IPAM, *other, *six, "open")
    for name, network in (("web", "lan"), ("mate", "lan"), ("else", "open")):
        site.run(name, network)
    web, mate = (site.attached(name, "lan")[:2] for name in ("web", "mate"))
    others = site.attached("else", "open")[:2]
    for address in mate:
        site.ping_from("web", address)
    for address in (*web, *others):
        site.ping_from_lan(address)
        site.host.run("ping", "-c1", "-W3", address)
    for address in (GATEWAY4, GATEWAY6):
        site.ping_from("web", address)
    for name, addresses in (("web", others), ("else", web)):
        for address in addresses:
            with pytest.raises(subprocess.CalledProcessError):
                site.ping_from(name, address)
    site.clear()
    site.assert_nothing_left()
