"""Every refusal this program makes on purpose: a stable id, one text, an HTTP status.

    UnderlayError
    ├── Invalid (400)     the request itself must change
    ├── Conflict (409)    the request contradicts what is on record or in use
    ├── Unavailable (500) this host cannot do it now
    └── UnknownMethod (404), WrongVerb (405), IncompleteRequest (408), TooLarge (413):
        not a request this program can answer

404 is kept for unknown methods alone: libnetwork reads it as "not implemented".
The ids are explained one by one in docs/errors.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class UnderlayError(Exception):
    """Base of all; `text` is formatted with the facts given by name."""

    id: ClassVar[str] = ""
    status: ClassVar[int] = 500
    text: ClassVar[str] = ""

    def __init__(self, **facts: object) -> None:
        super().__init__(f"{self.id} {self.text.format(**facts)}")
        self.facts = facts


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest known word, or nothing."""
    near = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


class Invalid(UnderlayError):
    """The caller must change the request."""

    status = 400


class Conflict(UnderlayError):
    """The request contradicts what is on record or in use."""

    status = 409


class Unavailable(UnderlayError):
    """The host, or this program on it, cannot do it now."""


class UnknownOption(Invalid):
    id = "E-100"
    text = "unknown {what} option {key!r}.{hint} Known here: {known}."


class BadValue(Invalid):
    id = "E-101"
    text = "{key}={value!r} is not valid: {need}.{hint}"


class UnknownMode(Invalid):
    id = "E-102"
    text = "mode {mode!r} is not one this version has.{hint} Modes: {known}."


class NotSupportedYet(Invalid):
    id = "E-103"
    text = "{what} is not part of this version. {instead}"


class ConflictingOptions(Invalid):
    id = "E-104"
    text = "{first} and {second} contradict each other. Keep one of them."


class MtuTooBig(Invalid):
    id = "E-105"
    text = (
        "mtu {mtu} is more than the {most} of parent {parent}: frames that big cannot"
        " leave it. Use at most {most}, or raise the MTU of {parent} first."
    )


class MtuTooSmall(Invalid):
    id = "E-106"
    text = (
        "mtu {mtu} is too small for IPv6, which needs 1280: the kernel would switch"
        " IPv6 off. Use 1280 or more, or a network without IPv6."
    )


class NeedsUnderlayIpam(Invalid):
    id = "E-107"
    text = (
        "mode routed gives each container an address that stands alone (a /32 or"
        " /128), and the IPAM that manages {subnet} gives it the length of the subnet."
        " Add --ipam-driver underlay."
    )


class GatewayTaken(Conflict):
    id = "E-108"
    text = (
        "gateway {gateway} of a routed network is an address this host takes for"
        " itself, and {holder}: the two would lose each other. Give the network a"
        " subnet of its own, or cut a block out of the LAN's that does not hold"
        " {gateway}; a gateway outside of both will do (-o gateway=169.254.1.1)."
    )


class RoutedSubnetOnHost(Conflict):
    id = "E-116"
    text = (
        "subnet {subnet} of a routed network is what the host's own {address} is in:"
        " addresses of it that no container has would lead nowhere, the router's among"
        " them. Use a subnet of its own, or a block cut out of that one."
    )


class NotWithRouted(Invalid):
    id = "E-109"
    text = "{option} does not go with mode=routed: {why}."


class NeedsRouted(Invalid):
    id = "E-115"
    text = "{option} is for mode routed, and the mode is macvlan. Add -o mode=routed."


class Overlap(Conflict):
    id = "E-110"
    text = (
        "subnet {subnet} overlaps {other}, held by {holder} in domain {domain!r}. Ask"
        " for {other} itself to share it, or name another wire with"
        " --ipam-opt domain=<word>."
    )


class NoSubnet(Invalid):
    id = "E-111"
    text = (
        "no IPv{family} subnet given: a container on the real network needs the subnet"
        " of that network, and Docker tells an IPAM driver nothing it could be guessed"
        " from. Add --subnet, for example --subnet {example}."
    )


class BadSubnet(Invalid):
    id = "E-112"
    text = "subnet {subnet!r} cannot be used: {why}.{hint}"


class BadRange(Invalid):
    id = "E-113"
    text = "ip-range {range!r} cannot be used with subnet {subnet}: {why}."


class UnknownPool(Conflict):
    id = "E-114"
    text = (
        "pool {pool!r} is not on record. Docker remembers a network whose records are"
        " gone from this host. They are rebuilt as soon as Docker's own list is read:"
        " try again in a few seconds. If this stays, the log of underlay says why:"
        " restore {path}, or remove the network and create it again."
    )


class MixedChildTypes(Conflict):
    id = "E-120"
    text = (
        "{parent} carries {kind} children ({who}): the kernel allows macvlan or ipvlan"
        " on one parent, not both. Use mode={kind}, or another parent."
    )


class PassthruTaken(Conflict):
    id = "E-121"
    text = (
        "macvlan_mode=passthru gives all of {parent} to one network, and {other} is on"
        " it{how}. Use another parent, or macvlan_mode=bridge for both."
    )


