"""The commands `underlay lease ls`, `show`, `renew` and `release`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing

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
from underlay.model import DhcpLease
from underlay.records import Records
from underlay.service.settings import load

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
PARENT = click.option(
    "--parent", metavar="DEVICE", help="Where several have this name."
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

    For networks with --ipam-opt source=dhcp.
    """
    found = _leases()
    print_json(found) if as_json else print_table(found, LEASES)


@lease_command.command("show")
@click.argument("name", metavar="NAME|ADDRESS")
@PARENT
@JSON
def show(name: str, parent: str | None, as_json: bool) -> None:
    """Show one lease, and the lines that reserve its address in DHCP servers.

    NAME is that of a container, or what else `underlay lease ls` has as NAME.

    \b
    Examples:
      underlay lease show web
      underlay lease show 192.168.1.61
      underlay lease show web --parent eth0.50
    """
    found = [f for f in _leases() if parent in (None, f["parent"])]
    facts = _one(name, found)
    if as_json:
        print_json(facts)
        return
    print_facts(lease_in_words(facts))


@lease_command.command("renew")
@click.argument("name", metavar="NAME|ADDRESS")
@PARENT
def renew(name: str, parent: str | None) -> None:
    """Renew the lease of a running container now, not only when it is due.

    For example after the server was changed. If it gives another address, router, route
    or MTU, the container has that when this command ends.

    \b
    Examples:
      underlay lease renew web
      underlay lease renew 192.168.1.61
    """
    facts = _with_endpoint(name, parent, running=True)
    with parts_now() as parts:
        lease = _on_record(parts.records, facts)
        changes: list[str] = []
        parts.keeper.on_change = changes.append
        after = parts.keeper.renew(lease)
        if after is None:
            raise _not_found(name, _MOVING, (), RUNNING)
        if changes:
            parts.reconciler.reconcile_now(after.network)
    until = f"until {when(after.expires)}" if after.expires else "for ever"
    say(f"{facts['name']} has {after.address}, given by {after.server} {until}")
    if after.address != lease.address:
        say(f"It had {lease.address} before. Docker shows that until the next start.")


@lease_command.command("release")
@click.argument("name", metavar="NAME|ADDRESS")
@PARENT
def release(name: str, parent: str | None) -> None:
    """Give the lease of a container that does not run back to its server.

    The container is forgotten with it: at its next start it asks for a new lease.

    \b
    Example:
      underlay lease release web
    """
    facts = _with_endpoint(name, parent, running=False)
    with parts_now() as parts:
        if not parts.keeper.release(_on_record(parts.records, facts)):
            raise _not_found(name, _STARTED, (), STOPPED)
    given = facts["address"] and facts["server"]
    say(
        f"{facts['address']} of {facts['name']} went back to {given}"
        if given
        else f"{facts['name']} is forgotten; it had no lease"
    )


def _with_endpoint(name: str, parent: str | None, *, running: bool) -> Facts:
    """Return the lease of a name or an address, of a container that runs or not."""
    found = [f for f in _leases() if parent in (None, f["parent"])]
    facts = _one(name, found)
    if bool(facts["endpoint"]) != running:
        others = [f for f in found if bool(f["endpoint"]) == running]
        hint, kind = (_STOPPED, RUNNING) if running else (_STARTED, STOPPED)
        raise _not_found(name, hint, others, kind)
    return facts


def _on_record(records: Records, facts: Facts) -> DhcpLease:
    """Return the lease that facts are of; raises NotFound if it is gone since."""
    client = facts["parent"], facts["kind"], facts["name"]
    if lease := records.dhcp_leases.get(*client):
        return lease
    raise _not_found(facts["name"], "", ())


def _leases() -> Sequence[Facts]:
    with closing(Records(load(os.environ).records, readonly=True)) as records:
        return leases(records, time.time())


def _one(name: str, found: Sequence[Facts]) -> Facts:
    """Return the lease of a name or an address; raises NotFound."""
    exact = [f for f in found if name in (f["name"], *_addresses(f))]
    mine = exact or [f for f in found if name == f["container"]]
    if len(mine) == 1:
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
