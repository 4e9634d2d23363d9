"""A few containers on networks of one mode, by dockerd's API, and whether all agree."""

from __future__ import annotations

import re

import docker
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool
from requests.exceptions import RequestException

from tests.docker.conftest import GATEWAY4, GATEWAY6, LAN4, Site
from tests.lab.service import wait_until

LATEST_SECONDS = 10
MACVLAN = {"parent": "eth0", "host_access": "off"}
LAN = (LAN4, GATEWAY4)
RANGE, CALM_RANGE, FAR = "10.77.0.64/27", "10.77.0.48/28", ("10.78.0.0/24", "10.78.0.1")
# The options of each network, and its subnets, each with a gateway and a range or not.
NETWORKS = {
    "macvlan": {
        "lan": (MACVLAN | {"host_access": "on"}, [(*LAN, RANGE)]),
        "other": (MACVLAN, [FAR]),
        "calm": (MACVLAN, [(*LAN, CALM_RANGE)]),
    },
    "routed": {
        "lan": ({"mode": "routed", "proxy": "eth0"}, [(RANGE,), ("fd77::1000/120",)]),
        "other": ({"mode": "routed"}, [FAR, ("fd78::/64",)]),
        "calm": (MACVLAN, [("10.77.0.0/26", GATEWAY4, CALM_RANGE)]),
    },
    "bridge": {
        "lan": ({"bridge": "br0"}, [(*LAN, RANGE)]),
        "other": ({"bridge": "br1"}, [FAR]),
        "calm": ({"bridge": "br0"}, [(*LAN, CALM_RANGE)]),
    },
}


