"""`python -m underlay` is the command `underlay`."""

from underlay.cli.commands import main

main(prog_name="underlay")
