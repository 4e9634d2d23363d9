"""The commands `underlay reserve` and `underlay unreserve`."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from ipaddress import ip_address
from typing import Any, NamedTuple

import click

from underlay.api import status
from underlay.cli.tables import RESERVATIONS, print_json, print_table
from underlay.cli.terminal import say
from underlay.errors import BadValue, CommandFailed
from underlay.ipam.reserving import reserve, unreserve
from underlay.model import IpAddress
from underlay.records import Records
from underlay.service.settings import load

DOMAIN = click.option(
    "--domain", default="default", metavar="WORD", help="As --ipam-opt domain=WORD."
)
_FAMILIES = ("ipv4_address", "ipv6_address")


class Wish(NamedTuple):
    """An address that a container is to have, in a domain."""

    domain: str
    address: IpAddress
    container: str


@click.command("reserve")
@click.argument("address", required=False)
@click.argument("name", required=False)
@click.option(
    "--compose", "file", metavar="FILE",
    help="Reserve the fixed addresses of a compose file.",
)  # fmt: skip
@DOMAIN
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def reserve_command(
    address: str | None,
    name: str | None,
    file: str | None,
    domain: str,
    as_json: bool,
) -> None:
    """Reserve ADDRESS for the container NAME, which need not exist yet.

    No other container draws the address, and this one gets it at its next start. It
    lasts until `underlay unreserve ADDRESS`. Without arguments: list what is kept for
    containers.

    \b
    Examples:
      underlay reserve
      underlay reserve 192.168.1.50 web
      underlay reserve --compose compose.yaml
    """
    if not (address or file):
        with closing(Records(load(os.environ).records, readonly=True)) as records:
            found = status.reservations(records)
        print_json(found) if as_json else print_table(found, RESERVATIONS)
        return
    if bool(file) == bool(address and name) or (file and address) or as_json:
        raise click.UsageError("give an ADDRESS and a NAME, or --compose FILE")
    with writable_records() as records:
        wishes = (
            list(_wishes(_compose(file), records))
            if file
            else [Wish(domain, parsed_address(address or ""), name or "")]
        )
        with records.transaction():
            for wish in wishes:
                reserve(records, *wish, time.time())
        for wish in wishes:
            _tell(records, wish)
    if not wishes:
        say("no fixed address in a network with the IPAM driver underlay")


def _tell(records: Records, wish: Wish) -> None:
    """Say what was reserved, and if no subnet has it: it may be misspelt."""
    say(f"reserved {wish.address} for {wish.container}")
    if not records.pools.having(wish.domain, wish.address):
        where = f"no network has a subnet with {wish.address} yet"
        say(f"{where}, in domain {wish.domain}", err=True)


@click.command("unreserve")
@click.argument("address")
@DOMAIN
def unreserve_command(address: str, domain: str) -> None:
    """Keep ADDRESS no longer: reserved by hand, or kept for a container.

    \b
    Example:
      underlay unreserve 192.168.1.50
    """
    with writable_records() as records, records.transaction():
        known = unreserve(records, domain, parsed_address(address))
    say(f"{known.address} is no longer kept for {known.name}")


def parsed_address(text: str) -> IpAddress:
    """Read an address that a user typed; raises BadValue."""
    try:
        return ip_address(text)
    except ValueError:
        need = "an address such as 192.168.1.50"
        raise BadValue(key="ADDRESS", value=text, need=need, hint="") from None


@contextmanager
def writable_records() -> Iterator[Records]:
    """Open the records that are there; raises NoRecords."""
    path = load(os.environ).records
    Records(path, readonly=True).close()  # or NoRecords: none are made
    records = Records(path)
    try:
        yield records
    finally:
        records.close()


def _compose(file: str) -> Mapping[str, Any]:
    """Return a compose file as Compose understands it; raises CommandFailed."""
    command = ("docker", "compose", "-f", file, "config", "--format", "json")
    try:
        done = subprocess.run(  # noqa: S603 - the file's path is one word, no shell
            command, check=True, capture_output=True, text=True
        )
        found: Mapping[str, Any] = json.loads(done.stdout)
    except subprocess.CalledProcessError as error:
        why = error.stderr.strip()
        raise CommandFailed(command=" ".join(command), why=why) from error
    except (OSError, ValueError) as error:
        raise CommandFailed(command=" ".join(command), why=error) from error
    return found


def _wishes(project: Mapping[str, Any], records: Records) -> Iterator[Wish]:
    """Return the fixed addresses of a project in networks with this IPAM driver."""
    known = {network.name: network.id for network in records.networks.all()}
    domains = {}
    for key, network in (project.get("networks") or {}).items():
        ipam = (network or {}).get("ipam") or {}
        claims = records.pools.claims_of(known.get((network or {}).get("name", ""), ""))
        options = ipam.get("options") or {}
        if options.get("source") == "dhcp" or any(c.pool.is_dhcp for c in claims):
            continue  # a server has its address
        if ipam.get("driver") == "underlay":
            domains[key] = options.get("domain", "default")
        elif claims:
            domains[key] = claims[0].pool.domain
    for service, facts in (project.get("services") or {}).items():
        name = facts.get("container_name") or f"{project['name']}-{service}-1"
        for key, place in (facts.get("networks") or {}).items():
            for family in _FAMILIES:
                if key in domains and (text := (place or {}).get(family)):
                    yield Wish(domains[key], parsed_address(text), name)