class World(Site):
    """Containers c1 and c2 on networks of one mode, and one that stays calm."""

    def __init__(self, host, service, mode):
        super().__init__(host, service)
        self.mode, self.networks = mode, NETWORKS[mode]
        # What Leave came for, but dockerd did not live to take out, goes on there.
        self.states = {"joined"}
        self.open()

    def open(self):
        self.api = docker.APIClient(f"unix://{self.host.docker_socket}", timeout=60)

    # --- what Docker is asked ---

    def create(self, name):
        options, pools = self.networks[name]
        config = [
            IPAMPool(**dict(zip(("subnet", "gateway", "iprange"), pool, strict=False)))
            for pool in pools
        ]
        self.api.create_network(
            name, driver="underlay", options=options,
            ipam=IPAMConfig("underlay", config),
            enable_ipv6=any(":" in pool[0] for pool in pools),
        )  # fmt: skip

    def make(self, name, network="lan"):
        host = self.api.create_host_config(network_mode=network)
        self.api.create_container(
            "bb", ["sleep", "1000"], name=name, host_config=host, stop_signal="SIGKILL"
        )

    def run(self, name, network="lan"):
        self.make(name, network)
        self.api.start(name)

    def connect(self):
        self.api.connect_container_to_network("c1", "other")

    def connect_in_vain(self):
        """Ask for what Docker refuses half way: the device is in the container then.

        Its address and its being up come before a route that is there already.
        """
        route = "ip route add 10.78.0.0/24 dev lo; ip -6 route add fd78::/64 dev lo"
        pid = self.api.inspect_container("c1")["State"]["Pid"]
        self.inside(pid, f"ip link add eth1 type veth peer name far1; {route}")
        self.connect()

    def disconnect(self):
        self.api.disconnect_container_from_network("c1", "other")

    def remove(self, name):
        self.api.remove_container(name, force=True)

    def remove_network(self):
        self.api.remove_network("lan")

    def wipe(self, *networks):
        """Remove the containers that are not calm, and networks."""
        for found in self.api.containers(all=True):
            if found["Names"] != ["/calm"]:
                self.remove(found["Id"])
        for found in self.api.networks():
            if found["Name"] in networks:
                self.api.remove_network(found["Id"])

    def be(self, networks, running=(), stopped=(), connected=()):
        """Make a world of these."""
        self.wipe(*{"lan", "other"} - set(networks))
        there = {found["Name"] for found in self.api.networks()}
        for name in networks:
            if name not in there:
                self.create(name)
        for name in running:
            self.run(name)
        for name in stopped:
            self.make(name)
        for name in connected:
            self.api.connect_container_to_network(name, "other")

    # --- what is ---

    def ours(self):
        """Return Docker's networks of our driver."""
        found = self.api.networks(filters={"driver": "underlay"})
        return [self.api.inspect_network(network["Id"]) for network in found]

    def attached(self, networks):
        """Return what Docker says runs: addresses and MAC by endpoint, with its pid.

        A container keeps to itself what came of a connect that was refused.
        """
        listed = {e["EndpointID"] for n in networks for e in n["Containers"].values()}
        found = {}
        for container in self.api.containers():
            facts = self.api.inspect_container(container["Id"])
            for end in facts["NetworkSettings"]["Networks"].values():
                if end["EndpointID"] in listed:
                    addresses = {end["IPAddress"], end["GlobalIPv6Address"]} - {""}
                    found[end["EndpointID"]] = (
                        facts["Name"], facts["State"]["Pid"], addresses,
                        end["MacAddress"],
                    )  # fmt: skip
        return found

    def calm(self):
        """Return the device of the calm container: its index, name and addresses."""
        pid = self.api.inspect_container("calm")["State"]["Pid"]
        shown = self.inside(pid, "ip -o link show eth0; ip -o addr show eth0")
        return re.sub(r"valid_lft.*", "", shown, flags=re.MULTILINE)

    def inside(self, pid, script):
        done = self.host.run(
            "nsenter", f"--net=/proc/{pid}/ns/net", "sh", "-c", script, check=False
        )
        return done.stdout

    def disagreement(self):
        """Return what Docker, the records and the kernel do not agree on, "" if all."""
        try:
            networks = self.ours()
            attached = self.attached(networks)
        except (APIError, RequestException) as error:
            return f"dockerd: {error}"
        facts = self.service.status()
        if facts is None:
            return "the service is not there"
        on_record = {
            e["id"]: ({a.partition("/")[0] for a in e["addresses"]}, e["mac"])
            for e in facts["endpoints"]
        }
        claims = sum(len(pool["claims"]) for pool in facts["pools"])
        pairs = {
            "endpoints": (on_record, {k: v[2:] for k, v in attached.items()}),
            "states": ({e["state"] for e in facts["endpoints"]} - self.states, set()),
            "networks": (
                {n["id"] for n in facts["networks"]},
                {n["Id"] for n in networks},
            ),
            "claims": (claims, sum(len(n["IPAM"]["Config"]) for n in networks)),
            "addresses": (
                sum(pool["live"] for pool in facts["pools"]),
                len({a for found in attached.values() for a in found[2]}),
            ),
            "troubles": (facts["troubles"], []),
        }  # fmt: skip
        return "; ".join(
            f"{what}: {ours} on record, but {theirs} in Docker"
            for what, (ours, theirs) in pairs.items()
            if ours != theirs
        )

    def unreached(self):
        """Return which devices of containers are not as they should be."""
        wrong = []
        for name, pid, addresses, mac in self.attached(self.ours()).values():
            pings = [
                f"ping -c1 -W2 {there}"
                for here in addresses
                if here.startswith(("10.77.", "fd77:"))
                for there in self.reachable(name, here)
            ]
            said = self.inside(pid, f"ip -o link; ip -o addr; {' && '.join(pings)}")
            missing = [w for w in (mac, *addresses) if f" {w}" not in said]
            if missing or said.count(" 0% packet loss") != len(pings):
                wrong.append(f"{name} lacks {missing or 'the LAN'}: {said}")
        return "; ".join(wrong)

    def surplus(self):
        """Return the containers with more devices of ours than Docker gave them."""
        names = [found[:2] for found in self.attached(self.ours()).values()]
        counts = {
            (name, pid): self.inside(pid, "ip -o link").count("alias underlay:")
            for name, pid in names
        }
        return {who: n for who, n in counts.items() if n != names.count(who)}

    def reachable(self, name, address):
        """Return which of the router and the host a container reaches."""
        router, host = (
            (GATEWAY6, self.host.ipv6) if ":" in address else (GATEWAY4, self.host.ipv4)
        )
        alone = name == "/calm" and self.networks["calm"][0] == MACVLAN
        return [router] if alone else [router, host]

    def plan(self):
        return self.service.run("plan", check=False).stdout

    def check(self):
        """All agree, now or soon."""
        wait_until(lambda: not self.disagreement(), LATEST_SECONDS, self.disagreement)
        wait_until(lambda: self.plan() == "nothing to do\n", LATEST_SECONDS, self.plan)
        assert not self.unreached()
        assert not self.surplus()
