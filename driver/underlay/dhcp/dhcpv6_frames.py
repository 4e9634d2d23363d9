"""DHCPv6 messages in Ethernet frames, and the filter that has the kernel find them.

RFC 2464, 8200 and 768. They are made and read here, not by the container's IP: its
firewall may drop everything, and its port may be another client's. For the same reason
the solicitations of servers are answered here (RFC 4861).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address

from underlay.model.ip import eui64

SERVER_PORT, CLIENT_PORT = 547, 546
ALL_SERVERS, ALL_SERVERS_MAC = IPv6Address("ff02::1:2"), "33:33:00:01:00:02"

_ETHERNET = struct.Struct("!6s6sH")
_IPV6, _VERSION = 0x86DD, 6 << 28
_IP = struct.Struct("!IHBB16s16s")  # version, size, next header, hops, addresses
_UDP = struct.Struct("!HHHH")  # ports, size, checksum
_UDP_PROTOCOL, _ICMP_PROTOCOL, _HOPS, _NEAR = 17, 58, 1, 255
_DISCOVERY = struct.Struct("!BBHI16s")  # type, code, checksum, flags, target
_MAC_OPTION = struct.Struct("!BB6s")
_SOLICITATION, _ADVERTISEMENT, _TARGET_MAC = 135, 136, 2
_SOLICITED, _OVERRIDE = 1 << 30, 1 << 29

# Operations of classic BPF, see linux/bpf_common.h.
_WORD, _HALF, _BYTE = 0x20, 0x28, 0x30
_IF_EQUAL, _RETURN = 0x15, 0x06
# SKF_AD_VLAN_TAG_PRESENT and SKF_AD_PKTTYPE, from SKF_AD_OFF on.
_VLAN_PRESENT, _PACKET_TYPE = ((-0x1000 + at) & 0xFFFFFFFF for at in (48, 4))
_OUTGOING = 4
_KIND_AT, _NEXT_AT, _PORT_AT, _ICMP_AT = 12, 20, 56, 54
# What servers send to clients, and solicitations, of all that a device receives. Each
# step: operation, two ways to jump, a number. A frame with the tag of a VLAN is of
# another segment.
FILTER = (
    (_WORD, 0, 0, _VLAN_PRESENT),
    (_IF_EQUAL, 0, 12, 0),
    (_WORD, 0, 0, _PACKET_TYPE),
    (_IF_EQUAL, 10, 0, _OUTGOING),
    (_HALF, 0, 0, _KIND_AT),
    (_IF_EQUAL, 0, 8, _IPV6),
    (_BYTE, 0, 0, _NEXT_AT),
    (_IF_EQUAL, 0, 2, _UDP_PROTOCOL),
    (_HALF, 0, 0, _PORT_AT),
    (_IF_EQUAL, 3, 4, CLIENT_PORT),
    (_IF_EQUAL, 0, 3, _ICMP_PROTOCOL),
    (_BYTE, 0, 0, _ICMP_AT),
    (_IF_EQUAL, 0, 1, _SOLICITATION),
    (_RETURN, 0, 0, 0xFFFFFFFF),
    (_RETURN, 0, 0, 0),
)


@dataclass(frozen=True, slots=True)
class Datagram:
    """What a machine sent by UDP, and the machine that put the frame on the segment."""

    source_mac: str
    source: IPv6Address
    payload: bytes


def wrap(payload: bytes, mac: str, address: IPv6Address) -> bytes:
    """Return the frame of a message from a MAC and link-local address to all servers.

    RFC 8415 has a client speak to all of them, also about the lease of one.
    """
    ends = address.packed, ALL_SERVERS.packed
    size = _UDP.size + len(payload)
    udp = _UDP.pack(CLIENT_PORT, SERVER_PORT, size, 0) + payload
    check = _checksum(ends, _UDP_PROTOCOL, udp) or 0xFFFF
    udp = _UDP.pack(CLIENT_PORT, SERVER_PORT, size, check) + payload
    head = _IP.pack(_VERSION, size, _UDP_PROTOCOL, _HOPS, *ends)
    return _ETHERNET.pack(_bytes(ALL_SERVERS_MAC), _bytes(mac), _IPV6) + head + udp


def unwrap(frame: bytes, port: int = CLIENT_PORT) -> Datagram | None:
    """Return the datagram to a port in a frame, None for anything else.

    Extension headers, fragments, and what is cut off are something else. The checksum
    is not read: where sender and receiver are on one host, a device that would complete
    it has not seen it.
    """
    if len(frame) < _ICMP_AT + _UDP.size:
        return None
    _, sender, kind = _ETHERNET.unpack_from(frame)
    version, size, protocol, _, source, _ = _IP.unpack_from(frame, _ETHERNET.size)
    packet = frame[_ICMP_AT : _ICMP_AT + size]
    if (kind, version >> 28, protocol) != (_IPV6, 6, _UDP_PROTOCOL):
        return None
    if len(packet) < max(size, _UDP.size):
        return None
    _, to, length, _ = _UDP.unpack_from(packet)
    if to != port or not _UDP.size <= length <= size:
        return None
    payload = packet[_UDP.size : length]
    return Datagram(sender.hex(":"), IPv6Address(source), payload)


def answer_to(frame: bytes, mac: str, address: IPv6Address) -> bytes | None:
    """Return the advertisement that answers a solicitation for the client's address.

    None for all else: the kernel answers for other addresses, or drops the question.
    """
    if len(frame) < _ICMP_AT + _DISCOVERY.size:
        return None
    _, sender, kind = _ETHERNET.unpack_from(frame)
    version, _, protocol, hops, source, _ = _IP.unpack_from(frame, _ETHERNET.size)
    asked, _, _, _, target = _DISCOVERY.unpack_from(frame, _ICMP_AT)
    if (kind, version >> 28, protocol, hops) != (_IPV6, 6, _ICMP_PROTOCOL, _NEAR):
        return None
    # One from no address asks whether the address is free: that is the kernel's.
    if asked != _SOLICITATION or target != address.packed or not any(source):
        return None
    ends = address.packed, source
    flags = _SOLICITED | _OVERRIDE
    option = _MAC_OPTION.pack(_TARGET_MAC, 1, _bytes(mac))
    body = _DISCOVERY.pack(_ADVERTISEMENT, 0, 0, flags, target) + option
    check = _checksum(ends, _ICMP_PROTOCOL, body)
    body = _DISCOVERY.pack(_ADVERTISEMENT, 0, check, flags, target) + option
    head = _IP.pack(_VERSION, len(body), _ICMP_PROTOCOL, _NEAR, *ends)
    return _ETHERNET.pack(sender, _bytes(mac), _IPV6) + head + body


def link_local_of(mac: str) -> IPv6Address:
    """Return the link-local address that follows from a MAC."""
    return IPv6Address(b"\xfe\x80" + b"\0" * 6 + eui64(mac))


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _checksum(ends: tuple[bytes, bytes], protocol: int, body: bytes) -> int:
    """Return the Internet checksum (RFC 1071) with the pseudo header of RFC 8200."""
    data = b"".join(ends) + struct.pack("!II", len(body), protocol) + body
    if len(data) % 2:
        data += b"\0"
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
