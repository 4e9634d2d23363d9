"""Which container asks for an address, where Docker tells no names."""

from __future__ import annotations

import threading

import pytest

from underlay.ipam.idle_containers import IdleContainers
from underlay.model import Network
from underlay.model.docker import ListedContainer

LAN = Network("n1", name="lan")


def listed(name, *networks):
    return ListedContainer(name, networks or ("n1",))


@pytest.fixture
def idle():
    return IdleContainers()


def look(idle, *containers):
    idle.update(containers, idle.changes)


def test_only_container_that_does_not_run_is_the_one(idle):
    look(idle, listed("web"), listed("db"), listed("far", "n2"))
    idle.note_running("n1", "db")
    idle.note_running("n1", "")
    assert idle.only_one(LAN) == "web"


def test_container_of_which_docker_has_not_told_yet_is_waited_for(idle):
    look(idle)
    timer = threading.Timer(0.05, lambda: idle.note_created(listed("web")))
    timer.start()
    assert idle.only_one(LAN, 10) == "web"
    timer.join()


def test_two_are_never_told_apart(idle):
    look(idle, listed("web"), listed("db"))
    assert idle.only_one(LAN) == ""


def test_nothing_is_known_before_docker_has_listed_its_containers(idle):
    idle.note_created(listed("web"))
    assert not idle.is_known
    look(idle, listed("web"))
    assert idle.is_known


def test_container_that_has_never_run_is_listed_by_the_name_of_its_network(idle):
    look(idle, listed("web", "lan"))
    assert idle.only_one(LAN) == "web"
    assert idle.only_one(Network("n1")) == ""
    idle.note_network("n1", "lan")
    assert idle.only_one(Network("n1")) == "web"
    look(idle, listed("web", "lan"), listed("db", "n1"))
    assert idle.only_one(LAN) == ""


def test_events_and_calls_say_what_changed_since(idle):
    look(idle, listed("db"))
    idle.note_running("n1", "db")
    assert idle.only_one(LAN) == ""
    idle.note_created(listed("web", "lan"))
    assert idle.only_one(LAN) == "web"
    idle.note_renamed("web", "web-2")
    assert idle.only_one(LAN) == "web-2"
    idle.note_ended("n1", "db")
    assert idle.only_one(LAN) == ""
    idle.note_running("n1", "web-2")
    assert idle.only_one(LAN) == "db"
    idle.note_removed("db")
    assert idle.only_one(LAN) == ""


def test_running_container_that_is_renamed_still_runs(idle):
    look(idle, listed("web"))
    idle.note_running("n1", "web")
    idle.note_renamed("web", "web-2")
    assert idle.only_one(LAN) == ""


def test_answer_older_than_a_change_is_not_taken(idle):
    look(idle)
    asked = idle.changes
    idle.note_created(listed("web"))
    idle.update((listed("db"),), asked)
    assert idle.only_one(LAN) == "web"


def test_nothing_of_a_removed_network_is_remembered(idle):
    idle.note_network("n1", "lan")
    idle.note_running("n1", "web")
    idle.note_network_removed("n1")
    look(idle, listed("web", "lan"))
    assert idle.only_one(Network("n1")) == ""
    look(idle, listed("web"))
    assert idle.only_one(Network("n1")) == "web"
