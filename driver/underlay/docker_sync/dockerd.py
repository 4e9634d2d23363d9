"""Docker's API: what dockerd lists of the driver's networks and their containers.

And how it connects a container again, the only thing that it is asked to change.

No driver call carries names, or tells which endpoints live; and lost records are
rebuilt from this list. Only a background thread asks: dockerd holds locks while it
waits for a driver, and serves no API until every restart=always container is up.

That thread also imports the client, which takes 50 ms: the first call does not wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from underlay.ipam.dhcp_claims import EVERYWHERE, domain_of_mark, is_mark
from underlay.ipam.idle_containers import IdleContainers
from underlay.model import IpAddress, Subnet
from underlay.model.docker import (
    DockerContainer,
    DockerEndpoint,
    DockerEngine,
    DockerNetwork,
    DockerPlace,
    DockerView,
    FailedStart,
    ListedContainer,
)

if TYPE_CHECKING:
    import docker
    from docker.types.daemon import CancellableStream

DRIVER = "underlay"
# Engine 29.
NAMING_API = 1, 52
_loading = threading.Lock()
Answer = TypeVar("Answer")
Created = Callable[[ListedContainer], None]
# Engine 25: since then a MAC belongs to the place in a network, and is forgotten when a
# running container is connected (moby issue 48192).
MAC_LOST_API = 1, 44
# An answer to these may wait for a DHCP server.
CONNECT_SECONDS = 90.0
# Of a place in a network: what it was connected with.
_SETTINGS = ("IPAMConfig", "Links", "Aliases", "DriverOpts", "GwPriority")
# After these events dockerd may list something else. Health checks cause others.
HAPPENINGS = {
    "type": ["container", "network"],
    "event": ["connect", "create", "destroy", "disconnect", "rename"],
}


class RefusedByDocker(OSError):
    """What dockerd answered when it did not do what it was asked."""


class Note(Protocol):
    """Called when dockerd may list something else."""

    def __call__(self, *, is_created: bool = False) -> None:
        """Note it, in the thread that listens."""


class Dockerd:
    """One engine's API. `url` as DOCKER_HOST, `timeout` in seconds for each answer."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._events: CancellableStream[dict[str, Any]] | None = None
        # Kept for the next question: to connect and to agree on a version takes longer
        # than most answers.
        self._client: docker.APIClient | None = None

    def look(self) -> DockerView:
        """Return what dockerd lists now; raises OSError if it does not answer."""

        def ask(client: docker.APIClient) -> DockerView:
            networks = list(_inspect_networks(client))
            return replace(view(networks), containers=_containers_on(client, networks))

        return self._ask(ask)

    def containers(self, ids: Collection[str]) -> dict[str, DockerContainer]:
        """Return these containers as dockerd describes them; unknown ones are left out.

        Raises OSError if it does not answer, as while it starts or stops one of them.
        """
        if not ids:
            return {}
        found = self._ask(
            lambda client: list(_inspect_each(client.inspect_container, ids))
        )
        return {container["Id"]: _container(container) for container in found}

    def failed_starts(self) -> list[FailedStart]:
        """Return the containers with a restart policy that dockerd could not start.

        It does not try again. Raises OSError if it does not answer.
        """
        found = self._ask(lambda client: list(_inspect_stopped(client)))
        return [one for container in found for one in _failed_start(container)]

    def place(self, container: str, network: str) -> DockerPlace | None:
        """Return a container's place in a network, None if there is no container.

        By their ids. Raises OSError if dockerd does not answer.
        """

        def ask(client: docker.APIClient) -> DockerPlace | None:
            found = list(_inspect_each(client.inspect_container, [container]))
            keeps_mac = _api_version(client) < MAC_LOST_API
            return place(found[0], network, keeps_mac=keeps_mac) if found else None

        return self._ask(ask)

    def disconnect(self, container: str, network: str) -> None:
        """Disconnect a container from a network, by their ids.

        Raises RefusedByDocker, and OSError if dockerd does not answer.
        """
        self._post(f"/networks/{network}/disconnect", {"Container": container})

    def connect(
        self, container: str, network: str, settings: Mapping[str, Any]
    ) -> None:
        """Connect a container to a network with what `place` found; raises the same."""
        asked = {"Container": container, "EndpointConfig": settings}
        self._post(f"/networks/{network}/connect", asked)

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        def ask(client: docker.APIClient) -> None:
            url = f"{client.base_url}/v{client.api_version}{path}"
            answer = client.post(url, json=body, timeout=CONNECT_SECONDS)
            if not answer.ok:
                raise RefusedByDocker(answer.json().get("message"))

        self._ask(ask)

    def engine(self) -> DockerEngine:
        """Return what dockerd says of itself; raises OSError if it does not answer."""
        return _engine(self._ask(lambda client: client.info()))

    def listen(
        self, note: Note, idle: IdleContainers, created: Created = lambda _: None
    ) -> None:
        """Call `note` now, and after events of the driver's networks or of names.

        `is_created`: Docker lists a new network, whose name no call carried. `idle` is
        told of containers that are created and removed; `created` is called with those
        that are created, if the engine names them at their start. Returns when dockerd
        ends, or after `hang_up`; raises OSError if it does not answer.
        """
        with self._refusals(), closing(self._connect()) as client:
            self._events = client.events(filters=HAPPENINGS, decode=True)
            changes = idle.changes
            ours = [n for n in client.networks() if _is_ours(n)]
            idle.update(_containers_on(client, ours), changes)
            note()
            for event in self._events:
                about = (event.get("Actor") or {}).get("Attributes") or {}
                kind = event.get("Type"), event.get("Action")
                _tell(idle, created, client, kind, event.get("Actor") or {})
                if _is_driver(about.get("type")) or kind[1] == "rename":
                    note(is_created=kind == ("network", "create"))

    def hang_up(self) -> None:
        """End `listen`, which runs in another thread, and the kept connection."""
        if self._client:
            self._client.close()
        if self._events:
            from docker.errors import DockerException

            with suppress(DockerException, OSError):
                self._events.close()

    def _ask(self, question: Callable[[docker.APIClient], Answer]) -> Answer:
        """Return an answer of dockerd, over the last connection if that still is one.

        Asked by one thread only.
        """
        _load()
        from requests.exceptions import ConnectionError as Disconnected

        with self._refusals():
            if known := self._client:
                try:
                    return question(known)
                except Disconnected:
                    known.close()  # dockerd was restarted
            self._client = None
            client = self._connect()
            try:
                found = question(client)
            except BaseException:
                client.close()
                raise
            self._client = client
            return found

    def _connect(self) -> docker.APIClient:
        import docker

        return docker.APIClient(self._url, version="auto", timeout=int(self._timeout))

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        _load()
        from docker.errors import DockerException, StreamParseError
        from requests.exceptions import RequestException

        try:
            yield
        except (DockerException, RequestException, StreamParseError) as error:
            raise OSError(f"dockerd at {self._url} does not answer: {error}") from error


