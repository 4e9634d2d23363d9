"""When the quick checks of the host run."""

from __future__ import annotations

from underlay.model import Network
from underlay.records import Records
from underlay.service.notices import LEAST_SECONDS, Notices


def test_host_is_looked_at_after_a_change_of_networks_and_not_at_each_start(
    tmp_path, monkeypatch
):
    records, looks, now = Records(tmp_path / "underlay.db"), [], [0.0]
    monkeypatch.setattr(Notices, "_look", lambda _: looks.append(now[0]))
    notices = Notices(records, lambda: None, lambda: now[0])
    for at in (0.0, 1.0, LEAST_SECONDS, LEAST_SECONDS + 1):
        now[0] = at
        notices.update()
    assert looks == [0.0, LEAST_SECONDS]
    with records.transaction():
        records.networks.add(Network("n1"))
    notices.update()
    assert looks[2:] == [now[0]]
    records.close()
