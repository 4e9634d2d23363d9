"""Whether the host routes for other machines because of the driver."""

from __future__ import annotations

from collections.abc import Iterator

from underlay.doctor.examined import Examined
from underlay.doctor.finding import Finding
from underlay.model.ruleset import Packet
from underlay.networks.forwarding import is_switched_on

_DEFAULT_GROUP = 0
# A device that no rule names.
_ANOTHER = "-"


def unfiltered(host: Examined) -> Iterator[Finding]:
    """Find forwarding that the driver switched on and that no chain limits.

    Docker sets the policy of FORWARD to DROP only if Docker switched it on.
    """
    if host.records is None:
        return
    noted = filter(is_switched_on, host.records.host.sysctls())
    families = sorted({setting.reason.family for setting in noted})
    chains = host.kernel.forward_chains() if families else []
    for family in families:
        path = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}[family]
        uplink = host.kernel.default_device() or _ANOTHER
        foreign = Packet(
            family, "new", reads=uplink, leaves=_ANOTHER,
            from_group=_DEFAULT_GROUP, to_group=_DEFAULT_GROUP,
        )  # fmt: skip
        is_open = not any(chain.blocks(foreign) for chain in chains)
        if host.sysctl(path) == "1" and is_open:
            yield Finding(
                "failure",
                "host",
                f"IPv{family} forwarding was switched on for containers, and nothing"
                " limits it to them",
                "the host routes between all its networks, for any machine: the policy"
                " of FORWARD is ACCEPT, and the driver's chain is missing",
                "underlay reconcile makes the chain again; nft must be installed. If"
                " this host may route for all, set the sysctl in /etc/sysctl.d",
            )
