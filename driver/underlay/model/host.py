"""The host as the modes, the planner and the parents ask about it."""

from __future__ import annotations

from typing import Protocol

from underlay.model import Device, Family, HostUse, IpAddress, IpInterface


class Host(Protocol):
    """Questions about the host; asking changes nothing."""

    def device(self, name: str) -> Device | None:
        """Return a device by its name or alternative name."""

    def devices(self, *kinds: str) -> tuple[Device, ...]:
        """Return every device of the host namespace, or those of these kinds."""

    @property
    def can_filter(self) -> bool:
        """Whether the host has nftables."""

    @property
    def can_guard(self) -> bool:
        """Whether there can be gates for containers; asked once."""

    def default_device(self) -> str | None:
        """Return the name of the device that the default route leaves by."""

    def routers(self) -> tuple[tuple[str, IpAddress], ...]:
        """Return the next hops of default routes with their devices, best first."""

    def has_kind(self, kind: str) -> bool:
        """Return whether the kernel can create a kind of device, also by a module."""

    def addresses_of(self, device: str) -> tuple[IpInterface, ...]:
        """Return the host's own addresses on a device, or on all of them ("")."""

    def is_own(self, address: IpAddress) -> bool:
        """Return whether an address is the host's own."""

    def use_of(self, address: IpAddress) -> HostUse | None:
        """Return how the host's own routes and neighbours show an address in use.

        A neighbour counts while the kernel has confirmed it lately, or if it is
        permanent. Asks no machine.
        """

    def is_in_use(self, address: IpAddress) -> bool:
        """Return whether a machine on a segment of this host answers for an address."""

    def bridge_firewall_drops(self, bridge: str, family: Family) -> str:
        """Return why frames of an IP family do not cross a bridge, "" if they do.

        The chain DOCKER-USER, where a ForwardAccept is, counts as accepting them.
        """
