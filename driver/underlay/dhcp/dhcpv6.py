"""DHCPv6 messages, and what a server gives in one: made and read.

RFC 8415, of which one address of a client is used (IA_NA), with the name of a client
(RFC 4704).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv6Address

from underlay.dhcp.packets import fqdn_labels

_HEAD = struct.Struct("!I")  # type, and a transaction id of three bytes
_OPTION = struct.Struct("!HH")  # code, length
_IA = struct.Struct("!III")  # IAID, T1, T2
_ADDRESS = struct.Struct("!16sII")  # address, preferred and valid lifetime
_XID_BITS = 24
_FOREVER = 0xFFFFFFFF
_LONGEST_DUID = 130
_SERVER_UPDATES = 0x01  # the flag S of RFC 4704
# Where a server leaves the choice to the client (RFC 8415, 14.2).
_T1_SHARE, _T2_SHARE = 0.5, 0.8


class BadMessage(ValueError):
    """Bytes that are no DHCPv6 message, or one that gives no usable lease.

    The text says why. It has no data of the server, so that it can be counted.
    """


class MessageType(IntEnum):
    """The types of messages between clients and servers."""

    SOLICIT = 1
    ADVERTISE = 2
    REQUEST = 3
    RENEW = 5
    REBIND = 6
    REPLY = 7
    RELEASE = 8
    DECLINE = 9


class Option(IntEnum):
    """The codes of options that are made or read here."""

    CLIENT_ID = 1
    SERVER_ID = 2
    IA_NA = 3
    IA_ADDRESS = 5
    WANTED = 6
    PREFERENCE = 7
    ELAPSED = 8
    STATUS = 13
    MOST_SOLICIT_SECONDS = 82
    FQDN = 39


class Status(IntEnum):
    """The codes of option 13."""

    SUCCESS = 0
    FAILED = 1
    NONE_LEFT = 2
    NO_BINDING = 3
    NOT_ON_LINK = 4
    USE_MULTICAST = 5


@dataclass(frozen=True, slots=True)
class Message:
    """A DHCPv6 message. Options may come more than once, and stay in their order."""

    kind: int
    xid: int
    options: tuple[tuple[int, bytes], ...] = ()

    def get(self, code: int) -> bytes | None:
        """Return the first option of a code, None if there is none."""
        return next((value for found, value in self.options if found == code), None)

    @property
    def server(self) -> bytes:
        """Return the DUID of the server, b"" if there is no usable one."""
        return _duid(self.get(Option.SERVER_ID))

    @property
    def client(self) -> bytes:
        """Return the DUID of the client, b"" if there is no usable one."""
        return _duid(self.get(Option.CLIENT_ID))

    @property
    def preference(self) -> int:
        """Return how much a server is to be preferred, from 0 to 255."""
        value = self.get(Option.PREFERENCE) or b""
        return value[0] if len(value) == 1 else 0

    @property
    def status(self) -> int:
        """Return the status of the whole message; one without is a success."""
        return _status(self.get(Option.STATUS))


@dataclass(frozen=True, slots=True)
class Client:
    """What servers know a client by: the same in all messages of a lease.

    `mac` and `address`, a link-local one, are those that its frames come from. With
    `register`, the server is asked to update the DNS. Raises ValueError for a name that
    no host can have.
    """

    duid: bytes
    iaid: int
    mac: str
    address: IPv6Address
    hostname: str = ""
    register: bool = False

    def __post_init__(self) -> None:
        self._name()

    def message(
        self,
        kind: MessageType,
        xid: int,
        *,
        elapsed: float = 0.0,
        server: bytes = b"",
        address: IPv6Address | None = None,
    ) -> bytes:
        """Return a message about one address, `elapsed` seconds after the first one."""
        inner = b""
        if address:
            inner = _packed(Option.IA_ADDRESS, _ADDRESS.pack(address.packed, 0, 0))
        hundredths = min(int(elapsed * 100), 0xFFFF)
        options: list[tuple[int, bytes]] = [(Option.CLIENT_ID, self.duid)]
        if server:
            options.append((Option.SERVER_ID, server))
        options.append((Option.ELAPSED, hundredths.to_bytes(2, "big")))
        options.append((Option.IA_NA, _IA.pack(self.iaid, 0, 0) + inner))
        if kind not in (MessageType.RELEASE, MessageType.DECLINE):
            wanted = (Option.MOST_SOLICIT_SECONDS, Option.FQDN)
            packed = b"".join(code.to_bytes(2, "big") for code in wanted)
            options += [(Option.WANTED, packed), *self._name()]
        return encode(Message(kind, xid, tuple(options)))

    def _name(self) -> list[tuple[int, bytes]]:
        if not self.hostname:
            return []
        flags = bytes((_SERVER_UPDATES * self.register,))
        return [(Option.FQDN, flags + fqdn_labels(self.hostname))]


@dataclass(frozen=True, slots=True)
class Grant:
    """An address that a server gives; durations in seconds, None for ever.

    `renew` and `rebind` are when it is to be asked again; `valid` is when the address
    ends, `preferred` when others come before it.
    """

    address: IPv6Address
    preferred: float | None
    valid: float | None
    renew: float | None
    rebind: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a message says about the address of a client.

    `status` is the first that is no success, of the message or within it. `grants` are
    the addresses that are usable; `ended`: one is said to be at its end.
    """

    status: int = Status.SUCCESS
    grants: tuple[Grant, ...] = ()
    ended: bool = False


