"""The command line. Commands that read need no service: they read the records."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from underlay import __version__
from underlay.api import status
from underlay.cli import overview
from underlay.cli.conflicts import conflict_command
from underlay.cli.exposure import exposure_command
from underlay.cli.leases import lease_command
from underlay.cli.parts import ask_service, parts_now, records_now
from underlay.cli.reservations import reserve_command, unreserve_command
from underlay.cli.tables import (
    ENDPOINTS,
    HISTORY,
    NETWORKS,
    POOLS,
    REPAIRS,
    Columns,
    Facts,
    print_facts,
    print_json,
    print_table,
)
from underlay.cli.terminal import say
from underlay.errors import BadSettings, NotFound, UnderlayError, did_you_mean
from underlay.records import Records
from underlay.service.settings import Settings, load

if TYPE_CHECKING:
    from underlay.install import Step

# pyroute2, docker, flask and gunicorn take half a second to import: the commands that
# need them import them themselves.

WATCH_SECONDS = 2.0
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class ErrorReportingGroup(click.Group):
    """A group that prints an error as one line on stderr and exits with code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and print the error it raises."""
        try:
            return super().invoke(ctx)
        except UnderlayError as error:
            say(error, err=True)
            sys.exit(1)


@click.group(
    cls=ErrorReportingGroup, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Docker containers on the real network, without NAT.

    \b
    Make a network and put a container on it:
      docker network create -d underlay --ipam-driver underlay -o parent=eth0 \\
          --subnet 192.168.1.0/24 --gateway 192.168.1.1 lan
      docker run --rm --network lan --ip 192.168.1.50 busybox ip addr

    \b
    Shell completion (bash; zsh and fish alike):
      eval "$(_UNDERLAY_COMPLETE=bash_source underlay)"
    """


