"""Docker's messages, one class each, with Docker's own names written once.

Go sends every key, `null` for empty maps and "" for empty addresses; keys this file
does not name are ignored, for Docker adds some with each version.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    ip_address,
    ip_interface,
)
from typing import Annotated, Any

import msgspec

from underlay.model import MAC, Endpoint, Network, Subnet
from underlay.model.ports import PORTS_OPTION, PROTOCOLS, PublishedPort, as_option

Id = Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Za-z][0-9A-Za-z_.-]{0,127}\Z")]
Text = Annotated[str, msgspec.Meta(max_length=4096)]
# No zone: fd00::5%eth0 and fd00::5 are one address on the segment.
AddressText = Annotated[str, msgspec.Meta(max_length=64, pattern="^[^%]*$")]
# The kernel's paths are not empty, and end at a NUL.
PathText = Annotated[str, msgspec.Meta(max_length=4096, pattern=r"\A[^\0]+\Z")]

ADDRESS_SPACE = "underlay"
GENERIC = "com.docker.network.generic"
INTERNAL = "com.docker.network.internal"
MAC_OPTION = "com.docker.network.endpoint.macaddress"
NAME_OPTION = "com.docker.network.endpoint.name"
GATEWAY = "com.docker.network.gateway"
GATEWAY_TYPE = ("RequestAddressType", GATEWAY)


class Empty(msgspec.Struct):
    """A message without content, asked or answered."""


class Manifest(msgspec.Struct):
    """Plugin.Activate: what this plugin is."""

    Implements: tuple[str, ...] = ("NetworkDriver", "IpamDriver")


class NetworkCapabilities(msgspec.Struct):
    """NetworkDriver.GetCapabilities."""

    Scope: str = "local"
    ConnectivityScope: str = "global"
    GwAllocChecker: bool = True


class IpamCapabilities(msgspec.Struct):
    """IpamDriver.GetCapabilities. The service has records: no replay."""

    RequiresMACAddress: bool = False
    RequiresRequestReplay: bool = False


class AddressSpaces(msgspec.Struct):
    """IpamDriver.GetDefaultAddressSpaces.

    Two equal names tell engines from 27 on not to search for a pool beside the host's
    own networks: the host's own network is what a container joins.
    """

    LocalDefaultAddressSpace: str = ADDRESS_SPACE
    GlobalDefaultAddressSpace: str = ADDRESS_SPACE


class Failed(msgspec.Struct):
    """What went wrong, under both keys: libnetwork reads one, its IPAM the other."""

    Err: str
    Error: str


class IpamData(msgspec.Struct):
    """One subnet of a network."""

    AddressSpace: Text = ""
    Pool: AddressText = ""
    Gateway: AddressText = ""
    AuxAddresses: dict[str, AddressText] | None = None

    def segment(self) -> Subnet | None:
        """Return the subnet; None for the 0.0.0.0/0 of the null IPAM driver.

        That of this one is a network whose addresses come from DHCP servers. Its
        gateway is none: by it the network is known to be that of a claim.
        """
        pool = ip_interface(self.Pool).network if self.Pool else None
        everywhere = pool is None or pool.prefixlen == 0
        if pool is None or (everywhere and self.AddressSpace != ADDRESS_SPACE):
            return None
        aux = (self.AuxAddresses or {}).values()
        return Subnet(
            pool,
            ip_interface(self.Gateway).ip if self.Gateway else None,
            tuple(sorted({ip_interface(a).ip for a in aux}, key=int)),
            pooled=self.AddressSpace == ADDRESS_SPACE,
            dhcp=everywhere,
        )


class GwAllocCheck(msgspec.Struct):
    """NetworkDriver.GwAllocCheck, asked by engines from 28 on before IPAM."""

    Options: dict[str, Any] | None = None


class GwAllocAnswer(msgspec.Struct):
    """Whether Docker leaves out the gateway address."""

    SkipIPv4: bool
    SkipIPv6: bool


class CreateNetwork(msgspec.Struct):
    """NetworkDriver.CreateNetwork."""

    NetworkID: Id
    Options: dict[str, Any] | None = None
    IPv4Data: list[IpamData] | None = None
    IPv6Data: list[IpamData] | None = None

    def network(self) -> Network:
        """Return the network as asked; raises ValidationError."""
        data = [*(self.IPv4Data or ()), *(self.IPv6Data or ())]
        options = driver_options(self.Options)
        with reading():
            subnets = tuple(s for d in data if (s := d.segment()))
        if not subnets and options.get("source") == "dhcp":  # with the null IPAM driver
            subnets = (Subnet(IPv4Network("0.0.0.0/0"), dhcp=True),)
        return Network(
            id=self.NetworkID,
            options=options,
            internal=is_internal(self.Options),
            subnets=subnets,
        )


class NetworkId(msgspec.Struct):
    """DeleteNetwork, FreeNetwork."""

    NetworkID: Id


class AllocateNetwork(msgspec.Struct):
    """NetworkDriver.AllocateNetwork, by a swarm manager."""

    NetworkID: Id
    Options: dict[str, Any] | None = None


class Allocated(msgspec.Struct):
    """The options that CreateNetwork gets on each node, unchanged."""

    Options: dict[str, Any]


class EndpointInterface(msgspec.Struct):
    """Addresses with prefix length, or empty."""

    Address: AddressText = ""
    AddressIPv6: AddressText = ""
    MacAddress: Text = ""


class PortBinding(msgspec.Struct):
    """A port of `-p`, as Docker tells it; the numbers of protocols are IP's."""

    Proto: int = 0
    Port: int = 0
    HostIP: AddressText = ""
    HostPort: int = 0


