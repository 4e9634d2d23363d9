"""Docker containers on the real network, without NAT."""

__version__ = "0.1.0"
