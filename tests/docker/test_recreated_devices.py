"""What Docker gave a device it has again when it is made again, every setting too."""

from __future__ import annotations

import time

import pytest

from tests.docker.site import inside, is_settled
from tests.lab.service import wait_until

LINK_LOCAL = "169.254.8.8"
SYSCTLS = {
    "net.ipv6.conf.IFNAME.accept_ra_rt_info_max_plen": "64",
    "net.ipv6.conf.IFNAME.addr_gen_mode": "1",
    "net.ipv6.conf.IFNAME.mldv1_unsolicited_report_interval": "5000",
    "net.ipv4.conf.IFNAME.force_igmp_version": "2",
    "net.ipv4.conf.IFNAME.arp_notify": "1",
    "net.ipv4.neigh.IFNAME.ucast_solicit": "7",
    "net.ipv6.neigh.IFNAME.retrans_time_ms": "2000",
}
ALL = (
    "cd /proc/sys/net; grep -s '' ipv4/conf/eth0/* ipv6/conf/eth0/*"
    " ipv4/neigh/eth0/* ipv6/neigh/eth0/*; :"
)
SHOWN = "ip -o addr show dev eth0; ip route show; ip -6 route show"


def settings(site):
    return inside(site, "web", "sh", "-c", ALL).splitlines()


def made_again(site):
    """Delete the container's device, and return once the service has made it again."""
    inside(site, "web", "ip", "link", "del", "eth0")

    def is_back():
        plan = site.service.run("plan", check=False).stdout
        return plan == "nothing to do\n" and "eth0" in inside(site, "web", "ip", "link")

    wait_until(is_back, 15, lambda: site.service.run("plan", check=False).stdout)


@pytest.mark.parametrize("mode", ["macvlan", "routed"])
def test_link_local_address_from_docker_is_maintained(site, mode):
    if mode == "macvlan":
        site.network("lan", "--ip-range", "10.77.0.128/28")
    else:
        site.docker(
            "network", "create", "-d", "underlay", "--ipam-driver", "underlay",
            "-o", "mode=routed", "--subnet", "10.88.0.0/24", "lan",
        )  # fmt: skip
    site.run("web", "lan", "--link-local-ip", LINK_LOCAL)
    wait_until(lambda: is_settled(site), 20, lambda: site.service.log)
    before = sorted(inside(site, "web", "ip", "route").splitlines())
    assert f"inet {LINK_LOCAL}/16" in inside(site, "web", "sh", "-c", SHOWN)
    made_again(site)
    assert f"inet {LINK_LOCAL}/16" in inside(site, "web", "sh", "-c", SHOWN)
    assert sorted(inside(site, "web", "ip", "route").splitlines()) == before
    inside(site, "web", "ip", "addr", "del", f"{LINK_LOCAL}/16", "dev", "eth0")
    wait_until(
        lambda: f"inet {LINK_LOCAL}/16" in inside(site, "web", "sh", "-c", SHOWN), 15
    )


def test_recreated_device_has_every_sysctl_as_before(newest):
    site = newest
    site.dual("lan")
    said = ",".join(f"{key}={value}" for key, value in SYSCTLS.items())
    site.docker("create", "--name", "web", "--network", "none", "bb", "sleep", "1000")
    option = f'"com.docker.network.endpoint.sysctls={said}"'  # one word of CSV
    site.docker("network", "disconnect", "none", "web")
    site.docker("network", "connect", "--driver-opt", option, "lan", "web")
    site.docker("start", "web")
    wait_until(lambda: is_settled(site), 20, lambda: site.service.log)
    before = settings(site)
    for key, value in SYSCTLS.items():
        path = key.removeprefix("net.").replace("IFNAME", "eth0").replace(".", "/")
        assert f"{path}:{value}" in before
    made_again(site)
    assert settings(site) == before


def test_queue_for_multicast_is_set_and_repaired(newest):
    newest.network("lan", "-o", "bcqueuelen=5000")
    newest.run("web", "lan")
    sandbox = f"--net=/proc/{newest.host.pid_of('web')}/ns/net"

    def shown():
        ip = ("ip", "-d", "link", "show", "eth0")
        return newest.host.run("nsenter", sandbox, *ip).stdout

    assert " bcqueuelen 5000 " in shown()
    words = ("ip", "link", "set", "eth0", "type", "macvlan", "bcqueuelen", "7")
    time.sleep(1)  # until the service has looked into the sandbox
    newest.host.run("nsenter", sandbox, *words)
    wait_until(lambda: " bcqueuelen 5000 " in shown(), 10, shown)
