"""The table of checks, in the order in which a person reads them, and how they run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from underlay.doctor import (
    containers,
    dhcp,
    engine,
    firewall,
    host_sysctls,
    kernel_features,
    machine,
    macs,
    network_programs,
    open_forwarding,
    parents,
    service,
    uplink,
)
from underlay.doctor.examined import Examined
from underlay.doctor.finding import Check, Finding, Result
from underlay.errors import UnderlayError

log = logging.getLogger(__name__)


def _no_records(host: Examined) -> str:
    return "" if host.records else "the records cannot be read"


def _no_settings(host: Examined) -> str:
    return "the settings cannot be used" if host.settings_error else ""


def _no_parents(host: Examined) -> str:
    return "" if host.asked_for else _no_records(host)


def _no_docker(host: Examined) -> str:
    return "" if host.docker else "dockerd does not answer"


def _no_records_or_docker(host: Examined) -> str:
    return _no_records(host) or _no_docker(host)


CHECKS = (
    Check("device-types", "the kernel has the device types of all modes",
          kernel_features.device_types),
    Check("nftables", "nft and nftables are there", kernel_features.nftables),
    Check("parents", "the parents of all networks are there and up", parents.states,
          _no_parents),
    Check("parent-use", "nothing excludes children on a parent", parents.hold,
          _no_parents),
    Check("wireless", "no container needs a MAC of its own on Wi-Fi",
          parents.wireless, _no_parents),
    Check("hardware", "neither virtual machine nor cloud, or no network that minds",
          parents.hardware, _no_parents),
    Check("forwarding", "the host forwards for its routed networks",
          host_sysctls.forwarding, _no_records),
    Check("reverse-path", "no reverse path filter is in the way",
          host_sysctls.reverse_path, _no_records),
    Check("router-advertisements", "the host keeps its IPv6 routes",
          host_sysctls.router_advertisements),
    Check("bridge-filter", "frames cross the bridges of networks",
          host_sysctls.bridge_filter, _no_records),
    Check("uplink", "the segments of parents answer MACs of containers",
          uplink.second_mac, _no_parents),
    Check("dhcp-servers", "one DHCP server serves each segment that needs one",
          dhcp.servers, _no_records),
    Check("mac-budget", "no parent carries more MACs than mac_budget",
          macs.budget, _no_records),
    Check("unicast-filter", "no NIC lacks room for the MACs on it", macs.promiscuous,
          _no_parents),
    Check("firewall", "no chain of the firewall cuts containers off",
          firewall.forward_chains, _no_records),
    Check("open-forwarding", "the host routes for no other machine",
          open_forwarding.unfiltered, _no_records),
    Check("service", "the service answers", service.running),
    Check("settings", "the settings can be used", service.readable_settings),
    Check("records", "the records can be read", service.readable_records,
          _no_settings),
    Check("drift", "the kernel is as the records want it", service.drift, _no_records),
    Check("sockets", "a program answers each plugin socket", service.sockets),
    Check("unit-order", "systemd starts the service before Docker, or there is none",
          network_programs.unit_order),
    Check("network-programs", "no other program manages the driver's devices",
          network_programs.managing),
    Check("engine", "the engine is one that the driver works with", engine.supported),
    Check("docker-list", "Docker and the records know the same", engine.listed,
          _no_records_or_docker),
    Check("failed-starts", "Docker could start every container", engine.started,
          _no_docker),
    Check("published-ports", "no port is published in vain", engine.published,
          _no_records_or_docker),
    Check("pools", "every pool has free addresses", containers.pools, _no_records),
    Check("identities", "no container has two addresses of one pool",
          containers.identities, _no_records),
    Check("host-routes", "the host has no subnet of a network on another device",
          containers.colliding, _no_records),
    Check("host-access", "host and containers reach each other directly",
          containers.host_access, _no_records),
    Check("default-routes", "every container has the default route it can have",
          containers.default_routes, _no_records),
    Check("same-macs", "no MAC is on a segment twice", containers.same_macs,
          _no_records),
    Check("clock", "the clock is later than the newest record", machine.clock),
    Check("disk", "the disk of the records has room", machine.disk),
)  # fmt: skip


def examine(host: Examined, checks: Iterable[Check] = CHECKS) -> list[Result]:
    """Run checks; one that cannot be run is a warning, and holds up no other."""
    return [_result(host, check) for check in checks]


def _result(host: Examined, check: Check) -> Result:
    if lacking := check.lacks(host):
        return Result(check, (), lacking)
    return Result(check, tuple(_found(host, check)))


def _found(host: Examined, check: Check) -> Iterator[Finding]:
    try:
        yield from check.run(host)
    except (OSError, UnderlayError) as error:
        yield Finding(
            "warning", "host", f"this could not be checked: {error}",
            "what is wrong here stays unknown", "run the command as root on the host",
        )  # fmt: skip
    except Exception as error:
        log.exception("internal error")
        yield Finding(
            "warning", "host",
            f"this could not be checked: {type(error).__name__}: {error}",
            "what is wrong here stays unknown",
            "this is a bug in underlay: please report it with this text",
        )  # fmt: skip


def fix(results: Iterable[Result]) -> Iterator[tuple[str, str, str]]:
    """Apply the fixes that findings have.

    Yields the step, the command that reverts it, and why it failed ("" if it did not).
    """
    for found in (finding.fix for result in results for finding in result.findings):
        if found is None:
            continue
        try:
            found.apply()
        except OSError as error:
            yield found.step, found.revert, str(error)
        else:
            yield found.step, found.revert, ""
