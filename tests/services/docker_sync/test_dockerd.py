"""What the client of Docker's API does in several threads at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from underlay.docker_sync.dockerd import place, view

# The second thread begins while the first is in the middle of importing `requests`,
# which that does on the way to `urllib3`.
THREADS = """
import importlib.abc, sys, threading, time
from underlay.docker_sync.dockerd import Dockerd

half_way = threading.Event()

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "urllib3":
            half_way.set()
            time.sleep(0.3)

sys.meta_path.insert(0, Slow())
dockerd = Dockerd("unix:///nowhere/docker.sock", 1.0)
ended = []

def asked(question, *words):
    try:
        question(*words)
    except BaseException as error:
        ended.append(type(error).__name__)

first = threading.Thread(target=asked, args=(dockerd.listen, print, None))
second = threading.Thread(target=asked, args=(dockerd.look,))
first.start()
assert half_way.wait(10)
second.start()
first.join()
second.join()
print(*ended)
"""


def test_two_threads_that_ask_first_do_not_block_each_other():
    words = (sys.executable, "-c", THREADS)
    told = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    assert told.stdout.split() == ["OSError", "OSError"]


@pytest.mark.parametrize(
    ("driver", "is_ours"),
    [
        ("underlay", True),
        ("underlay:latest", True),
        ("registry.example:5000/someone/underlay:0.1.0", True),
        ("macvlan", False),
        ("underlay-fork:latest", False),
        ("underlay/other:latest", False),
        ("", False),
    ],
)
def test_networks_of_a_managed_plugin_are_recognized_by_its_name(driver, is_ours):
    pools = [{"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1"}]
    told = {
        "Id": "n1",
        "Name": "lan",
        "Driver": driver,
        "IPAM": {"Driver": driver, "Config": pools},
    }
    (network,) = view([told]).networks
    (subnet,) = network.subnets
    assert (network.ours, subnet.pooled) == (is_ours, is_ours)


# As engine 28.5 describes it.
PLACE = {
    "IPAMConfig": None,
    "Links": ["db:store"],
    "Aliases": ["shop"],
    "MacAddress": "06:fc:15:db:6a:51",
    "DriverOpts": {"identity": "shop"},
    "GwPriority": 7,
    "NetworkID": "n1",
    "EndpointID": "e1",
    "Gateway": "10.77.0.1",
    "IPAddress": "10.77.0.101",
    "IPPrefixLen": 24,
    "DNSNames": ["web", "shop", "187863945c3d"],
}


def described(**more):
    networks = {"other": {"NetworkID": "n2"}, "lan": {**PLACE, **more}}
    return {"State": {"Running": True}, "NetworkSettings": {"Networks": networks}}


def test_container_is_connected_with_what_the_user_asked_for_and_nothing_else():
    found = place(described(), "n1", keeps_mac=False)
    assert (found.is_running, found.is_connected, found.endpoint) == (True, True, "e1")
    assert found.settings == {
        "Links": ["db:store"],
        "Aliases": ["shop"],
        "DriverOpts": {"identity": "shop"},
        "GwPriority": 7,
    }
    assert not found.is_fixed


def test_address_of_the_user_s_choice_is_told():
    chosen = {"IPv4Address": "10.77.0.101"}
    assert place(described(IPAMConfig=chosen), "n1", keeps_mac=False).is_fixed
    chosen = {"LinkLocalIPs": ["169.254.1.1"]}
    found = place(described(IPAMConfig=chosen), "n1", keeps_mac=False)
    assert (found.is_fixed, found.settings["IPAMConfig"]) == (False, chosen)


def test_container_that_was_disconnected_has_no_place():
    assert not place(described(), "n3", keeps_mac=False).is_connected
