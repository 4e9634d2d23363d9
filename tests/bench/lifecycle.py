"""One container's life as the plugin socket sees it, and the hosts to post it on."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface, ip_interface
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.bench.plugin_call import post
from tests.bench.shim import check_shim
from tests.docker.conftest import Site, make_site
from tests.lab.net import Lan
from underlay.model import Endpoint, LearnedState, Lease
from underlay.records import Records

ROOT = Path(__file__).parents[2]
SUBNET, GATEWAY, HOST = "10.64.0.0/16", "10.64.0.1", "10.64.255.254/16"
# Docker knows none of the endpoints posted and recorded here: none may be freed.
SETTINGS = {"grace": 100_000, "period": 3600}

Life = dict[str, float]


@dataclass
class Crowd:
    """A site with `size` endpoints on record; `network` and `pool` are Docker's ids."""

    site: Site
    size: int
    network: str = ""
    pool: str = ""

    def record(self) -> None:
        """Put the endpoints on record as if their containers ran; no link is made.

        The host has an address in their subnet, and so a shim with routes to them.
        """
        self.site.host.run("ip", "addr", "add", HOST, "dev", "eth0")
        self.site.network("crowd", subnet=SUBNET, gateway=GATEWAY)
        self.site.service.stop()
        records = Records(self.site.host.dir / "state" / "underlay.db")
        try:
            with records.transaction():
                self._fill(records)
        finally:
            records.close()
        self.site.service.start()
        check_shim(self.site, self.size)

    def _fill(self, records: Records) -> None:
        [network], [pool] = records.networks.all(), records.pools.all()
        [claim] = records.pools.claims_on(pool.id)
        self.network, self.pool = network.id, claim.id
        for _ in range(self.size):
            identity, mac = (
                secrets.token_hex(32),
                f"02:{secrets.token_bytes(5).hex(':')}",
            )
            address, now = records.pools.next_free(claim), time.time()
            assert address
            records.leases.start(
                Lease(
                    0, address, "endpoint", pool.id, claim.id, network.id, identity,
                    mac, since=now,
                )
            )  # fmt: skip
            ipv4 = IPv4Interface(f"{address}/{pool.subnet.prefixlen}")
            endpoint = Endpoint(
                identity, network.id, ipv4, mac=mac, sandbox=_sandbox(identity),
                learned=LearnedState("eth0", 1500, (4,)), created=now,
            )  # fmt: skip
            records.endpoints.add(endpoint)
            records.endpoints.join(identity, endpoint.sandbox)
            records.endpoints.save_learned(endpoint)

    def live(self) -> Life:
        """Live a container's life; return the milliseconds of each call, in order."""
        spent: Life = {}

        def post(method: str, body: dict[str, object]) -> dict[str, str]:
            started = time.perf_counter()
            answer = self._post(method, body)
            spent[method] = (time.perf_counter() - started) * 1000
            return answer

        asked = {"PoolID": self.pool, "Address": "", "Options": None}
        given = post("IpamDriver.RequestAddress", asked)["Address"]
        who = {"NetworkID": self.network, "EndpointID": secrets.token_hex(32)}
        place = {"Address": given, "AddressIPv6": "", "MacAddress": ""}
        for method, more in (
            ("CreateEndpoint", {"Interface": place}),
            ("Join", {"SandboxKey": _sandbox(who["EndpointID"])}),
            ("ProgramExternalConnectivity", {}),
            ("EndpointOperInfo", {}),
            ("RevokeExternalConnectivity", {}),
            ("Leave", {}),
            ("DeleteEndpoint", {}),
        ):
            post(f"NetworkDriver.{method}", {**who, **more})
        back = {"PoolID": self.pool, "Address": str(ip_interface(given).ip)}
        post("IpamDriver.ReleaseAddress", back)
        return spent

    def _post(self, method: str, body: dict[str, object]) -> dict[str, str]:
        root = Path(f"/proc/{self.site.host.pid}/root")
        return post(root / "run/docker/plugins/underlay.sock", method, body)

    def told(self) -> Life:
        """Return the milliseconds the service itself counted so far, by method."""
        return {
            sample.labels["method"]: sample.value * 1000
            for family in text_string_to_metric_families(self.site.service.metrics())
            for sample in family.samples
            if sample.name == "underlay_call_seconds_sum"
        }

    @contextmanager
    def bare_links(self) -> Iterator[Callable[[], float]]:
        """Yield what times one macvlan link on this host, with nothing around it."""
        pipe = subprocess.PIPE
        command = (sys.executable, "-m", "tests.bench.link")
        where = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        with self.site.host.outer(
            *command, env=where, stdin=pipe, stdout=pipe, text=True, bufsize=1
        ) as process:

            def once() -> float:
                process.stdin.write("\n")
                return float(process.stdout.readline())

            yield once


def _sandbox(endpoint: str) -> str:
    return f"/var/run/docker/netns/{endpoint[:12]}"


@contextmanager
def crowd(lan: Lan, engine: str, size: int, index: int) -> Iterator[Crowd]:
    """Run a host with that many endpoints on record."""
    site = make_site(lan, f"b{size}", engine, index, **SETTINGS)
    try:
        found = Crowd(site, size)
        found.record()
        yield found
        on_record = len(site.live()[1])
        if on_record != size:
            raise RuntimeError(
                f"{on_record} endpoints on record at the end, not {size}"
            )
    finally:
        site.host.close()