class CreateEndpoint(msgspec.Struct):
    """NetworkDriver.CreateEndpoint."""

    NetworkID: Id
    EndpointID: Id
    Interface: EndpointInterface | None = None
    Options: dict[str, Any] | None = None

    def endpoint(self) -> Endpoint:
        """Return the endpoint as asked; raises ValidationError."""
        asked = self.Interface or EndpointInterface()
        options = self.Options or {}
        with reading():
            said = {k: v for k, v in options.items() if isinstance(v, str)}
            said.pop(PORTS_OPTION, None)
            if ports := published(options):
                said[PORTS_OPTION] = as_option(ports)
            return Endpoint(
                id=self.EndpointID,
                network=self.NetworkID,
                ipv4=IPv4Interface(asked.Address) if asked.Address else None,
                ipv6=IPv6Interface(asked.AddressIPv6) if asked.AddressIPv6 else None,
                mac=_mac(asked.MacAddress, options.get(MAC_OPTION)),
                options=said,
            )


class EndpointCreated(msgspec.Struct):
    """What Docker did not ask for: it refuses a value it gave, even the same."""

    Interface: EndpointInterface


class EndpointId(msgspec.Struct):
    """DeleteEndpoint, Leave, EndpointOperInfo, Program- and RevokeExternal..."""

    NetworkID: Id
    EndpointID: Id


class Join(msgspec.Struct):
    """NetworkDriver.Join."""

    NetworkID: Id
    EndpointID: Id
    SandboxKey: PathText
    Options: dict[str, Any] | None = None

    @property
    def ports(self) -> str:
        """Return the container's ports as recorded; raises ValidationError.

        Up to engine 27, CreateEndpoint lacks them for a second network.
        """
        return as_option(published(self.Options))


class InterfaceName(msgspec.Struct):
    """The device Docker moves, how its new name begins, and the name itself, if any.

    Engines take DstName from moby#52866 on; the others ignore it.
    """

    SrcName: str
    DstPrefix: str = "eth"
    DstName: str = ""


class StaticRoute(msgspec.Struct):
    """A route of Join's answer; type 0 has a next hop, type 1 (connected) none.

    Never without a destination: dockerd 28 panics and keeps the container's lock.
    """

    Destination: str
    RouteType: int = 1
    NextHop: str = ""


class Joined(msgspec.Struct):
    """Join's answer. Without DisableGatewayService Docker adds a bridge with NAT."""

    InterfaceName: InterfaceName
    Gateway: str = ""
    GatewayIPv6: str = ""
    StaticRoutes: tuple[StaticRoute, ...] = ()
    DisableGatewayService: bool = True


class OperInfo(msgspec.Struct):
    """EndpointOperInfo's answer."""

    Value: dict[str, str] = {}


class RequestPool(msgspec.Struct):
    """IpamDriver.RequestPool."""

    Pool: Text = ""
    SubPool: Text = ""
    Options: dict[str, str] | None = None
    V6: bool = False


class PoolGiven(msgspec.Struct):
    """RequestPool's answer. With a gateway in its data Docker asks for none."""

    PoolID: str
    Pool: str
    Data: dict[str, str] = {}


class PoolId(msgspec.Struct):
    """IpamDriver.ReleasePool."""

    PoolID: Text


class RequestAddress(msgspec.Struct):
    """IpamDriver.RequestAddress."""

    PoolID: Text
    Address: Text = ""
    Options: dict[str, str] | None = None

    @property
    def for_gateway(self) -> bool:
        """Return whether the address is for the gateway."""
        key, value = GATEWAY_TYPE
        return (self.Options or {}).get(key) == value

    @property
    def container(self) -> str:
        """Return the container's name, which engines send from 29 on."""
        return (self.Options or {}).get(NAME_OPTION, "")


class AddressGiven(msgspec.Struct):
    """RequestAddress's answer: the address with the pool's prefix length."""

    Address: str
    Data: dict[str, str] = {}


class ReleaseAddress(msgspec.Struct):
    """IpamDriver.ReleaseAddress."""

    PoolID: Text
    Address: Text


@contextmanager
def reading() -> Iterator[None]:
    """Turn a value that is no address, MAC or prefix into a ValidationError."""
    try:
        yield
    except ValueError as error:
        raise msgspec.ValidationError(str(error)) from error


def driver_options(options: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what the user gave with -o; raises ValidationError unless all is text."""
    return msgspec.convert((options or {}).get(GENERIC) or {}, dict[str, str])


def is_internal(options: Mapping[str, Any] | None) -> bool:
    """Return whether the network is --internal."""
    return (options or {}).get(INTERNAL) is True


def published(options: Mapping[str, Any] | None) -> list[PublishedPort]:
    """Return the ports that `-p` names; raises ValidationError.

    Of a range of ports of the host for one of the container, the first one counts. A
    protocol that has no ports is left out.
    """
    given = (options or {}).get(PORTS_OPTION) or []
    found = []
    for one in msgspec.convert(given, list[PortBinding]):
        numbers = one.Port, one.HostPort or one.Port
        if not all(0 < number < 1 << 16 for number in numbers):
            raise msgspec.ValidationError(f"{numbers} are not two ports")
        if protocol := PROTOCOLS.get(one.Proto):
            where = str(ip_address(one.HostIP)) if one.HostIP else ""
            found.append(PublishedPort(protocol, *numbers, where))
    return found


def _mac(given: str, option: object) -> str:
    """Return the MAC asked for; in options it is base64 of the six bytes."""
    text = given.lower()
    if not text and isinstance(option, str) and option:
        try:
            text = base64.b64decode(option, validate=True).hex(":")
        except binascii.Error:
            text = option.lower()
    if text and not MAC.fullmatch(text):
        raise ValueError(f"{text!r} is not a MAC address")
    return text
