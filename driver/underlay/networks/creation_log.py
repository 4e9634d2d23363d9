"""What the log says of a new network: what its containers lack, and what is open."""

from __future__ import annotations

import logging

from underlay.model import Network
from underlay.modes import lacking_gateway, withholds_way_out
from underlay.modes.port_policy import POLICY

log = logging.getLogger(__name__)

# Docker's name server in a container forwards from inside the container. From engine 28
# on it asks the host's name servers only if a network gives a default route.
NAMES = (
    "this network gives no default route: a container on this network alone resolves"
    " outside names only with --dns and a name server on the segment"
)
NO_GATEWAY = (
    "no --gateway is given and the host has no router in this subnet: containers get no"
    " default route by it"
)
NO_ADDRESSES = (
    "containers get no address: --ipam-driver null gives none without -o source=dhcp"
)
OPEN = (
    "no policy is given, so it is open: every port that a container listens on can be"
    " reached (docs/policy.md)"
)


def log_created(network: Network, *, is_new: bool) -> None:
    """Log a network as it is on record; `is_new`: it was not there before."""
    about = {"network": network.id[:12]}
    log.info("network created", extra=about)
    if is_new and not network.options.get(POLICY):
        log.info(OPEN, extra=about)
    if not network.subnets:
        log.warning(NO_ADDRESSES, extra=about)
    for subnet in lacking_gateway(network):
        log.warning(NO_GATEWAY, extra={**about, "subnet": subnet})
    if withholds_way_out(network):
        log.warning(NAMES, extra=about)
