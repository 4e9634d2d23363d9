"""`underlay status` for people: colours, the width of the terminal, and --watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from underlay.api import ports
from underlay.cli.tables import (
    GIVEN,
    POLICIES,
    RECENT,
    STATUS,
    Columns,
    Facts,
    print_table,
    when,
)
from underlay.cli.terminal import Painted, clear, say

RECENT_SHOWN, REFUSALS_SHOWN = 5, 10


def print_status(facts: Mapping[str, Any]) -> None:
    """Print the whole status."""
    say("service   ", in_words(facts["service"]))
    for name, columns in STATUS.items():
        say()
        say(name)
        print_table(facts[name], columns)
    given = [e for e in facts["endpoints"] if e["lease"] or e["lease6"]]
    _table("policies", filter(ports.is_guarded, facts["endpoints"]), POLICIES)
    leases = (row for facts in given for row in _given(facts))
    _table("leases of DHCP servers", leases, GIVEN)
    for endpoint in given:
        if endpoint["lease"] and endpoint["lease"]["told"]:
            say()
            say(_stale(endpoint))
    done = [repair for repair in facts["repairs"] if not repair["error"]]
    _table("recent repairs", done[:RECENT_SHOWN], RECENT)
    if facts["refusals"]:
        say()
        say("refusals of the last hour")
        for refusal in facts["refusals"][:REFUSALS_SHOWN]:
            say(*_refusal(refusal))
    for notice in facts["notices"]:
        say()
        say(f"notice ({notice['check']}): {notice['where']}: {notice['text']}")
    for failure in facts["troubles"]:
        say()
        say(f"failing since {when(failure['since'])}: {failure['error']}")


def watch(show: Callable[[], None], seconds: float) -> None:
    """Show again every `seconds` until interrupted."""
    try:
        while True:
            clear()
            show()
            time.sleep(seconds)
    except KeyboardInterrupt:
        return


def in_words(health: Facts | None) -> Painted:
    """Return whether the service runs, and works."""
    if not health:
        words = "not running, or not answering (underlay doctor says why)"
        return Painted(words, "yellow")
    if not health["ok"]:
        return Painted(f"failing, pid {health['pid']}: {health['error']}", "red")
    words = f"running, pid {health['pid']}, since {when(health['started'])}"
    return Painted(words, "green")


def _given(facts: Facts) -> list[Facts]:
    """Return the endpoint of a lease once for each that it has."""
    found = (facts["lease"], facts["lease6"])
    return [{**facts, "lease": lease} for lease in found if lease]


def _table(title: str, found: Iterable[Facts], columns: Columns) -> None:
    """Print a table below its title, unless it is empty."""
    if rows := list(found):
        say()
        say(title)
        print_table(rows, columns)


def _stale(facts: Facts) -> str:
    """Return that Docker shows another address than a container has."""
    lease, now = facts["lease"], facts["addresses"][0]
    name = facts["container"] or facts["id"][:12]
    return (
        f"{name}: {now} since {when(lease['changed'])}, Docker believes {lease['told']}"
        f" (lease changed by {lease['server'] or 'a server'}); start the container"
        " again to have Docker show it"
    )


def _refusal(facts: Facts) -> tuple[object, ...]:
    """Return a refusal in words; not in a table, which would cut off its text."""
    subject = facts["container"] or facts["endpoint"] or facts["address"]
    where = facts["network"] or facts["pool"]
    about = " on ".join(part for part in (subject, where) if part) or facts["method"]
    times = f" ({facts['times']} times)" if facts["times"] > 1 else ""
    return f"{when(facts['at'])}  {about}{times}: ", Painted(facts["error"], "red")
