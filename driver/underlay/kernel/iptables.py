"""Docker's chain DOCKER-USER: the rules of ours in it, by Docker's own tool.

iptables has two back ends that do not see each other's rules, and Docker uses whichever
the name means on its host. So the chain is looked for in each.
"""

from __future__ import annotations

import errno
import re
import shutil
import socket
import subprocess
from collections.abc import Collection, Iterator

from underlay.model import Family
from underlay.objects import MARK, Permit

CHAIN = "DOCKER-USER"
_NAMES = {4: "iptables", 6: "ip6tables"}
_BACK_ENDS = ("", "-nft", "-legacy")
_OURS = re.compile(
    rf'^-A {CHAIN} (?P<match>.*?) -m comment --comment "?{MARK}"? -j (?P<verdict>\w+)$'
)
# What routed containers send is let pass, but not to Docker's bridges: whether a port
# is open there is Docker's to say, in rules behind this chain.
_SENT = "-i ul-+"
_DOCKERS_BRIDGE = re.compile(r"docker0|docker_gwbridge|br-[0-9a-f]{12}")
_SECONDS = 3.0


def permits(wanted: Collection[Permit]) -> Iterator[Permit]:
    """Return the rules of ours, and those wanted where no chain could stop anything.

    One that lets pass what should be Docker's to judge is not whole, and left out.
    """
    families: tuple[Family, ...] = (4, 6)
    for family in families:
        found = _chain(family)
        if found is None:
            yield from (permit for permit in wanted if permit.family == family)
            continue
        ours = _ours(found[1])
        for match in (match for match, verdict in ours if verdict == "ACCEPT"):
            if match != _SENT or not _unshielded(ours):
                yield Permit(family, match)


def create(wanted: Permit) -> None:
    """Let traffic pass, unless there is no chain that could stop it; raises OSError."""
    found = _chain(wanted.family)
    if not found:
        return
    tool, rules = found
    if (wanted.match, "ACCEPT") not in _ours(rules):
        # Behind the rules of the administrator, but before the RETURN that older
        # engines end the chain with.
        last = len(rules) + bool(not rules or rules[-1] != f"-A {CHAIN} -j RETURN")
        _run(tool, "-I", CHAIN, str(last), *_words(wanted.match, "ACCEPT"))
        rules = _rules(tool)
    if wanted.match == _SENT:
        place = 1 + next(i for i, r in enumerate(rules) if _is(r, _SENT, "ACCEPT"))
        for match in _unshielded(_ours(rules)):
            _run(tool, "-I", CHAIN, str(place), *_words(match, "RETURN"))


def delete(doomed: Permit) -> None:
    """Take a rule of ours away, with what goes with it; raises OSError."""
    found = _chain(doomed.family)
    for match, verdict in _ours(found[1]) if found else ():
        if match == doomed.match or match.startswith(f"{doomed.match} -o "):
            _run(found[0] if found else "", "-D", CHAIN, *_words(match, verdict))


def _ours(rules: Collection[str]) -> list[tuple[str, str]]:
    """Return match and verdict of each rule of ours."""
    found = (_OURS.match(rule) for rule in rules)
    return [(m["match"], m["verdict"]) for m in found if m]


def _is(rule: str, match: str, verdict: str) -> bool:
    return _ours([rule]) == [(match, verdict)]


def _unshielded(ours: Collection[tuple[str, str]]) -> list[str]:
    """Return what would be sent to bridges of Docker without its having a say."""
    devices = (name for _, name in socket.if_nameindex())
    matches = (f"{_SENT} -o {d}" for d in devices if _DOCKERS_BRIDGE.fullmatch(d))
    return [match for match in matches if (match, "RETURN") not in ours]


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


def _words(match: str, verdict: str) -> list[str]:
    comment = ["-m", "comment", "--comment", MARK]
    return [*match.split(), *comment, "-j", verdict]


def _chain(family: Family) -> tuple[str, list[str]] | None:
    """Return the tool that sees Docker's chain, and the chain's rules."""
    for back_end in _BACK_ENDS:
        tool = _NAMES[family] + back_end
        if shutil.which(tool):
            try:
                return tool, _rules(tool)
            except TimeoutError:
                raise  # that it does not answer says nothing of the chain
            except OSError:
                continue  # no such chain there
    return None


def _rules(tool: str) -> list[str]:
    lines = _run(tool, "-S", CHAIN).splitlines()
    return [line for line in lines if line.startswith("-A")]


def _run(*words: str) -> str:
    words = (words[0], "-w", "2", *words[1:])
    try:
        done = subprocess.run(  # noqa: S603 - our own words, and no shell
            words, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, f"{words[0]} does not end") from error
    if done.returncode:
        raise OSError(errno.EPERM, done.stderr.strip() or f"{words[0]} failed")
    return done.stdout
