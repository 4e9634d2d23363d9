"""bridge: a veth for each container, the host's end a port of a bridge.

The bridge was made by the administrator, and stays as it is; or the service made it in
the place of a device, which is then a port of it. The host's end has the bridge's own
MAC and MTU, so that the bridge never takes those of a container's port.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from underlay.errors import BadValue, ConflictingOptions, TakeoverNotConfirmed
from underlay.model import Endpoint, Network
from underlay.model.objects import ForwardAccept, Object, SharedOwner
from underlay.modes import child_device, gate, gateway, ipv6, veth
from underlay.modes.gate_rules import BRIDGED
from underlay.modes.options import (
    NETWORK_KEYS,
    PARENT_KEYS,
    Traits,
    always_on,
    check_ipv6_mtu,
    check_known,
    choice,
    mtu,
)
from underlay.modes.parent_sharing import ParentUse

KIND = veth.KIND
OWN_KEYS = ("bridge", "takeover")
NO_YES = ("no", "yes")
# The host's addresses are on the bridge. But a frame to a reserved MAC, such as
# 01:80:c2:00:00:0e, is for the port itself: past all chains of the bridge, a container
# would send the host packets from any address, and router advertisements.
HOST_END = (
    "net/ipv6/conf/*/disable_ipv6=1",
    "net/ipv4/conf/*/drop_unicast_in_l2_multicast=1",
)

endpoint_mac = child_device.endpoint_mac
network_objects = child_device.network_objects
sysctl_reasons = child_device.sysctl_reasons
attachment = child_device.on_segment


def check(network: Network) -> None:
    """Raise unless the options make sense."""
    options = network.options
    check_known(options, (*NETWORK_KEYS, *PARENT_KEYS, *OWN_KEYS), "network")
    given = options.get("bridge")
    for key in PARENT_KEYS:
        if given and options.get(key):
            raise ConflictingOptions(
                first=f"bridge={given}", second=f"{key}={options[key]}"
            )
    if not (given or options.get("parent")):
        need = (
            "expected a bridge of this host. To have one made on a device, use parent="
        )
        raise BadValue(key="bridge", value="", need=need, hint="")
    _check_takeover(options)
    always_on(options, "host_access", "the host is on the bridge itself")
    gateway.check(network, isolated=False)
    check_ipv6_mtu(network, mtu(options))


def _check_takeover(options: Mapping[str, str]) -> None:
    """Raise unless a take-over is asked for by a word that means nothing else.

    What other drivers call mode=bridge is macvlan's, which leaves the device alone.
    Networks that are older than `takeover=` are on record without it.
    """
    asked = choice(options, "takeover", NO_YES) == "yes"
    given = options.get("bridge")
    if given and asked:
        raise ConflictingOptions(first=f"bridge={given}", second="takeover=yes")
    if not given and not asked:
        raise TakeoverNotConfirmed(parent=options["parent"])


def traits(options: Mapping[str, str]) -> Traits:
    """Return the traits of a bridge network: its ports exclude no other network."""
    return Traits(
        ParentUse(""),
        host_objects=True,
        answers_arp=True,
        reserved_gateways=child_device.reserved_gateways(options),
    )


def endpoint_objects(network: Network, endpoint: Endpoint) -> Iterable[Object]:
    """Return the veth, and the rules for bridged frames that iptables sees."""
    bridge = network.uplink.parent
    yield veth.links(network, endpoint, master=bridge, like=bridge, settings=HOST_END)
    for family in ipv6.families(network):
        owner = SharedOwner("port", bridge).owner
        yield ForwardAccept(family, f"-i {bridge} -o {bridge}", owner)
    yield from gate.of_host(network, endpoint, BRIDGED, SharedOwner("gate", bridge))
