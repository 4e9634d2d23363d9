"""Installing on a host and undoing it: the units of systemd and their files.

What is done is a list of steps, each with a line of text; `--dry-run` prints the lines.
"""

from underlay.install.steps import Step, install_steps, uninstall_steps

__all__ = ["Step", "install_steps", "uninstall_steps"]
