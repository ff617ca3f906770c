"""What a live stream can tell: who follows the log sees the fleet that the API describes."""

import json
import random
from typing import Any

import pytest

from broker_stub.broker.changes import Changed, ChangeLog
from broker_stub.broker.registry import Registry
from tests.broker.random_walk import Walk
from tests.broker.scene import Scene

A, B, C = (Changed(False, name) for name in "abc")


def test_each_entity_is_told_once_in_the_order_of_its_last_change() -> None:
    log = ChangeLog()
    for changed in (A, B, A, C):
        log.note(changed)
    assert log.since(0, 9) == ([B, A, C], 4)
    assert log.since(3, 9) == ([C], 4)
    assert log.since(4, 9) == ([], 4)


def test_many_changes_are_told_in_parts() -> None:
    log = ChangeLog()
    for changed in (A, B, C):
        log.note(changed)
    assert log.since(0, 2) == ([A, B], 2)
    assert log.since(2, 2) == ([C], 3)


def test_who_is_too_far_behind_or_ahead_is_told_nothing() -> None:
    log = ChangeLog(most=2)
    for changed in (A, B, C):
        log.note(changed)
    assert log.since(0, 9) is None
    assert log.since(1, 9) == ([B, C], 3)
    assert log.since(4, 9) is None


def test_a_session_and_a_server_of_one_name_are_two() -> None:
    log = ChangeLog()
    log.note(Changed(False, "x"))
    log.note(Changed(True, "x"))
    assert log.since(0, 9) == ([Changed(False, "x"), Changed(True, "x")], 2)


class Mirror:
    """Somebody who knows only what the changes tell."""

    def __init__(self) -> None:
        self.registry: Registry | None = None
        self.number = 0
        self.servers: dict[str, Any] = {}
        self.sessions: dict[tuple[str, str | None], Any] = {}

    def follow(self, scene: Scene, most: int) -> None:
        if self.registry is not scene.registry:  # the broker was started anew: all is read anew
            self.registry, self.number = scene.registry, scene.registry.change_number
            self.servers = {one["Id"]: one for one in described(scene, "servers")}
            self.sessions = {}
            self.take(described(scene, "sessions"))
        while True:
            changes = scene.registry.changes_since(self.number, most)
            assert changes is not None
            if changes.number == self.number:
                return
            self.number = changes.number
            self.servers |= {one["Id"]: one for one in map(json.loads, changes.servers)}
            for gone in changes.gone_servers:
                self.servers.pop(gone, None)
            for key in changes.gone_sessions:
                self.sessions.pop(key_of(*key), None)
            self.take([json.loads(part) for part in changes.sessions])

    def take(self, sessions: list[Any]) -> None:
        for session in sessions:
            server = session.get("Server") or {}
            self.sessions[key_of(session["Id"], server.get("Id"))] = told(session)


def key_of(session_id: str, server_id: str | None) -> tuple[str, str | None]:
    """As clients tell sessions apart: ids that the broker made are unique."""
    return (session_id, None if len(session_id) == 36 else server_id)


def told(session: dict[str, Any]) -> dict[str, Any]:
    """A session without what is told with its server."""
    server = session.get("Server") or {}
    return session | {"Server": {name: server.get(name) for name in ("Id", "Hostname", "Ip")}}


def described(scene: Scene, kind: str) -> list[Any]:
    if kind == "servers":
        page = scene.registry.describe_servers(None, 10_000)
    else:
        page = scene.registry.describe_sessions(None, (), 10_000)
    return [json.loads(part) for part in page.parts]


@pytest.mark.parametrize("seed", range(12))
def test_who_follows_the_changes_knows_the_whole_fleet(seed: int) -> None:
    walk = Walk(random.Random(seed), obedient=False)  # noqa: S311  a test that repeats itself
    mirror = Mirror()
    for step in range(250):
        walk.rng.choice(walk.steps)()
        if walk.rng.random() < 0.5:
            continue
        mirror.follow(walk.scene, walk.rng.choice([1, 3, 100]))
        assert mirror.servers == {one["Id"]: one for one in described(walk.scene, "servers")}, step
        expected = {
            key_of(one["Id"], (one.get("Server") or {}).get("Id")): told(one)
            for one in described(walk.scene, "sessions")
        }
        assert mirror.sessions == expected, step