class PassthruFull(Conflict):
    id = "E-122"
    text = (
        "network {network} is macvlan_mode=passthru: it serves one container, and"
        " endpoint {endpoint} has it. Stop that one first, or use macvlan_mode=bridge."
    )


class NoParent(Invalid):
    id = "E-123"
    text = "parent {parent!r} is not a device of this host.{hint} Devices: {known}."


class BadParent(Invalid):
    id = "E-124"
    text = "parent {parent!r} cannot carry containers: {why}. Devices: {known}."


class NoDefaultRoute(Invalid):
    id = "E-125"
    text = (
        "parent=auto means the device of the default route, and this host has no"
        " default route. Name the device: -o parent=<device>. Devices: {known}."
    )


class KernelLacks(Invalid):
    id = "E-126"
    text = "this kernel has no {module}, which {what} needs: {instead}."


class OtherIpvlanMode(Conflict):
    id = "E-127"
    text = (
        "{parent} carries ipvlan children with {theirs} ({who}): the kernel keeps mode"
        " and flag on the parent, and {mine} would change them for every container"
        " there. Use {theirs}, or another parent (a VLAN of it is one: -o"
        " vlan=<number>)."
    )


class BadBridge(Invalid):
    id = "E-128"
    text = "bridge {bridge!r} cannot be plugged into: {why}.{hint} Bridges: {known}."


class BridgeFiltered(Invalid):
    id = "E-129"
    text = (
        "bridge {bridge} drops what containers send across it: {why}, and no rule lets"
        " it pass. Add one ({tool} -I FORWARD -i {bridge} -o {bridge} -j ACCEPT), or"
        " keep bridged frames from it (sysctl -w {setting}=0)."
    )


class TakeoverImpossible(Conflict):
    id = "E-150"
    text = (
        "{parent} cannot become a port of a bridge made by underlay: {why}. Let the"
        " host's own network configuration make a bridge with {parent} in it, and use"
        " -o bridge=<name>; or use mode=macvlan."
    )


class TakeoverFailed(Unavailable):
    id = "E-151"
    text = (
        "{parent} was not taken over: {why}. Addresses and routes are back on {parent},"
        " as they were. Try again. If it happens again, something on the segment"
        " rejects the bridge (port security or a BPDU guard, for example): use -o"
        " bridge=<name> with a bridge of your own, or mode=macvlan."
    )


class TakeoverNotConfirmed(Invalid):
    id = "E-152"
    text = (
        "mode=bridge with parent={parent} makes a bridge of underlay in the place of"
        " {parent}, and moves the host's own addresses and routes from {parent} to it."
        " If that bridge is there already, this network joins it, and nothing moves."
        " If that is what you want, add -o takeover=yes. Other drivers mean macvlan"
        " by mode=bridge: each container gets a device of its own on {parent}, and the"
        " host keeps its addresses there. For that, leave mode=bridge out, or use -o"
        " macvlan_mode=bridge."
    )


class UnknownNetwork(Conflict):
    id = "E-130"
    text = (
        "network {network} is not on record here. If Docker lists it, its record was"
        " lost, and is rebuilt as soon as Docker's own list is read: try again in a few"
        " seconds. If this stays, the log of underlay says what is in the way."
    )


class UnknownEndpoint(Conflict):
    id = "E-131"
    text = (
        "endpoint {endpoint} is not on record here. Restart the container: a start"
        " makes a new one."
    )


class NetworkDiffers(Conflict):
    id = "E-132"
    text = (
        "network {network} is on record with other settings ({field} was {was}, now"
        " {now}). Remove it first: docker network rm."
    )


class EndpointDiffers(Conflict):
    id = "E-133"
    text = (
        "endpoint {endpoint} is on record with other settings ({field} was {was}, now"
        " {now}). Docker makes a new endpoint for every start; this one is not new."
    )


class RouteConflict(Conflict):
    id = "E-134"
    text = (
        "network {network} and network {other} both have a route to {destination}, and"
        " the container is connected to {other} already. The kernel keeps only one such"
        " route in a container. Give one of the two networks another gateway, or"
        " disconnect the container from {other} first."
    )


class AddressTaken(Conflict):
    id = "E-140"
    text = (
        "{address} is taken: {holder}. Choose another address, or free that one first"
        " (underlay history {address} shows who had it)."
    )


class PoolExhausted(Conflict):
    id = "E-141"
    text = (
        "no address is left in {span}: {live} live, {reserved} reserved ({gateway}"
        " gateway, {aux} aux) of {size}. Stop a container, or use a larger --ip-range"
        " or --subnet."
    )


class OutsideSubnet(Invalid):
    id = "E-142"
    text = "{address} is not in {subnet}. Choose an address from {first} to {last}."


class UnusableAddress(Invalid):
    id = "E-143"
    text = (
        "{address} is the {what} address of {subnet}. Choose an address from {first}"
        " to {last}."
    )


