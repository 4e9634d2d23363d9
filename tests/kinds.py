"""What this kernel has, kinds of link and nftables, and tests that need it.

A test that cannot run here says so, and where it does run; where it must run,
as inside the kernels of tests/uml, it fails instead. What these kernels cannot have
is left out of the tests that are run there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from functools import cache

import pytest

# What a link of each kind needs beside its name; "lo" serves as any device.
WORDS = {
    "macvlan": "link p name x type macvlan",
    "ipvlan": "link p name x type ipvlan",
    "vlan": "link p name x type vlan id 2",
    "dummy": "name x type dummy",
    "bond": "name x type bond",
    "ifb": "name x type ifb",
    "vxlan": "name x type vxlan id 5 dstport 4789",
}
NFTABLES = "nftables"  # the program, and a kernel with families of tables


def lacking() -> list[str]:
    """Return the kinds of link that this kernel does not have."""
    return [kind for kind in WORDS if not has(kind)]


def need(kind: str) -> None:
    """Skip the running test if there is no such thing here; fail if it must be."""
    if has(kind):
        return
    why = f"this kernel has no {kind}"
    if kind != NFTABLES:
        why += "; tests/uml runs this test on kernels that have it"
    if kind in os.environ.get("UNDERLAY_MUST_HAVE", "").split(","):
        pytest.fail(why)
    pytest.skip(why)


def left_out(kinds: Iterable[str]) -> bool:
    """Whether a test that needs these is not to be run at all on this kernel.

    UNDERLAY_ONLY_NEEDING: only tests that need one of these are to be run.
    """
    needed, only = set(kinds), os.environ.get("UNDERLAY_ONLY_NEEDING", "")
    if only and needed.isdisjoint(only.split(",")):
        return True
    return not needed.isdisjoint(os.environ.get("UNDERLAY_LACKS", "").split(","))


@cache
def has(kind: str) -> bool:
    """Whether such a link, or a table, can be made in a namespace of its own."""
    if kind == NFTABLES:
        words = ["unshare", "--net", "nft", "add", "table", "ip", "x"]
        return not subprocess.run(words, check=False, capture_output=True).returncode
    lines = f"link add p type veth peer name q\nlink add {WORDS[kind]}\n"
    done = subprocess.run(
        ["unshare", "--net", "ip", "-batch", "-"],
        input=lines, capture_output=True, text=True,
    )  # fmt: skip
    refused = "Unknown device type" in done.stderr
    if done.returncode and not refused:
        raise RuntimeError(f"whether there is {kind}: {done.stderr.strip()}")
    return not refused
