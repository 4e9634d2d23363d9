"""What users read when something cannot be: exact texts, through the docker CLI."""

from __future__ import annotations

import re

import pytest

from tests.docker.conftest import IPAM, Site
from tests.kinds import has
from tests.lab.service import wait_until

CREATE = ("network", "create", "-d", "underlay")
ON_LAN = (*CREATE, *IPAM, "-o", "parent=eth0", "--subnet", "10.77.0.0/24")
SIX = ("--ipv6", "--subnet", "fd77::/64")
RUN = ("run", "--rm", "--network")

# Made once for all cases: networks and containers that are in the way.
SCENE = (
    (*ON_LAN, "--gateway", "10.77.0.1", "--aux-address", "nas=10.77.0.9", "lan"),
    (*CREATE, *IPAM, "-o", "parent=eth0", "--subnet", "10.78.0.0/30",
     "--gateway", "10.78.0.1", "small"),
    (*CREATE, *IPAM, "-o", "parent=eth0", *SIX, "--subnet", "10.76.0.0/24", "six"),
    ("run", "-d", "--name", "web", "--network", "lan", "--ip", "10.77.0.5",
     "--mac-address", "02:00:00:00:00:05", "bb", "sleep", "1000"),
    ("run", "-d", "--name", "full", "--network", "small", "bb", "sleep", "1000"),
)  # fmt: skip


def net(*words):
    return (*ON_LAN, *words, "no")


def leased(*words):
    return (*CREATE, *IPAM, "--ipam-opt", "source=dhcp", *words, "no")


def on(network, *words):
    return (*RUN, network, *words, "bb", "true")


def told(done) -> str:
    """The driver's own sentence within what the CLI prints around it."""
    assert done.returncode != 0, done.stdout
    found = re.search(r"E-\d{3} .*", done.stderr)
    assert found, done.stderr
    # Since when differs from run to run.
    text = re.sub(r" since \d{4}-\d\d-\d\d \d\d:\d\d", " since then", found[0])
    return text.removesuffix(".; rolled back")


OPTIONS = (
    "Known options: allow_from, bcqueuelen, client_id, com.docker.network.driver.mtu,"
    " com.docker.network.endpoint.ifname, default_route, egress, gateway, hold,"
    " host_access,"
    " hostname, identity, ifname, ipv6, lease_mtu, lease_routes, lease_timeout, mac_budget,"
    " macvlan_mode,"
    " missing_parent, mode, mtu, on_change, parent, ping, policy, probe, repair, route,"
    " source, strict, vlan,"
    " when_lost."
)
ENDPOINT_OPTIONS = (
    "Known options: allow_from, client_id, com.docker.network.driver.mtu,"
    " com.docker.network.endpoint.ifname, default_route, egress, identity, ifname,"
    " missing_parent, mtu, ping, policy, repair, route, strict, suffix."
)
MTU = "is not valid: a number of bytes from 68 to 65535."
HERE = "Devices: docker0, eth0."
TOO_BIG = (
    "E-105 mtu 9000 is larger than the MTU of parent eth0, which cannot send frames of"
    " more than 1500 bytes. Use at most 1500, or raise the MTU of eth0 first."
)
TOO_SMALL = (
    "E-106 mtu 1000 is too small for IPv6: below 1280 the kernel switches IPv6 off on"
    " the device. Use 1280 or more, or a network without IPv6."
)
NO_SUBNET = (
    "subnet given: a container on the real network needs the subnet of that network, and"
    " Docker gives an IPAM driver nothing to derive it from. Add --subnet, for"
    " example --subnet"
)
OVERLAP = (
    "overlaps 10.77.0.0/24, which network lan uses in domain 'default'. To share that"
    " pool, use --subnet 10.77.0.0/24. If the two are different networks with the same"
    " addresses, add --ipam-opt domain=<name>."
)
WEB = "container web of network lan has it"
SINCE = f"{WEB} since then"
TWO_MACS = (
    "Two devices with one MAC on a segment lose each other's frames. Choose another"
    " --mac-address, or leave it out."
)
NO_MAC = (
    "cannot be used: it is not a unicast address. Use one such as 02:00:00:00:00:01, or"
    " leave --mac-address out."
)
OTHER_MODE = "Use another mode."
# Kernels differ: what this one lacks is said before what is in the way.
NO_IPVLAN = (
    "E-120 eth0 has macvlan devices already (network lan), and the kernel allows either"
    " macvlan or ipvlan on one parent, not both. Use mode=macvlan, or another parent."
    if has("ipvlan")
    else "E-126 this kernel has no ipvlan, which mode ipvlan needs: mode=macvlan works"
    " here, or load the module (modprobe ipvlan)."
)
NO_VLAN = (
    "E-126 this kernel has no 8021q, which VLAN eth0.50 needs: mode=macvlan works here"
    " on a device that the switch sends that VLAN to untagged (-o parent=<device>)."
)
NO_DUMMY = (
    "E-126 this kernel has no dummy, which a network without a parent needs:"
    " mode=macvlan works here on a device (-o parent=<device>, with --internal if"
    " no traffic is to leave)."
)


