"""Reading our neighbours and proxy entries."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_address

from underlay import model
from underlay.kernel import ip
from underlay.kernel import rtnetlink as nl
from underlay.kernel.rtnetlink import (
    NTF_PROXY,
    NUD_PERMANENT,
    RTM_GETNEIGH,
    RTM_NEWNEIGH,
)
from underlay.model.cache import GenerationCache
from underlay.model.objects import Neighbour, protocol

# The heads of the two attributes at the end: ages in clock ticks, and the protocol.
_AGES_THEN_PROTOCOL = struct.pack("=HH", 20, 3), struct.pack("=HH", 5, nl.NDA_PROTOCOL)


def next_generation() -> None:
    """Begin to read everything; the cache forgets what was not read for two times."""
    _neighbour.next_generation()


def our_neighbours(
    names: Mapping[int, str], shims: Collection[int]
) -> Iterator[Neighbour]:
    """Return our neighbours and proxy entries; `names` are links by index.

    Our neighbours are on `shims` only, proxy entries on any device.
    """
    entries = _neighbour_messages(0, shims) if shims else iter(())
    for message in (*entries, *_neighbour_messages(NTF_PROXY, ())):
        _, index, state, marks, _ = nl.NDMSG.unpack_from(message)
        if state & NUD_PERMANENT or marks & NTF_PROXY:
            device = names.get(index) or ip.name_of(index)
            found = _neighbour(_ageless(message), device)
            if found:
                yield found


def answered_on(index: int, device: str) -> Iterator[model.IpAddress]:
    """Return the addresses of our proxy entries on a device of the host."""
    for message in _neighbour_messages(NTF_PROXY, (index,)):
        found = _neighbour(_ageless(message), device)
        if found:
            yield found.address


def _neighbour_messages(flags: int, indexes: Collection[int]) -> Iterator[bytes]:
    """Return the messages about our neighbours on some links, or on any."""
    mark = nl.attribute(nl.NDA_PROTOCOL, bytes([protocol()]))

    def wanted(message: bytes) -> bool:
        # Searched for first: there may be thousands of other neighbours.
        return mark in message and (
            not indexes or nl.NDMSG.unpack_from(message)[1] in indexes
        )

    for index in indexes if len(indexes) <= ip.ONE_BY_ONE else ():
        body = nl.NDMSG.pack(0, 0, 0, flags, 0)
        body += nl.attribute(nl.NDA_IFINDEX, nl.NUMBER.pack(index))
        yield from nl.dump(RTM_GETNEIGH, RTM_NEWNEIGH, body, strict=True, wanted=wanted)
    if not 0 < len(indexes) <= ip.ONE_BY_ONE:
        body = nl.NDMSG.pack(0, 0, 0, flags, 0)
        yield from nl.dump(RTM_GETNEIGH, RTM_NEWNEIGH, body, strict=True, wanted=wanted)


def _ageless(message: bytes) -> bytes:
    """Leave out how long ago a neighbour was used: all else is as it was, as a rule."""
    if (message[-28:-24], message[-8:-4]) == _AGES_THEN_PROTOCOL:
        return message[:-28] + message[-8:]
    return message


@GenerationCache
def _neighbour(message: bytes, device: str) -> Neighbour | None:
    """Return the neighbour of a message, None if it is not ours."""
    marks = nl.NDMSG.unpack_from(message)[3]
    found = dict(nl.attributes(message[nl.NDMSG.size :]))
    packed = found.get(nl.NDA_DST, b"")
    if (
        found.get(nl.NDA_PROTOCOL) != bytes([protocol()])
        or len(packed) not in nl.SIZES.values()
    ):
        return None
    mac = b"" if marks & NTF_PROXY else found.get(nl.NDA_LLADDR, b"")
    return Neighbour(ip_address(packed), device, mac.hex(":"))
