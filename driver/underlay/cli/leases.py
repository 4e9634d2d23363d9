"""The commands `underlay lease ls`, `show`, `renew` and `release`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import click

from underlay.api.leases import leases
from underlay.cli.parts import parts_now
from underlay.cli.tables import (
    LEASES,
    Facts,
    lease_in_words,
    print_facts,
    print_json,
    print_table,
    when,
)
from underlay.cli.terminal import say
from underlay.errors import NotFound, did_you_mean
from underlay.ipam.lease_states import AnyLease
from underlay.records import Records
from underlay.records.lease_table import L, LeaseTable
from underlay.service.settings import load

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
PARENT = click.option(
    "--parent", metavar="DEVICE", help="Where several have this name."
)
FAMILY = click.option(
    "--family",
    type=click.Choice(["4", "6"]),
    help="Of the IP families that a container has leases of; without it the first.",
)
RUNNING, STOPPED = "lease of a running container", "lease of a stopped container"
_STARTED = " A running container has that lease: stop the container first."
_STOPPED = " Its container does not run, and asks for the lease when it starts."
_MOVING = " Its container is starting or ending: try again."


@click.group("lease")
def lease_command() -> None:
    """List leases from DHCP servers, show, renew or release one."""


@lease_command.command("ls")
@JSON
def ls(as_json: bool) -> None:
    """List what DHCP servers gave to containers, running or not.

    For networks with --ipam-opt source=dhcp, or -o ipv6=dhcp.
    """
    found = _leases()
    print_json(found) if as_json else print_table(found, LEASES)


@lease_command.command("show")
@click.argument("name", metavar="NAME|ADDRESS")
@PARENT
@FAMILY
@JSON
def show(name: str, parent: str | None, family: str | None, as_json: bool) -> None:
    """Show one lease, and the lines that reserve its address in DHCP servers.

    NAME is that of a container, or what else `underlay lease ls` has as NAME.

    \b
    Examples:
      underlay lease show web
      underlay lease show 192.168.1.61
      underlay lease show web --parent eth0.50
    """
    facts = _one(name, _leases(parent, family))
    if as_json:
        print_json(facts)
        return
    print_facts(lease_in_words(facts))


@lease_command.command("renew")
@click.argument("name", metavar="NAME|ADDRESS")
@PARENT
@FAMILY
def renew(name: str, parent: str | None, family: str | None) -> None:
    """Renew the lease of a running container now, not only when it is due.

    For example after the server was changed. If it gives another address, router, route
    or MTU, the container has that when this command ends.

    \b
    Examples:
      underlay lease renew web
      underlay lease renew 192.168.1.61
    """
    facts = _with_endpoint(name, parent, family, running=True)
    with parts_now() as parts:
        lease, after = _renewed(parts, facts)
        if after is None:
            raise _not_found(name, _MOVING, (), RUNNING)
    until = f"until {when(after.expires)}" if after.expires else "for ever"
    say(f"{facts['name']} has {after.address}, given by {after.server} {until}")
    if lease.address and after.address != lease.address:
        shown = (
            " Docker shows that until the next start." if facts["family"] == 4 else ""
        )
        say(f"It had {lease.address} before.{shown}")


def _renewed(parts: Any, facts: Facts) -> tuple[AnyLease, AnyLease | None]:
    """Return a lease as it was, and renewed; None if its container is moving."""
    changes: list[str] = []
    lease: AnyLease
    after: AnyLease | None
    if facts["family"] == 6:
        lease = six = _on_record(parts.records.dhcpv6_leases, facts)
        parts.keeper6.on_change = lambda sandbox, _is_new: changes.append(sandbox)
        after = parts.keeper6.renew(six)
    else:
        lease = four = _on_record(parts.records.dhcp_leases, facts)
        parts.keeper.on_change = changes.append
        after = parts.keeper.renew(four)
    if changes and after:
        parts.reconciler.reconcile_now(after.network)
    return lease, after


@lease_command.command("release")
@click.argument("name", metavar="NAME|ADDRESS")
@PARENT
@FAMILY
def release(name: str, parent: str | None, family: str | None) -> None:
    """Give the lease of a container that does not run back to its server.

    The container is forgotten with it: at its next start it asks for a new lease.

    \b
    Example:
      underlay lease release web
    """
    facts = _with_endpoint(name, parent, family, running=False)
    with parts_now() as parts:
        if facts["family"] == 6:
            table = parts.records.dhcpv6_leases
            is_done = parts.keeper6.release(_on_record(table, facts))
        else:
            four = parts.records.dhcp_leases
            is_done = parts.keeper.release(_on_record(four, facts))
        if not is_done:
            raise _not_found(name, _STARTED, (), STOPPED)
    given = facts["address"] and facts["server"]
    say(
        f"{facts['address']} of {facts['name']} went back to {given}"
        if given
        else f"{facts['name']} is forgotten; it had no lease"
    )


def _with_endpoint(
    name: str, parent: str | None, family: str | None, *, running: bool
) -> Facts:
    """Return the lease of a name or an address, of a container that runs or not."""
    found = _leases(parent, family)
    facts = _one(name, found)
    if bool(facts["endpoint"]) != running:
        others = [f for f in found if bool(f["endpoint"]) == running]
        hint, kind = (_STOPPED, RUNNING) if running else (_STARTED, STOPPED)
        raise _not_found(name, hint, others, kind)
    return facts


def _on_record(table: LeaseTable[L], facts: Facts) -> L:
    """Return the lease that facts are of; raises NotFound if it is gone since."""
    client = facts["parent"], facts["kind"], facts["name"]
    if lease := table.get(*client):
        return lease
    raise _not_found(facts["name"], "", ())


def _leases(parent: str | None = None, family: str | None = None) -> Sequence[Facts]:
    with closing(Records(load(os.environ).records, readonly=True)) as records:
        return [
            facts
            for facts in leases(records, time.time())
            if parent in (None, facts["parent"]) and family in (None, _family(facts))
        ]


def _family(facts: Facts) -> str:
    return str(facts["family"])


def _one(name: str, found: Sequence[Facts]) -> Facts:
    """Return the lease of a name or an address; raises NotFound."""
    exact = [f for f in found if name in (f["name"], *_addresses(f))]
    mine = exact or [f for f in found if name == f["container"]]
    # Those of one client are of different families.
    if mine and len({(f["parent"], f["kind"], f["name"]) for f in mine}) == 1:
        return mine[0]
    several = " Several have this name. Use the address, or add --parent."
    raise _not_found(name, several if mine else "", found)


def _not_found(
    name: str, hint: str, found: Sequence[Facts], kind: str = "lease"
) -> NotFound:
    """Return the error that lists what was found; for no hint, with a name like it."""
    known = [
        word
        for f in found
        for word in dict.fromkeys((f["name"], f["container"], *_addresses(f)[:1]))
        if word
    ]
    hint = hint or did_you_mean(name, known)
    listed = ", ".join(known[:12]) or "none"
    return NotFound(kind=kind, name=name, hint=hint, known=listed)


def _addresses(facts: Facts) -> tuple[str, ...]:
    """Return the address of a lease without and with its prefix length."""
    given: str = facts["address"]
    return (given.partition("/")[0], given) if given else ()
