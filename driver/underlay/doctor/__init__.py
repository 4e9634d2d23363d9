"""Checks of a host: what is wrong, where, why, and how to fix it. Nothing is changed.

Each check is a function that yields what it found, and nothing if all is well. Only
`underlay doctor --fix` applies the fixes that some findings have.
"""
