"""The shim that every host has whose address is in the subnet of its containers."""

from __future__ import annotations

import os

from tests.docker.conftest import Site
from tests.lab.service import wait_until
from underlay.model.objects import SharedOwner

SHIM = SharedOwner("shim", "eth0").owner.device
# The service makes the routes to thousands of endpoints when it starts.
SECONDS = 120.0


def note(loads: str) -> str:
    """Return what a table was measured with, for its head."""
    return f"Host access was on and the shim there (checked); load average {loads}"


def load_since(before: float) -> str:
    """Return the load average before something, and now."""
    return f"{before:.2f} before, {os.getloadavg()[0]:.2f} after"


def check_shim(site: Site, endpoints: int) -> None:
    """Raise AssertionError unless the host reaches so many endpoints by its shim."""

    def routes() -> int:
        shown = site.host.run("ip", "route", "show", "dev", SHIM, check=False)
        return shown.stdout.count("\n")

    wait_until(
        lambda: routes() >= endpoints,
        SECONDS,
        lambda: f"the shim has {routes()} routes, not {endpoints}",
    )
