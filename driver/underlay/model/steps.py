"""What can be done to an object. A step prints itself as a command.

docs/architecture.md lists what the text leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from underlay.model.objects import (
    Address,
    AltName,
    ForwardAccept,
    Link,
    Neighbour,
    NftChain,
    NftElements,
    NftTable,
    Object,
    Slaac,
    Sysctl,
)
from underlay.model.objects.common import nsenter, sysctl_command, word
from underlay.model.objects.gate import FOLLOWING


@dataclass(frozen=True, slots=True)
class Create:
    """Create an object."""

    object: Object

    def __str__(self) -> str:
        if not isinstance(self.object, Link):
            return self.object.command("add")
        link = self.object
        words = ["ip link add", *(["link", word(link.parent)] if link.parent else [])]
        words += [*_named(link), "type", link.kind, *_flavour(link)]
        if link.peer:
            words += ["peer", *_named(link.peer)]
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Amend:
    """Change an object in place."""

    seen: Object
    object: Object

    @property
    def ends_guard(self) -> bool:
        """Return whether it sets up a link that may be up only with its filters."""
        link, seen = self.object, self.seen
        return (
            isinstance(link, Link)
            and link.up_after_filters
            and not getattr(seen, "up", True)
        )

    def __str__(self) -> str:
        link, seen = self.object, self.seen
        if isinstance(link, NftChain):
            return f"{Delete(seen)}; {Create(link)}"
        if isinstance(link, Address):
            return link.command("change")  # of its lifetimes
        if not isinstance(link, Link) or not isinstance(seen, Link):
            return str(Create(link))
        settings = link.differing_sysctls(seen)
        steps = [sysctl_command(settings, seen.name)] if settings else []
        if (link.room or 0) > (seen.mtu or 0):
            link = replace(link, mtu=link.room)
        words = [f"{nsenter(seen.sandbox)}ip link set", word(seen.name)]
        words += _attributes(link)
        changed = link.flavour not in (None, seen.flavour) or not link.has_queue(seen)
        if link.kind != "ipvlan" and changed:
            words += ["type", link.kind, *_flavour(link)]
        return "; ".join(
            steps if link.attributes_match(seen) else [*steps, " ".join(words)]
        )


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an object of ours that is not desired."""

    object: Object

    def __str__(self) -> str:
        if isinstance(self.object, Link):
            where = nsenter(self.object.sandbox)
            return f"{where}ip link del {word(self.object.name)}"
        return self.object.command("del")


Step = Create | Amend | Delete


def describe_before(step: Step) -> str:
    """Return what a step changes or deletes, as a command; "" for nothing."""
    if isinstance(step, Create):
        return ""
    if not isinstance(step, Amend):
        return str(Create(step.object))
    wanted, seen = step.object, step.seen
    if not isinstance(wanted, Link) or not isinstance(seen, Link):
        return str(Create(seen))
    paths = {setting.partition("=")[0] for setting in wanted.differing_sysctls(seen)}
    found = [s for s in seen.sysctls if s.partition("=")[0] in paths]
    settings = sysctl_command(found, seen.name)
    parts = [settings, "" if wanted.attributes_match(seen) else str(Create(seen))]
    return "; ".join(part for part in parts if part)


def needs_announcement(step: Step) -> bool:
    """Return whether a step brings addresses to another place on a segment."""
    found = step.object
    if isinstance(step, Create):
        # The kernel first asks whether one with lifetimes is free.
        is_told = not (isinstance(found, Address) and found.lifetimes)
        return isinstance(found, Link | Address | Neighbour) and is_told
    if not (isinstance(step, Amend) and isinstance(found, Link)):
        return False
    return found.master not in (None, getattr(step.seen, "master", None))


def is_setting_up(step: Step) -> bool:
    """Return whether a step sets up a link that may be up only with its filters."""
    return isinstance(step, Amend) and step.ends_guard


def is_by_program(step: Step) -> bool:
    """Return whether a step runs a program. It may hang, so no lock is held."""
    return isinstance(step.object, ForwardAccept | NftChain)


def is_naming(step: Step) -> bool:
    """Return whether a step is about a name for people. No verb and no object waits."""
    return isinstance(step.object, AltName)


def repairs_nothing(step: Step) -> bool:
    """Return whether every start of a container brings such a step, or a new address.

    Names of devices, what filters on them, how they make IPv6 addresses, and those of
    DHCPv6 servers: Docker does none of these. And from which addresses a container may
    send: routers and DHCP servers give it others.
    """
    found = step.object
    is_gate = isinstance(found, NftTable) and bool(found.sandbox)
    return (
        is_naming(step)
        or (isinstance(step, Create) and (is_gate or isinstance(found, Slaac)))
        or (isinstance(found, Address) and found.lifetimes is not None)
        or (isinstance(found, NftElements) and found.is_beside)
        or (isinstance(step, Amend) and _follows(step.seen, found))
    )


def _follows(seen: Object, found: Object) -> bool:
    """Return whether only what follows the addresses of a container differs."""
    if not (isinstance(seen, NftElements) and isinstance(found, NftElements)):
        return False
    return all(name in FOLLOWING for name, _ in seen.elements ^ found.elements)


def depends_on(step: Step, refused: Step) -> bool:
    """Return whether a step must not be applied after a refused one.

    It is the second half of a replacement, or on a device that was not created. Or it
    is a later step of a bridge take-over: each needs those before it. Or it sets up a
    link whose filter was refused.
    """
    found, other = step.object, refused.object
    if found.key == other.key or (other.owner and other.owner.takes_over):
        return True
    if isinstance(other, NftChain):
        if isinstance(found, Sysctl) and not other.device:
            return (
                found.owner == other.owner
            )  # the chain that protects the host comes first
        return is_setting_up(step) and found.device == other.device
    if not (isinstance(refused, Create) and isinstance(other, Link)):
        return False
    places = [(o.sandbox, o.name) for o in (other, other.peer) if o]
    return (getattr(found, "sandbox", ""), found.device) in places


def _named(link: Link) -> list[str]:
    where = ["netns", link.sandbox] if link.sandbox else []
    return ["name", word(link.name), *where, *_attributes(link)]


def _attributes(link: Link) -> list[str]:
    mac, mtu = link.mac, str(link.mtu or "")
    if link.copy_from:
        mac, mtu = (
            mac or _said(link.copy_from, "address"),
            mtu or _said(link.copy_from, "mtu"),
        )
    words = ["address", mac] if mac else []
    words += ["mtu", mtu] if mtu else []
    words += ["master", word(link.master)] if link.master else []
    words += ["group", str(link.group)] if link.group else []
    return words + (["up"] if link.up else [])


def _said(device: str, fact: str) -> str:
    return f"$(cat /sys/class/net/{word(device)}/{fact})"


def _flavour(link: Link) -> list[str]:
    words = ["id", str(link.vlan)] if link.vlan else []
    words += ["mode", link.flavour] if link.flavour else []
    words += ["bcqueuelen", str(link.queue)] if link.queue is not None else []
    return words + ([link.flag] if link.flag else [])
