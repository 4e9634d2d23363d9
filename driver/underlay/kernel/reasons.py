"""Why the kernel refused something, in words."""

from __future__ import annotations

import errno

HINTS = {
    errno.EBUSY: " Another driver may hold the parent: a device carries macvlan or"
    " ipvlan children or is in a bridge or bond, not two of these.",
    errno.EOPNOTSUPP: " The kernel may lack this kind of device, or the device under"
    " it take none.",
    errno.EPERM: " The service needs CAP_NET_ADMIN in the host's network namespace.",
    errno.EADDRINUSE: " Another child of the parent has that MAC.",
    errno.ENETDOWN: " A VLAN is up only if the device under it is: set that up first.",
}


def reason(error: Exception, code: int | None) -> str:
    """Return the kernel's own words, and the name of their number."""
    text = error.args[1] if len(error.args) > 1 else str(error)
    name = errno.errorcode.get(code or 0, "")
    return f"{text} ({name})" if name else str(text)
