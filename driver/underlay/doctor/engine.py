"""Docker: the engine, and its list of networks and containers against the records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from underlay.doctor.examined import Examined
from underlay.doctor.finding import Finding
from underlay.model import Endpoint, Network
from underlay.model.ports import PORTS_OPTION, PublishedPort, of_option
from underlay.modes import mode_name
from underlay.modes.port_policy import policy_of

_OLDEST = (20, 10, 0)
# They end with "unlock of unlocked mutex" when a container on a network of a driver
# that gives a gateway stops.
_BAD = ((29, 0, 0), (29, 0, 2))


def supported(host: Examined) -> Iterator[Finding]:
    """Find an engine that does not answer, or that the driver cannot work with."""
    engine = host.engine
    if engine is None:
        yield Finding(
            "warning",
            "dockerd",
            "its API does not answer",
            "names, and what Docker lists, were not checked",
            "start Docker, or set docker_host; run the command as root",
        )
        return
    if engine.is_desktop:
        yield Finding(
            "failure",
            "dockerd",
            "this is Docker Desktop",
            "its engine runs in a virtual machine of its own, which has no device on"
            " your network, so no driver can put a container there",
            "use Docker Engine on a Linux host, or a virtual machine with a bridged"
            " adapter",
        )
    if engine.is_rootless:
        yield Finding(
            "failure",
            "dockerd",
            "it runs rootless",
            "it lives in a network namespace without the devices of this host, so no"
            " driver can put a container on your network",
            "run dockerd as root for these containers (both can run side by side)",
        )
    yield from _version(engine.version)


def _version(text: str) -> Iterator[Finding]:
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    if not found:
        return
    version = tuple(int(part or 0) for part in found.groups())
    if _BAD[0] <= version <= _BAD[1]:
        yield Finding(
            "failure",
            "dockerd",
            f"version {text} crashes when a container on such a network stops",
            "a defect of 29.0.0 to 29.0.2 (unlock of unlocked mutex): dockerd ends, and"
            " all containers with it unless live-restore is on",
            "upgrade to 29.0.3 or newer",
        )
    elif version < _OLDEST:
        yield Finding(
            "warning",
            "dockerd",
            f"version {text} is older than any that was tested",
            "it may call the driver in ways that are not known",
            "upgrade to 20.10 or newer",
        )


def listed(host: Examined) -> Iterator[Finding]:
    """Find differences between what Docker lists and the records."""
    view = host.docker
    if view is None:
        return
    known = {n.id for n in host.networks}
    for network in view.networks:
        if network.ours and network.id not in known:
            yield Finding(
                "failure",
                f"network {network.name}",
                "Docker lists it, and it is not on record",
                "its containers cannot start (E-130)",
                "the service records it again within a minute; if it does not, its log"
                " says why. Else docker network rm, and create it again",
            )
    there = {n.id for n in view.networks}
    for gone in (n for n in host.networks if n.id not in there):
        yield Finding(
            "warning",
            f"network {gone.label}",
            "it is on record, and Docker does not list it",
            "its parent and its pool stay in use",
            "the service frees it after two checks; it must run and reach dockerd",
        )
    for endpoint in host.endpoints:
        if endpoint.id not in view.endpoints and endpoint.sandbox:
            yield Finding(
                "warning",
                f"endpoint {endpoint.id[:12]}",
                "it is on record for container"
                f" {endpoint.container or 'without a name'}, and Docker does not list"
                " it",
                f"its addresses ({', '.join(str(a.ip) for a in endpoint.addresses)})"
                " stay in use",
                "the service frees it after two checks, unless the container lives;"
                " underlay reconcile does not",
            )


def started(host: Examined) -> Iterator[Finding]:
    """Find containers that Docker could not start, and does not try to start again."""
    names = {n.name for n in host.docker.networks if n.ours} if host.docker else set()
    for failed in host.failed_starts:
        if names.intersection(failed.networks):
            yield Finding(
                "failure",
                f"container {failed.container}",
                f"Docker could not start it: {failed.error}",
                "its restart policy does not help: Docker tries a start that fails for"
                " its network only once, as at a boot without the service",
                f"repair the cause, then docker start {failed.container}",
            )


def published(host: Examined) -> Iterator[Finding]:
    """Find containers whose -p does not do what it says, on networks of this driver.

    A container that is also on another network may publish its ports there.
    """
    view = host.docker
    if view is None:
        return
    ours = {n.id for n in view.networks if n.ours}
    places = {e.id: e.container for n in view.networks if n.ours for e in n.endpoints}
    listed = host.containers(sorted(set(places.values())))
    known = {n.id: n for n in host.networks}
    for endpoint in host.endpoints:
        container = listed.get(places.get(endpoint.id, ""))
        network = known.get(endpoint.network)
        if container and network and set(container.options) <= ours:
            # The records have its name a little later than Docker.
            name = view.endpoints.get(endpoint.id) or endpoint.id[:12]
            yield from _in_vain(network, endpoint, name)


def _in_vain(network: Network, endpoint: Endpoint, name: str) -> Iterator[Finding]:
    """Find what -p of a container cannot do under the policy of its network."""
    ports = of_option(endpoint.options.get(PORTS_OPTION, ""))
    inbound = policy_of(network, endpoint).inbound
    where = f"container {name}"
    if ports and inbound == "closed":
        yield Finding(
            "warning",
            where,
            f"it publishes ports ({_listed(ports)}), and is closed on network"
            f" {network.label}",
            "with policy=closed no port is reached, whatever -p names",
            "use policy=published, for the network or this container",
        )
    elif ports and mode_name(network.options) == "ipvlan":
        yield Finding(
            "warning",
            where,
            f"it publishes ports ({_listed(ports)}), and network {network.label} has"
            " mode=ipvlan",
            "policy= is not for that mode, so -p closes nothing: all ports of the"
            " container are open on its own address",
            "to close all but published ports, use another mode and policy=published",
        )
    elif inbound == "open" and (only := [port for port in ports if port.for_host]):
        yield Finding(
            "warning",
            where,
            f"it publishes ports for this host only ({_listed(only)}), and is open on"
            f" network {network.label}",
            "with policy=open all ports of the container are reached from the network",
            "use policy=published, for the network or this container",
        )


def _listed(ports: Iterable[PublishedPort]) -> str:
    return ", ".join(f"{port.published}/{port.protocol}" for port in ports)
