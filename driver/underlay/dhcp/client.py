"""A DHCP client: what its servers know it by, and its messages.

RFC 2131, table 5. All messages of a lease are made here, so they agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from underlay.dhcp import packets
from underlay.dhcp.frames import Receiver, wrap
from underlay.dhcp.offers import Held
from underlay.dhcp.packets import BOOTREQUEST, NOWHERE, MessageType, Option, Packet

# Classless routes come before routers (RFC 3442).
_WANTED = bytes(
    (
        Option.SUBNET_MASK,
        Option.CLASSLESS_ROUTES,
        Option.ROUTERS,
        Option.NAME_SERVERS,
        Option.DOMAIN,
        Option.SEARCH,
        Option.MTU,
        Option.LEASE_SECONDS,
        Option.SERVER,
        Option.T1,
        Option.T2,
    )
)
# Below the MTU of any segment, so that no answer comes in fragments.
_LONGEST_MESSAGE = (1200).to_bytes(2, "big")

Random = Callable[[], float]  # returns a number from 0 up to 1, without it


@dataclass(frozen=True, slots=True)
class Client:
    """What servers know a client by: the same in all messages of a lease.

    With `register`, the server is asked to update the DNS. Raises ValueError for a
    name that no host can have.
    """

    mac: str
    client_id: bytes
    hostname: str = ""
    register: bool = False

    def __post_init__(self) -> None:
        self._name()

    def message(
        self,
        kind: MessageType,
        options: dict[int, bytes],
        *,
        xid: int,
        secs: int = 0,
        broadcast: bool = False,
        ciaddr: IPv4Address = NOWHERE,
    ) -> bytes:
        """Return a message with these options, beside its type and the client's."""
        told: dict[int, bytes] = {
            Option.MESSAGE_TYPE: bytes((kind,)),
            Option.CLIENT_ID: self.client_id,
            **options,
        }
        if kind in (MessageType.DISCOVER, MessageType.REQUEST):
            told |= {Option.LONGEST_MESSAGE: _LONGEST_MESSAGE, **self._name()}
            told[Option.PARAMETERS] = _WANTED
        packet = Packet(BOOTREQUEST, xid, self.mac, told, secs, broadcast, ciaddr)
        return packets.encode(packet)

    def _name(self) -> dict[int, bytes]:
        """Return one option: with the other, a server is told none (RFC 4702, 3.1)."""
        if self.hostname and self.register:
            return {Option.FQDN: packets.fqdn(self.hostname)}
        name = self.hostname and packets.host_name(self.hostname)
        return {Option.HOST_NAME: name} if name else {}


def decline(
    client: Client, random: Random, address: IPv4Address, server: IPv4Address
) -> bytes:
    """Return the frame that tells a server: another machine has this address."""
    options: dict[int, bytes] = {
        Option.REQUESTED_ADDRESS: address.packed,
        Option.SERVER: server.packed,
    }
    message = client.message(MessageType.DECLINE, options, xid=new_xid(random))
    return wrap(message, client.mac)


def release(client: Client, random: Random, held: Held) -> bytes:
    """Return the frame that gives a lease back to its server."""
    options: dict[int, bytes] = {Option.SERVER: held.server.packed}
    message = client.message(
        MessageType.RELEASE, options, xid=new_xid(random), ciaddr=held.address
    )
    receiver = Receiver(held.server_mac, held.server)
    return wrap(message, client.mac, held.address, receiver)


def new_xid(random: Random) -> int:
    """Return a transaction id of 32 bits."""
    return int(random() * 2**32)
