"""Docker: the engine, and its list of networks and containers against the records."""

from __future__ import annotations

import re
from collections.abc import Iterator

from underlay.doctor.examined import Examined
from underlay.doctor.finding import Finding

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
    """Find containers with published ports (-p) on networks where that does nothing."""
    view = host.docker
    if view is None:
        return
    ours = {n.id: n.name for n in view.networks if n.ours}
    members = {
        endpoint.container: network.id
        for network in view.networks
        if network.ours
        for endpoint in network.endpoints
    }
    for identity, container in host.containers(sorted(members)).items():
        if container.published and set(container.options) <= ours.keys():
            yield Finding(
                "warning",
                f"container {view_name(host, identity)}",
                f"it publishes ports ({', '.join(container.published)}), and is only on"
                f" network {ours[members[identity]]}",
                "-p has no effect there: the container has an address of its own, and"
                " all its ports are open on it",
                "leave -p out, and use the container's address; limit ports with a"
                " firewall in the container or on the router",
            )


def view_name(host: Examined, container: str) -> str:
    """Return the name of a container as Docker lists it."""
    endpoints = (
        e for n in (host.docker.networks if host.docker else ()) for e in n.endpoints
    )
    names = (e.name for e in endpoints if e.container == container)
    return next(names, container[:12])
