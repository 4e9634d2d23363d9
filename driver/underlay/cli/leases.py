"""The commands `underlay lease ls` and `underlay lease show`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing

import click

from underlay.api.leases import leases
from underlay.cli.tables import (
    LEASES,
    Facts,
    lease_in_words,
    print_facts,
    print_json,
    print_table,
)
from underlay.errors import NotFound, did_you_mean
from underlay.records import Records
from underlay.service.settings import load

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.group("lease")
def lease_command() -> None:
    """List leases from DHCP servers, or show one."""


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
@click.option("--parent", metavar="DEVICE", help="Where several have this name.")
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


def _leases() -> Sequence[Facts]:
    with closing(Records(load(os.environ).records, readonly=True)) as records:
        return leases(records, time.time())


def _one(name: str, found: Sequence[Facts]) -> Facts:
    """Return the lease of a name or an address; raises NotFound."""
    exact = [f for f in found if name in (f["name"], *_addresses(f))]
    mine = exact or [f for f in found if name == f["container"]]
    if len(mine) == 1:
        return mine[0]
    known = [
        word
        for f in found
        for word in dict.fromkeys((f["name"], f["container"], *_addresses(f)[:1]))
        if word
    ]
    hint = (
        " Several have this name. Use the address, or add --parent."
        if mine
        else did_you_mean(name, known)
    )
    listed = ", ".join(known[:12]) or "none"
    raise NotFound(kind="lease", name=name, hint=hint, known=listed)


def _addresses(facts: Facts) -> tuple[str, ...]:
    """Return the address of a lease without and with its prefix length."""
    given: str = facts["address"]
    return (given.partition("/")[0], given) if given else ()
