"""The link-local address that a kernel makes from the secret of a device (RFC 7217).

So the service knows it before the device has it, and asks nothing in the container.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv6Address

_PREFIX = bytes.fromhex("fe80000000000000")
# The permanent MAC of a device that is made by software, and the number of tries.
_MAC, _TRIES = bytes(32), bytes(1)
_BLOCK = 64
_START = 0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0


@lru_cache  # each pass derives it again
def link_local(secret: str) -> IPv6Address:
    """Return the address for a secret that is written as an IPv6 address.

    The kernel takes one block of SHA-1, without the padding that hashlib adds, in the
    byte order of the machine.
    """
    block = IPv6Address(secret).packed + _PREFIX + _MAC + _TRIES
    found = _compress(block.ljust(_BLOCK, b"\0"))
    return IPv6Address(_PREFIX + struct.pack("=II", *found[:2]))


def _compress(block: bytes) -> list[int]:
    words = list(struct.unpack(">16I", block))
    for t in range(16, 80):
        words.append(_left(words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16]))
    a, b, c, d, e = _START
    for t, word in enumerate(words):
        if t < 20:
            mixed, constant = (b & c) | (~b & d & 0xFFFFFFFF), 0x5A827999
        elif t < 40:
            mixed, constant = b ^ c ^ d, 0x6ED9EBA1
        elif t < 60:
            mixed, constant = (b & c) | (b & d) | (c & d), 0x8F1BBCDC
        else:
            mixed, constant = b ^ c ^ d, 0xCA62C1D6
        first = (_left(a, 5) + mixed + e + constant + word) & 0xFFFFFFFF
        a, b, c, d, e = first, a, _left(b, 30), c, d
    ends = zip(_START, (a, b, c, d, e), strict=True)
    return [(was + now) & 0xFFFFFFFF for was, now in ends]


def _left(word: int, bits: int = 1) -> int:
    """Return 32 bits, rotated."""
    return ((word << bits) | (word >> (32 - bits))) & 0xFFFFFFFF
