"""Every refusal this program makes on purpose: a stable id, one text, an HTTP status.

    UnderlayError
    ├── Invalid (400)     the request itself must change
    ├── Conflict (409)    the request contradicts what is on record or in use
    ├── Unavailable (500) this host cannot do it now
    └── Refused (404/405) not a request this program knows

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


class NotYet(Invalid):
    id = "E-103"
    text = "{what} is not part of this version. {instead}"


class Contradiction(Invalid):
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
        " gone from this host: remove the network and create it again, or restore"
        " {path}."
    )


class OtherChildren(Conflict):
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


class NoDefaultDevice(Invalid):
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


class UnknownNetwork(Conflict):
    id = "E-130"
    text = (
        "network {network} is not on record here. If Docker lists it, its record was"
        " lost: remove the network and create it again."
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


class NotGiven(Conflict):
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


class Unfinished(UnderlayError):
    id = "E-305"
    status = 408
    text = "{method}: the request stopped half-way ({why}); nothing was done."


class KernelRefused(Unavailable):
    id = "E-400"
    text = "the kernel refused `{step}`: {why}.{hint}"


class StillCarries(KernelRefused):
    id = "E-401"
    text = (
        "`{step}` is not done: a container stands on {device}, and no endpoint on"
        " record accounts for it. The records may have been lost or replaced by older"
        " ones. Remove the container; or create the network again and restart it."
    )


class Bug(Unavailable):
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
