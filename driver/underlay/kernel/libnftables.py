"""The library of the program nft, in this process: no program starts for an element.

A run of nft takes 16 ms of processor time, of the library 0.2 ms. It opens a socket in
the namespace of the calling thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
from functools import cache

from underlay.kernel.rtnetlink import NETLINK_NETFILTER, namespace

_NAME = "libnftables.so.1"
# The kernel's errors that mean more to a caller than that nft failed.
_TOLD = (errno.ENOENT, errno.EPERM, errno.EOPNOTSUPP, errno.ENOMEM)
# The parser of the library has state of its own.
_lock = threading.Lock()
# At most one that is kept, by its process and namespace.
_contexts: dict[tuple[int, int], int] = {}


def run(script: str, *, dry: bool = False, keep: bool = False) -> None:
    """Run commands in one transaction; `dry`: only check them. Raises OSError.

    `keep` the socket open for the next call in this namespace: where something was
    deleted, its end waits until no packet uses that, which takes 13 ms.
    """
    with _lock:
        library = _library()
        context = _kept(library) if keep else _made(library)
        try:
            _run(library, context, script, dry=dry)
        finally:
            if not keep:
                library.nft_ctx_free(context)


def _run(library: ctypes.CDLL, context: int, script: str, *, dry: bool) -> None:
    library.nft_ctx_set_dry_run(context, dry)
    if not library.nft_run_cmd_from_buffer(context, script.encode()):
        return
    said = library.nft_ctx_get_error_buffer(context).decode(errors="replace")
    text = said.strip().partition("\n")[0]
    raise OSError(_number(text), text or "nft failed")


def _kept(library: ctypes.CDLL) -> int:
    """Return the context of this namespace, and end one of another."""
    here = namespace()
    if here not in _contexts:
        while _contexts:
            library.nft_ctx_free(_contexts.popitem()[1])
        _contexts[here] = _made(library)
    return _contexts[here]


def _made(library: ctypes.CDLL) -> int:
    _check_socket()
    context = library.nft_ctx_new(0)
    if not context:
        raise OSError(errno.ENOMEM, "libnftables has no memory")
    library.nft_ctx_buffer_output(context)
    library.nft_ctx_buffer_error(context)
    return int(context)


def _check_socket() -> None:
    """Raise OSError if the library could not open its socket: it would exit then."""
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER).close()


def _number(text: str) -> int:
    """Return what the kernel refused with; EINVAL for what nft did not understand."""
    known = (n for n in _TOLD if f": {os.strerror(n)}" in text)
    return next(known, errno.EINVAL)


@cache
def _library() -> ctypes.CDLL:
    """Return the library; raises OSError if it is not there."""
    library = ctypes.CDLL(_NAME)
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    library.nft_ctx_new.restype, library.nft_ctx_new.argtypes = pointer, [ctypes.c_uint]
    library.nft_ctx_free.argtypes = [pointer]
    library.nft_ctx_buffer_output.argtypes = [pointer]
    library.nft_ctx_buffer_error.argtypes = [pointer]
    library.nft_ctx_set_dry_run.argtypes = [pointer, ctypes.c_bool]
    library.nft_run_cmd_from_buffer.argtypes = [pointer, text]
    library.nft_ctx_get_error_buffer.restype = text
    library.nft_ctx_get_error_buffer.argtypes = [pointer]
    return library
