"""Frames of ARP and neighbour discovery: made, read, and filtered by the kernel.

RFC 826, RFC 5227 (ARP) and RFC 4861 (neighbour discovery). A filter is a list of steps
for rtnetlink.attach().
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from underlay.kernel import rtnetlink as nl
from underlay.kernel.links import index_of
from underlay.kernel.rtnetlink import IFF_UP
from underlay.model import IpAddress, Kind

_ETHERNET = struct.Struct("!6s6sH")
ARP, IPV6, EVERYTHING = 0x0806, 0x86DD, 0x0003
EVERYBODY, ALL_NODES_MAC = b"\xff" * 6, b"\x33\x33\0\0\0\1"
ALL_NODES = IPv6Address("ff02::1").packed
# The multicast group of an address, by its last three bytes (RFC 4291, 2.7.1).
_SOLICITED, _SOLICITED_MAC = IPv6Address("ff02::1:ff00:0").packed[:13], b"\x33\x33\xff"
# Hardware and protocol types and lengths, operation, sender, target.
_ARP_BODY = struct.Struct("!HHBBH6s4s6s4s")
REQUEST, REPLY = 1, 2
_IPV6_HEADER = struct.Struct("!IHBB16s16s")  # version, length, next, hop limit
_ICMPV6, _HOPS = 58, 255
_DISCOVERY = struct.Struct("!BBHI16s")
_OPTION = struct.Struct("!BB6s")  # a link-layer address
SOLICITATION, ADVERTISEMENT, OVERRIDE = 135, 136, 1 << 29
NO_OPTION, SOURCE_MAC, TARGET_MAC, NONCE, _EIGHT_BYTES = 0, 1, 2, 14, 1
_NOWHERE = {4: ip_address("0.0.0.0"), 6: ip_address("::")}  # noqa: S104 - of a probe

# Where the parts of a frame begin, in bytes.
_KIND_AT, _OPERATION_AT, _NEXT_AT, _HOPS_AT, _ICMP_AT = 12, 20, 20, 21, 54
LONGEST = 128  # bytes of a frame that are looked at
MAC_BYTES = 6

_WORD, _HALF, _BYTE, _IF_EQUAL, _RETURN = 0x20, 0x28, 0x30, 0x15, 0x06
# SKF_AD_VLAN_TAG_PRESENT and SKF_AD_PKTTYPE, from SKF_AD_OFF on.
_VLAN_PRESENT, _PACKET_TYPE = ((-0x1000 + at) & 0xFFFFFFFF for at in (48, 4))
_OTHER_HOST = 3
_ALL, _NOTHING = (_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0)
# Of all that a device receives, ARP replies and neighbour advertisements.
ANSWERS = (
    (_HALF, 0, 0, _KIND_AT),
    (_IF_EQUAL, 0, 2, ARP),
    (_HALF, 0, 0, _OPERATION_AT),
    (_IF_EQUAL, 5, 6, REPLY),
    (_IF_EQUAL, 0, 5, IPV6),
    (_BYTE, 0, 0, _NEXT_AT),
    (_IF_EQUAL, 0, 3, _ICMPV6),
    (_BYTE, 0, 0, _ICMP_AT),
    (_IF_EQUAL, 0, 1, ADVERTISEMENT),
    _ALL,
    _NOTHING,
)
# Everything that says whose an address is: ARP, neighbour solicitations and
# advertisements. Not with the tag of a VLAN, which is another segment; a socket of one
# protocol sees such a frame without the tag, and as if it were for another host.
CLAIMS = (
    (_WORD, 0, 0, _VLAN_PRESENT),
    (_IF_EQUAL, 0, 11, 0),
    (_WORD, 0, 0, _PACKET_TYPE),
    (_IF_EQUAL, 9, 0, _OTHER_HOST),
    (_HALF, 0, 0, _KIND_AT),
    (_IF_EQUAL, 6, 0, ARP),
    (_IF_EQUAL, 0, 6, IPV6),
    (_BYTE, 0, 0, _NEXT_AT),
    (_IF_EQUAL, 0, 4, _ICMPV6),
    (_BYTE, 0, 0, _ICMP_AT),
    (_IF_EQUAL, 1, 0, ADVERTISEMENT),
    (_IF_EQUAL, 0, 1, SOLICITATION),
    _ALL,
    _NOTHING,
)

_IFREQ, _SIOCGIFFLAGS, _IFF_RUNNING = struct.Struct("=16sh22x"), 0x8913, 1 << 6
_MEMBERSHIP = struct.Struct("=iHH8s")
_SOL_PACKET, _ADD_MEMBERSHIP, _MULTICAST = 263, 1, 0


@dataclass(frozen=True, slots=True)
class Said:
    """What a frame says of an address, and the MAC of the machine that says it."""

    address: IpAddress
    mac: str
    kind: Kind = "claim"


def why_silent(device: str) -> str:
    """Return why nothing passes a device now, "" if it does.

    Without the lock of the kernel's links (RTNL). Raises OSError.
    """
    name = socket.if_indextoname(index_of(device)).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        told = fcntl.ioctl(s, _SIOCGIFFLAGS, _IFREQ.pack(name, 0))
    flags = _IFREQ.unpack(told)[1]
    if not flags & IFF_UP:
        return f"{device} is down"
    return "" if flags & _IFF_RUNNING else f"{device} has no carrier"


def opened(device: str, protocol: int) -> socket.socket:
    """Return a socket that does not block and hears CLAIMS of a device; raises OSError.

    Bound to one protocol, it hears no frame of the host's own.
    """
    with ExitStack() as stack:
        s = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        s.setblocking(False)
        nl.attach(s, CLAIMS)
        index = index_of(device)
        if protocol != ARP:
            # Answers to a probe come to this group; the device's IPv6 may be off.
            group = _MEMBERSHIP.pack(index, _MULTICAST, MAC_BYTES, ALL_NODES_MAC)
            s.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, group)
        s.bind((socket.if_indextoname(index), protocol))
        if len(s.getsockname()[4]) != MAC_BYTES:
            raise OSError(errno.EOPNOTSUPP, f"{device} is no Ethernet device")
        stack.pop_all()
    return s


def question(mac: bytes, address: IpAddress, target: IpAddress) -> bytes:
    """Return a frame that asks for the MAC of `target`, from an address at `mac`."""
    if isinstance(address, IPv4Address):
        return arp(mac, address, REQUEST, b"\0" * len(mac), target)
    # One without an address tells no MAC (RFC 4861, 4.3).
    return _solicitation(
        mac, address, target, SOURCE_MAC if int(address) else NO_OPTION
    )


def _solicitation(
    mac: bytes, address: IpAddress, target: IpAddress, option: int
) -> bytes:
    last = target.packed[13:]
    fields = SOLICITATION, 0, 0, target.packed, option
    return discovery(mac, address, _SOLICITED + last, _SOLICITED_MAC + last, fields)


def probe(mac: bytes, target: IpAddress) -> bytes:
    """Return a frame that asks for a MAC and claims no address (RFC 5227, 2.1.1)."""
    return question(mac, _NOWHERE[target.version], target)


def hold(mac: bytes, target: IpAddress) -> bytes:
    """Return a frame that says: this host has leased an address that is not up yet.

    To other machines it is a probe, so it leads nothing here, and they leave the
    address alone. The mark is the sender's MAC, where a probe has none: as the target
    of ARP, which probes leave empty, or as the nonce (RFC 7527), which is random.
    """
    nowhere = _NOWHERE[target.version]
    if isinstance(nowhere, IPv4Address):
        return arp(mac, nowhere, REQUEST, mac, target)
    return _solicitation(mac, nowhere, target, NONCE)


def arp(
    mac: bytes,
    address: IPv4Address,
    operation: int,
    target_mac: bytes,
    target: IpAddress,
) -> bytes:
    """Return a broadcast ARP message."""
    sender = mac, address.packed
    sizes = len(mac), len(address.packed)
    body = _ARP_BODY.pack(
        1, 0x0800, *sizes, operation, *sender, target_mac, target.packed
    )
    return _ETHERNET.pack(EVERYBODY, mac, ARP) + body


def discovery(
    mac: bytes,
    speaker: IpAddress,
    to: bytes,
    to_mac: bytes,
    fields: tuple[int, int, int, bytes, int],
) -> bytes:
    """Return a message of neighbour discovery: kind, code, flags, target, and option.

    The option has the speaker's MAC, and may be NO_OPTION.
    """
    own, (kind, code, flags, target, option) = speaker.packed, fields
    tail = _OPTION.pack(option, _EIGHT_BYTES, mac) if option else b""

    def body(checksum: int) -> bytes:
        return _DISCOVERY.pack(kind, code, checksum, flags, target) + tail

    length = _DISCOVERY.size + len(tail)
    pseudo = own + to + struct.pack("!II", length, _ICMPV6)
    ether = _ETHERNET.pack(to_mac, mac, IPV6)
    head = _IPV6_HEADER.pack(6 << 28, length, _ICMPV6, _HOPS, own, to)
    return ether + head + body(_checksum(pseudo + body(0)))


def said(frame: bytes) -> Said | None:
    """Return what a frame that passed CLAIMS says, None for nothing or for garbage."""
    if frame[_KIND_AT : _KIND_AT + 2] == ARP.to_bytes(2, "big"):
        return _said_by_arp(frame)
    try:
        kind, _, _, _, target = _DISCOVERY.unpack_from(frame, _ICMP_AT)
    except struct.error:
        return None
    if frame[_HOPS_AT] != _HOPS:  # a router passed it on (RFC 4861, 7.1)
        return None
    speaker = frame[22:38]
    if kind == ADVERTISEMENT:
        mac = _option(frame, TARGET_MAC) or frame[6:12]
        return Said(IPv6Address(target), mac.hex(":"))
    if any(speaker):
        mac = _option(frame, SOURCE_MAC) or frame[6:12]
        return Said(IPv6Address(speaker), mac.hex(":"))
    sender = frame[6:12]
    is_held = _option(frame, NONCE) == sender
    return Said(IPv6Address(target), sender.hex(":"), "hold" if is_held else "probe")


def _said_by_arp(frame: bytes) -> Said | None:
    try:
        found = _ARP_BODY.unpack_from(frame, _ETHERNET.size)
    except struct.error:
        return None
    *kinds, operation, mac, sender, to_mac, target = found
    if kinds != [1, 0x0800, len(mac), len(sender)]:
        return None
    if any(sender):
        return Said(IPv4Address(sender), mac.hex(":"))
    if operation != REQUEST or not any(target):
        return None
    kind: Kind = "hold" if to_mac == mac else "probe"
    return Said(IPv4Address(target), mac.hex(":"), kind)


def _option(frame: bytes, kind: int) -> bytes:
    """Return the link-layer address that is the first option of a message, or b""."""
    option = frame[_ICMP_AT + _DISCOVERY.size :][: _OPTION.size]
    whole = len(option) == _OPTION.size and option[:2] == bytes((kind, _EIGHT_BYTES))
    return option[2:] if whole else b""


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
