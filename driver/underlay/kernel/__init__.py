"""The kernel as the services see it: `observe` reads, `apply` changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol, TypeVar

from underlay.model import Family, HostEntry, IpAddress, SysctlBackup, Verdict
from underlay.model.host import Host
from underlay.model.objects import (
    AltName,
    ForwardAccept,
    Link,
    MovedEntry,
    Object,
    Sysctl,
    SysctlReason,
)
from underlay.model.ruleset import BaseChain
from underlay.model.steps import Step

T = TypeVar("T")


class Kernel(Host, Protocol):
    """Observes and changes the network namespaces of the host and of sandboxes.

    `observe` returns only what carries our mark. So a plan never deletes anything else.
    """

    def observe(self, names: Collection[str] | None = None) -> frozenset[Object]:
        """Return our objects, but forward rules: all, or the links of these names."""

    def observe_sandboxes(
        self, paths: Collection[str]
    ) -> Mapping[str, frozenset[Object]]:
        """Return what is in sandboxes, by path; those that are gone are left out.

        Our links, the addresses and routes on them, default routes by any device. A
        link without a mark was left unfinished by a process of ours that died.
        """

    def lacking_names(self, wanted: Collection[AltName]) -> frozenset[AltName]:
        """Return those of these names that cannot be given.

        Another device has the name, or the kernel knows no alternative names.
        """

    def sysctls(self, settings: Collection[Sysctl]) -> frozenset[Object]:
        """Return the present values of these sysctls, as far as the kernel has them."""

    def forward_rules(self, wanted: Collection[ForwardAccept]) -> frozenset[Object]:
        """Return our rules, and the desired ones that this host does not need."""

    def sysctls_for(self, reason: SysctlReason) -> list[SysctlBackup]:
        """Return what to set for a reason (`forwarding/4`), with its present value."""

    def entries_on(self, device: str) -> tuple[HostEntry, ...]:
        """Return the addresses and routes that were put on a device of the host."""

    def locate_entries(self, wanted: Collection[MovedEntry]) -> frozenset[Object]:
        """Return where these entries are; one on both devices counts as misplaced."""

    def probe(
        self, device: str, addresses: Collection[IpAddress]
    ) -> frozenset[IpAddress]:
        """Return which addresses answer on a device now; takes up to three seconds.

        The kernel's neighbour entries of these are deleted, so that it asks again.
        """

    def ask(
        self,
        devices: Collection[str],
        addresses: Collection[IpAddress],
        is_ours: Callable[[str], bool],
    ) -> Verdict:
        """Ask whether machines have addresses, on devices of one segment.

        The first device is the parent. A MAC that `is_ours` is no conflict.
        Takes 0.2 seconds, less if all answer. Nothing is changed.
        """

    def announce(
        self,
        sandbox: str,
        device: str,
        addresses: Collection[IpAddress],
        gateways: Collection[IpAddress],
        seconds: float,
    ) -> frozenset[IpAddress]:
        """Announce the addresses of a device on its segment.

        Those of the addresses that the device has, in a sandbox, or that it has proxy
        entries for, in the host (sandbox ""). Returns for which of them a gateway
        answers within `seconds`. Raises OSError.
        """

    def is_wireless(self, device: str) -> bool:
        """Return whether a device is Wi-Fi, which accepts frames of one MAC only."""

    def forward_change_mark(self) -> object:
        """Return what differs after each change of the firewall's rules.

        No program runs for it. Raises OSError.
        """

    def forward_chains(self) -> list[BaseChain]:
        """Return every chain on the hook forward, of any program; raises OSError."""

    def filters_bridged(self, bridge: str, family: Family) -> bool:
        """Return whether iptables and nft see the frames that cross a bridge."""

    def device_sysctls(self, device: str) -> tuple[str, ...]:
        """Return the sysctls that a device which replaces this one is created with."""

    def names_inside(self, sandbox: str) -> frozenset[str]:
        """Return the names of all devices in a sandbox; raises OSError."""

    def sandbox_sysctls(self, sandbox: str, device: str) -> tuple[str, ...]:
        """Return the sysctls of a device in a sandbox that differ from a new device's.

        Raises OSError.
        """

    def apply(self, step: Step) -> None:
        """Apply one step; a step that is applied already is not an error.

        Raises KernelRefused with the step as text.
        """

    def delete_links(self, doomed: Collection[Link]) -> None:
        """Delete links of the host at once; one that is gone already is no error.

        A link with dependents stays, and so do all if the kernel refuses. Raises
        KernelRefused.
        """

    def container_bridges(self) -> frozenset[str]:
        """Return bridges, not ours, with containers or virtual machines only.

        The host routes for these; the rules of Docker, libvirt and others decide which
        ports are open.
        """

    def has_dependents(self, device: str) -> bool:
        """Return whether something in another namespace stands on a device of ours."""

    def addresses_in_other_namespaces(
        self, besides: Collection[str]
    ) -> dict[str, tuple[IpAddress, ...]]:
        """Return the addresses of our devices in other namespaces, by their marks.

        The sandboxes `besides` are left out.
        """

    def boot(self) -> str:
        """Return an id of this boot of the host."""

    def inside(self, sandbox: str, run: Callable[[], T]) -> T:
        """Return what `run` returns, run in a sandbox; raises OSError."""

    def sandbox_exists(self, path: str) -> bool:
        """Return whether a namespace is still mounted at the path of a sandbox."""
