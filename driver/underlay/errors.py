"""Every refusal this program makes on purpose: a stable id, one text, an HTTP status.

    UnderlayError
    ├── Invalid (400)     the request itself must change
    ├── Conflict (409)    the request contradicts what is on record or in use
    ├── Unavailable (500) this host cannot do it now
    └── UnknownMethod (404), WrongVerb (405), IncompleteRequest (408), TooLarge (413),
        ForeignHost (421): not a request this program can answer

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
    text = "unknown {what} option {key!r}.{hint} Known options: {known}."


class BadValue(Invalid):
    id = "E-101"
    text = "{key}={value!r} is not valid: {need}.{hint}"


class UnknownMode(Invalid):
    id = "E-102"
    text = "unknown mode {mode!r}.{hint} Modes: {known}."


class ConflictingOptions(Invalid):
    id = "E-104"
    text = "{first} and {second} cannot be combined. Keep one of them."


class MtuTooBig(Invalid):
    id = "E-105"
    text = (
        "mtu {mtu} is larger than the MTU of parent {parent}, which cannot send"
        " frames of more than {most} bytes. Use at most {most}, or raise the MTU of"
        " {parent} first."
    )


class MtuTooSmall(Invalid):
    id = "E-106"
    text = (
        "mtu {mtu} is too small for IPv6: below 1280 the kernel switches IPv6 off on"
        " the device. Use 1280 or more, or a network without IPv6."
    )


class NeedsUnderlayIpam(Invalid):
    id = "E-107"
    text = (
        "mode=routed needs the IPAM driver underlay: a routed container has a single"
        " address (/32 or /128), and the IPAM driver that manages {subnet} gives"
        " addresses with the prefix length of the subnet. Add --ipam-driver underlay."
    )


class GatewayTaken(Conflict):
    id = "E-108"
    text = (
        "gateway {gateway} cannot be used: {holder}, and in a routed network the host"
        " itself takes the address of the gateway. Use another subnet, or a part of"
        " the LAN's subnet that does not contain {gateway}, or a gateway outside both"
        " (-o gateway=169.254.1.1)."
    )


class RoutedSubnetOnHost(Conflict):
    id = "E-116"
    text = (
        "subnet {subnet} cannot be routed to containers: the host is in it with"
        " {address}, and would lose its route to all addresses there that no container"
        " has, including the router's. Use another subnet, or a part of this one that"
        " contains neither the host nor the router."
    )


class NotWithRouted(Invalid):
    id = "E-109"
    text = "{option} cannot be used with mode=routed: {why}."


class NeedsRouted(Invalid):
    id = "E-115"
    text = (
        "{option} needs mode=routed, and this network is macvlan. Add -o mode=routed,"
        " or leave {option} out."
    )


class Overlap(Conflict):
    id = "E-110"
    text = (
        "subnet {subnet} overlaps {other}, which {holder} uses in domain {domain!r}."
        " To share that pool, use --subnet {other}. If the two are different networks"
        " with the same addresses, add --ipam-opt domain=<name>."
    )


class NoSubnet(Invalid):
    id = "E-111"
    text = (
        "no IPv{family} subnet given: a container on the real network needs the"
        " subnet of that network, and Docker gives an IPAM driver nothing to derive it"
        " from. Add --subnet, for example --subnet {example}.{hint}"
    )


class BadSubnet(Invalid):
    id = "E-112"
    text = "subnet {subnet!r} cannot be used: {why}.{hint}"


class BadRange(Invalid):
    id = "E-113"
    text = "--ip-range {range!r} cannot be used with subnet {subnet}: {why}."


class UnknownPool(Conflict):
    id = "E-114"
    text = (
        "pool {pool!r} is not on record: Docker knows the network, and the records on"
        " this host do not. underlay rebuilds the records as soon as it can read"
        " Docker's list of networks. Try again in a few seconds. If the error stays,"
        " the log of underlay gives the reason. Restore {path}, or remove the network"
        " and create it again."
    )


class MixedChildTypes(Conflict):
    id = "E-120"
    text = (
        "{parent} has {kind} devices already ({who}), and the kernel allows either"
        " macvlan or ipvlan on one parent, not both. Use mode={kind}, or another"
        " parent."
    )


class PassthruTaken(Conflict):
    id = "E-121"
    text = (
        "macvlan_mode=passthru gives all of {parent} to one network, and {other} uses"
        " it{how}. Use another parent, or macvlan_mode=bridge for both."
    )


class PassthruFull(Conflict):
    id = "E-122"
    text = (
        "network {network} has macvlan_mode=passthru, which serves one container, and"
        " endpoint {endpoint} uses it already. Stop that container first, or use"
        " macvlan_mode=bridge."
    )


class NoParent(Invalid):
    id = "E-123"
    text = "device {parent!r} does not exist on this host.{hint} Devices: {known}."


class BadParent(Invalid):
    id = "E-124"
    text = "parent {parent!r} cannot be used: {why}. Devices: {known}."


class NoDefaultRoute(Invalid):
    id = "E-125"
    text = (
        "parent=auto uses the device of the default route, and this host has no"
        " default route. Name the device: -o parent=<device>. Devices: {known}."
    )


class KernelLacks(Invalid):
    id = "E-126"
    text = "this kernel has no {module}, which {what} needs: {instead}."


class OtherIpvlanMode(Conflict):
    id = "E-127"
    text = (
        "{parent} has ipvlan devices with {theirs} ({who}), and {mine} would change"
        " all of them: the kernel keeps one mode and flag for each parent. Use"
        " {theirs}, or another parent (a VLAN on {parent} is one: -o vlan=<number>)."
    )


class BadBridge(Invalid):
    id = "E-128"
    text = "bridge {bridge!r} cannot be used: {why}.{hint} Bridges: {known}."


class BridgeFiltered(Invalid):
    id = "E-129"
    text = (
        "bridge {bridge} drops the traffic between its ports: {why}, and no firewall"
        " rule accepts it. Add a rule ({tool} -I FORWARD -i {bridge} -o {bridge} -j"
        " ACCEPT), or exempt bridged traffic from the firewall (sysctl -w"
        " {setting}=0)."
    )


class TakeoverImpossible(Conflict):
    id = "E-150"
    text = (
        "{parent} cannot become a port of a bridge made by underlay: {why}. Create a"
        " bridge with {parent} in it in the network configuration of the host, and use"
        " -o bridge=<name>; or use mode=macvlan."
    )


class TakeoverFailed(Unavailable):
    id = "E-151"
    text = (
        "{parent} was not taken over: {why}. Addresses and routes are back on"
        " {parent}. Try again. If it happens again, a device on the segment is"
        " probably rejecting the bridge (port security, BPDU guard): use -o"
        " bridge=<name> with a bridge of your own, or mode=macvlan."
    )


class TakeoverNotConfirmed(Invalid):
    id = "E-152"
    text = (
        "mode=bridge with parent={parent} makes a bridge in the place of {parent},"
        " and moves the host's own addresses and routes from {parent} to it. If that"
        " bridge exists already, this network joins it, and nothing moves. If you want"
        " this, add -o takeover=yes. If you want macvlan, where each container has a"
        " device of its own on {parent} and the host keeps its addresses there, leave"
        " mode=bridge out, or use -o macvlan_mode=bridge."
    )


class UnknownNetwork(Conflict):
    id = "E-130"
    text = (
        "network {network} is not on record. If Docker lists it, its record was lost,"
        " and underlay rebuilds it as soon as it can read Docker's list of networks."
        " Try again in a few seconds. If the error stays, the log of underlay gives"
        " the reason."
    )


class UnknownEndpoint(Conflict):
    id = "E-131"
    text = (
        "endpoint {endpoint} is not on record. Restart the container: each start"
        " makes a new endpoint."
    )


class NetworkDiffers(Conflict):
    id = "E-132"
    text = (
        "network {network} is on record with other settings ({field} was {was}, now"
        " {now}). Remove it first: docker network rm {network}"
    )


class EndpointDiffers(Conflict):
    id = "E-133"
    text = (
        "endpoint {endpoint} is on record with other settings ({field} was {was}, now"
        " {now}). Start the container again: each start makes a new endpoint."
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
    text = "{address} is taken: {holder}. Choose another address{or_free}."


class PoolExhausted(Conflict):
    id = "E-141"
    text = (
        "no address is left in {span}: of {size}, {live} in use, {reserved} reserved"
        " ({gateway} gateway, {aux} aux){foreign}{kept}. Stop a container, or create"
        " the network with a larger --ip-range or --subnet."
    )


class OutsideSubnet(Invalid):
    id = "E-142"
    text = "{address} is not in {subnet}. Choose an address from {first} to {last}."


class UnusableAddress(Invalid):
    id = "E-143"
    text = (
        "{address} is the {what} address of {subnet}, which no host may have. Choose"
        " an address from {first} to {last}."
    )


class MacTaken(Conflict):
    id = "E-144"
    text = (
        "MAC {mac} is taken on {parent}: {holder}. Two devices with one MAC on a"
        " segment lose each other's frames. Choose another --mac-address, or leave it"
        " out."
    )


class BadMac(Invalid):
    id = "E-145"
    text = "MAC {mac!r} cannot be used: {why}."


class AddressInUse(Conflict):
    id = "E-167"
    text = (
        "{address} is in use on the network: {holder} has it, seen first {since}."
        " {way_out}"
    )


class SuffixTaken(Conflict):
    id = "E-172"
    text = (
        "suffix={suffix} is taken: container {other} of network {network} on {parent}"
        " has it, and both would make the same IPv6 addresses. Choose another suffix,"
        " or stop that container."
    )


class NoDhcpServer(Unavailable):
    id = "E-160"
    text = (
        "no DHCP server gave an address on {device}: {asked} in {seconds:.0f} s"
        " ({heard}). {way_out}"
    )


class UnusableOffer(Unavailable):
    id = "E-161"
    text = (
        "the DHCP server {server} offers {address}, which cannot be used: {why}. Change"
        " what that server gives out."
    )


class OtherAddressGiven(Conflict):
    id = "E-162"
    text = (
        "{asked} was asked for, and the DHCP server {server} gives {address} instead."
        " Reserve the address in that server for the MAC {mac}, or leave the address"
        " out."
    )


class ServerGoesByMac(Conflict):
    id = "E-163"
    text = (
        "the DHCP server {server} gives container {container} the address {address},"
        " which container {other} has: it goes by the MAC only, and in mode ipvlan all"
        " containers have that of {device}. Use macvlan, or a server that goes by"
        " client ids."
    )


class LeaseRefused(Conflict):
    id = "E-164"
    text = (
        "the DHCP server {server} does not give {address} to the MAC {mac}, and Docker"
        " names the MAC only after it has got the address. Start the container again:"
        " the MAC is on record now, and the server is asked for it."
    )


class NotWithDhcp(Invalid):
    id = "E-166"
    text = "source=dhcp is not possible here: {why}."


class OneClientForAll(Invalid):
    id = "E-168"
    text = (
        "client_id={value} would make all containers of the network one client of its"
        " DHCP server, with one address: {why}. Use {way}."
    )


class NotWithRouters(Invalid):
    id = "E-169"
    text = "ipv6={value} is not possible here: {why}."


class LeaseNotRenewed(Unavailable):
    id = "E-170"
    text = (
        "no DHCP server on {device} has renewed {address} since {since}: {server} gave"
        " it until {until}. The container {has} the address, and servers are asked"
        " again. Check that {server} runs, and that the container reaches it."
    )


class NotConnectedAgain(Unavailable):
    id = "E-171"
    text = (
        "container {container} is not connected to network {network}: the service had"
        " Docker disconnect it, to show its new address {address}, and Docker does not"
        " connect it again: {why}. That is tried again each minute. Or connect it by"
        " hand: docker network connect {network} {container}"
    )


class NoDhcpv6Server(Unavailable):
    id = "E-173"
    text = (
        "no DHCPv6 server on {device} has given the container an address since {since}."
        " It runs without one, and servers are asked again. Check that a server gives"
        " addresses by DHCPv6 on that segment. If only routers are there, create the"
        " network with ipv6=slaac."
    )


class AddressNotAllocated(Conflict):
    id = "E-146"
    text = (
        "{address} was not assigned to a new container of network {network}: the"
        " records were lost or restored from a copy, and Docker uses the address."
        " Start the container again. If that does not help, create the network again."
    )


class Malformed(Invalid):
    id = "E-300"
    text = "{method}: the request is malformed: {why}."


class EmptyBody(Invalid):
    id = "E-301"
    text = (
        "{method}: the request has no body. Docker sends this when the answer to its"
        " first try was lost. Nothing was done this time. Run the command again."
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
    text = "{method}: the request did not arrive completely ({why}). Nothing was done."


class ForeignHost(UnderlayError):
    id = "E-306"
    status = 421
    text = (
        "{host!r} is not a name of this server. Use its address, or add the name to"
        " status_hosts in the settings."
    )


class KernelRefused(Unavailable):
    id = "E-400"
    text = "the kernel refused `{step}`: {why}.{hint}"


class DeviceInUse(KernelRefused):
    id = "E-401"
    text = (
        "`{step}` was not run: a container uses {device}, but no recorded endpoint"
        " explains it. If the records were lost or replaced by older ones, underlay"
        " rebuilds them as soon as Docker answers. If Docker does not list the"
        " container, remove it."
    )


class WouldChangeIpvlanMode(KernelRefused):
    id = "E-402"
    text = (
        "`{step}` was not run: on {parent} another program has the ipvlan device"
        " {child} in mode {mode}, and the kernel would change the mode of that device"
        " too. Remove {child}, or create it again in the mode of the network."
    )


class RepairReverted(Unavailable):
    id = "E-403"
    text = (
        "`{step}` keeps being reverted: repaired {times} times in a short time, and"
        " rate limited from now on. Find the program that reverts it (underlay history"
        " --repairs shows when) and stop it, or set repair=off for the network or the"
        " endpoint."
    )


class ForwardingUnfiltered(KernelRefused):
    id = "E-404"
    text = (
        "this host does not forward {family}, and underlay switches forwarding on"
        " only behind an nftables chain that keeps the host from routing for other"
        " machines. `{step}` was not run: {why}. If the program nft is missing,"
        " install the package nftables. If this host may route for all machines,"
        " switch forwarding on yourself: sysctl -w {setting}=1"
    )


class ForwardingBlocked(Unavailable):
    id = "E-405"
    text = (
        "containers of network {network} are cut off: the chain {chain} of this host's"
        " firewall drops what they send to {parent}, or the answers (IPv{family}), and"
        " no rule there can accept it. `underlay doctor` prints the rules to add."
    )


class InternalError(Unavailable):
    id = "E-500"
    text = (
        "internal error ({kind}), a bug in underlay. Please report it with the lines"
        " of the log that have call={ref}."
    )


class RecordsDamaged(Unavailable):
    id = "E-501"
    text = (
        "the records in {path} are damaged ({why}). underlay has not changed the"
        " file, and running containers keep their network. Restore a copy (after an"
        " upgrade there is one beside it: {path}.v*), or move the file away to start"
        " without records: mv {path} {path}.damaged"
    )


class RecordsTooNew(Unavailable):
    id = "E-502"
    text = (
        "the records in {path} were written by a newer underlay (version {found},"
        " this one knows {known}). Install the newer underlay again, or restore"
        " {path}.v{known}."
    )


class RecordsTooOld(Unavailable):
    id = "E-509"
    text = (
        "the records in {path} were written by an older underlay (version {found},"
        " this one reads {known}). Start the service, or restart it: it upgrades"
        " the records."
    )


class AlreadyRunning(Unavailable):
    id = "E-503"
    text = (
        "another underlay{pid} uses {path}, and two would take each other's socket."
        " Stop the other one first."
    )


class RecordsUnwritable(Unavailable):
    id = "E-504"
    text = (
        "the records in {path} cannot be written ({why}). Nothing was changed. Free"
        " disk space or repair the file system, then try again."
    )


class RecordsBusy(RecordsUnwritable):
    id = "E-510"
    text = (
        "another process has held the records in {path} for more than {seconds} s"
        " ({why}). Nothing was changed. Find the process (fuser -v {path}), end it,"
        " and try again."
    )


class BadSettings(Invalid):
    id = "E-505"
    text = "{where}: {why}.{hint}"


class NoRecords(Unavailable):
    id = "E-506"
    text = (
        "there are no records in {path}: underlay has not run with this state"
        " directory. Start the service (underlay install, or underlay serve without"
        " systemd), or set UNDERLAY_STATE_DIR."
    )


class NotFound(Invalid):
    id = "E-507"
    text = "no {kind} {name!r} on record.{hint} On record: {known}."


class NotAllowed(Unavailable):
    id = "E-508"
    text = "{what} failed ({why}). Run the command as root: sudo underlay ..."


class NoSystemd(Unavailable):
    id = "E-520"
    text = (
        "systemd does not run this host, so there are no units to install. Have your"
        " supervisor start `{program} serve` as root before Docker, and again when it"
        " ends (docs/install.md)."
    )


class FileInTheWay(Conflict):
    id = "E-521"
    text = (
        "{path} exists, and `underlay install` did not write it. Move it away"
        " (mv {path} {path}.old), then try again. Nothing was changed."
    )


class NetworksInUse(Conflict):
    id = "E-522"
    text = (
        "networks still use underlay: {names}. Without the service their containers"
        " cannot start. Remove them first: docker network rm {names}"
    )


class CommandFailed(Unavailable):
    id = "E-523"
    text = (
        "`{command}` failed ({why}). Repair the cause, then run the same underlay"
        " command again: it continues where it stopped."
    )


class ProgramOfUser(Conflict):
    id = "E-525"
    text = (
        "{path} can be changed by other users than root ({why}), and the service would"
        " run it as root. Install the program as root, in /opt/underlay for example"
        " (docs/install.md), and run its `underlay install`. Nothing was changed."
    )


class NotInstalled(Unavailable):
    id = "E-524"
    text = (
        "there is nothing to uninstall: {path}, the list of what `underlay install`"
        " made, does not exist."
    )
