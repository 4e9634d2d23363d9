"""Refusals that are no answer to what was asked: protocol, kernel, records, service.

The tree they belong to, and its rules, are in errors.py.
"""

from __future__ import annotations

from underlay.errors import Invalid, Unavailable, UnderlayError


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
        " ones; then they are rebuilt as soon as Docker answers. If Docker does not"
        " list the container, remove it."
    )


class WouldSwitch(KernelRefused):
    id = "E-402"
    text = (
        "`{step}` is not done: {parent} carries the ipvlan child {child}, not of"
        " underlay, in mode {mode}, and the kernel would switch that one too. Remove"
        " it, or have it made in the mode of the network."
    )


class UndoneAgain(Unavailable):
    id = "E-403"
    text = (
        "something keeps undoing `{step}`: underlay repaired it {times} times in quick"
        " succession and repairs it less often from now on. See `underlay history"
        " --repairs`, find the program that undoes it, and stop that program; or set"
        " repair=off for the network or the endpoint."
    )


class WouldOpen(KernelRefused):
    id = "E-404"
    text = (
        "this host does not forward {family}. underlay switches forwarding on only"
        " behind an nftables chain that keeps the host from routing for anything but"
        " containers. `{step}` was not run: {why}. Install the package nftables if the"
        " program nft is missing. If the host may route for everybody, switch"
        " forwarding on yourself: sysctl -w {setting}=1"
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