class MacTaken(Conflict):
    id = "E-144"
    text = (
        "MAC {mac} is taken on {parent}: {holder}. Two devices with one MAC on a wire"
        " lose each other's frames; choose another --mac-address, or none."
    )


class BadMac(Invalid):
    id = "E-145"
    text = "MAC {mac!r} cannot be used: {why}."


class AddressNotAllocated(Conflict):
    id = "E-146"
    text = (
        "{address} was not given out for a new container of network {network}: the"
        " records were lost or restored while Docker remembered it. Start the container"
        " again; if that does not help, create the network again."
    )


class Malformed(Invalid):
    id = "E-300"
    text = "{method}: the request cannot be understood: {why}."


class EmptyBody(Invalid):
    id = "E-301"
    text = (
        "{method}: the request has no body. Docker sends this when the reply to its"
        " first try was lost; nothing was done this time. Try the command again."
    )


class UnknownMethod(UnderlayError):
    id = "E-302"
    status = 404
    text = "{method!r} is not a method of this plugin."


class WrongVerb(UnderlayError):
    id = "E-303"
    status = 405
    text = "{method!r} takes {allowed} requests only."


class TooLarge(UnderlayError):
    id = "E-304"
    status = 413
    text = "{method}: the request is larger than {limit} bytes."


class IncompleteRequest(UnderlayError):
    id = "E-305"
    status = 408
    text = "{method}: the request stopped half-way ({why}); nothing was done."


class KernelRefused(Unavailable):
    id = "E-400"
    text = "the kernel refused `{step}`: {why}.{hint}"


class DeviceInUse(KernelRefused):
    id = "E-401"
    text = (
        "`{step}` is not done: a container stands on {device}, and no endpoint on"
        " record accounts for it. The records may have been lost or replaced by older"
        " ones; then they are rebuilt as soon as Docker answers. If Docker does not"
        " list the container, remove it."
    )


class WouldChangeIpvlanMode(KernelRefused):
    id = "E-402"
    text = (
        "`{step}` is not done: {parent} carries the ipvlan child {child}, not of"
        " underlay, in mode {mode}, and the kernel would switch that one too. Remove"
        " it, or have it made in the mode of the network."
    )


class RepairReverted(Unavailable):
    id = "E-403"
    text = (
        "something keeps undoing `{step}`: underlay repaired it {times} times in quick"
        " succession and repairs it less often from now on. See `underlay history"
        " --repairs`, find the program that undoes it, and stop that program; or set"
        " repair=off for the network or the endpoint."
    )


class ForwardingUnfiltered(KernelRefused):
    id = "E-404"
    text = (
        "this host does not forward {family}. underlay switches forwarding on only"
        " behind an nftables chain that keeps the host from routing for anything but"
        " containers. `{step}` was not run: {why}. Install the package nftables if the"
        " program nft is missing. If the host may route for everybody, switch"
        " forwarding on yourself: sysctl -w {setting}=1"
    )


class InternalError(Unavailable):
    id = "E-500"
    text = (
        "an error inside underlay ({kind}), which is a bug. The log has it under"
        " ref={ref}; please report it with those lines."
    )


class RecordsDamaged(Unavailable):
    id = "E-501"
    text = (
        "the records in {path} are damaged ({why}). The file is left as it is, and"
        " running containers keep their network. Restore a copy of it (the newest is"
        " beside it if there was an upgrade: {path}.v*), or move it away to start with"
        " none: mv {path} {path}.damaged"
    )


class RecordsTooNew(Unavailable):
    id = "E-502"
    text = (
        "the records in {path} were written by a newer underlay (version {found}, this"
        " one knows {known}). Install that underlay again, or restore {path}.v{known}."
    )


class RecordsTooOld(Unavailable):
    id = "E-509"
    text = (
        "the records in {path} were written by an older underlay (version {found}, this"
        " one reads {known}). Start the service, or restart it if it runs; it brings"
        " them up to date."
    )


class AlreadyRunning(Unavailable):
    id = "E-503"
    text = (
        "another underlay{pid} works on {path}: two would take each other's socket."
        " Stop that one first."
    )


class RecordsUnwritable(Unavailable):
    id = "E-504"
    text = (
        "the records in {path} cannot be written ({why}). Nothing was changed. Free"
        " disk space or mend the file system, then try again."
    )


class RecordsBusy(RecordsUnwritable):
    id = "E-510"
    text = (
        "the records in {path} are held by another process for more than {seconds} s"
        " ({why}). Nothing was changed. See which one it is (fuser -v {path}), end it,"
        " then try again."
    )


class BadSettings(Invalid):
    id = "E-505"
    text = "{where}: {why}.{hint}"


class NoRecords(Unavailable):
    id = "E-506"
    text = (
        "there are no records in {path}: underlay has not run with this state"
        " directory. Start it (underlay serve), or set UNDERLAY_STATE_DIR."
    )


class NotFound(Invalid):
    id = "E-507"
    text = "no {kind} {name!r} on record.{hint} On record: {known}."


class NotAllowed(Unavailable):
    id = "E-508"
    text = "{what} needs more rights ({why}). Run it as root: sudo underlay ..."
