"""Settings of the host under /proc/sys: what has to be changed, and how it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from underlay.kernel import links
from underlay.kernel.links import RawLink
from underlay.model import Setting
from underlay.objects import PREFIX, Sysctl

SYSCTLS = Path("/proc/sys")
_LONGEST = 4096  # bytes
_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
_OF_DEVICE = {
    "ipv4": "accept_local accept_redirects accept_source_route arp_announce arp_filter"
    " arp_ignore forwarding log_martians promote_secondaries proxy_arp route_localnet"
    " rp_filter secure_redirects send_redirects shared_media",
    "ipv6": "disable_ipv6 accept_ra accept_ra_defrtr accept_ra_pinfo accept_redirects"
    " autoconf forwarding proxy_ndp use_tempaddr",
}
_REDIRECTS = "net/ipv4/conf/all/accept_redirects"


def read(settings: Iterable[Sysctl]) -> Iterator[Sysctl]:
    """Return what these settings are now; those the kernel does not have are left out.

    Of a device that is gone there is nothing to set or to put back.
    """
    for wanted in settings:
        value = _value(wanted.path)
        if value is not None:
            yield Sysctl(wanted.path, value, wanted.turn, wanted.owner)


def write(setting: Sysctl) -> None:
    """Set it; raises OSError."""
    (SYSCTLS / setting.path).write_text(setting.value)


def needed(reason: str) -> list[Setting]:
    """Return what is to be set for a reason, in order, with how it is now.

    `forwarding/<family>`: forwarding by this host, IP family 4 or 6. Switching it on
    makes the kernel deaf to router advertisements, so a host that gets its default
    route by them is told to hear them all the same first; switching it off sets whether
    redirects are heeded, which is put back after it. `proxy/<device>/<family>`: answers
    on a device for others, without the delay that leaves them the first word.
    `loose/<device>/4`: to hear on a device whom it answers by another.
    """
    what, *rest = reason.split("/")
    family = int(rest[-1])
    match what:
        case "forwarding":
            wanted = _forwarding(family)
        case "proxy":
            wanted = _proxy(rest[0], family)
        case _:
            wanted = _loose(rest[0])
    found = ((path, _value(path), value) for path, value in wanted)
    return [
        Setting(reason, path, before, value, turn)
        for turn, (path, before, value) in enumerate(found)
        if before is not None
    ]


def of_device(device: str) -> Iterator[str]:
    """Return how a device is set where that is not as on any other."""
    for family, keys in _OF_DEVICE.items():
        for key in keys.split():
            value = _value(f"net/{family}/conf/{device}/{key}")
            if value is not None and value != _value(
                f"net/{family}/conf/default/{key}"
            ):
                yield f"net/{family}/conf/*/{key}={value}"


def shows_bridged(family: int) -> bool:
    """Tell whether iptables gets to see what crosses any bridge (br_netfilter)."""
    tool = "iptables" if family == 4 else "ip6tables"
    return _value(f"net/bridge/bridge-nf-call-{tool}") == "1"


def _forwarding(family: int) -> Iterator[tuple[str, str]]:
    if family == 4 and _value(_FORWARDING[4]) == "0":
        yield _REDIRECTS, ""  # first in order, so last when it is put back
    if family == 6:
        for link in links.all_links():
            path = f"net/ipv6/conf/{link.name}/accept_ra"
            if _hears_routers(link) and _value(path) == "1":
                yield path, "2"
    yield _FORWARDING[family], "1"


def _proxy(device: str, family: int) -> Iterator[tuple[str, str]]:
    if family == 6:
        yield f"net/ipv6/conf/{device}/proxy_ndp", "1"
    yield f"net/ipv{family}/neigh/{device}/proxy_delay", "0"


def _loose(device: str) -> Iterator[tuple[str, str]]:
    # The larger of the two counts: 1 is strict, 2 loose, 0 not at all.
    path = "net/ipv4/conf/{}/rp_filter"
    values = {_value(path.format(name)) for name in ("all", device)}
    if "1" in values and "2" not in values:
        yield path.format(device), "2"


def _hears_routers(link: RawLink) -> bool:
    """Tell whether a device may lead to a router: not to containers, ours or others."""
    ours = link.name.startswith(PREFIX) and link.kind != "bridge"
    inward = link.loopback or link.master or ours or link.name.startswith("docker")
    return not (inward or (link.kind == "bridge" and link.name.startswith("br-")))


def _value(path: str) -> str | None:
    try:
        # Dozens are read for each container; a Path would take longer than the kernel.
        with open(f"{SYSCTLS}/{path}", "rb", buffering=0) as file:  # noqa: PTH123
            return file.read(_LONGEST).decode("ascii").strip()
    except OSError:
        return None
