"""From records to desired kernel objects, and from those to steps; pure functions."""
