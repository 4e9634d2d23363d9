"""`python -m underlay` is the command `underlay`."""

from underlay.cli import main

main(prog_name="underlay")
