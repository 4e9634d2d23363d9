"""Which kinds of link this kernel has, and tests that need one.

A test that cannot run here says so, and where it does run; where it must run,
as inside the kernels of tests/uml, it fails instead.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache

import pytest

# What a link of each kind needs beside its name; "lo" serves as any device.
WORDS = {
    "macvlan": "link p name x type macvlan",
    "ipvlan": "link p name x type ipvlan",
    "vlan": "link p name x type vlan id 2",
    "dummy": "name x type dummy",
    "bond": "name x type bond",
}


def need(kind: str) -> None:
    """Skip the running test if this kernel has no such links; fail if it must."""
    if has(kind):
        return
    why = f"this kernel has no {kind}; tests/uml runs this test on kernels that have it"
    if kind in os.environ.get("UNDERLAY_MUST_HAVE", "").split(","):
        pytest.fail(why)
    pytest.skip(why)


@cache
def has(kind: str) -> bool:
    """Whether such a link can be made, tried in a namespace of its own."""
    lines = f"link add p type veth peer name q\nlink add {WORDS[kind]}\n"
    done = subprocess.run(
        ["unshare", "--net", "ip", "-batch", "-"],
        input=lines, capture_output=True, text=True,
    )  # fmt: skip
    refused = "Unknown device type" in done.stderr
    if done.returncode and not refused:
        raise RuntimeError(f"whether there is {kind}: {done.stderr.strip()}")
    return not refused
