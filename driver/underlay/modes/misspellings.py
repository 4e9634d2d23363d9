"""What other drivers call our options, and the suggestion for each of their words.

Docker's macvlan and ipvlan, Podman (netavark), CNI and nerdctl, Incus, and the plugins
whose guides are still read; and the usual misspellings.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from underlay.errors import did_you_mean

_PARENT, _BRIDGE, _NAT = "parent={}", "bridge={}", "masquerade=on with mode=routed"
_TAG, _MAC = "vlan={}", "--mac-address={} of docker run"
# Compared by letters only: ipvlan-mode, ipvlan.mode and ipvlanMode are one word.
KEYS: Mapping[str, str] = {
    "hostiface": _PARENT,  # the first macvlan plugins
    "hostinterface": _PARENT,
    "master": _PARENT,  # CNI, and ip link for VLANs
    "interface": _PARENT,
    "interfacename": _PARENT,  # Podman
    "networkinterface": _PARENT,
    "iface": _PARENT,
    "device": _PARENT,
    "dev": _PARENT,
    "nic": _PARENT,
    "link": _PARENT,
    "uplink": _PARENT,
    "parentinterface": _PARENT,
    "vlanid": _TAG,  # CNI
    "vlantag": _TAG,
    "tag": _TAG,
    "bridgename": _BRIDGE,
    "br": _BRIDGE,
    "ipvlanflags": "ipvlan_flag={}",
    "flag": "ipvlan_flag={}",
    "nictype": "mode={}",  # Incus
    "type": "mode={}",
    "driver": "mode={}",
    "ipmasq": _NAT,  # CNI
    "masq": _NAT,
    "nat": _NAT,
    "nodefaultroute": "default_route=no",  # netavark
    "isolated": "--internal of docker network create",
    "internal": "--internal of docker network create",
    "subnet": "--subnet={} of docker network create",
    "iprange": "--ip-range={} of docker network create",
    "mac": _MAC,
    "macaddress": _MAC,
    "hwaddr": _MAC,  # Incus
    "ip": "--ip={} of docker run",
    "ipaddress": "--ip={} of docker run",
    # docker-net-dhcp
    "releaselease": "hold=<seconds>",
    "propagatemtu": "mtu=<bytes>",
    "propagatedns": "--dns=<address> of docker run",
}
# Options of docker-net-dhcp that nothing here needs, and why.
NOT_NEEDED: Mapping[str, str] = {
    "ignoreconflicts": "several networks may use one bridge",
    "skiproutes": "no routes of the host are copied, and route= adds routes",
    "validatedhcp": "a network needs no server when it is created",
    "conflictcheck": "an address that its server has not tried is asked for first",
    "hostifname": "the host's end of a veth has the name of the container",
    "auditlog": "`underlay history` has every address",
}
# What other drivers have after `mode=`: usually the mode of a kind of device.
MODES: Mapping[str, str] = {
    "l2": "ipvlan_mode=l2",
    "l3": "ipvlan_mode=l3",
    "l3s": "ipvlan_mode=l3s",
    "private": "macvlan_mode=private",
    "vepa": "macvlan_mode=vepa",
    "passthru": "macvlan_mode=passthru",
    "passthrough": "macvlan_mode=passthru",
    "unmanaged": "bridge=<name>",  # netavark
    "physical": "macvlan_mode=passthru",  # Incus
    "p2p": "mode=routed",
    "ptp": "mode=routed",
    "route": "mode=routed",
    "nat": _NAT,  # Docker's bridge
}


def key_meant(key: str, value: str, known: Collection[str]) -> str:
    """Return what to write for an unknown key, "" without a suggestion.

    It begins with a space: ` Did you mean ...?` or ` Leave it out: ...`. A value with
    characters that no name has in Docker is not repeated.
    """
    said = value if re.fullmatch(r"[\w.:/-]{1,64}", value, re.ASCII) else "..."
    letters = _letters(key)
    alike = [ours for ours in known if _letters(ours) == letters]
    if alike:
        return f" Did you mean {alike[0]!r}?"
    if letters in KEYS:
        return f" Did you mean {KEYS[letters].format(said)!r}?"
    if letters in NOT_NEEDED:
        return f" Leave it out: {NOT_NEEDED[letters]}."
    return did_you_mean(key, known)


def mode_meant(word: str, known: Collection[str], key: str = "mode") -> str:
    """Return ` Did you mean ...?` for an unknown mode, "" without a suggestion."""
    letters = _letters(word)
    if key.startswith("ipvlan") and letters in ("bridge", "private", "vepa"):
        return f" Did you mean 'ipvlan_flag={letters}'?"
    if letters in known:
        return f" Did you mean {letters!r}?"
    kind, _, flavour = letters.partition("vlan")  # macvlan_bridge, ipvlan-l3
    meant = MODES.get(letters) or (
        MODES.get(flavour) if kind in ("mac", "ip") else None
    )
    return f" Did you mean {meant!r}?" if meant else did_you_mean(word, known)


def _letters(word: str) -> str:
    return re.sub(r"[-_. ]", "", word.lower())
