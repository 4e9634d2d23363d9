"""Other network namespaces: which there are, and running something in one.

The kernel names another namespace by a number (nsid) that only this namespace uses.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from itertools import chain
from pathlib import Path
from typing import TypeVar

from underlay.kernel import ip, links
from underlay.kernel import rtnetlink as nl
from underlay.kernel.links import RawLink
from underlay.kernel.rtnetlink import NLM_F_REQUEST, RTM_GETNSID, RTM_NEWNSID
from underlay.model import IpAddress

log = logging.getLogger(__name__)

_NEWNET = 0x40000000  # os.setns came only with Python 3.12
OWN = Path("/proc/thread-self/ns/net")
_PINNED = ("/run/docker/netns", "/run/netns")
NO_NSID = -1
_SO_NETNS_COOKIE = 71
# A process with CAP_NET_ADMIN in a container can make devices with marks like ours, and
# give them any addresses: of one namespace, no more than these are believed.
MOST_DEVICES, MOST_ADDRESSES = 8, 2
# A namespace that is gone meanwhile, or a file where none was mounted.
_GONE = (errno.ENOENT, errno.EINVAL, errno.ESRCH)
Found = dict[str, tuple[IpAddress, ...]]
T = TypeVar("T")


def others() -> Iterator[Path]:
    """Return a path of every other network namespace: of processes, and pinned ones."""
    seen = {file_of(OWN)}
    processes = (process / "ns/net" for process in Path("/proc").iterdir())
    for path in chain(processes, *(Path(place).glob("*") for place in _PINNED)):
        with suppress(OSError):
            file = file_of(path)
            if file not in seen:
                seen.add(file)
                yield path


def file_of(path: Path | str) -> tuple[int, int]:
    """Return the device and inode of a namespace: no other existing one has them.

    A left-over file at a path has an inode of another file system. Raises OSError.
    """
    found = os.stat(path)  # noqa: PTH116 - ten times as fast
    return found.st_dev, found.st_ino


def own_cookie() -> str:
    """Return what no other namespace of this boot has; "" before Linux 5.14."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            return s.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8).hex()
    except OSError:
        return ""


def run_in(path: Path, look: Callable[[], T]) -> T:
    """Return what `look` sees in a namespace; raises OSError.

    In a thread of its own, which ends there: no other thread is ever in the wrong
    namespace.
    """
    found: list[T] = []
    failed: list[OSError] = []

    def run() -> None:
        try:
            _enter(path)
            found.append(look())
        except OSError as error:
            failed.append(error)

    thread = _thread(run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def run_in_each(paths: Iterable[str], look: Callable[[], T]) -> dict[str, T]:
    """Return what `look` sees in each namespace; those that are gone are left out.

    One thread goes through them all, and ends there.
    """
    found: dict[str, T] = {}

    def run() -> None:
        for path in paths:
            with suppress(OSError):
                _enter(Path(path))
                found[path] = look()

    thread = _thread(run)
    thread.start()
    thread.join()
    return found


def _thread(run: Callable[[], None]) -> threading.Thread:
    """Return a thread whose lines of the log belong to the same call of Docker."""
    return threading.Thread(target=copy_context().run, args=(run,))


def _enter(path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with opened(path) as target:
        if libc.setns(target, _NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


@contextmanager
def opened(path: Path | str) -> Iterator[int]:
    """Open the namespace at a path; raises OSError if there is none."""
    target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield target
    finally:
        os.close(target)


def is_gone(error: OSError) -> bool:
    """Return whether an error means that a namespace no longer exists."""
    return error.errno in _GONE


def assigned_nsid(path: str) -> int:
    """Return the number of the namespace pinned at a path, a new one if it had none.

    Raises OSError if there is no namespace.
    """
    with opened(path) as target:
        new = nl.attribute(nl.NETNSA_NSID, nl.SIGNED.pack(NO_NSID))
        with suppress(FileExistsError):
            nl.request(RTM_NEWNSID, 0, _about(target) + new)
        return nsid_of(target)


def own_nsid() -> int:
    """Return the number this namespace has for itself: usually NO_NSID."""
    with opened(OWN) as target:
        return nsid_of(target)


def nsid_in(payload: bytes) -> int:
    """Return the number in a message about nsids, NO_NSID if there is none."""
    found = dict(nl.attributes(payload[len(nl.RTGEN) :])).get(nl.NETNSA_NSID, b"")
    number: int = nl.SIGNED.unpack(found)[0] if len(found) == 4 else NO_NSID
    return number


def nsid_of(target: int) -> int:
    """Return the number by which this namespace knows an open one, or NO_NSID.

    The kernel may give it one when it reports a device here that stands on one there.
    """
    for message in nl.exchange(RTM_GETNSID, NLM_F_REQUEST, RTM_NEWNSID, _about(target)):
        return nsid_in(message)
    return NO_NSID


def _about(target: int) -> bytes:
    return nl.RTGEN + nl.attribute(nl.NETNSA_FD, nl.SIGNED.pack(target))


def our_addresses_elsewhere(besides: Collection[str]) -> Found:
    """Return the addresses of our devices in other namespaces, by their marks.

    Namespaces at the paths `besides` are left out. The devices are found by their
    marks, not by the records.
    """
    known = set()
    for path in besides:
        with suppress(OSError):
            known.add(file_of(path))
    found: Found = {}
    for place in others():
        try:
            if file_of(place) not in known:
                # A mark may be in several: none hides what another one has.
                for mark, addresses in run_in(place, _our_addresses_here).items():
                    found[mark] = found.get(mark, ()) + addresses
        except OSError as error:
            if not is_gone(error):
                facts = {"namespace": place, "error": error}
                log.warning("cannot inspect a network namespace", extra=facts)
    return found


def _our_addresses_here() -> Found:
    """Return what is in the namespace of this thread, as far as it is believed."""
    ours = [link for link in links.our_links_inside() if link.owner]
    return {link.alias: tuple(_oldest_addresses(link)) for link in ours[:MOST_DEVICES]}


def _oldest_addresses(link: RawLink) -> Iterator[IpAddress]:
    """Return the addresses that a device has had for longest, of each IP family.

    Those were given by Docker. The kernel lists IPv4 oldest first, IPv6 newest first.
    """
    found = [interface.ip for interface in ip.usable_on(link.index)]
    yield from [a for a in found if a.version == 4][:MOST_ADDRESSES]
    yield from [a for a in found if a.version == 6][-MOST_ADDRESSES:]
