"""Docker's network driver: its verbs, and what they build and keep on the host."""
