"""What dockerd says of our networks: names no driver call carries, and who lives.

Asked by a background thread only: dockerd holds locks while it waits for a driver, and
serves no API until every restart=always container is up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_interface, ip_network
from typing import Any

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from underlay.model import Address, DockerNetwork, DockerView, Subnet

DRIVER = "underlay"


class Dockerd:
    """One engine's API. `url` as DOCKER_HOST, `timeout` in seconds for each answer."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout

    def look(self) -> DockerView:
        """Return what dockerd says now; raises OSError if it does not answer."""
        try:
            client = docker.APIClient(
                self._url, version="auto", timeout=int(self._timeout)
            )
            try:
                ours = [n for n in client.networks() if _is_ours(n)]
                inspected = list(_inspect(client, ours))
            finally:
                client.close()
        except (DockerException, RequestException) as error:
            raise OSError(f"dockerd at {self._url} does not answer: {error}") from error
        return view(inspected)


def view(networks: Iterable[Mapping[str, Any]]) -> DockerView:
    """Read Docker's own description of networks."""
    known: list[DockerNetwork] = []
    endpoints: dict[str, str] = {}
    addresses: set[Address] = set()
    for network in networks:
        known.append(_network(network))
        addresses.update(_reserved(network))
        for container in (network.get("Containers") or {}).values():
            endpoints[container.get("EndpointID", "")] = container.get("Name", "")
            for key in ("IPv4Address", "IPv6Address"):
                if container.get(key):
                    addresses.add(ip_interface(container[key]).ip)
    return DockerView(tuple(known), endpoints, frozenset(addresses))


def _reserved(network: Mapping[str, Any]) -> Iterator[Address]:
    for part in (network.get("IPAM") or {}).get("Config") or ():
        aux = (part.get("AuxiliaryAddresses") or {}).values()
        for text in (part.get("Gateway"), *aux):
            if text:
                yield ip_interface(text).ip


def _is_ours(network: Mapping[str, Any]) -> bool:
    ipam = network.get("IPAM") or {}
    return DRIVER in (network.get("Driver"), ipam.get("Driver"))


def _inspect(
    client: docker.APIClient, networks: Iterable[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    for network in networks:
        try:
            yield client.inspect_network(network["Id"])
        except docker.errors.NotFound:
            continue


def _network(network: Mapping[str, Any]) -> DockerNetwork:
    ipam = network.get("IPAM") or {}
    ours = ipam.get("Driver") == DRIVER
    return DockerNetwork(
        id=network["Id"],
        name=network["Name"],
        domain=(ipam.get("Options") or {}).get("domain", "default") if ours else "",
        subnets=tuple(_subnets(ipam.get("Config") or ())),
    )


def _subnets(config: Iterable[Mapping[str, str]]) -> Iterator[Subnet]:
    for part in config:
        if part.get("Subnet"):
            yield ip_network(part["Subnet"], strict=False)
