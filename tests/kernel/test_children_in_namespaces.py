"""What stands on a device from another namespace, where others have its index too."""

from __future__ import annotations

import pytest

from tests.kernel.containers import Place
from tests.lab import net
from underlay.kernel import dependents, links
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import Owner

pytestmark = pytest.mark.usefixtures("namespace")
INDEX = 424_242  # no test has another device of it


@pytest.fixture
def base(namespace):
    del namespace
    net.ip(f"link add base0 index {INDEX} type bridge")
    return links.link_named("base0")


@pytest.fixture
def places():
    with Place("ulca") as one, Place("ulcb") as other:
        yield one, other


def stand(place, other):
    """Have a device in `other` stand on one of `place` with the same index."""
    place.ip(
        f"link add low0 index {INDEX} type bridge",
        "link add link low0 name up0 type macvlan",
        f"link set up0 netns {other.netns}",
    )


def test_device_above_another_namespace_s_device_of_that_index_is_ignored(base, places):
    stand(*places)
    assert not dependents.has_dependents_elsewhere(base)
    net.ip("link add link base0 name child0 type macvlan")
    assert not dependents.has_dependents_elsewhere(base)
    net.ip(f"link set child0 netns {places[1].netns}")
    assert dependents.has_dependents_elsewhere(base)


def test_foreign_device_beside_a_parent_is_not_the_driver_s(base):
    """Its parent is not the host's device of the same index."""
    mark = Owner("n1", "e1").mark
    with Place("ulca") as place:
        place.ip(
            f"link add low0 index {INDEX} type bridge",
            "link add link low0 name up0 type macvlan",
            f"link set up0 alias {mark}",
        )
        (seen,) = LinuxKernel().observe_sandboxes({place.path})[place.path]
        assert seen.parent is None
        assert base.index == INDEX
