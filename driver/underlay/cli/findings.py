"""What `underlay doctor` prints."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from underlay.cli.terminal import say
from underlay.doctor.finding import Result

PAGE = "docs/doctor.md"
Fixed = Sequence[tuple[str, str, str]]


def as_facts(results: Collection[Result], fixed: Fixed) -> dict[str, Any]:
    """Return what was found, in the shape of `underlay doctor --json`."""
    return {
        "ok": is_healthy(results),
        "fixed": [
            {"step": step, "revert": revert, "error": error}
            for step, revert, error in fixed
        ],
        "checks": [
            {
                "id": result.check.id,
                "level": result.level,
                "skipped": result.skipped,
                "docs": f"{PAGE}#{result.check.id}",
                "findings": [
                    {
                        "level": found.level,
                        "where": found.where,
                        "what": found.what,
                        "why": found.why,
                        "remedy": found.remedy,
                        "fix": found.fix.step if found.fix else "",
                    }
                    for found in result.findings
                ],
            }
            for result in results
        ],
    }


def is_healthy(results: Collection[Result]) -> bool:
    """Return whether no check failed."""
    return all(result.level != "failure" for result in results)


def print_results(results: Collection[Result], fixed: Fixed) -> None:
    """Print what was found, and what was done about it."""
    for step, revert, error in fixed:
        say(f"not fixed  {step}: {error}" if error else f"fixed      {step}")
        if not error:
            say(f"  revert:  {revert}")
    width = max(len(result.check.id) for result in results)
    for result in results:
        if not result.findings:
            what = result.skipped or result.check.passes
            say(f"{result.level.ljust(9)}  {result.check.id.ljust(width)}  {what}")
        for found in result.findings:
            what = f"{found.where}: {found.what}"
            say(f"{found.level.ljust(9)}  {result.check.id.ljust(width)}  {what}")
            say(f"  why:     {found.why}")
            say(f"  how:     {found.remedy}")
            if found.fix:
                say(f"  --fix:   {found.fix.step}")
    levels = [result.level for result in results]
    failed, warned = levels.count("failure"), levels.count("warning")
    skipped = levels.count("skipped")
    rest = f", {skipped} skipped" if skipped else ""
    say(f"{failed} failed, {warned} warned, {levels.count('ok')} passed{rest}")
    if not all(level == "ok" for level in levels):
        say(f"{PAGE} explains each check")
