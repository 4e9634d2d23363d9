"""The commands `underlay conflict ls` and `underlay conflict forget`."""

from __future__ import annotations

import os
import time
from contextlib import closing

import click

from underlay.api import status
from underlay.cli.reservations import parsed_address, writable_records
from underlay.cli.tables import CONFLICTS, print_json, print_table
from underlay.cli.terminal import say
from underlay.errors import NotFound
from underlay.records import Records
from underlay.service.settings import load


@click.group("conflict")
def conflict_command() -> None:
    """List addresses that other machines have, or free one."""


@conflict_command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def ls(as_json: bool) -> None:
    """List the addresses that other machines have, and their MACs.

    No container gets them. The service asks the network again, after ten minutes or
    more, and frees those that no machine answers for.
    """
    with closing(Records(load(os.environ).records, readonly=True)) as records:
        found = status.conflicts_of(records)
    print_json(found) if as_json else print_table(found, CONFLICTS)


@conflict_command.command("forget")
@click.argument("address")
def forget(address: str) -> None:
    """Free ADDRESS at once: no other machine has it any more.

    The network is asked again before a container gets it.

    \b
    Example:
      underlay conflict forget 192.168.1.50
    """
    wanted = parsed_address(address)
    with writable_records() as records, records.transaction():
        conflicts = records.leases.conflicts()
        mine = [lease for lease in conflicts if lease.address == wanted]
        for lease in mine:
            records.leases.end(lease, time.time())
    if not mine:
        known = ", ".join(str(lease.address) for lease in conflicts[:12])
        raise NotFound(kind="conflict", name=address, hint="", known=known or "none")
    for lease in mine:
        say(f"{lease.address} is free; {lease.mac or 'another machine'} had it")
