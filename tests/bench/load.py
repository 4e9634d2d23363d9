"""Traffic between a place and the LAN's router side, and the CPU time it takes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.host import Host
from tests.lab.net import Namespace

PINGPONG = (sys.executable, str(Path(__file__).with_name("pingpong.py")))
STREAM_PORT, PING_PORT = 5201, 5202
# A measurement may not end by itself when its connection dies.
SPARE_SECONDS = 20
NOT_BUSY = (3, 4)  # idle and iowait, in a line of /proc/stat
PER_GB = 1e9

Command = Callable[..., subprocess.Popen[Any]]


@dataclass(frozen=True)
class Stream:
    """Gbit/s of one stream; CPU seconds per GB, of what carried it and of everything.

    What carried it is both ends and ksoftirqd.
    """

    rate: float
    own: float
    machine: float


@dataclass(frozen=True)
class Trips:
    """Round trips per second, and the microseconds of the middle and a slow one."""

    rate: float
    p50: float
    p99: float


def on_host(host: Host, *before: str) -> Command:
    """Return what starts a command of the machine on a host, after these words."""
    return lambda *argv, **options: host.outer(*before, *argv, **options)


def on_lan(lan: Namespace, *before: str) -> Command:
    """Return what starts a command on the router side, after these words."""
    return lambda *argv, **options: lan.start(*before, *argv, **options)


def serve(start: Command) -> None:
    """Start both servers; they end with the host, or the LAN, that they are on."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start("iperf3", "-s", "-p", str(STREAM_PORT), **quiet)
    start(*PINGPONG, "serve", str(PING_PORT), **quiet)


def stream(start: Command, address: str, port: int, seconds: int) -> Stream:
    """Send to a server as much as goes."""
    softirq, busy = _ksoftirqd(), machine_spent()
    words = ("-c", address, "-p", str(port), "-t", str(seconds), "-J")
    told = json.loads(_output(start, "iperf3", *words, seconds=seconds))
    softirq, busy = _ksoftirqd() - softirq, machine_spent() - busy
    if "error" in told:
        raise RuntimeError(f"iperf3 to {address}: {told['error']}")
    end = told["end"]
    got = end["sum_received"]
    share = end["cpu_utilization_percent"]
    own = (share["host_total"] + share["remote_total"]) / 100 * got["seconds"]
    gigabytes = got["bytes"] / PER_GB
    return Stream(
        got["bits_per_second"] / PER_GB, (own + softirq) / gigabytes, busy / gigabytes
    )


def trips(start: Command, address: str, port: int, seconds: int) -> Trips:
    """Send one byte there and back for so long."""
    words = ("ask", address, str(port), str(seconds))
    spent = json.loads(_output(start, *PINGPONG, *words, seconds=seconds))
    cuts = statistics.quantiles(spent, n=100)
    return Trips(len(spent) / seconds, cuts[49], cuts[98])


def _output(start: Command, *argv: str, seconds: int) -> str:
    pipe = subprocess.PIPE
    process = start(*argv, stdout=pipe, stderr=pipe, text=True)
    try:
        out, err = process.communicate(timeout=seconds + SPARE_SECONDS)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if not out:
        raise RuntimeError(f"{argv[0]} said nothing: {err}")
    return out


def machine_spent() -> float:
    """Return CPU seconds of the whole machine, of which /proc/stat tells anywhere.

    Time that a hypervisor took from the machine (steal) is in no field counted here.
    """
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    ticks = sum(int(word) for n, word in enumerate(words) if n not in NOT_BUSY)
    return ticks / 100  # USER_HZ


def _ksoftirqd() -> float:
    """Return CPU seconds of the threads that packets are put off to under load."""
    found = 0
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text().startswith("ksoftirqd/"):
                found += int((comm.parent / "schedstat").read_text().split()[0])
        except OSError:
            continue  # it has ended meanwhile
    return found / 1e9
