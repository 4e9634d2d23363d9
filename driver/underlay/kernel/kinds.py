"""What a kind of link takes at its birth, in pyroute2's words."""

from __future__ import annotations

from typing import Any

from pyroute2.netlink import nla
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from underlay.kernel import links
from underlay.objects import Link


def register() -> None:
    """Teach pyroute2 the kinds it does not know well enough."""
    ifinfmsg.ifinfo.register_link_kind(module={"ipvlan": _IpvlanData})


class _IpvlanData(nla):  # type: ignore[misc]  # pyroute2 has no types
    """What IFLA_INFO_DATA of an ipvlan link carries: pyroute2 drops the flags."""

    prefix = "IFLA_"
    nla_map = (
        ("IFLA_IPVLAN_UNSPEC", "none"),
        ("IFLA_IPVLAN_MODE", "uint16"),
        ("IFLA_IPVLAN_FLAGS", "uint16"),
    )


def spec(link: Link) -> dict[str, Any]:
    """Return what the kind of a link takes, in pyroute2's words."""
    spec: dict[str, Any] = {"kind": link.kind}
    if link.vlan:
        spec["vlan_id"] = link.vlan
    if link.kind == "ipvlan":
        spec["ipvlan_mode"] = _code(links.MODES["ipvlan"], link.flavour)
        spec["ipvlan_flags"] = _code(links.IPVLAN_FLAGS, link.flag)
    elif link.flavour:
        spec[f"{link.kind}_mode"] = link.flavour
    return spec


def _code(names: dict[int, str], name: str | None) -> int:
    return next(code for code, known in names.items() if known == name)
