"""Records of an earlier boot: the sysctls found then are of no use now."""

from __future__ import annotations

import logging

from underlay.kernel import Kernel
from underlay.records import Records

log = logging.getLogger(__name__)

# The sandbox of an endpoint that was to have one when the host went down.
GONE = "/run/docker/netns/-"


def forget_last_boot(records: Records, kernel: Kernel) -> None:
    """Forget what ended with the last boot, if the host rebooted; before any verb.

    The kernel has the sysctls of this boot, so none is restored. No endpoint of an
    earlier boot lives, nor one that had no sandbox yet. Raises RecordsUnwritable.
    """
    boot, known = kernel.boot(), records.host.boot()
    if boot == known:
        return
    with records.transaction():
        if known:
            log.info("host rebooted")
            for reason in {s.reason for s in records.host.sysctls()}:
                records.host.forget_sysctls(reason)
            for endpoint in records.endpoints.not_joined():
                records.endpoints.join(endpoint.id, GONE)
        records.host.note_boot(boot)
