"""Docker's IPAM driver: pools, claims, leases."""
