"""Real engines on lab hosts, the service on each; every test must leave nothing."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.lab import wheels
from tests.lab.host import Host
from tests.lab.installed import Installed, OperatedHost
from tests.lab.net import Lan
from tests.lab.rootfs import ENGINES, root
from tests.lab.service import Service, wait_until
from tests.turns import turn

OLDER = "20.10", "26.1"
NOT_IN_TURN = OLDER[turn(len(OLDER))]


def pytest_itemcollected(item):
    """Keep the tests of one file and engine on one worker: a host boots once.

    What is for each engine runs on the newest and on one of the older ones. Said as
    soon as it is collected: xdist looks before collection is modified here.
    """
    if "tests/docker" in item.path.as_posix():
        params = getattr(getattr(item, "callspec", None), "params", {})
        if params.get("site") == NOT_IN_TURN:
            item.add_marker(pytest.mark.long)
        engine = params.get("site", params.get("engine", "28.5"))
        item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}-{engine}"))


LAN4, LAN6 = "10.77.0.0/24", "fd77::/64"
GATEWAY4, GATEWAY6 = "10.77.0.1", "fd77::1"
IPAM = ("--ipam-driver", "underlay")
IPVLAN = pytest.param("ipvlan", marks=pytest.mark.needs("ipvlan"))
# All that a parent changes for: the LAN by each mode, and by proxies for routed.
WAYS_TO_THE_LAN = ["macvlan", IPVLAN, "bridge", "proxy"]


class Site:
    """One Docker host with the service on it, and what tests do there."""

    def __init__(self, host: Host, service: Service) -> None:
        self.host, self.service, self.lan = host, service, host.lan

    def docker(self, *words, check=True):
        return self.host.docker(*words, check=check)

    def network(self, name, *words, subnet=LAN4, gateway=GATEWAY4, ipam=True):
        self.docker(
            "network", "create", "-d", "underlay", *(IPAM if ipam else ()),
            "-o", "parent=eth0", "--subnet", subnet, "--gateway", gateway,
            *words, name,
        )  # fmt: skip

    def dual(self, name, *words):
        self.network(name, "--ipv6", "--subnet", LAN6, "--gateway", GATEWAY6, *words)

    def run(self, name, network, *words):
        self.docker(
            "run", "-d", "--name", name, "--network", network, *words,
            "bb", "sleep", "1000",
        )  # fmt: skip

    def inspect(self, container, form):
        return self.docker("inspect", "-f", form, container).stdout.strip()

    def attached(self, container, network):
        """Return address, IPv6 address and MAC as docker inspect tells them."""
        form = (
            f'{{{{with index .NetworkSettings.Networks "{network}"}}}}'
            "{{.IPAddress}}|{{.GlobalIPv6Address}}|{{.MacAddress}}{{end}}"
        )
        return self.inspect(container, form).split("|")

    def in_container(self, container, *words):
        return self.host.exec(container, *words).stdout

    def ping_from(self, container, address):
        family = "-6" if ":" in address else "-4"
        self.host.exec(container, "ping", family, "-c1", "-W3", address)

    @property
    def ping(self):
        """The words of a ping that needs none on this machine."""
        return ("chroot", str(root("28.5")), "ping")

    def ping_from_lan(self, address):
        self.lan.run(*self.ping, "-c1", "-W3", address)

    def reached_from_lan(self, address):
        command = (*self.ping, "-c1", "-W1", address)
        return self.lan.run(*command, check=False).returncode == 0

    def mac_on_lan(self, address):
        shown = self.lan.run("ip", "neigh", "show", address).stdout
        return re.search(r"lladdr (\S+)", shown)[1]

    def our_links(self):
        shown = self.host.run("ip", "-o", "link").stdout
        return re.findall(r"(ul-[0-9a-f]{12})", shown)

    def dump(self):
        """Return all of the host's network that a driver could change, as text."""
        commands = {
            "links": "ip -d -o link | sed 's/ promiscuity.*//; s/@[^:]*:/:/'",
            "addresses": "ip -o addr | sed 's/valid_lft.*//'",
            "routes": "ip route show table all; ip -6 route show table all",
            "neighbours": "ip neigh show nud permanent; ip neigh show proxy",
            "rules": "ip rule; ip -6 rule",
            "sysctls": (
                "grep -rs '' /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv?/conf"
                " /proc/sys/net/ipv?/neigh | grep -v secret | sort"
            ),
        }
        tentative = ("ip", "-o", "addr", "show", "tentative")
        wait_until(lambda: not self.host.run(*tentative).stdout, 10)
        found = {k: self.host.run("sh", "-c", c).stdout for k, c in commands.items()}
        # By the machine's programs, as the service: those of the host may lack nft.
        for tool in ("iptables", "ip6tables"):
            saved = self.host.outer_run(f"{tool}-save", check=False).stdout
            found[tool] = re.sub(r"^#.*\n|\[\d+:\d+\]", "", saved, flags=re.MULTILINE)
        tables = self.host.outer_run("nft", "list", "tables", check=False).stdout
        found["tables"] = "".join(x for x in tables.splitlines(True) if "underlay" in x)
        # Those of iptables are above.
        theirs = r"^table (?!ip6? (?:nat|filter|mangle|raw|security)$|.* underlay$)(.*)"
        for table in re.findall(theirs, tables, flags=re.MULTILINE):
            listed = self.host.outer_run("nft", "list", "table", *table.split()).stdout
            found[table] = re.sub(r"packets \d+ bytes \d+", "", listed)
        return found

    def live(self):
        """Return what is on record: networks, endpoints, and addresses in use."""
        facts = self.service.on_record()
        return (
            [n["id"] for n in facts["networks"]],
            [e["id"] for e in facts["endpoints"]],
            sum(p["live"] for p in facts["pools"]),
        )

    def clear_containers(self):
        """Remove every container, as a user would."""
        containers = self.docker("ps", "-aq").stdout.split()
        if containers:
            self.docker("rm", "-f", *containers)

    def clear(self):
        """Remove every container and every network of ours, as a user would."""
        self.clear_containers()
        found = self.docker("network", "ls", "-q", "--filter", "type=custom").stdout
        for network in found.split():
            self.docker("network", "rm", network)
        # The next test may give the same address to another MAC at once.
        self.lan.run("ip", "neigh", "flush", "all")
        self.forget_kept()

    def forget_kept(self):
        """Delete what is kept for removed containers: other tests use their names."""
        path = f"{self.service.env['UNDERLAY_STATE_DIR']}/underlay.db"
        forget = (
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]);"
            "db.execute('DELETE FROM reservation WHERE idle = 1');"
            "db.execute('DELETE FROM dhcp_lease WHERE endpoint = ?', ['']);"
            "db.commit();"  # records of an older version have no table of the other
            "db.execute('DELETE FROM dhcpv6_lease WHERE endpoint = ?', ['']);"
            "db.commit()"
        )
        self.host.outer_run("python3", "-c", forget, path, check=False)

    def assert_nothing_left(self):
        wait_until(lambda: self.live() == ([], [], 0), 10, self.live)
        assert self.service.on_record()["pools"] == []
        wait_until(lambda: self.our_links() == [], 5, self.our_links)
        # dockerd itself takes a minute to remove the empty files they were mounted on.
        mounts = self.host.run("cat", "/proc/mounts").stdout
        sandboxes = set(
            re.findall(r"^nsfs /run/docker/netns/(\S+)", mounts, re.MULTILINE)
        )
        assert sandboxes <= {"default"}
        # Firewall rules that nothing needs any more are left to a pass.
        self.wait_for_passes()

    def wait_for_passes(self):
        """Wait until there is nothing to do; names for people come after a start."""

        def plan():
            return self.service.run("plan", check=False).stdout

        wait_until(lambda: plan() == "nothing to do\n", 10, plan)