@main.command()
@JSON
def version(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": __version__})
    else:
        say(f"underlay {__version__}")


@main.command()
def serve() -> None:
    """Run the service in the foreground, as systemd does.

    \b
    Settings come from /etc/underlay/underlay.toml and UNDERLAY_* variables:
      UNDERLAY_LOG_LEVEL=debug underlay serve
    """
    from underlay.service.server import serve as run

    run(os.environ)


@main.command()
@click.option("--dry-run", is_flag=True, help="Print the steps, and change nothing.")
def install(dry_run: bool) -> None:
    """Install the units of systemd, start the service, and start it at each boot.

    Once more, or over an older version, it brings everything up to date. Records and
    settings are kept.

    \b
    Examples:
      underlay install --dry-run
      underlay install
    """
    from underlay.install import install_steps

    settings = load({})  # as the service will, without this shell's variables
    _take(install_steps(settings), dry_run=dry_run)
    if not dry_run:
        health = ask_service(settings, "/healthz")
        say("the service is ", overview.in_words(health))
        sys.exit(0 if health and health["ok"] else 1)


@main.command()
@click.option("--purge", is_flag=True, help="Remove the records as well.")
@click.option("--dry-run", is_flag=True, help="Print the steps, and change nothing.")
def uninstall(purge: bool, dry_run: bool) -> None:
    """Stop the service and remove exactly what `underlay install` made.

    It refuses while there are networks, and names them.

    \b
    Examples:
      underlay uninstall
      underlay uninstall --purge
    """
    from underlay.install import uninstall_steps

    _take(uninstall_steps(load({}), purge=purge), dry_run=dry_run)


def _take(steps: Iterable[Step], *, dry_run: bool) -> None:
    """Print each step, and take it."""
    for step in steps:
        say(f"would {step.text}" if dry_run and step.run else step.text)
        if step.run and not dry_run:
            step.run()


@main.command("status")
@click.option("--watch", is_flag=True, help="Show it again every two seconds.")
@JSON
def status_command(watch: bool, as_json: bool) -> None:
    """Show parents, networks, endpoints, pools, repairs, refusals and failures.

    \b
    Examples:
      underlay status
      underlay status --watch
      underlay status --json | jq .troubles
    """
    if watch and as_json:
        raise click.UsageError("--watch is for people: it does not go with --json")
    settings = load(os.environ)
    show = overview.print_status
    if as_json:
        print_json(_status(settings))
    elif watch:
        overview.watch(lambda: show(_status(settings)), WATCH_SECONDS)
    else:
        show(_status(settings))


def _status(settings: Settings) -> Facts:
    health = ask_service(settings, "/healthz")
    refused = ask_service(settings, "/refusals") if health else None
    with records_now(settings) as records:
        facts = status.status(records, (refused or {}).get("refusals", ()))
    return {"service": health, **facts}


@main.command("page")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port.")
def page_command(port: int) -> None:
    """Serve the status page on 127.0.0.1 until interrupted; print its address.

    The address has a secret in it that is made for this run. From another machine,
    forward the port: ssh -L 8080:127.0.0.1:8080 HOST

    \b
    Examples:
      sudo underlay page
      sudo underlay page --port 8080
    """
    from underlay.api.httpd import Answer
    from underlay.api.page.page import page
    from underlay.cli.page import serve_page

    settings = load(os.environ)

    def read() -> Answer:
        health = ask_service(settings, "/healthz")
        refused = ask_service(settings, "/refusals") if health else None
        with records_now(settings) as records:
            return page(records, health, (refused or {}).get("refusals", ()))

    read()  # or why the records cannot be read
    serve_page(read, port)


@main.command()
@JSON
def plan(as_json: bool) -> None:
    """Print the steps that would make the kernel match the records. Changes nothing.

    Exit code 0: there is nothing to do. Exit code 2: there are steps.
    """
    with parts_now(readonly=True) as parts:
        steps = [str(step) for step in parts.reconciler.planner.steps()]
    if as_json:
        print_json({"steps": steps})
    else:
        for step in steps or ["nothing to do"]:
            say(step)
    sys.exit(2 if steps else 0)


@main.command()
@click.argument("network", required=False)
@JSON
def reconcile(network: str | None, as_json: bool) -> None:
    """Make the kernel match the records now, for all networks or for one.

    Exit code 1: the kernel refused a step.
    """
    with parts_now() as parts:
        only = (
            _one("network", network, status.networks(parts.records))
            if network
            else None
        )
        failed = [
            str(s) for s in parts.reconciler.reconcile_now(only["id"] if only else None)
        ]
    if as_json:
        print_json({"failed": failed})
    else:
        for line in [f"failed: {step}" for step in failed] or ["done"]:
            say(line)
    sys.exit(1 if failed else 0)


@main.command()
@click.argument("what", metavar="[ADDRESS|MAC|NAME]", required=False)
@click.option("--repairs", "only_repairs", is_flag=True, help="Show only repairs.")
@JSON
def history(what: str | None, only_repairs: bool, as_json: bool) -> None:
    """Show repairs, or which containers had an address or MAC, and when.

    For a container it shows both, for a network its repairs.

    \b
    Examples:
      underlay history
      underlay history 192.168.1.50
      underlay history 02:42:c0:a8:01:32
      underlay history web
      underlay history --repairs web
    """
    with records_now(load(os.environ)) as records:
        if what is None:
            had, done = [], status.repairs(records)
        else:
            had = [] if only_repairs else status.history(records, what)
            done = status.repairs_about(records, what)
    if as_json:
        print_json(done if what is None or only_repairs else had)
        return
    shown = [(found, by) for found, by in ((had, HISTORY), (done, REPAIRS)) if found]
    for number, (found, columns) in enumerate(shown):
        if number:
            say()
        print_table(found, columns)
    if not shown:
        say(f"nothing recorded about {what}" if what else "no repairs")


@main.command()
@click.option("--fix", "do_fix", is_flag=True, help="Apply the fixes that are safe.")
@click.option(
    "--parent", "parents", multiple=True, metavar="DEVICE",
    help="Also test a device that no network uses yet.",
)  # fmt: skip
@JSON
def doctor(do_fix: bool, parents: tuple[str, ...], as_json: bool) -> None:
    """Check this host: what is wrong, where, why, and how to fix it.

    Changes nothing without --fix. Exit code 1: a check failed.

    \b
    Examples:
      underlay doctor
      underlay doctor --parent eth1
      underlay doctor --json | jq '.checks[] | select(.level == "failure")'
    """
    from underlay.cli.findings import as_facts, is_healthy, print_results
    from underlay.doctor.checks import examine, fix
    from underlay.doctor.finding import Result
    from underlay.service.wiring import examined

    # The log of the service would be in the way: findings say the same.
    logging.getLogger("underlay").addHandler(logging.NullHandler())
    settings, wrong = Settings(), ""
    try:
        settings = load(os.environ)
    except BadSettings as error:
        wrong = str(error)

    def run() -> list[Result]:
        health = ask_service(settings, "/healthz")
        with closing(examined(settings, health, parents, wrong)) as host:
            return examine(host)

    results = run()
    fixed = list(fix(results)) if do_fix else []
    results = run() if fixed else results
    if as_json:
        print_json(as_facts(results, fixed))
    else:
        print_results(results, fixed)
    sys.exit(0 if is_healthy(results) else 1)


def _browse(
    kind: str,
    argument: str,
    example: str,
    columns: Columns,
    read: Callable[[Records], Sequence[Facts]],
) -> click.Group:
    """Return the commands `KIND ls` and `KIND show ...`."""
    group = click.Group(kind, help=f"List {kind}s, or show one.")

    @group.command("ls", help=f"List all recorded {kind}s.")
    @JSON
    def ls(as_json: bool) -> None:
        with records_now(load(os.environ)) as records:
            found = read(records)
        print_json(found) if as_json else print_table(found, columns)

    @group.command(
        "show",
        help=f"Show everything recorded about one {kind}.\n\n"
        f"\b\nExample:\n  underlay {kind} show {example}",
    )
    @click.argument("name", metavar=argument)
    @JSON
    def show(name: str, as_json: bool) -> None:
        with records_now(load(os.environ)) as records:
            facts = _one(kind, name, read(records))
        if as_json:
            print_json(facts)
            return
        print_facts(facts)

    return group


main.add_command(_browse("network", "NAME", "lan", NETWORKS, status.networks))
main.add_command(_browse("endpoint", "ID", "3f2a9c01d4e7", ENDPOINTS, status.endpoints))
main.add_command(_browse("pool", "SUBNET", "192.168.1.0/24", POOLS, status.pools))


main.add_command(conflict_command)
main.add_command(exposure_command)
main.add_command(lease_command)
main.add_command(reserve_command)
main.add_command(unreserve_command)


def _one(kind: str, name: str, found: Sequence[Facts]) -> Facts:
    """Return the object with this name, id or beginning of an id."""
    names = {"network": "name", "endpoint": "container", "pool": "subnet"}
    key = names[kind]
    exact = [f for f in found if name in (f[key], f.get("id"))]
    begun = [f for f in found if len(name) > 3 and f.get("id", "").startswith(name)]
    for choice in (exact, begun):
        if len(choice) == 1:
            return choice[0]
    known = [f[key] or f.get("id", "")[:12] for f in found]
    raise NotFound(
        kind=kind,
        name=name,
        hint=" Several have this name. Use the id."
        if exact
        else did_you_mean(name, known),
        known=", ".join(known[:12]) or "none",
    )
