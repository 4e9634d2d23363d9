"""What all tests share: records of their own."""

from __future__ import annotations

import pytest

from underlay.records import Records


@pytest.fixture
def records(tmp_path):
    found = Records(tmp_path / "underlay.db")
    yield found
    found.close()
