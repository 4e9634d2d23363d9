"""The plugin's application over real records and a fake kernel."""

from __future__ import annotations

import threading

import pytest

from tests.fakes import FakeKernel, engine_on, ipam_on
from underlay.api.methods import IpamCalls, NetworkCalls, methods
from underlay.api.plugin import create_app


class Plugin:
    """Posts as Docker does: no Content-Type, the body as bytes."""

    def __init__(self, records):
        self.kernel = FakeKernel()
        self.engine = engine_on(records, self.kernel)
        self.ipam = ipam_on(records)
        self.calls = []
        self.missed = threading.Event()
        app = create_app(
            methods(
                NetworkCalls(self.engine, lambda: None, lambda _: self.missed.set()),
                IpamCalls(self.ipam, self.missed.set),
            ),
            self.calls.append,
        )
        self.client = app.test_client()

    def post(self, method, body=b"", host="plugin.moby.localhost"):
        return self.client.post(
            f"/{method}",
            data=body,
            headers={
                "Host": host,
                "Accept": "application/vnd.docker.plugins.v1.2+json",
            },
        )


@pytest.fixture
def plugin(records):
    return Plugin(records)
