"""Docker's chain DOCKER-USER: the rules of ours in it, by Docker's own tool.

iptables has two back ends that do not see each other's rules, and Docker uses whichever
the name means on its host. So the chain is looked for in each.
"""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator

from underlay.model import Family
from underlay.objects import MARK, Permit

CHAIN = "DOCKER-USER"
_NAMES = {4: "iptables", 6: "ip6tables"}
_BACK_ENDS = ("", "-nft", "-legacy")
_OURS = re.compile(rf'^-A {CHAIN} (.*?) -m comment --comment "?{MARK}"? -j ACCEPT$')
_SECONDS = 10.0


def permits(wanted: Collection[Permit]) -> Iterator[Permit]:
    """Return the rules of ours, and those wanted where no chain could stop anything."""
    families: tuple[Family, ...] = (4, 6)
    for family in families:
        found = _chain(family)
        if found is None:
            yield from (permit for permit in wanted if permit.family == family)
        for line in found[1] if found else ():
            if ours := _OURS.match(line):
                yield Permit(family, ours[1])


def create(wanted: Permit) -> None:
    """Let traffic pass, unless there is no chain that could stop it; raises OSError."""
    found = _chain(wanted.family)
    if not found:
        return
    tool, lines = found
    rules = [line for line in lines if line.startswith("-A")]
    if any((m := _OURS.match(line)) and m[1] == wanted.match for line in rules):
        return
    # Behind the rules of the administrator, but before the RETURN that older
    # engines end the chain with.
    last = len(rules) + 1 - bool(rules and rules[-1] == f"-A {CHAIN} -j RETURN")
    _run(tool, "-I", CHAIN, str(last), *_words(wanted))


def delete(doomed: Permit) -> None:
    """Take a rule of ours away; raises OSError."""
    found = _chain(doomed.family)
    if found and any((m := _OURS.match(x)) and m[1] == doomed.match for x in found[1]):
        _run(found[0], "-D", CHAIN, *_words(doomed))


def drops_bridged(bridge: str, family: Family) -> str:
    """Return why a frame that iptables gets to see does not cross a bridge, or "".

    Only the policy of FORWARD is judged. Where rules accept something of the bridge,
    or of whatever is bridged, they are the administrator's and held to be right.
    """
    for back_end in _BACK_ENDS:
        tool = _NAMES[family] + back_end
        lines = _table(tool) if shutil.which(tool) else []
        accepts = [line for line in lines if line.endswith("-j ACCEPT")]
        if "-P FORWARD DROP" in lines and not (
            f"-N {CHAIN}" in lines
            or "-A FORWARD -j ACCEPT" in accepts
            or any(f" {bridge} " in x or "--physdev" in x for x in accepts)
        ):
            return f"{tool} gets to see it, and the policy of its FORWARD is DROP"
    return ""


def _table(tool: str) -> list[str]:
    try:
        return _run(tool, "-S").splitlines()
    except OSError:
        return []  # a back end the kernel has not


def _words(permit: Permit) -> list[str]:
    comment = ["-m", "comment", "--comment", MARK]
    return [*permit.match.split(), *comment, "-j", "ACCEPT"]


def _chain(family: Family) -> tuple[str, list[str]] | None:
    """Return the tool that sees Docker's chain, and the chain's lines."""
    for back_end in _BACK_ENDS:
        tool = _NAMES[family] + back_end
        if shutil.which(tool):
            try:
                return tool, _run(tool, "-S", CHAIN).splitlines()
            except OSError:
                continue  # no such chain there
    return None


def _run(*words: str) -> str:
    words = (words[0], "-w", "5", *words[1:])
    try:
        done = subprocess.run(  # noqa: S603 - our own words, and no shell
            words, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, f"{words[0]} does not end") from error
    if done.returncode:
        raise OSError(errno.EPERM, done.stderr.strip() or f"{words[0]} failed")
    return done.stdout
