"""The kernel as the engine sees it: one way to look, one way to touch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from underlay.model import (
    Device,
    Family,
    HostEntry,
    IpAddress,
    IpInterface,
    SysctlBackup,
)
from underlay.model.objects import ForwardAccept, MovedEntry, Object, Sysctl
from underlay.model.steps import Step


class Kernel(Protocol):
    """Looks at and touches the host's network namespace, and sandboxes.

    What carries no mark of ours is never returned by `observe`, hence never planned
    away.
    """

    def observe(self, names: Collection[str] | None = None) -> frozenset[Object]:
        """Return our objects, but permits: all of them, or the links of these names."""

    def observe_sandboxes(
        self, paths: Collection[str]
    ) -> Mapping[str, frozenset[Object]]:
        """Return what is in sandboxes, by path; those that are gone are left out.

        Our links, the addresses and routes on them, default routes by any device. A
        link without a mark is one that a dead process of ours left half made.
        """

    def sysctls(self, settings: Collection[Sysctl]) -> frozenset[Object]:
        """Return what these settings are now, as far as the kernel has them."""

    def forward_rules(self, wanted: Collection[ForwardAccept]) -> frozenset[Object]:
        """Return the rules of ours, and those wanted that nothing makes necessary."""

    def sysctls_for(self, reason: str) -> list[SysctlBackup]:
        """Return what to set for a reason (`forwarding/4`), with how it is now."""

    def entries_on(self, device: str) -> tuple[HostEntry, ...]:
        """Return what somebody put on a device of the host: addresses and routes."""

    def locate_entries(self, wanted: Collection[MovedEntry]) -> frozenset[Object]:
        """Return where these are now; what is on both devices, as on the wrong one."""

    def probe(
        self, device: str, addresses: Collection[IpAddress]
    ) -> frozenset[IpAddress]:
        """Return which addresses answer on a device, asked anew; for seconds."""

    def announce(
        self,
        sandbox: str,
        device: str,
        addresses: Collection[IpAddress],
        gateways: Collection[IpAddress],
        seconds: float,
    ) -> frozenset[IpAddress]:
        """Tell the segment of a device in a sandbox which addresses it has.

        Those of these that it still has; of a device of the host (""), those that it
        answers for. Returns to which of them a gateway answers within `seconds`. Raises
        OSError.
        """

    def is_wireless(self, device: str) -> bool:
        """Tell whether a device is Wi-Fi, which takes frames of one MAC only."""

    def device_sysctls(self, device: str) -> tuple[str, ...]:
        """Return the sysctls that a device in the place of this one is born with."""

    def names_inside(self, sandbox: str) -> frozenset[str]:
        """Return the names of all devices in a sandbox; raises OSError."""

    def sandbox_sysctls(self, sandbox: str, device: str) -> tuple[str, ...]:
        """Return those of a device in a sandbox that a new one would not have."""

    def apply(self, step: Step) -> None:
        """Carry out one step; a step already done is not an error.

        Raises KernelRefused with the step as text.
        """

    def device(self, name: str) -> Device | None:
        """Return any device of the host by its name or alternative name."""

    def devices(self, *kinds: str) -> tuple[Device, ...]:
        """Return every device of the host, or those of these kinds."""

    def has_kind(self, kind: str) -> bool:
        """Tell whether the kernel can make a kind of device, by a module if need be."""

    @property
    def can_filter(self) -> bool:
        """Whether there are nftables."""

    def default_device(self) -> str | None:
        """Return the name of the device the default route leaves by."""

    def bridge_firewall_drops(self, bridge: str, family: Family) -> str:
        """Return why frames of an IP family do not cross a bridge, "" if they do.

        Docker's chain DOCKER-USER, where a Permit stands, counts as letting them pass.
        """

    def addresses_of(self, device: str) -> tuple[IpInterface, ...]:
        """Return the host's own addresses on a device, or on all of them ("")."""

    def is_in_use(self, address: IpAddress) -> bool:
        """Tell whether somebody on a wire of this host has an address; it is asked."""

    def is_own(self, address: IpAddress) -> bool:
        """Tell whether an address is the host's own."""

    def container_bridges(self) -> frozenset[str]:
        """Return other people's bridges behind which are containers or machines only.

        They route for those; whether a port is open there is theirs to say.
        """

    def has_dependents(self, device: str) -> bool:
        """Tell whether something in another namespace stands on a device of ours."""

    def addresses_in_other_namespaces(
        self, besides: Collection[str]
    ) -> dict[str, tuple[IpAddress, ...]]:
        """Return the addresses of our devices in other namespaces, by their marks.

        Sandboxes that need no look are to be named.
        """

    def boot(self) -> str:
        """Return what tells this boot of the host from every other."""

    def sandbox_exists(self, path: str) -> bool:
        """Tell whether a sandbox's namespace is still pinned at its path."""
