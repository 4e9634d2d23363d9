"""What Join answers about the name of a device, and what Leave takes back of it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace

from underlay.errors import KernelRefused
from underlay.kernel import Kernel
from underlay.model import Endpoint, JoinAnswer, Network
from underlay.model.objects import AltName
from underlay.model.steps import Delete
from underlay.modes import device_name
from underlay.planning.desired import endpoint_objects
from underlay.records import Records

log = logging.getLogger(__name__)


def with_name(
    found: JoinAnswer, records: Records, network: Network, endpoint: Endpoint, path: str
) -> JoinAnswer:
    """Return what Join answers, with the name asked for; `path` of the sandbox.

    Of the container's devices only those of this driver are known here. If another of
    them is to have the same name, Docker would fail to give it twice.
    """
    name = device_name.asked(network, endpoint)
    if not name:
        return found
    others = records.endpoints.joined_at(path)
    wished, prefix = _wished_and_prefix(records, network, endpoint, others)
    return replace(found, prefix=prefix, name="" if name in wished else name)


def take_back(records: Records, kernel: Kernel, identity: str) -> None:
    """Remove the alternative name of a device that Docker moves to the host next.

    It would go along, and the kernel refuses the move if a device there has the name:
    that of another container, which leaves at the same time.
    """
    endpoint = records.endpoints.get(identity)
    network = records.networks.get(endpoint.network) if endpoint else None
    if not (endpoint and network and device_name.alternative(network, endpoint)):
        return
    had = endpoint_objects(network, replace(endpoint, left=False), there=True)
    try:
        for o in had.objects:
            if isinstance(o, AltName) and o.sandbox:
                kernel.apply(Delete(o))
    except KernelRefused as error:
        log.debug("step refused", extra={"error": error})


def answered_prefix(
    records: Records, network: Network, endpoint: Endpoint, others: Collection[Endpoint]
) -> str:
    """Return the prefix that Join answered; `others` are in the same sandbox."""
    before = [e for e in others if e.created < endpoint.created]
    return _wished_and_prefix(records, network, endpoint, before)[1]


def _wished_and_prefix(
    records: Records, network: Network, endpoint: Endpoint, others: Collection[Endpoint]
) -> tuple[list[str], str]:
    pairs = [
        (device_name.asked(of, e), e.learned.device if e.learned else "")
        for e in sorted(others, key=lambda e: e.created)
        if e.id != endpoint.id and (of := records.networks.get(e.network))
    ]
    wished, given = device_name.given_to(pairs)
    name = device_name.asked(network, endpoint)
    return wished, device_name.prefix_for(name, wished, given)