def _tell(
    idle: IdleContainers,
    created: Created,
    client: docker.APIClient,
    kind: tuple[str | None, str | None],
    actor: Mapping[str, Any],
) -> None:
    """Tell `idle` what an event is about; `created` of new containers, see `listen`.

    A container that is created starts a tenth of a second later at the soonest.
    """
    about = actor.get("Attributes") or {}
    name = about.get("name", "")
    if kind == ("network", "create") and _is_driver(about.get("type")):
        idle.note_network(actor.get("ID", ""), name)
    elif kind == ("network", "destroy"):
        idle.note_network_removed(actor.get("ID", ""))
    elif kind == ("container", "rename"):
        idle.note_renamed(about.get("oldName", "").removeprefix("/"), name)
    elif kind == ("container", "destroy"):
        idle.note_removed(name)
    elif kind == ("container", "create"):
        # Not inspected: dockerd answers that only when it has started the container.
        for container in _list_containers(client, {"id": actor["ID"]}):
            # Without an IPAM driver no engine names the container.
            idle.note_created(container)
            if _tells_names(client):
                created(container)


def _tells_names(client: docker.APIClient) -> bool:
    """Return whether the engine names the container when it asks for an address."""
    return _api_version(client) >= NAMING_API


def _api_version(client: docker.APIClient) -> tuple[int, int]:
    major, _, minor = client.api_version.partition(".")
    return int(major), int(minor)


def _load() -> None:
    """Import Docker's library, in one thread at a time.

    Its modules import each other: Python may take two threads for a deadlock.
    """
    with _loading:
        import docker  # noqa: F401


