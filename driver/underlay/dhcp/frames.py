"""DHCP messages in Ethernet frames, and the filter that has the kernel find them.

RFC 894, 791 and 768. Frames are made and read here, not by the host's IP: a client has
no address yet, and its MAC may belong to no device.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from underlay.dhcp.packets import NOWHERE

SERVER_PORT, CLIENT_PORT = 67, 68
EVERY_MAC = "ff:ff:ff:ff:ff:ff"
EVERYWHERE = IPv4Address(0xFFFFFFFF)

_ETHERNET = struct.Struct("!6s6sH")
_TAG = struct.Struct("!HH")
_IPV4, _VLAN = 0x0800, 0x8100
# Version and length, service, size, id, fragment, TTL, protocol, checksum, addresses.
_IP = struct.Struct("!BBHHHBBH4s4s")
_VERSION, _WHOLE, _HOPS, _UDP_PROTOCOL = 0x45, 0x4000, 64, 17
_FRAGMENT = 0x3FFF  # more fragments, or an offset
_UDP = struct.Struct("!HHHH")  # ports, size, checksum
_PSEUDO = struct.Struct("!4s4sxBH")

# Operations of classic BPF, see linux/bpf_common.h; X gets the size of the IP header.
_WORD, _HALF, _BYTE, _HALF_AT_X, _IP_SIZE = 0x20, 0x28, 0x30, 0x48, 0xB1
_IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x15, 0x45, 0x06
# SKF_AD_VLAN_TAG_PRESENT and SKF_AD_PKTTYPE, from SKF_AD_OFF on.
_VLAN_PRESENT, _PACKET_TYPE = ((-0x1000 + at) & 0xFFFFFFFF for at in (48, 4))
_OUTGOING, _NO_TYPE = 4, 0xFF
_KIND_AT, _IP_AT, _FRAGMENT_AT, _PROTOCOL_AT, _PORT_AT = 12, 14, 20, 23, 16
# What servers send to clients, of all that a device receives. Each step: operation, two
# ways to jump, a number. A frame with the tag of a VLAN is of another segment; the
# kernel has taken the tag off, and remembers it.
FILTER = (
    (_WORD, 0, 0, _VLAN_PRESENT),
    (_IF_EQUAL, 0, 12, 0),
    (_WORD, 0, 0, _PACKET_TYPE),
    (_IF_EQUAL, 10, 0, _OUTGOING),
    (_HALF, 0, 0, _KIND_AT),
    (_IF_EQUAL, 0, 8, _IPV4),
    (_BYTE, 0, 0, _PROTOCOL_AT),
    (_IF_EQUAL, 0, 6, _UDP_PROTOCOL),
    (_HALF, 0, 0, _FRAGMENT_AT),
    (_IF_ANY_BIT, 4, 0, _FRAGMENT),
    (_IP_SIZE, 0, 0, _IP_AT),
    (_HALF_AT_X, 0, 0, _PORT_AT),
    (_IF_EQUAL, 0, 1, CLIENT_PORT),
    (_RETURN, 0, 0, 0xFFFFFFFF),
    (_RETURN, 0, 0, 0),
)
# The same, and what leaves by the device: no frame is of the type that it drops.
BOTH_WAYS = tuple((*s[:3], _NO_TYPE) if s[3] == _OUTGOING else s for s in FILTER)


@dataclass(frozen=True, slots=True)
class Datagram:
    """What a machine sent by UDP, and the machine that put the frame on the segment."""

    source_mac: str
    source: IPv4Address
    payload: bytes


@dataclass(frozen=True, slots=True)
class Receiver:
    """To which machine a frame goes: by default, to all on the segment."""

    mac: str = EVERY_MAC
    address: IPv4Address = EVERYWHERE
    port: int = SERVER_PORT


ALL_SERVERS = Receiver()


def wrap(
    payload: bytes,
    mac: str,
    address: IPv4Address = NOWHERE,
    receiver: Receiver = ALL_SERVERS,
) -> bytes:
    """Return the frame of a message from a MAC and address to a server.

    Only a message to the port of clients is from the port of servers.
    """
    to_client = receiver.port == CLIENT_PORT
    port = SERVER_PORT if to_client else CLIENT_PORT
    ends = address.packed, receiver.address.packed
    size = _UDP.size + len(payload)
    pseudo = _PSEUDO.pack(*ends, _UDP_PROTOCOL, size)
    udp = _UDP.pack(port, receiver.port, size, 0)
    # Zero would say that there is none (RFC 768).
    check = _checksum(pseudo + udp + payload) or 0xFFFF
    udp = _UDP.pack(port, receiver.port, size, check)
    fixed = _VERSION, 0, _IP.size + size, 0, _WHOLE, _HOPS, _UDP_PROTOCOL
    ip = _IP.pack(*fixed, _checksum(_IP.pack(*fixed, 0, *ends)), *ends)
    ethernet = _ETHERNET.pack(_bytes(receiver.mac), _bytes(mac), _IPV4)
    return ethernet + ip + udp + payload


def tagged(frame: bytes, vlan: int) -> bytes:
    """Return a frame with the tag of a VLAN before all other tags (IEEE 802.1Q)."""
    return frame[:_KIND_AT] + _TAG.pack(_VLAN, vlan) + frame[_KIND_AT:]


def unwrap(frame: bytes, port: int = CLIENT_PORT) -> Datagram | None:
    """Return the datagram to a port in a frame, None for anything else.

    A fragment, a header with a wrong checksum, and what is cut off are something else.
    The checksum of UDP is not read: where sender and receiver are on one host, a device
    that would complete it has not seen it.
    """
    if len(frame) < _IP_AT + _IP.size:
        return None
    _, sender, kind = _ETHERNET.unpack_from(frame)
    version, _, size, _, fragment, _, protocol, _, source, _ = _IP.unpack_from(
        frame, _IP_AT
    )
    header, packet = (version & 15) * 4, frame[_IP_AT : _IP_AT + size]
    if kind != _IPV4 or version >> 4 != 4 or header < _IP.size:
        return None
    if len(packet) < size or size < header + _UDP.size or _checksum(packet[:header]):
        return None
    if protocol != _UDP_PROTOCOL or fragment & _FRAGMENT:
        return None
    _, to, length, _ = _UDP.unpack_from(packet, header)
    if to != port or not _UDP.size <= length <= size - header:
        return None
    payload = packet[header + _UDP.size : header + length]
    return Datagram(sender.hex(":"), IPv4Address(source), payload)


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071), 0 for data with the right one in it."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
