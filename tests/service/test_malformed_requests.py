"""Ten thousand malformed bodies: a clean error each time, and the service lives."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor

from tests.api.bodies import ENDPOINT, JOIN, NETWORK
from underlay import errors

GOOD = {
    "NetworkDriver.CreateNetwork": NETWORK,
    "NetworkDriver.CreateEndpoint": ENDPOINT,
    "NetworkDriver.Join": JOIN,
    "NetworkDriver.GwAllocCheck": {"Options": {}},
    "IpamDriver.RequestPool": {
        "AddressSpace": "underlay",
        "Pool": "10.0.0.0/24",
        "SubPool": "10.0.0.0/25",
        "Options": {"domain": "x"},
        "V6": False,
    },
    "IpamDriver.RequestAddress": {"PoolID": "p", "Address": "", "Options": None},
    "IpamDriver.ReleaseAddress": {"PoolID": "p", "Address": "10.0.0.5"},
}
STRANGE = [
    None, True, -1, 1e308, 2**64, "", "\0", "x" * 5000, "\u202e", "é", "::", "0/0",
    "10.0.0.1/-1", "10.0.0.300/24", "fe80::1%eth0/64", [], {}, [[]], {"": ""},
    {"parent": 3}, {"parent": "../../etc/passwd"}, {"parent": "a" * 300},
    {"parent": "eth0\n"}, {"mtu": "9" * 400}, {"parent": "'; DROP TABLE network; --"},
]  # fmt: skip


def spoil_bytes(rng, body):
    data = bytearray(body)
    for _ in range(rng.randint(1, 6)):
        match rng.randrange(4):
            case 0 if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
            case 1 if data:
                del data[rng.randrange(len(data)) :]
            case 2:
                data.insert(rng.randint(0, len(data)), rng.randrange(256))
            case _:
                data += rng.randbytes(rng.randint(1, 20))
    return bytes(data)


def spoil_values(rng, value):
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        return {**value, key: spoil_values(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        return [spoil_values(rng, v) for v in value]
    return rng.choice(STRANGE)


def known_ids():
    found, todo = set(), [errors.UnderlayError]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        found.add(kind.id)
    return found - {""}


def damage(rng, method):
    if rng.random() < 0.5:
        return spoil_bytes(rng, json.dumps(GOOD[method]).encode())
    return json.dumps(spoil_values(rng, GOOD[method])).encode()


def test_ten_thousand_malformed_bodies_give_clean_errors(daemon):
    ids = known_ids() - {"E-500"}

    def throw(seed):
        rng = random.Random(seed)
        for _ in range(1250):
            method = rng.choice(list(GOOD))
            body = damage(rng, method)
            status, told, _ = daemon.request("POST", f"/{method}", body)
            assert b"Traceback" not in told
            if status != 200:
                assert json.loads(told)["Err"][:5] in ids, (method, body, told)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(throw, range(8)))
    assert daemon.post("Plugin.Activate")[0] == 200
    assert "traceback=" not in daemon.log
    assert "level=error" not in daemon.log


def test_deeply_nested_json_is_refused(daemon):
    status, _, _ = daemon.request(
        "POST", "/NetworkDriver.CreateNetwork", b"[" * 100_000
    )
    assert status == 400