def view(networks: Iterable[Mapping[str, Any]]) -> DockerView:
    """Read Docker's own description of networks."""
    known: list[DockerNetwork] = []
    endpoints: dict[str, str] = {}
    addresses: set[IpAddress] = set()
    for network in networks:
        found = _network(network)
        known.append(found)
        addresses.update(_reserved(network))
        for endpoint in found.endpoints:
            endpoints[endpoint.id] = endpoint.name
            addresses.update(interface.ip for interface in endpoint.addresses)
    return DockerView(tuple(known), endpoints, frozenset(addresses))


def _reserved(network: Mapping[str, Any]) -> Iterator[IpAddress]:
    for part in (network.get("IPAM") or {}).get("Config") or ():
        aux = (part.get("AuxiliaryAddresses") or {}).values()
        for text in (part.get("Gateway"), *aux):
            if text:
                yield ip_interface(text).ip


def _is_ours(network: Mapping[str, Any]) -> bool:
    ipam = network.get("IPAM") or {}
    return any(map(_is_driver, (network.get("Driver"), ipam.get("Driver"))))


def _is_driver(name: str | None) -> bool:
    """Return whether Docker means this driver, a managed plugin by its tag as well.

    As `underlay:latest` or `registry.example:5000/someone/underlay:0.1.0`.
    """
    return (name or "").rpartition("/")[2].partition(":")[0] == DRIVER


def _inspect_networks(client: docker.APIClient) -> Iterator[Mapping[str, Any]]:
    ours = [n["Id"] for n in client.networks() if _is_ours(n)]
    return _inspect_each(client.inspect_network, ours)


def _containers_on(
    client: docker.APIClient, networks: Iterable[Mapping[str, Any]]
) -> tuple[ListedContainer, ...]:
    keys = [key for network in networks for key in (network["Id"], network["Name"])]
    return _list_containers(client, {"network": keys}) if keys else ()


def _list_containers(
    client: docker.APIClient, filters: Mapping[str, object]
) -> tuple[ListedContainer, ...]:
    found = client.containers(all=True, filters=filters)
    return tuple(
        ListedContainer(_own_name(container), tuple(_drawing(container)))
        for container in found
    )


def _own_name(container: Mapping[str, Any]) -> str:
    """Return the name of a container; the list has those of its links as well."""
    names = (name.removeprefix("/") for name in container.get("Names") or ())
    return next((name for name in names if "/" not in name), "")


def _drawing(container: Mapping[str, Any]) -> Iterator[str]:
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    for name, place in networks.items():
        chosen = place.get("IPAMConfig") or {}
        if not any(chosen.get(key) for key in ("IPv4Address", "IPv6Address")):
            yield place.get("NetworkID") or name


def _inspect_each(
    inspect: Callable[[str], Mapping[str, Any]], ids: Iterable[str]
) -> Iterator[Mapping[str, Any]]:
    from docker.errors import NotFound

    for identity in ids:
        try:
            yield inspect(identity)
        except NotFound:
            continue


def _inspect_stopped(client: docker.APIClient) -> Iterator[Mapping[str, Any]]:
    stopped = {"status": ["created", "exited"]}
    ids = [c["Id"] for c in client.containers(all=True, filters=stopped)]
    return _inspect_each(client.inspect_container, ids)


def _failed_start(container: Mapping[str, Any]) -> Iterator[FailedStart]:
    policy = (container.get("HostConfig") or {}).get("RestartPolicy") or {}
    error = (container.get("State") or {}).get("Error")
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    if error and policy.get("Name") in ("always", "unless-stopped"):
        name = container["Name"].removeprefix("/")
        yield FailedStart(name, tuple(networks), error)


def _network(network: Mapping[str, Any]) -> DockerNetwork:
    ipam = network.get("IPAM") or {}
    pooled = _is_driver(ipam.get("Driver"))
    parts = [p for p in ipam.get("Config") or () if _is_subnet(p, pooled=pooled)]
    segments = tuple(_segment(part, pooled=pooled) for part in parts)
    members = (network.get("Containers") or {}).items()
    return DockerNetwork(
        id=network["Id"],
        name=network["Name"],
        domain=_domain(ipam, parts) if pooled else "",
        ip_networks=tuple(segment.subnet for segment in segments),
        ours=_is_driver(network.get("Driver")),
        options=network.get("Options") or {},
        internal=bool(network.get("Internal")),
        subnets=segments,
        ranges=tuple(part.get("IPRange") or "" for part in parts),
        endpoints=tuple(_endpoint(container, facts) for container, facts in members),
    )


