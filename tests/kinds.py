"""Which kinds of links this kernel has: a test that cannot run here says why."""

from __future__ import annotations

import os
from functools import cache

import pytest

from underlay.kernel.links import kind_is_known

MUST_HAVE = "UNDERLAY_MUST_HAVE"

known = cache(kind_is_known)


def needs(*kinds: str) -> None:
    """Skip the test if the kernel lacks a kind; fail it where that must not be."""
    for kind in kinds:
        if known(kind):
            continue
        if kind in os.environ.get(MUST_HAVE, "").split(","):
            pytest.fail(f"this kernel must have {kind} and has not")
        pytest.skip(f"no {kind} in this kernel; tests/uml runs it on those that have")