def bare(*words):
    return (*CREATE, *IPAM, *words, "no")


def taken(address, holder):
    used = f"(underlay history {address} shows what used it)"
    or_free = f", or free this one first {used}" if holder == SINCE else ""
    return f"E-140 {address} is taken: {holder}. Choose another address{or_free}."


def unusable(address, what):
    return (
        f"E-143 {address} is the {what} address of 10.77.0.0/24, which no host may have."
        " Choose an address from 10.77.0.1 to 10.77.0.254."
    )


def unknown(key, known, *, what="network", near=""):
    hint = f" Did you mean '{near}'?" if near else ""
    return f"E-100 unknown {what} option '{key}'.{hint} {known}"


TEN5 = ("--subnet", "10.5.0.0/24")
ROUTED = ("-o", "mode=routed", *TEN5)
CASES = [
    (net("-o", "paren=eth1"), unknown("paren", OPTIONS, near="parent")),
    (net("-o", "foo=bar"), unknown("foo", OPTIONS)),
    (
        net("-o", "ipv6=radvd"),
        "E-101 ipv6='radvd' is not valid: one of off, slaac, suffix, dhcp.",
    ),
    (
        on("name=lan,driver-opt=suffix=::53"),
        "E-101 suffix='::53' is not valid: it is for networks with -o ipv6=suffix.",
    ),
    (
        net("-o", "suffix=::53"),
        "E-100 unknown network option 'suffix'. It is for one container: --network"
        f" name=lan,driver-opt=suffix=::53. {OPTIONS}",
    ),
    (
        net("-o", "ipv6=slaac", "--internal"),
        "E-169 ipv6=slaac is not possible here: the network is --internal, and"
        " advertisements bring a way out. Leave one of the two out.",
    ),
    (
        net("-o", "ipv6=slaac", "-o", "repair=off"),
        "E-104 ipv6=slaac and repair=off cannot be combined. Keep one of them.",
    ),
    (net("-o", "macvlan_mod=vepa"), unknown("macvlan_mod", OPTIONS, near="macvlan_mode")),
    (net("-o", "host_acces=on"), unknown("host_acces", OPTIONS, near="host_access")),
    (
        net("-o", "mode=macvlam"),
        "E-102 unknown mode 'macvlam'. Did you mean 'macvlan'?"
        " Modes: bridge, ipvlan, macvlan, routed.",
    ),
    (net("-o", "mode=ipvlan"), NO_IPVLAN),
    (net("-o", "ipvlan_mode=l3"), NO_IPVLAN),
    (
        net("-o", "mode=routed"),
        "E-109 parent=eth0 cannot be used with mode=routed: the routes of the host decide"
        " which device the traffic takes. Leave it out. To have the host answer ARP for"
        " the containers on a device, use -o proxy=<device>.",
    ),
    (bare(*ROUTED, "-o", "table=255"), "E-101 table='255' is not valid: a routing table;"
     " 255 is the kernel's own."),
    (bare(*ROUTED, "--internal"), "E-109 --internal cannot be used with"
     " mode=routed: a routed network has no segment of its own. With default_route=no"
     " its containers reach the subnets of the network only."),
    (bare(*ROUTED, "-o", "gateway=none"), "E-109 gateway=none cannot be used with"
     " mode=routed: containers reach everything through the gateway, each other too. For"
     " containers without a default route, use default_route=no."),
    (bare(*ROUTED, "-o", "host_access=off"), "E-101 host_access='off' is not valid: only"
     " on is possible, because the host is the router of its containers."),
    (bare(*ROUTED, "-o", "proxy=eth1"), f"E-123 device 'eth1' does not exist on this"
     f" host. Did you mean 'eth0'? {HERE}"),
    (
        bare(
            "-o", "mode=routed", "--subnet", "10.77.0.0/28", "--gateway", "10.77.0.1",
            "--ipam-opt", "domain=elsewhere",
        ),
        "E-108 gateway 10.77.0.1 cannot be used: a machine on the LAN answers for it, and"
        " in a routed network the host itself takes the address of the gateway. Use"
        " another subnet, or a part of the LAN's subnet that does not contain 10.77.0.1,"
        " or a gateway outside both (-o gateway=169.254.1.1).",
    ),
    (
        bare("-o", "mode=routed", "--subnet", "10.77.0.0/24", "--gateway", "10.77.0.1"),
        "E-116 subnet 10.77.0.0/24 cannot be routed to containers: the host is in it with"
        " 10.77.0.13/24, and would lose its route to all addresses there that no"
        " container has, including the router's. Use another subnet, or a part of this"
        " one that contains neither the host nor the router.",
    ),
    ((*CREATE, *ROUTED, "no"), "E-107 mode=routed needs the IPAM driver underlay: a"
     " routed container has a single address (/32 or /128), and the IPAM driver that"
     " manages 10.5.0.0/24 gives addresses with the prefix length of the subnet. Add"
     " --ipam-driver underlay."),
    *[
        (net("-o", option), f"E-115 {option} needs mode=routed, and this"
         f" network is macvlan. Add -o mode=routed, or leave {option} out.")
        for option in ("table=5", "proxy=eth0", "masquerade=on")
    ],
    (net("-o", "macvlan_mode=vepa", "-o", "host_access=on"), "E-101 host_access='on' is"
     " not valid: only off is possible, because macvlan_mode=vepa keeps the host apart"
     " from its containers."),
    (
        net("-o", "ipvlan_mode=L3"),
        "E-101 ipvlan_mode='L3' is not valid: one of l2, l3, l3s. Did you mean 'l3'?",
    ),
    (
        net("-o", "ipvlan_flag=hairpin"),
        "E-101 ipvlan_flag='hairpin' is not valid: one of bridge, private, vepa.",
    ),
    (
        net("-o", "vlan=4095"),
        "E-101 vlan='4095' is not valid: a number from 1 to 4094.",
    ),
    (
        bare("-o", "vlan=50", *TEN5),
        "E-101 vlan='50' is not valid: a VLAN needs a parent. Add -o parent=<device>.",
    ),
    (
        bare("-o", "parent=eth0.5000", *TEN5),
        "E-124 parent 'eth0.5000' cannot be used: VLAN 5000 is not from 1 to"
        f" 4094. {HERE}",
    ),
    (
        net("-o", "mode=macvlan", "-o", "ipvlan_mode=l2"),
        "E-104 mode=macvlan and ipvlan_mode=l2 cannot be combined. Keep one of them.",
    ),
    (
        net("-o", "macvlan_mode=bridge", "-o", "ipvlan_flag=vepa"),
        "E-104 macvlan_mode=bridge and ipvlan_flag=vepa cannot be combined. Keep one of"
        " them.",
    ),
    (
        net("-o", "mode=l2"),
        "E-102 unknown mode 'l2'. Did you mean 'ipvlan_mode=l2'?"
        " Modes: bridge, ipvlan, macvlan, routed.",
    ),
    (
        net("-o", "host_iface=eth1"),
        unknown("host_iface", OPTIONS, near="parent=eth1"),
    ),
    (
        net("-o", "mode=bridge"),
        "E-152 mode=bridge with parent=eth0 makes a bridge in the place of eth0, and"
        " moves the host's own addresses and routes from eth0 to it. If that bridge"
        " exists already, this network joins it, and nothing moves. If you want this, add"
        " -o takeover=yes. If you want macvlan, where each container has a device of its"
        " own on eth0 and the host keeps its addresses there, leave mode=bridge out, or"
        " use -o macvlan_mode=bridge.",
    ),
    (
        net("-o", "macvlan_mode=brdge"),
        "E-101 macvlan_mode='brdge' is not valid: one of bridge, private, vepa,"
        " passthru. Did you mean 'bridge'?",
    ),
    (
        net("-o", "macvlan_mode=x"),
        "E-101 macvlan_mode='x' is not valid: one of bridge, private, vepa, passthru.",
    ),
    (net("-o", "mtu=big"), f"E-101 mtu='big' {MTU}"),
    (net("-o", "mtu=0"), f"E-101 mtu='0' {MTU}"),
    (net("-o", "mtu=-5"), f"E-101 mtu='-5' {MTU}"),
    (
        net("-o", "com.docker.network.driver.mtu=70000"),
        f"E-101 com.docker.network.driver.mtu='70000' {MTU}",
    ),
    (net("-o", "mtu=9000"), TOO_BIG),
    (net(*SIX, "-o", "mtu=1000"), TOO_SMALL),
    (
        bare("-o", "parent=eth9", *TEN5),
        f"E-123 device 'eth9' does not exist on this host. Did you mean 'eth0'? {HERE}",
    ),
    (
        bare("-o", "parent=eth9.7", *TEN5),
        "E-123 device 'eth9.7' does not exist on this host. Did you mean 'eth0'?"
        f" {HERE}",
    ),
    (
        bare("-o", "parent=lo", *TEN5),
        "E-124 parent 'lo' cannot be used: it is the loopback device."
        f" {HERE}",
    ),
    (
        bare("-o", "parent=mac:zz", *TEN5),
        "E-124 parent 'mac:zz' cannot be used: it is not"
        f" mac:aa:bb:cc:dd:ee:ff. {HERE}",
    ),
    (
        bare("-o", "parent=mac:02:00:00:00:00:99", *TEN5),
        "E-123 device 'mac:02:00:00:00:00:99' does not exist on this host."
        f" {HERE}",
    ),
    *([] if has("vlan") else [(bare("-o", "parent=eth0.50", *TEN5), NO_VLAN)]),
    *(
        []
        if has("dummy")
        else [(bare(*TEN5), NO_DUMMY), (bare("--internal", *TEN5), NO_DUMMY)]
    ),
    (
        net("-o", "missing_parent=waits"),
        "E-101 missing_parent='waits' is not valid: one of wait, fail."
        " Did you mean 'wait'?",
    ),
    (
        net("-o", "repair=no"),
        "E-101 repair='no' is not valid: one of on, off.",
    ),
    (
        bare("-o", "parent=eth0"),
        f"E-111 no IPv4 {NO_SUBNET} 192.168.1.0/24. A network without IPv4 needs"
        " --ipv4=false (Docker 28 and later). For addresses from a DHCP server, add"
        " --ipam-opt source=dhcp instead. Compose before August 2026 does not pass on"
        " `options` of `ipam`: create the network with the docker command, and name it"
        " in the file (external).",
    ),
    (bare("-o", "parent=eth0", "--ipv6", *TEN5), f"E-111 no IPv6 {NO_SUBNET} fd00:1::/64."),
    (
        bare("-o", "parent=eth0", "--subnet", "10.77.0.0/16"),
        f"E-110 subnet 10.77.0.0/16 {OVERLAP}",
    ),
    (
        bare("-o", "parent=eth0", "--subnet", "10.77.0.128/25"),
        f"E-110 subnet 10.77.0.128/25 {OVERLAP}",
    ),
    (
        bare("-o", "parent=eth0", "--subnet", "224.0.0.0/24"),
        "E-112 subnet '224.0.0.0/24' cannot be used: it is multicast space.",
    ),
    (
        bare("-o", "parent=eth0", "--subnet", "127.0.0.0/24"),
        "E-112 subnet '127.0.0.0/24' cannot be used: it is loopback space.",
    ),
    (
        net("--ipam-opt", "domian=x"),
        unknown(
            "domian",
            "Known options: domain, probe, slice, source.",
            what="IPAM",
            near="domain",
        ),
    ),
    (
        net("--ipam-opt", "source=dchp"),
        "E-101 source='dchp' is not valid: pool or dhcp. Did you mean 'dhcp'?",
    ),
    (
        net("--ipam-opt", "source=dhcp", "--ipam-opt", "slice=1/2"),
        "E-104 source=dhcp and slice=1/2 cannot be combined. Keep one of them.",
    ),
    (
        net("-o", "hold=5"),
        "E-101 hold='5' is not valid: it is for source=dhcp or ipv6=dhcp.",
    ),
    (net("-o", "on_change=reconnect"), "E-101 on_change='reconnect' is not valid: it is for source=dhcp."),
    (
        leased("-o", "parent=eth0", "-o", "on_change=restart"),
        "E-101 on_change='restart' is not valid: one of repair, reconnect."
        " Did you mean 'repair'?",
    ),
    (
        net("-o", "probe=off"),
        "E-101 probe='off' is not valid: with --ipam-driver underlay it is --ipam-opt"
        " probe=off, and with --ipam-driver null -o source=dhcp -o probe=off.",
    ),
    (
        leased("-o", "parent=eth0", "-o", "hostname=registre"),
        "E-101 hostname='registre' is not valid: one of on, off, register. Did you mean 'register'?",
    ),
    (net("-o", "client_id=duid"), "E-101 client_id='duid' is not valid: it is for source=dhcp."),
    (
        leased("-o", "parent=eth0", "-o", "client_id=web"),
        "E-168 client_id=web would make all containers of the network one client of its"
        " DHCP server, with one address: a text is the same for each of them. Use mac or"
        " duid here, and the text for one container, in a network with --ipam-driver"
        " null -o source=dhcp: --network name=NETWORK,driver-opt=client_id=web.",
    ),
    (
        leased("-o", "parent=eth0", "-o", "mode=ipvlan", "-o", "client_id=mac"),
        "E-168 client_id=mac would make all containers of the network one client of its"
        " DHCP server, with one address: in mode ipvlan they all have the MAC of the"
        " parent. Use duid, or mode=macvlan.",
    ),
    (
        leased("-o", "parent=eth0", "-o", "lease_timeout=90"),
        "E-101 lease_timeout='90' is not valid: a number of seconds from 1 to 60.",
    ),
    (
        leased("-o", "parent=eth0", "-o", "source=dhcp"),
        "E-101 source='dhcp' is not valid: with --ipam-driver underlay it is"
        " --ipam-opt source=dhcp, and with --ipam-driver null -o source=dhcp.",
    ),
    (
        leased(),
        "E-166 source=dhcp is not possible here: the network has no parent, so no"
        " server. Add -o parent=<device>.",
    ),
    (
        leased("-o", "mode=routed"),
        "E-166 source=dhcp is not possible here: containers of mode=routed have no"
        " segment of their own.",
    ),
    (
        leased("-o", "parent=eth0", "--internal"),
        "E-166 source=dhcp is not possible here: the network is --internal, and the"
        " lease brings a gateway.",
    ),
    (
        leased("-o", "parent=eth0", "--ipv6"),
        "E-166 source=dhcp is not possible here: IPv6 addresses come from router"
        " advertisements or a pool. Leave --ipv6 out.",
    ),
    (net("--ipam-opt", "probe=maybe"), "E-101 probe='maybe' is not valid: on or off."),
    (
        net("--ipam-opt", "slice=5/4"),
        "E-101 slice='5/4' is not valid: a part and how many there are, as 2/4, of 254"
        " addresses.",
    ),
    (
        net("--ipam-opt", "domain=two words"),
        "E-101 domain='two words' is not valid: one word of letters, digits, '_', '.'"
        " and '-', at most 63.",
    ),
    (
        net("--gateway", "10.77.0.1", "--aux-address", "a=10.77.0.1"),
        taken("10.77.0.1", "it is the gateway of network lan"),
    ),
    (net("--gateway", "10.77.0.5"), taken("10.77.0.5", SINCE)),
    (net("--aux-address", "a=10.77.0.5"), taken("10.77.0.5", SINCE)),
    (net("--gateway", "10.77.0.255"), unusable("10.77.0.255", "broadcast")),
    (
        net("-o", "macvlan_mode=passthru"),
        "E-121 macvlan_mode=passthru gives all of eth0 to one network, and network lan"
        " uses it. Use another parent, or macvlan_mode=bridge for both.",
    ),
    (on("lan", "--ip", "10.77.0.5"), taken("10.77.0.5", SINCE)),
    (
        on("lan", "--ip", "10.77.0.1"),
        taken("10.77.0.1", "it is the gateway of network lan"),
    ),
    (
        on("lan", "--ip", "10.77.0.9"),
        taken("10.77.0.9", "it is an aux address of network lan"),
    ),
    (on("lan", "--ip", "10.77.0.255"), unusable("10.77.0.255", "broadcast")),
    (on("lan", "--ip", "10.77.0.0"), unusable("10.77.0.0", "network")),
    (
        on("small"),
        "E-141 no address is left in 10.78.0.0/30: of 2, 1 in use, 1 reserved (1 gateway,"
        " 0 aux). Stop a container, or create the network with a larger --ip-range or"
        " --subnet.",
    ),
    (
        on("lan", "--mac-address", "02:00:00:00:00:05"),
        f"E-144 MAC 02:00:00:00:00:05 is taken on eth0: {WEB}. {TWO_MACS}",
    ),
    (
        on("lan", "--mac-address", "01:00:5e:00:00:05"),
        f"E-145 MAC '01:00:5e:00:00:05' {NO_MAC}",
    ),
    (
        on("lan", "--mac-address", "00:00:00:00:00:00"),
        f"E-145 MAC '00:00:00:00:00:00' {NO_MAC}",
    ),
    (
        on("name=lan,driver-opt=mtuu=1400"),
        unknown("mtuu", ENDPOINT_OPTIONS, what="endpoint", near="mtu"),
    ),
    (
        on("name=lan,driver-opt=parent=eth0"),
        unknown("parent", ENDPOINT_OPTIONS, what="endpoint", near="missing_parent"),
    ),
    (on("name=lan,driver-opt=mtu=9000"), TOO_BIG),
    (on("name=lan,driver-opt=mtu=abc"), f"E-101 mtu='abc' {MTU}"),
    (on("name=six,driver-opt=mtu=1000"), TOO_SMALL),
    (
        on("name=lan,driver-opt=vlan=5"),
        unknown("vlan", ENDPOINT_OPTIONS, what="endpoint"),
    ),
    (
        on("name=lan,driver-opt=repair=maybe"),
        "E-101 repair='maybe' is not valid: one of on, off.",
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def scene(sites) -> Site:
    site = sites("28.5")
    for command in SCENE:
        site.docker(*command)

    def named():
        facts = site.service.on_record()
        return [n["name"] for n in facts["networks"]] == ["lan", "small", "six"] and [
            e["container"] for e in facts["endpoints"]
        ] == ["web", "full"]

    wait_until(named, 10)
    yield site
    site.clear()
    site.assert_nothing_left()


def _label(value):
    return value[:40] if isinstance(value, str) else " ".join(value[-3:])


def test_enough_refusals_are_tested():
    assert len(CASES) >= 40


@pytest.mark.parametrize(("command", "text"), CASES, ids=_label)
def test_refusal_text_reads_exactly(scene, command, text):
    before = scene.live(), scene.our_links()
    assert told(scene.docker(*command, check=False)) == text
    assert (scene.live(), scene.our_links()) == before
    # The service logs twenty warnings of one id in ten seconds, and counts the others.
    if text == next(one for _, one in CASES if one[:5] == text[:5]):
        assert text[:60].split("'")[0] in scene.service.log


def test_parent_s_own_mac_is_refused(scene):
    mac = scene.host.run("cat", "/sys/class/net/eth0/address").stdout.strip()
    done = scene.docker(*on("lan", "--mac-address", mac), check=False)
    assert told(done).startswith(
        f"E-144 MAC {mac} is taken on eth0: eth0 itself has it."
    )


def test_host_s_own_address_is_refused(scene):
    done = scene.docker(*on("lan", "--ip", scene.host.ipv4), check=False)
    assert told(done) == taken(scene.host.ipv4, "it is this host's own")


def test_host_without_a_default_route_has_no_auto_parent(scene):
    routes = [
        ("default", "via", "10.77.0.1"),
        ("-6", "default", "via", "fd77::1"),
    ]
    for route in routes:
        family = route[:1] if route[0] == "-6" else ()
        scene.host.run("ip", *family, "route", "del", "default")
    try:
        done = scene.docker(*bare("-o", "parent=auto", *TEN5), check=False)
        assert told(done) == (
            "E-125 parent=auto uses the device of the default route, and this host has"
            f" no default route. Name the device: -o parent=<device>. {HERE}"
        )
    finally:
        for route in routes:
            family = route[:1] if route[0] == "-6" else ()
            words = route[1:] if family else route
            scene.host.run("ip", *family, "route", "add", *words, "dev", "eth0")


def test_lost_records_are_named_when_a_container_starts_without_docker_s_answer(
    sites,
):
    site = sites("28.5")
    site.network("memory")
    site.service.stop()
    state = site.host.dir / "state"
    kept = state.rename(state.with_name("kept"))
    asked = site.service.env
    site.service.env = {**asked, "UNDERLAY_DOCKER_HOST": "unix:///run/nobody.sock"}
    site.service.start()
    done = site.docker(*on("memory"), check=False)
    assert re.fullmatch(
        r"E-114 pool 'default/10\.77\.0\.0/24/[0-9a-f]{12}' is not on record: Docker"
        r" knows the network, and the records on this host do not\. underlay rebuilds the"
        r" records as soon as it can read Docker's list of networks\. Try again in a few"
        r" seconds\. If the error stays, the log of underlay gives the reason\. Restore"
        rf" {state}/underlay\.db, or remove the network and create it again\.",
        told(done),
    )
    site.service.stop()
    for file in state.iterdir():
        file.unlink()
    state.rmdir()
    kept.rename(state)
    site.service.env = asked
    site.service.start()
    site.clear()
    site.assert_nothing_left()
