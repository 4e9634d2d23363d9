"""What the kernel alone takes for a container's macvlan link; runs on a lab host.

For each line on stdin: add a link, give it an alias, delete it; answer in milliseconds.
"""

from __future__ import annotations

import sys
import time

from pyroute2 import IPRoute


def once(kernel: IPRoute, parent: int) -> float:
    began = time.perf_counter()
    kernel.link(
        "add", ifname="bench", kind="macvlan", link=parent, macvlan_mode="bridge"
    )
    kernel.link("set", ifname="bench", ifalias="bench")
    kernel.link("del", ifname="bench")
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    with IPRoute() as opened:
        [eth0] = opened.link_lookup(ifname="eth0")
        for _ in sys.stdin:
            sys.stdout.write(f"{once(opened, eth0)}\n")
            sys.stdout.flush()
