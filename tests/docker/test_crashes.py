"""The service or dockerd dies at every point of every verb: afterwards all agree.

The service is tests/lab/faults.py, which says what a point is. At each one a verb of
Docker's is cut off; the service is started again, and after the grace time the records,
the kernel and Docker agree: nothing leaked, nothing is there twice, nothing that lives
was freed, and a container that ran all along was never touched.

By default the service dies at every twelfth point, and dockerd, which takes longer, at
one of a few points: at other ones for another commit. UNDERLAY_CRASH_POINTS is 0 to 11
to choose, or `all`, as in `script/test long`.
"""

from __future__ import annotations

import gc
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from docker.errors import APIError
from requests.exceptions import RequestException

from tests.docker.world import NETWORKS, World
from tests.lab.host import Host
from tests.lab.service import Mortal, wait_until
from tests.turns import turn

PERIOD_SECONDS, GRACE_SECONDS = 0.2, 1.0
EVERY = 12
# A live container that is freed by mistake is freed by then.
SETTLED_SECONDS = GRACE_SECONDS + 4 * PERIOD_SECONDS


CHOSEN = os.environ.get("UNDERLAY_CRASH_POINTS") or str(turn(EVERY))
BRIDGES = """
    ip link add br1 type bridge
    ip link set br1 up
    ip link add br0 type bridge
    ip link set br0 up
    ip -6 route del default
    ip addr flush dev eth0 scope global
    ip link set eth0 master br0
    ip addr add {ipv4}/24 dev br0
    ip addr add {ipv6}/64 dev br0 nodad
    ip route add default via 10.77.0.1
    ip -6 route add default via fd77::1
"""

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module", params=NETWORKS)
def site(request, lan):
    """A world whose service is mortal; it ends with nothing left."""
    mode = request.param
    with Host(lan, f"m{mode[:2]}", "28.5", 5) as host:
        if mode == "bridge":
            setup = BRIDGES.format(ipv4=host.ipv4, ipv6=host.ipv6)
            host.outer_run("sh", "-ec", setup)
        service = Mortal(host, period=PERIOD_SECONDS, grace=GRACE_SECONDS)
        service.start()
        # So that what runs can be told to be untouched by a dockerd that was killed.
        host.start_dockerd("--live-restore")
        host.load_image()
        world = World(host, service, mode)
        world.create("calm")
        world.run("calm", "calm")
        yield world
        world.api.close()
        world.clear()
        world.assert_nothing_left()
        assert "level=error" not in service.log, service.log


@pytest.fixture
def calm(site):
    """A container that runs is never touched, and reaches the LAN at the end."""
    before, site.states = site.calm(), {"joined"}
    yield
    site.service.arm()
    site.wipe("lan", "other")
    site.check()
    assert site.calm() == before


# What a verb begins with, and what Docker is then asked.
VERBS = {
    "network-create": ({"networks": ()}, [lambda w: w.create("lan")]),
    "run": ({"networks": ["lan"]}, [lambda w: w.run("c1"), lambda w: w.run("c2")]),
    "connect": ({"networks": ["lan", "other"], "running": ["c1"]}, [World.connect]),
    "connect-in-vain": (
        {"networks": ["lan", "other"], "running": ["c1"]},
        [World.connect_in_vain],
    ),
    "disconnect": (
        {"networks": ["lan", "other"], "running": ["c1"], "connected": ["c1"]},
        [World.disconnect],
    ),
    "stop": (
        {"networks": ["lan"], "running": ["c1", "c2"]},
        [lambda w: w.api.stop("c2")],
    ),
    "start": (
        {"networks": ["lan"], "running": ["c1"], "stopped": ["c2"]},
        [lambda w: w.api.start("c2")],
    ),
    "rm": ({"networks": ["lan"], "running": ["c1"]}, [lambda w: w.remove("c1")]),
    "network-rm": ({"networks": ["lan"]}, [World.remove_network]),
}


def asked(world, verb):
    """Ask Docker for all of a verb; it may refuse, or die."""
    for ask in VERBS[verb][1]:
        with suppress(APIError, RequestException):
            ask(world)


