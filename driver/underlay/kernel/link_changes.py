"""Links, their names and bridge ports are created, changed and deleted here only.

A container waits for its device, so that is created and marked by raw netlink, which
takes 0.13 ms where pyroute2 takes 1.4 ms. All else is rare and done by pyroute2. The
same functions work on the host and in a sandbox: `apply` enters the sandbox for them.
"""

from __future__ import annotations

import errno
import os
import secrets
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from underlay.kernel import links, sysctl
from underlay.kernel import rtnetlink as nl
from underlay.kernel.dependents import dependents_of
from underlay.kernel.host_entries import forget_routers
from underlay.kernel.links import RawLink, index_of, link_named
from underlay.kernel.namespaces import run_in
from underlay.kernel.probe import ask_routers
from underlay.kernel.rtnetlink import (
    IFF_UP,
    IFINFO,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NUMBER,
    RTM_DELLINK,
    RTM_NEWLINK,
    attribute,
)
from underlay.model.objects import (
    UNFINISHED_GROUP,
    AltName,
    BridgePort,
    Link,
    Owner,
)
from underlay.model.steps import Amend, Create, Delete, Step

if TYPE_CHECKING:
    from pyroute2 import IPRoute

_MODE = struct.Struct("=H")  # of ipvlan, and its flags; the id of a VLAN

# Groups of administrators have small numbers.
_LEAST_RANDOM_GROUP = 1 << 30


def apply(step: Step) -> None:
    """Create, change or delete a link, a name or a bridge port; raises OSError."""
    match step:
        case Create(Link() as link):
            _create(link)
        case Amend(Link() as seen, Link() as link):
            _run_at(link, partial(_amend, seen, link))
        case Delete(Link() as link):
            _run_at(link, partial(_delete, link))
        case Create(AltName() as name):
            _run_at(name, partial(_add_name, name))
        case Delete(AltName() as name):
            _run_at(name, partial(_remove_name, name))
        case Create(BridgePort() as port) | Amend(_, BridgePort() as port):
            _change(index_of(port.name), master=index_of(port.master))
            forget_routers(index_of(port.name))
        case Delete(BridgePort() as port):
            _change(index_of(port.name), master=0)
            ask_routers(port.name)


def _run_at(link: Link | AltName, change: Callable[[], None]) -> None:
    """Run a change in the namespace of a link or name."""
    if link.sandbox:
        run_in(Path(link.sandbox), change)
    else:
        change()


def _create(link: Link) -> None:
    if link.owner is None:
        raise OSError(errno.EINVAL, "a link without an owner is never created")
    link = _with_copied(link)
    create_link(link)
    for end in (link.peer, link):
        if end and end.owner:
            _run_at(end, partial(_finish, end, end.owner))


def _with_copied(link: Link) -> Link:
    """Return a link with the MAC and MTU of the device it copies, where it has none.

    A bridge without a port has no MAC, unless one was set.
    """
    if not link.copy_from:
        return link
    model = link_named(link.copy_from)
    if model is None:
        raise OSError(errno.ENODEV, f"no device {link.copy_from}")
    mac = link.mac or (model.mac if model.mac.strip("0:") else None)
    peer = _with_copied(link.peer) if link.peer else None
    return replace(link, mac=mac, mtu=link.mtu or model.mtu, peer=peer)


def create_link(link: Link) -> None:
    """Create a link in the group of unfinished links, without its mark; raises OSError.

    In a sandbox it gets its own name only with its mark: until then, any name there may
    be another device's.
    """
    with ExitStack() as files:
        body = IFINFO.pack(0, 0, 0, 0, 0) + _named(link, files)
        if link.parent:
            parent = NUMBER.pack(index_of(link.parent))
            body += attribute(nl.IFLA_LINK, parent)
        body += links.kind_attribute(link.kind, _data(link, files))
        nl.request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def _finish(link: Link, owner: Owner) -> None:
    """Give a new link its sysctls, its mark and all that it may have only then."""
    name = owner.device if link.sandbox else link.name
    sysctl.set_of_device(link.sysctls, name)
    if link.sandbox:
        sysctl.restore_of_device(link.initial_sysctls, name)
        _mark_in_sandbox(link, owner)
        return
    sysctl.set_of_device(link.initial_sysctls, name)
    if owner.altname:
        _add_altname(name, owner.altname)
    marks = [
        attribute(nl.IFLA_IFALIAS, owner.mark.encode()),
        attribute(nl.IFLA_GROUP, NUMBER.pack(link.group or 0)),
    ]
    if link.master:
        master = NUMBER.pack(index_of(link.master))
        marks.append(attribute(nl.IFLA_MASTER, master))
    up = link.up and not link.up_after_filters
    change_link(index_of(name), *marks, up=up)


