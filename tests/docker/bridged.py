"""Networks on a bridge of the host, and all of the host that must not change."""

from __future__ import annotations

import json
import re

from tests.docker.conftest import GATEWAY4, GATEWAY6, LAN4, LAN6

FOUR = ("--subnet", LAN4, "--gateway", GATEWAY4, "--ip-range", "10.77.0.128/25")
SIX = ("--ipv6", "--subnet", LAN6, "--gateway", GATEWAY6)
TIMERS = ("timer", "ifindex", "link_index", "stats", "operstate", "carrier")
# What the machine counts by itself, whatever a test does.
COUNTED = r"conntrack_count|fib_multipath_hash_seed|/udp_mem|random"


def links(site):
    """Every link of the host but ours, with all its details that time does not move."""
    found = json.loads(site.host.outer_run("ip", "-j", "-d", "link").stdout)
    return {
        link["ifname"]: still(link) for link in found if not is_ours(link["ifname"])
    }


def still(value):
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not any(t in k for t in TIMERS)}
        return {k: still(v) for k, v in kept.items()}
    return value


def is_ours(line):
    return "ul-" in line


def lines(site, *words, unless="$^"):
    shown = site.host.outer_run(*words, check=False).stdout  # some have no reader
    # The other end of a pair, in another namespace: bridge shows it as whatever device
    # of this one has its number, of ours perhaps.
    shown = re.sub(r"@[^\s:]+", "", shown)
    shown = re.sub(
        r"\[\d+:\d+\]|packets \d+ bytes \d+|^#.*$", "", shown, flags=re.MULTILINE
    )
    return sorted(
        x for x in shown.splitlines() if not is_ours(x) and not re.search(unless, x)
    )


def changes(before, after):
    """What is in one and not in the other, by what was looked at."""
    found = {}
    for what, now in after.items():
        was = before[what]
        if isinstance(was, dict):
            was, now = ([f"{k} {v}" for k, v in x.items()] for x in (was, now))
        if difference := set(was) ^ set(now):
            found[what] = sorted(difference)
    return found


def site_iptables(site):
    shown = "".join(
        site.host.run(f"{t}-save").stdout for t in ("iptables", "ip6tables")
    )
    return re.sub(r"\[\d+:\d+\]|#.*", "", shown).splitlines()
