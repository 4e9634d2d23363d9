"""Measure the control or data path, routed endpoints, repairs, DHCP, a power cut."""

from __future__ import annotations

import argparse
import signal
import sys

from tests.bench.control import control
from tests.bench.cost import cost
from tests.bench.datapath import Asked, datapath
from tests.bench.dhcp import dhcp
from tests.bench.foreign import foreign
from tests.bench.power_cut import power
from tests.bench.reconcile import reconcile
from tests.bench.routed import routed
from tests.bench.veth_floor import veth_floor
from tests.lab.rootfs import ENGINES


def main() -> None:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    paths = parser.add_subparsers(dest="what", required=True)
    one = paths.add_parser("control", help="what containers cost")
    one.add_argument("--runs", type=int, default=15, help="at least 10")
    costs = paths.add_parser("cost", help="their CPU time, and starts on a busy host")
    costs.add_argument("--runs", type=int, default=12, help="at least 10")
    other = paths.add_parser("datapath", help="what their traffic costs")
    other.add_argument("--rounds", type=int, default=7, help="at least 3")
    other.add_argument("--seconds", type=int, default=1, help="for each figure")
    other.add_argument("--spread", action="store_true", help="not on one core")
    other.add_argument("--single", action="store_true", help="no TSO on the wire")
    other.add_argument("--no-uml", action="store_true", help="without ipvlan")
    many = paths.add_parser("routed", help="what many routed endpoints cost")
    many.add_argument("--count", type=int, default=1000, help="at least 200")
    repairs = paths.add_parser("reconcile", help="what passes cost, and repairs take")
    repairs.add_argument("--times", type=int, default=20, help="at least 20")
    paths.add_parser("foreign", help="what passes cost beside others' things")
    lease = paths.add_parser("dhcp", help="what addresses of a DHCP server cost")
    lease.add_argument("--runs", type=int, default=12, help="at least 10")
    lease.add_argument("--leases", type=int, default=5000, help="at least 2000")
    floor = paths.add_parser("veth", help="what a round trip over a veth costs")
    floor.add_argument("--rounds", type=int, default=9, help="at least 3")
    boots = paths.add_parser("power", help="what a boot after a power cut takes")
    boots.add_argument("--rounds", type=int, default=7, help="at least 5")
    boots.add_argument("--containers", type=int, default=50)
    for path in (one, costs, other, lease):
        path.add_argument("--engine", choices=ENGINES, default="28.5")
    given = parser.parse_args()
    if given.what in ("control", "cost", "dhcp") and given.runs < 10:
        parser.error("--runs: a median of fewer than 10 says little")
    if given.what == "dhcp" and given.leases < 2000:
        parser.error("--leases: what fewer than 2000 cost is not seen")
    if given.what == "veth" and given.rounds < 3:
        parser.error("--rounds: a median of fewer than 3 says little")
    if given.what == "datapath" and (given.rounds < 3 or given.seconds < 1):
        parser.error("a median of fewer than 3 rounds, or of no time, says little")
    if given.what == "routed" and given.count < 200:
        parser.error("--count: a fifth of fewer than 200 says little")
    if given.what == "reconcile" and given.times < 20:
        parser.error("--times: a median of fewer than 20 says little")
    if given.what == "power" and given.rounds < 5:
        parser.error("--rounds: a median of fewer than 5 says little")
    # Both unwind, and what was made is removed on the way out. A shell lets what it
    # starts in the background ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        met = measure(given)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if met else 1)


def measure(given: argparse.Namespace) -> bool:
    if given.what == "control":
        return control(given.engine, given.runs)
    if given.what == "cost":
        return cost(given.engine, given.runs)
    if given.what == "dhcp":
        return dhcp(given.engine, given.runs, given.leases)
    if given.what == "routed":
        return routed(given.count)
    if given.what == "reconcile":
        return reconcile(given.times)
    if given.what == "foreign":
        return foreign()
    if given.what == "veth":
        return veth_floor(given.rounds)
    if given.what == "power":
        return power(given.rounds, given.containers)
    asked = Asked(given.engine, given.rounds, given.seconds, given.spread, given.single)
    return datapath(asked, not given.no_uml)


if __name__ == "__main__":
    main()
