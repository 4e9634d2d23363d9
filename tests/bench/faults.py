"""What is taken from a running container, and how long it takes to come back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

from pyroute2.netlink import NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_GETROUTE, RTM_NEWROUTE

from tests.bench.service_host import Served, Stage
from tests.bench.tables import Series
from underlay.kernel import ip, links, namespaces
from underlay.kernel import rtnetlink as nl
from underlay.model import Endpoint, IpAddress
from underlay.model.objects import Address, Owner, Route

POLL_SECONDS, LONGEST_SECONDS, ATTEMPTS = 0.002, 20.0, 3
_KIND_AT = 7
FAR = ip_address("198.51.100.1"), ip_address("2001:db8::1")

Way = tuple[int, int]


def way(to: IpAddress) -> Way:
    """Return the type of the route to an address and the index of its device, or 0, 0.

    The kernel is asked for one route, so it can be asked often.
    """
    body = nl.RTMSG.pack(nl.FAMILIES[to.version], to.max_prefixlen, *(7 * [0]))
    body += nl.attribute(nl.RTA_DST, to.packed)
    try:
        [found] = nl.exchange(RTM_GETROUTE, NLM_F_REQUEST, RTM_NEWROUTE, body)
    except OSError:
        return 0, 0
    leaves_by = dict(nl.attributes(found[nl.RTMSG.size :])).get(nl.RTA_OIF, b"")
    return found[_KIND_AT], nl.number(leaves_by)


def reach(endpoint: Endpoint) -> list[int]:
    """Return how a sandbox reaches its own address and both far away.

    That goes by the device, its addresses and its default routes, which come last.
    """
    assert endpoint.ipv4
    return [way(to)[0] for to in (endpoint.ipv4.ip, *FAR)]


def take_link(endpoint: Endpoint) -> None:
    """Delete the device of the sandbox this thread is in."""
    del endpoint
    nl.request(RTM_DELLINK, 0, nl.IFINFO.pack(0, 0, links.index_of("eth0"), 0, 0))


def take_address(endpoint: Endpoint) -> None:
    """Delete the IPv4 address there; the kernel takes its routes along."""
    assert endpoint.ipv4
    ip.delete(Address(endpoint.ipv4, "eth0", None, endpoint.sandbox))


def take_host_route(endpoint: Endpoint) -> None:
    """Delete the host's IPv4 route to a container."""
    assert endpoint.ipv4
    shim = Owner.parse("underlay::shim/eth0").device
    source = ip_address("10.64.255.9")
    to = ip_network(endpoint.ipv4.ip)
    ip.delete(Route(to, shim, source=source))


HARMS: dict[str, Callable[[Endpoint], None]] = {
    "a link": take_link,
    "an address": take_address,
    "a host route": take_host_route,
}


def suffer(stage: Stage, service: Served, what: str, times: int) -> Series:
    """Return the milliseconds from each harm until the kernel has all of it again.

    One at a time, some time after the service came to rest.
    """
    found: Series = []
    for _ in range(times):
        victim = random.choice(stage.sandboxes)
        service.calm()
        time.sleep(random.uniform(0, 0.1))
        found.append(_once(victim, what) * 1000)
    return found


def _once(victim: Endpoint, what: str) -> float:
    assert victim.ipv4
    address = victim.ipv4.ip

    def inside() -> float:
        return _until_back(lambda: HARMS[what](victim), lambda: reach(victim))

    if what == "a host route":
        return _until_back(lambda: take_host_route(victim), lambda: way(address))
    return namespaces.run_in(Path(victim.sandbox), inside)


def _until_back(harm: Callable[[], None], look: Callable[[], object]) -> float:
    """Return the seconds from a harm until a look shows what it did before."""
    for _ in range(ATTEMPTS):
        before, began = look(), time.monotonic()
        harm()
        if look() != before:
            break
        # A pass under way has repaired it before it was seen; or there was no harm.
        time.sleep(1)
    else:
        raise RuntimeError("the harm was none")
    while look() != before:
        if time.monotonic() - began > LONGEST_SECONDS:
            raise RuntimeError(f"not repaired within {LONGEST_SECONDS} s")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began


def recover(stage: Stage, service: Served, away: float) -> float:
    """Take the parent away for some seconds; return those until all are back then."""
    service.calm(1.0)
    waiting = {e.sandbox: e for e in stage.sandboxes}
    stage.lose_parent()
    time.sleep(away)
    stage.give_parent()
    began = time.monotonic()
    while waiting:
        back = namespaces.run_in_each(list(waiting), lambda: [way(to)[0] for to in FAR])
        for path, ways in back.items():
            if all(ways):
                del waiting[path]
        if time.monotonic() - began > LONGEST_SECONDS:
            raise RuntimeError(f"{len(waiting)} are not back")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began
