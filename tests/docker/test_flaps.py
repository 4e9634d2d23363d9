"""The parent goes and comes back: the containers on it are reached again at once."""

from __future__ import annotations

import re
import signal
import subprocess
import time

import pytest

from tests.docker.conftest import make_site
from tests.docker.site import PERIOD_SECONDS, Nic, is_settled
from tests.lab.service import wait_until

CONTAINERS = 10
# From the parent being back until the first answer. It is less than two on a machine
# that does nothing else: `script/bench reconcile` measures it.
BACK_SECONDS = 6.0


@pytest.fixture(scope="module")
def rack(lan):
    """A host with a second card, that leads to the LAN too."""
    made = make_site(lan, "rack", "28.5", 8, period=PERIOD_SECONDS)
    yield made
    made.host.close()


@pytest.fixture
def nic(rack):
    found = Nic(rack, "nic0")
    found.plug()
    yield found
    found.unplug()


class Pings:
    """`ping -D` from the LAN to many addresses at once, ten times a second."""

    def __init__(self, site, addresses):
        command = ("-D", "-n", "-i0.1", "-W1")
        self.running = {
            address: site.lan.start(
                *site.ping, *command, address, stdout=subprocess.PIPE, text=True
            )
            for address in addresses
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running.values():
            process.kill()
            process.wait()

    def answers(self):
        """End them; return when each address answered, in seconds since 1970."""
        found = {}
        for address, process in self.running.items():
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate()
            found[address] = [
                float(when)
                for when in re.findall(r"^\[([\d.]+)\].*ttl=", said, re.MULTILINE)
            ]
        return found


def start(site, *words, subnet="10.77.0.0/24"):
    """Start the containers of a network of our own; return their addresses."""
    site.docker(
        "network", "create", "-d", "underlay", "--ipam-driver", "underlay",
        "--subnet", subnet, *words, "lan",
    )  # fmt: skip
    for number in range(CONTAINERS):
        site.run(f"c{number}", "lan")
    wait_until(lambda: is_settled(site), 20, lambda: site.service.log[-2000:])
    return [site.attached(f"c{n}", "lan")[0] for n in range(CONTAINERS)]


def devices(site):
    """Return what each container has: MAC, MTU, addresses, routes."""
    words = "ip -o link show eth0; ip -o addr show eth0; ip route"
    shown = {}
    for number in range(CONTAINERS):
        text = site.in_container(f"c{number}", "sh", "-c", words)
        text = re.sub(r"^\d+: |@if\d+|,M-DOWN|qlen \d+", "", text, flags=re.MULTILINE)
        shown[number] = sorted(" ".join(line.split()) for line in text.splitlines())
    return shown


def starts(site):
    """When each container was started, and by which process."""
    running = site.docker("ps", "-q", "--no-trunc").stdout.split()
    form = "{{.Id}} {{.State.StartedAt}} {{.State.Pid}}"
    return site.docker("inspect", "-f", form, *running).stdout


def flap(site, addresses, go, come_back):
    """Have the parent go and come back under pings."""
    before = devices(site)
    started = starts(site)
    with Pings(site, addresses) as pings:
        time.sleep(0.5)
        go()
        time.sleep(0.5)
        come_back()
        back = time.time()
        time.sleep(BACK_SECONDS)
        answers = pings.answers()
    late = {}
    for address, times in answers.items():
        after = [when - back for when in times if when > back]
        late[address] = min(after, default=float("inf"))
    assert max(late.values()) < BACK_SECONDS, (late, site.service.log[-3000:])
    after = devices(site)
    for number, shown in before.items():
        assert after[number] == shown
    assert starts(site) == started


RANGE = ("--ip-range", "10.77.0.128/25")


def test_macvlan_children_follow_their_flapping_parent(rack, nic):
    site = rack
    addresses = start(site, "-o", f"parent={nic.name}", *RANGE)
    mac = nic.mac

    def down():
        site.host.run("ip", "link", "set", nic.name, "down")

    flap(site, addresses, down, nic.configure)
    flap(site, addresses, nic.unplug, lambda: nic.plug(mac))
    flap(site, addresses, nic.unplug, nic.plug)
    flap(site, addresses, lambda: nic.rename("lan7"), lambda: nic.rename("lan8"))
    site.clear()
    site.assert_nothing_left()


def test_routed_containers_return_with_the_host_s_own_card(rack, nic):
    site = rack
    site.lan.run("ip", "route", "add", "10.99.0.0/24", "via", site.host.ipv4)
    addresses = start(
        site, "-o", "mode=routed", "-o", f"proxy={nic.name}", subnet="10.99.0.0/24"
    )
    mac = nic.mac

    def down():
        site.host.run("ip", "link", "set", nic.name, "down")

    def pairs_gone():
        shown = site.host.run("ip", "-br", "link").stdout
        for pair in re.findall(r"^ul-\w+", shown, re.MULTILINE):
            site.host.run("ip", "link", "del", pair, check=False)

    try:
        flap(site, addresses, down, nic.configure)
        flap(site, addresses, nic.unplug, lambda: nic.plug(mac))
        flap(site, addresses, pairs_gone, lambda: None)
        shown = site.host.run("ip", "neigh", "show", "proxy").stdout
        assert shown.count(nic.name) == CONTAINERS
    finally:
        site.lan.run("ip", "route", "del", "10.99.0.0/24")
    site.clear()
    site.assert_nothing_left()


def test_lan_reaches_routed_containers_through_whichever_card_answers(rack, nic):
    """Their pool is a part of the LAN's subnet: nothing but the proxy leads there."""
    site, pool = rack, "10.77.0.192/27"
    addresses = start(site, "-o", "mode=routed", "-o", f"proxy={nic.name}", subnet=pool)
    mac = nic.mac

    def forget():
        """Have the LAN ask again."""
        site.lan.run("ip", "neigh", "flush", "all")

    def renamed():
        nic.rename("lan8")
        forget()

    def another_mac():
        site.host.run("ip", "link", "set", nic.name, "address", "02:00:00:00:00:c7")

    # The LAN is not made to forget a MAC that no container has any more.
    flap(site, addresses, nic.unplug, nic.plug)
    assert {site.mac_on_lan(a) for a in addresses} == {nic.mac} != {mac}
    flap(site, addresses, lambda: None, another_mac)
    flap(site, addresses, lambda: nic.rename("lan7"), renamed)
    shown = site.host.run("ip", "neigh", "show", "proxy").stdout
    assert shown.count("lan8") == CONTAINERS
    site.clear()
    site.assert_nothing_left()


def test_bridged_containers_return_with_their_bridge_and_its_card(rack, nic):
    site, host = rack, rack.host

    def bridge():
        """Do what a network service does: the bridge, and the card in it."""
        mac = ("address", "02:00:00:00:00:b7")
        host.run("ip", "link", "add", "br7", *mac, "type", "bridge")
        host.run("ip", "link", "set", "br7", "up")
        host.run("ip", "link", "set", nic.name, "master", "br7")

    def no_bridge():
        host.run("ip", "link", "del", "br7")

    def card():
        nic.plug()
        host.run("ip", "link", "set", nic.name, "master", "br7")

    bridge()
    addresses = start(site, "-o", "bridge=br7", *RANGE)
    flap(site, addresses, nic.unplug, card)
    flap(site, addresses, no_bridge, bridge)
    site.clear()
    site.assert_nothing_left()
    no_bridge()
