"""Engines meet a service that cannot work, and the same service when it can."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.docker.conftest import GATEWAY4, make_site, refused
from tests.lab.rootfs import ENGINES
from tests.lab.service import ROOT, Service, wait_until


class Held(Service):
    """The service with sockets that are held for it, and started when it ends."""

    def __init__(self, host, **settings):
        super().__init__(host, **settings)
        self.env["PYTHONPATH"] = str(ROOT)

    @property
    def serving(self):
        return [sys.executable, "-m", "tests.lab.held"]

    @property
    def records(self):
        return Path(self.env["UNDERLAY_STATE_DIR"]) / "underlay.db"


@pytest.fixture(params=ENGINES)
def site(request, lan):
    index = list(ENGINES).index(request.param) + 30
    name = f"s{request.param.replace('.', '')}"
    site = make_site(lan, name, request.param, index, kind=Held)
    try:
        yield site
        site.clear()
        site.assert_nothing_left()
    finally:
        site.host.close()


def test_engine_started_beside_a_faulty_service_uses_it_once_it_works(site):
    service = site.service
    site.network("lan")
    site.run("c1", "lan", "--restart", "always")
    site.host.stop_dockerd()
    service.stop()
    good = service.records.read_bytes()
    service.records.write_bytes(b"garbage" + good[7:])
    service.start()
    assert service.healthz()["error"].startswith("E-501 ")
    site.host.start_dockerd()
    starting = ("run", "--rm", "--network", "lan", "bb", "true")
    said = refused(site.docker(*starting, check=False))
    assert "E-501 " in said
    service.records.write_bytes(good)
    wait_until(lambda: (service.healthz() or {"ok": False})["ok"], 30)
    site.docker(*starting)
    site.docker("start", "c1")
    site.ping_from("c1", GATEWAY4)