def _mark_in_sandbox(link: Link, owner: Owner) -> None:
    index = index_of(owner.device)
    change_link(
        index,
        attribute(nl.IFLA_IFNAME, link.name.encode() + b"\0"),
        attribute(nl.IFLA_IFALIAS, owner.mark.encode()),
        up=link.up,
    )
    # Apart: the kernel sets the group first, and keeps it when it refuses the name.
    change_link(index, attribute(nl.IFLA_GROUP, NUMBER.pack(0)), up=None)


def change_link(index: int, *change: bytes, up: bool | None) -> None:
    """Change attributes of a new link, and set it up if asked to; raises OSError."""
    flags = (IFF_UP, IFF_UP) if up else (0, 0)
    body = IFINFO.pack(0, 0, index, *flags) + b"".join(change)
    nl.request(RTM_NEWLINK, 0, body)


def _named(link: Link, files: ExitStack) -> bytes:
    away = link.sandbox and link.owner
    name = link.owner.device if away and link.owner else link.name
    body = attribute(nl.IFLA_IFNAME, name.encode() + b"\0")
    body += attribute(nl.IFLA_GROUP, NUMBER.pack(UNFINISHED_GROUP))
    if away:
        namespace = os.open(link.sandbox, os.O_RDONLY | os.O_CLOEXEC)
        files.callback(os.close, namespace)
        body += attribute(nl.IFLA_NET_NS_FD, NUMBER.pack(namespace))
    if link.mac:
        mac = bytes.fromhex(link.mac.replace(":", ""))
        body += attribute(nl.IFLA_ADDRESS, mac)
    if link.mtu:
        body += attribute(nl.IFLA_MTU, NUMBER.pack(link.mtu))
    return body


def _data(link: Link, files: ExitStack) -> bytes:
    """Return the attributes that the kind of a link adds."""
    if link.peer:
        peer = IFINFO.pack(0, 0, 0, 0, 0) + _named(link.peer, files)
        return attribute(nl.VETH_INFO_PEER, peer)
    if link.vlan:
        return attribute(nl.IFLA_VLAN_ID, _MODE.pack(link.vlan))
    if not link.flavour:
        return b""
    mode = links.code_of(links.MODES[link.kind], link.flavour)
    if link.kind != "ipvlan":
        return attribute(nl.IFLA_MACVLAN_MODE, NUMBER.pack(mode)) + _queue(link)
    flags = _MODE.pack(links.code_of(links.IPVLAN_FLAGS, link.flag))
    return attribute(nl.IFLA_IPVLAN_MODE, _MODE.pack(mode)) + attribute(
        nl.IFLA_IPVLAN_FLAGS, flags
    )


def _queue(link: Link) -> bytes:
    if link.queue is None:
        return b""
    return attribute(nl.IFLA_MACVLAN_BC_QUEUE_LEN, NUMBER.pack(link.queue))


def _amend(seen: Link, link: Link) -> None:
    if link.master not in (None, seen.master):
        link = _with_copied(link)
    found = link_named(seen.name)
    if found is None or not _is_ours(found, link):
        raise OSError(errno.ENODEV, f"{seen.name} is gone")
    try:
        sysctl.set_of_device(link.differing_sysctls(seen), seen.name)
    finally:
        if not link.attributes_match(seen):
            _change(found.index, **_differing(seen, link))
        if not link.has_queue(seen):
            # pyroute2 does not know the attribute.
            data = links.kind_attribute(link.kind, _queue(link))
            change_link(found.index, data, up=None)


