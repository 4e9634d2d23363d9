"""Real Docker engines in isolated hosts on one LAN, all on a single machine."""
