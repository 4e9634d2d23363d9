"""The commands of `underlay`, and the tables they print."""
