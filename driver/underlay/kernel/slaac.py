"""How a device in this namespace makes IPv6 addresses from router advertisements.

With a secret, or with a token; from then on the kernel does it, without the service. A
kernel that already made addresses otherwise forgets them when IPv6 is switched off.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address

from underlay.kernel import ip, links, sysctl
from underlay.kernel import rtnetlink as nl
from underlay.kernel.link_changes import change_link
from underlay.kernel.links import RawLink
from underlay.model.objects import IPV6_SWITCH, OWN_LINK_LOCAL, Slaac
from underlay.model.objects.common import differing


def of_links(ours: Iterable[RawLink]) -> Iterator[Slaac]:
    """Return how links do it, those that have a token or a secret."""
    able = [link for link in ours if link.has_slaac]
    made = ip.from_routers([link.index for link in able])
    for link in able:
        yield Slaac(link.name, link.token, link.settings, found=made[link.index])


def apply(wanted: Slaac) -> None:
    """Set token and sysctls, as far as they differ; raises OSError."""
    found = links.link_named(wanted.device)
    if found is None or not found.ours_inside or found.owner != wanted.owner:
        raise OSError(errno.ENODEV, f"{wanted.device} is gone")
    if not any(s.startswith(IPV6_SWITCH) for s in found.settings):
        raise OSError(errno.EAFNOSUPPORT, "the kernel of this host has no IPv6")
    settings = differing(wanted.sysctls, found.settings)
    is_new = any(s.startswith(OWN_LINK_LOCAL) for s in settings)
    if is_new or wanted.token != found.token:
        sysctl.set_of_device((f"{IPV6_SWITCH}1",), wanted.device)
        settings = wanted.sysctls
    sysctl.set_of_device(settings, wanted.device)
    if wanted.token != found.token:
        _set_token(found.index, wanted.token)


def _set_token(index: int, token: str) -> None:
    """Set the token of a link, "" for none.

    The kernel takes none before the link accepts router advertisements.
    """
    packed = IPv6Address(token or "::").packed
    six = nl.attribute(socket.AF_INET6, nl.attribute(nl.IFLA_INET6_TOKEN, packed))
    change_link(index, nl.attribute(nl.IFLA_AF_SPEC, six), up=None)