@pytest.fixture(scope="session")
def lan():
    with Lan() as lan:
        yield lan


def make_site(lan, name, engine, index, kind=Service, **settings):
    host = Host(lan, name, engine, index)
    try:
        host.start()
        site = Site(host, kind(host, **settings))
        site.service.start()
        host.start_dockerd()
        host.load_image()
    except BaseException:
        host.close()
        raise
    return site


@pytest.fixture(scope="session")
def sites(lan):
    """One site for each engine, made when first asked for."""
    made = {}

    def get(engine):
        if engine not in made:
            index = list(ENGINES).index(engine) + 1
            made[engine] = make_site(lan, f"d{engine.replace('.', '')}", engine, index)
        return made[engine]

    yield get
    for site in made.values():
        site.host.close()


@pytest.fixture(scope="module")
def operated(request, lan, tmp_path_factory):
    """A site that systemd boots, with the program of this tree, not yet installed."""
    name = request.module.__name__.rpartition("test_")[2][:8]
    with OperatedHost(lan, name, 6) as host:
        host.load_image()
        site = Site(host, Installed(host))
        site.service.put_program(wheels.own(tmp_path_factory.mktemp("wheel")))
        yield site


@pytest.fixture(params=ENGINES)
def site(request, sites):
    """A site with nothing on it, that must be left so."""
    found = sites(request.param)
    before = len(found.service.log)  # other tests there are refused on purpose
    yield found
    found.clear()
    found.assert_nothing_left()
    said = found.service.log[before:]
    assert "level=error" not in said, said


@pytest.fixture
def newest(sites):
    found = sites("28.5")
    yield found
    found.clear()
    found.assert_nothing_left()


@pytest.fixture
def bridged(request):
    """Make eth0 of a site a port of br0, which has the host's addresses."""
    name = next(n for n in ("site", "newest") if n in request.fixturenames)
    site = request.getfixturevalue(name)
    host = site.host
    move = f"""
        ip link add br0 type bridge
        ip link set br0 up
        ip -6 route del default
        ip addr flush dev eth0 scope global
        ip link set eth0 master br0
        ip addr add {host.ipv4}/24 dev br0
        ip addr add {host.ipv6}/64 dev br0 nodad
        ip route add default via 10.77.0.1
        ip -6 route add default via fd77::1
    """
    back = f"""
        ip link del br0
        ip addr add {host.ipv4}/24 dev eth0
        ip addr add {host.ipv6}/64 dev eth0 nodad
        ip route add default via 10.77.0.1
        ip -6 route add default via fd77::1
    """
    host.outer_run("sh", "-ec", move)
    site.lan.run("ip", "neigh", "flush", "all")
    yield site
    site.clear()
    host.outer_run("sh", "-ec", back)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0, done.stdout
    return done.stderr.strip()
