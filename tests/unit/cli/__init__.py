"""The commands: what they print."""