def points(world, verb):
    """Return the labels of all points of a verb, of which none is hit."""
    world.be(**VERBS[verb][0])
    world.service.arm()
    asked(world, verb)
    found = world.service.passed()
    world.check()
    return found


def some(numbers, verb):
    """Return every twelfth of them, at least one, or all."""
    if CHOSEN == "all":
        return numbers
    first = (list(VERBS).index(verb) + int(CHOSEN)) % EVERY
    return numbers[first::EVERY] or numbers[-1:]


def told(wrong):
    """Return what went wrong, and how to have it go wrong again."""
    return "\n".join([f"UNDERLAY_CRASH_POINTS={CHOSEN}", *filter(None, wrong)])


def few(labels):
    """Return the numbers of some points: each commit, and three kernel calls."""
    commits = [n for n, label in enumerate(labels, 1) if "after COMMIT" in label]
    calls = [n for n, label in enumerate(labels, 1) if "COMMIT" not in label]
    ends = {*calls[:1], *calls[len(calls) // 2 :][:1], *calls[-1:]}
    return sorted({*commits, *ends})


def struck(world, verb, number, strike):
    """Strike at a point, if there is such a one this time; tell what was wrong then."""
    began, wrong = time.monotonic(), ""
    try:
        world.be(**VERBS[verb][0])
        strike(world, verb, number)
        label = world.service.struck()
        # A pass may take a step before the verb comes to it.
        assert label or number > len(world.service.passed())
        since = time.time() - (world.service.struck_at if label else time.time())
        time.sleep(max(0, SETTLED_SECONDS - since))
        world.check()
    except (AssertionError, APIError, RequestException, OSError) as error:
        wrong = f"{type(error).__name__}: {error}"
    where = f"{number}: {world.service.struck()}"
    took = time.monotonic() - began
    print(f"{verb} {where} ({took:.1f} s) {wrong}")  # noqa: T201 - if it fails
    return f"{where}: {wrong}" if wrong else ""


def kill_service(world, verb, number):
    world.service.arm(number, "die")
    asked(world, verb)
    # It is not to strike in the next verb if this one had fewer points than before.
    world.service.disarm()


def kill_dockerd(world, verb, number):
    world.service.arm(number, "hold")
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(asked, world, verb)
        wait_until(lambda: world.service.struck() or asking.done(), 30)
        world.host.kill_dockerd()
        world.service.disarm()
    world.host.start_dockerd("--live-restore")
    world.api.close()
    with warnings.catch_warnings():
        # The client does not close what was cut off.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    world.open()


@pytest.mark.longer
@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("verb", VERBS)
def test_service_killed_at_any_point_of_a_verb_leaves_consistent_state(site, verb):
    labels = points(site, verb)
    numbers = range(1, len(labels) + 1)
    numbers = some(numbers, verb)
    wrong = [struck(site, verb, n, kill_service) for n in numbers]
    assert labels
    assert not any(wrong), told(wrong)


@pytest.mark.longer
@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("verb", VERBS)
def test_dockerd_killed_during_a_verb_leaves_consistent_state(site, verb):
    site.states = {"joined", "left"}
    numbers = some(few(points(site, verb)), verb)
    wrong = [struck(site, verb, n, kill_dockerd) for n in numbers]
    assert numbers
    assert not any(wrong), told(wrong)


@pytest.mark.usefixtures("calm")
def test_network_whose_creation_outlasts_the_grace_time_keeps_its_pools(site):
    """Docker has its PoolIDs, and does not list it yet: the clean-up looks twice."""
    labels = points(site, "network-create")
    site.be(networks=())
    site.service.arm(labels.index("CreateNetwork before programs") + 1, "hold")
    with ThreadPoolExecutor(1) as pool:
        creating = pool.submit(site.create, "lan")
        wait_until(site.service.struck, 30)
        # Docker is asked once a second.
        time.sleep(GRACE_SECONDS + 3.0)
        pools = site.service.status()["pools"]
        site.service.disarm()
        creating.result()
    # The calm one's, and its own.
    claims = sum(len(pool["claims"]) for pool in pools)
    assert claims == 1 + len(site.networks["lan"][1])
    site.run("c1")
    site.check()