def _is_subnet(part: Mapping[str, Any], *, pooled: bool) -> bool:
    """Tell a subnet from the 0.0.0.0/0 of the null IPAM driver.

    That of underlay's, which has a mark, is for addresses of DHCP servers.
    """
    text = part.get("Subnet") or "0.0.0.0/0"
    is_subnet = ip_network(text, strict=False).prefixlen > 0
    return is_subnet or (pooled and _mark(part) is not None)


def _mark(part: Mapping[str, Any]) -> IpAddress | None:
    """Return the mark of a network whose addresses DHCP servers give."""
    if part.get("Subnet") != str(EVERYWHERE) or not part.get("Gateway"):
        return None
    gateway = ip_interface(part["Gateway"]).ip
    return gateway if is_mark(gateway) else None


def _domain(ipam: Mapping[str, Any], parts: Iterable[Mapping[str, Any]]) -> str:
    marks = (mark for part in parts if (mark := _mark(part)))
    named: str = (ipam.get("Options") or {}).get("domain", "default")
    return next(map(domain_of_mark, marks), named)


def _segment(part: Mapping[str, Any], *, pooled: bool) -> Subnet:
    if pooled and _mark(part):
        return Subnet(EVERYWHERE, pooled=True, dhcp=True)
    aux = (part.get("AuxiliaryAddresses") or {}).values()
    return Subnet(
        ip_network(part["Subnet"], strict=False),
        ip_interface(part["Gateway"]).ip if part.get("Gateway") else None,
        tuple(sorted({ip_interface(text).ip for text in aux if text}, key=int)),
        pooled,
    )


def _endpoint(container: str, facts: Mapping[str, str]) -> DockerEndpoint:
    texts = (facts.get("IPv4Address"), facts.get("IPv6Address"))
    return DockerEndpoint(
        id=facts.get("EndpointID", ""),
        container=container,
        name=facts.get("Name", ""),
        mac=facts.get("MacAddress", ""),
        addresses=tuple(ip_interface(text) for text in texts if text),
    )


def _container(container: Mapping[str, Any]) -> DockerContainer:
    told = container.get("NetworkSettings") or {}
    places = {
        place["NetworkID"]: place
        for place in (told.get("Networks") or {}).values()
        if place.get("NetworkID")
    }
    return DockerContainer(
        sandbox=told.get("SandboxKey") or "",
        options={key: place.get("DriverOpts") or {} for key, place in places.items()},
        gateways={key: tuple(_gateways(place)) for key, place in places.items()},
    )


def place(
    container: Mapping[str, Any], network: str, *, keeps_mac: bool
) -> DockerPlace:
    """Read a container's place in a network out of Docker's description of it.

    The addresses and the MAC that it has there were given to it: with them, Docker
    would keep what was given as the user's own choice.
    """
    is_running = bool((container.get("State") or {}).get("Running"))
    places = (container.get("NetworkSettings") or {}).get("Networks") or {}
    for name, found in places.items():
        if network in (found.get("NetworkID"), name):
            chosen = found.get("IPAMConfig") or {}
            return DockerPlace(
                is_running,
                is_connected=True,
                endpoint=found.get("EndpointID") or "",
                settings={k: found[k] for k in _SETTINGS if found.get(k)},
                is_fixed=bool(chosen.get("IPv4Address")),
                keeps_mac=keeps_mac,
            )
    return DockerPlace(is_running)


def _engine(info: Mapping[str, Any]) -> DockerEngine:
    system = info.get("OperatingSystem") or ""
    security = info.get("SecurityOptions") or ()
    return DockerEngine(
        version=info.get("ServerVersion") or "",
        system=system,
        is_rootless=any("name=rootless" in option for option in security),
        is_desktop="Docker Desktop" in system,
        firewall=(info.get("FirewallBackend") or {}).get("Driver") or "",
    )


def _gateways(place: Mapping[str, Any]) -> Iterator[IpAddress]:
    for text in (place.get("Gateway"), place.get("IPv6Gateway")):
        if text:
            yield ip_address(text)
