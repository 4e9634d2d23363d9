"""bridge: a pair of devices for each container, the host's end a port of a bridge.

The bridge is somebody else's, and stays as it is; or it is one of ours in the place of
a device, which is a port of it. The port has the bridge's own MAC and MTU, so that the
bridge never takes those of a port of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from underlay.errors import BadValue, ConflictingOptions, MacTaken, TakeoverNotConfirmed
from underlay.model import Endpoint, Network
from underlay.model.objects import ForwardAccept, Object, SharedOwner
from underlay.modes import child_device as child
from underlay.modes import gateway
from underlay.modes import options as read
from underlay.modes import veth as pair
from underlay.modes.parent_sharing import ParentUse

KIND = pair.KIND
HOST_PREFIX = False
OWN_KEYS = ("bridge", "takeover")
NO_YES = ("no", "yes")
PARENT_KEYS = ("parent", "vlan")
# No link-local address on the port: the host is on the bridge, not on it.
HOST_END = ("net/ipv6/conf/*/addr_gen_mode=1",)

check_endpoint = pair.check_endpoint
check_capacity = pair.check_capacity
has_host_objects = pair.has_host_objects
reserves_gateway = child.reserves_gateway
answers_arp = child.answers_arp
filters = child.filters
sysctl_reasons = child.sysctl_reasons
attachment = child.on_segment


def check(network: Network) -> None:
    """Raise unless the options make sense."""
    options = network.options
    keys = (*pair.NETWORK_KEYS, *PARENT_KEYS, *OWN_KEYS)
    read.check_known(options, keys, "network")
    given = options.get("bridge")
    for key in PARENT_KEYS:
        if given and options.get(key):
            raise ConflictingOptions(
                first=f"bridge={given}", second=f"{key}={options[key]}"
            )
    if not (given or options.get("parent")):
        need = "a bridge of this host; or name a device to be made one with parent="
        raise BadValue(key="bridge", value="", need=need, hint="")
    _check_takeover(options)
    read.always_on(options, "host_access", "the host is on the bridge itself")
    gateway.check(network, isolated=False)
    read.check_ipv6_mtu(network, read.mtu(options))


def _check_takeover(options: Mapping[str, str]) -> None:
    """Raise unless a device is to be taken over by a word that means nothing else.

    What other drivers call mode=bridge is macvlan's, which leaves the device alone.
    Networks from before that word are on record without it.
    """
    asked = read.choice(options, "takeover", NO_YES) == "yes"
    given = options.get("bridge")
    if given and asked:
        raise ConflictingOptions(first=f"bridge={given}", second="takeover=yes")
    if not given and not asked:
        raise TakeoverNotConfirmed(parent=options["parent"])


def seat(options: Mapping[str, str]) -> ParentUse:
    """Return how the network sits on the bridge: a port is in nobody's way."""
    del options
    return ParentUse("")


def endpoint_mac(
    network: Network, endpoint: Endpoint, parent_mac: str, derived: str
) -> str:
    """Return the MAC asked for, else the derived one; raises MacTaken."""
    if endpoint.mac == parent_mac:
        holder = f"{network.parent_label} itself has it"
        raise MacTaken(mac=endpoint.mac, parent=network.parent_label, holder=holder)
    return endpoint.mac or derived


def network_objects(network: Network) -> Iterable[Object]:
    """Return nothing: the bridge is there."""
    del network
    return ()


def endpoint_objects(network: Network, endpoint: Endpoint) -> Iterable[Object]:
    """Return the pair, and leave for frames that iptables gets to see on their way."""
    bridge = network.parent
    yield pair.links(network, endpoint, master=bridge, like=bridge, settings=HOST_END)
    for family in network.families:
        owner = SharedOwner("port", bridge).owner
        yield ForwardAccept(family, f"-i {bridge} -o {bridge}", owner)