@dataclass(slots=True)
class _Association:
    status: int = Status.SUCCESS
    grants: list[Grant] = field(default_factory=list)
    ended: bool = False


def encode(message: Message) -> bytes:
    """Return a message as bytes; raises ValueError for values that do not fit."""
    try:
        head = _HEAD.pack(message.kind << _XID_BITS | message.xid)
        return head + b"".join(_packed(*option) for option in message.options)
    except struct.error as error:
        raise ValueError(str(error)) from None


def decode(data: bytes) -> Message:
    """Return the message in bytes; raises BadMessage."""
    if len(data) < _HEAD.size:
        raise BadMessage("too short")
    (head,) = _HEAD.unpack_from(data)
    options = tuple(_options(data[_HEAD.size :]))
    return Message(head >> _XID_BITS, head & (1 << _XID_BITS) - 1, options)


def read_answer(message: Message, iaid: int) -> Answer:
    """Return what a server says to a client; raises BadMessage for what is cut off."""
    status, found = message.status, _Association()
    for code, value in message.options:
        if code == Option.IA_NA and len(value) < _IA.size:
            raise BadMessage("an option is cut off")
        if code == Option.IA_NA and _IA.unpack_from(value)[0] == iaid:
            _read_association(value, found)
    status = status or found.status
    return Answer(status, tuple(found.grants), found.ended)


def _read_association(value: bytes, found: _Association) -> None:
    _, t1, t2 = _IA.unpack_from(value)
    if 0 < t2 < t1:
        return  # to be ignored (RFC 8415, 21.4)
    for code, inner in _options(value[_IA.size :]):
        if code == Option.STATUS:
            found.status = found.status or _status(inner)
        elif code == Option.IA_ADDRESS:
            if len(inner) < _ADDRESS.size:
                raise BadMessage("an option is cut off")
            packed, preferred, valid = _ADDRESS.unpack_from(inner)
            status = [v for c, v in _options(inner[_ADDRESS.size :]) if c == 13]
            found.status = found.status or (_status(status[0]) if status else 0)
            address = IPv6Address(packed)
            if not valid:
                found.ended = True
            elif preferred <= valid and _is_usable(address):
                found.grants.append(_grant(address, preferred, valid, t1, t2))


def _is_usable(address: IPv6Address) -> bool:
    return not (
        address.is_multicast
        or address.is_link_local
        or address.is_loopback
        or address.is_unspecified
        or address.ipv4_mapped
    )


def _grant(address: IPv6Address, preferred: int, valid: int, t1: int, t2: int) -> Grant:
    """Return a grant with its times in order: renewed, rebound, at its end."""
    basis = float(preferred or valid)
    if basis == _FOREVER and not (t1 and t2):
        t1 = t1 or _FOREVER
        t2 = t2 or _FOREVER
    rebind = min(float(t2) if t2 else basis * _T2_SHARE, float(valid))
    renew = min(float(t1) if t1 else basis * _T1_SHARE, rebind)
    return Grant(address, *map(_seconds, (preferred, valid, renew, rebind)))


def _seconds(value: float) -> float | None:
    return None if value == _FOREVER else float(value)


def _options(area: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the options of an area; raises BadMessage for one that is cut off."""
    at = 0
    while at < len(area):
        if len(area) < at + _OPTION.size:
            raise BadMessage("an option is cut off")
        code, length = _OPTION.unpack_from(area, at)
        at += _OPTION.size
        if len(area) < at + length:
            raise BadMessage("an option is cut off")
        yield code, area[at : at + length]
        at += length


def _packed(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + value


def _status(value: bytes | None) -> int:
    if value is None:
        return Status.SUCCESS
    return int.from_bytes(value[:2], "big") if len(value) > 1 else Status.FAILED


def _duid(value: bytes | None) -> bytes:
    return value if value and len(value) <= _LONGEST_DUID else b""