def _is_ours(found: RawLink, link: Link) -> bool:
    return found.ours_inside if link.sandbox else found.ours


def _differing(seen: Link, link: Link) -> dict[str, Any]:
    """Return the attributes to change, as pyroute2 names them."""
    mtu = link.room if (link.room or 0) > (seen.mtu or 0) else None
    wanted = {
        "address": (link.mac, seen.mac),
        "mtu": (link.mtu or mtu, seen.mtu),
        "group": (link.group, seen.group),
    }
    change = {k: v for k, (v, old) in wanted.items() if v not in (None, old)}
    if link.master not in (None, seen.master):
        change["master"] = index_of(link.master or "")
    if link.up:
        change["state"] = "up"
    if link.kind != "ipvlan" and link.flavour not in (None, seen.flavour):
        change |= {"kind": link.kind, f"{link.kind}_mode": link.flavour}
    return change


def _delete(link: Link) -> None:
    found = link_named(link.name)
    # Looked at again: another device may have got the name since it was planned.
    if found is None or not _is_ours(found, link):
        return
    if not link.sandbox and (others := dependents_of(found)):
        raise OSError(errno.EBUSY, f"it would also remove what is on it: {others}")
    with _gone_is_fine():
        nl.request(RTM_DELLINK, 0, IFINFO.pack(0, 0, found.index, 0, 0))


def delete_together(doomed: Iterable[Link]) -> None:
    """Delete links of the host that nothing is on; raises OSError.

    The kernel waits for an RCU grace period once, not for each. It deletes all links of
    a group: one that nothing else can be in, because its number is drawn at random.
    """
    group = NUMBER.pack(_LEAST_RANDOM_GROUP + secrets.randbelow(_LEAST_RANDOM_GROUP))
    marked = attribute(nl.IFLA_GROUP, group)
    for link in doomed:
        found = link_named(link.name)
        if found and _is_ours(found, link) and not dependents_of(found):
            with _gone_is_fine():
                change_link(found.index, marked, up=None)
    with _gone_is_fine():
        nl.request(RTM_DELLINK, 0, IFINFO.pack(0, 0, 0, 0, 0) + marked)


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def _change(index: int, **change: Any) -> None:
    with _pyroute2() as kernel:
        kernel.link("set", index=index, **change)


def _add_altname(name: str, alias: str) -> None:
    """Give a link the name that administrators look for, if the kernel takes it.

    The name may be taken, or the kernel old: the link works without.
    """
    with suppress(OSError):
        _change_names(nl.RTM_NEWLINKPROP, index_of(name), alias)


def _add_name(name: AltName) -> None:
    found = link_named(name.device)
    if found is None or found.owner != name.owner:
        raise OSError(errno.ENODEV, f"{name.device} is gone")
    if name.name not in found.altnames:
        _change_names(nl.RTM_NEWLINKPROP, found.index, name.name)


def _remove_name(name: AltName) -> None:
    found = link_named(name.device)
    if found and found.owner == name.owner and name.name in found.altnames:
        _change_names(nl.RTM_DELLINKPROP, found.index, name.name)


def _change_names(kind: int, index: int, name: str) -> None:
    """Add or remove an alternative name of a link; raises OSError."""
    found = attribute(nl.IFLA_ALT_IFNAME, name.encode() + b"\0")
    body = IFINFO.pack(0, 0, index, 0, 0)
    body += attribute(nl.IFLA_PROP_LIST | nl.NLA_F_NESTED, found)
    nl.request(kind, 0, body)


@contextmanager
def _pyroute2() -> Iterator[IPRoute]:
    """Yield a socket of this thread's namespace; a refusal is raised as OSError.

    Each has a short life: an IPRoute that lives long grows. Imported only here: few
    hosts need it, and it takes 0.1 s and 24 MB.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as kernel:
            yield kernel
    except NetlinkError as error:
        raise OSError(*error.args[:2]) from error
