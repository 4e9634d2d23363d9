"""Bodies of requests as Docker sends them."""

from __future__ import annotations

NETWORK = {
    "NetworkID": "n" * 64,
    "Options": {
        "com.docker.network.enable_ipv6": False,
        "com.docker.network.generic": {"parent": "eth0"},
    },
    "IPv4Data": [
        {
            "AddressSpace": "LocalDefault",
            "Pool": "10.0.0.0/24",
            "Gateway": "10.0.0.1/24",
        }
    ],
    "IPv6Data": [],
}
ENDPOINT = {
    "NetworkID": "n" * 64,
    "EndpointID": "e" * 64,
    "Interface": {"Address": "10.0.0.5/24", "AddressIPv6": "", "MacAddress": ""},
    "Options": {"com.docker.network.portmap": []},
}
IDS = {"NetworkID": "n" * 64, "EndpointID": "e" * 64}
JOIN = {**IDS, "SandboxKey": "/var/run/docker/netns/x", "Options": None}
