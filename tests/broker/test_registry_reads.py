"""Pages of sessions and servers: order, filters, ids, and walks while things change (API, 4.1, 4.2, 4.10)."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from broker_stub.broker.events import Ambiguous, Page
from tests.broker.scene import Scene, report, server_block, tag_list

Read = Callable[[int, tuple[str, ...] | None], Page]


def walk(read: Read, limit: int, between: Callable[[], Any] = lambda: None) -> list[dict[str, Any]]:
    found, after = [], None
    while True:
        page = read(limit, after)
        assert len(page.parts) <= limit
        found += [json.loads(part) for part in page.parts]
        if page.next_key is None:
            return found
        assert page.parts
        after = page.next_key
        between()


def fleet_of(count: int) -> Scene:
    scene = Scene()
    for number in range(count):
        colors = tag_list(color="red" if number % 2 else "blue", number=str(number))
        scene.hello(f"s{number:03}", block=server_block(tags=colors))
    for number in range(count):
        scene.now += timedelta(milliseconds=number % 3)  # some in the same millisecond
        scene.ready(Owner=f"owner{number % 5}", Name=f"n{number}")
    return scene


def names(sessions: list[dict[str, Any]]) -> set[str]:
    return {session["Name"] for session in sessions}


@pytest.mark.parametrize("limit", [1, 2, 5, 20, 21, 1000])
def test_a_walk_meets_everything_once_in_order(limit: int) -> None:
    scene = fleet_of(20)
    sessions = walk(lambda n, after: scene.registry.describe_sessions(None, (), n, after), limit)
    keys = [(session["CreationTime"], session["Id"]) for session in sessions]
    assert keys == sorted(keys)
    assert len(keys) == 20
    servers = walk(lambda n, after: scene.registry.describe_servers(None, n, after), limit)
    assert [server["Id"] for server in servers] == [f"s{number:03}" for number in range(20)]


def test_a_page_that_is_exactly_full_is_the_last() -> None:
    scene = fleet_of(4)
    page = scene.registry.describe_servers(None, 2)
    assert page.next_key == ("s001",)
    assert scene.registry.describe_servers(None, 2, page.next_key).next_key is None
    first = scene.registry.describe_sessions(None, (), 2)
    assert scene.registry.describe_sessions(None, (), 2, first.next_key).next_key is None


def test_what_stays_is_met_once_whatever_else_changes() -> None:
    scene = fleet_of(30)
    staying = [session["Id"] for session in scene.sessions()][1::2]
    going = iter([session["Id"] for session in scene.sessions()][::2])

    def change() -> None:
        for session_id in (next(going, None), next(going, None)):
            record = scene.registry.session(session_id or "")
            if record is not None:
                scene.delete(record.id, record.owner, force=True)
        scene.now += timedelta(milliseconds=1)
        scene.create(Owner="new")

    met = walk(lambda n, after: scene.registry.describe_sessions(None, (), n, after), 4, change)
    ids = [session["Id"] for session in met]
    assert len(set(ids)) == len(ids)
    assert [one for one in ids if one in staying] == staying


def test_filters() -> None:
    scene = fleet_of(20)
    queued = scene.create(Owner="owner1", EnqueueRequest=True, Requirements="tag:a = 'b'", Name="queued")
    owner1 = {f"n{number}" for number in (1, 6, 11, 16)}
    assert names(scene.sessions(("owner", "owner1"))) == owner1 | {"queued"}
    assert names(scene.sessions(("Owner", "owner1"))) == owner1 | {"queued"}
    assert scene.sessions(("owner", "OWNER1")) == []
    red = names(scene.sessions(("tag:color", "red")))
    assert len(red) == 10
    assert names(scene.sessions(("tag:color", "red"), ("owner", "owner1"))) == red & owner1
    assert names(scene.sessions(("owner", "owner1"), ("tag:color", "blue"))) == owner1 - red
    assert scene.sessions(("tag:color", "red"), ("tag:color", "blue")) == []
    assert scene.sessions(("tag:Color", "red")) == scene.sessions(("tag:color", "Red")) == []
    assert scene.sessions(("owner", "nobody"), ("tag:color", "red")) == []
    assert scene.state(queued) == "SESSION_PLACING"
    scene.check()


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_filtered_walks(limit: int) -> None:
    scene = fleet_of(20)
    both = (("tag:color", "red"), ("owner", "owner1"))
    met = walk(lambda n, after: scene.registry.describe_sessions(None, both, n, after), limit)
    assert met == scene.sessions(*both)
    assert met


def test_tags_are_those_of_the_server_at_the_moment() -> None:
    scene = Scene()
    scene.hello(block=server_block(tags=tag_list(dcv_os_family="linux", color="red")), sessions=[report("x")])
    assert len(scene.sessions(("tag:dcv:os-family", "linux"))) == 1
    scene.reports_server("s1", {"tags": tag_list(color="blue")})
    assert scene.sessions(("tag:dcv:os-family", "linux")) == scene.sessions(("tag:color", "red")) == []
    assert len(scene.sessions(("tag:color", "blue"))) == 1
    assert scene.sessions()[0]["Server"]["Tags"] == [{"Key": "color", "Value": "blue"}]
    scene.check()


def test_ids() -> None:
    scene = fleet_of(6)
    ids = [session["Id"] for session in scene.sessions()]
    wanted = [ids[4], "unknown", ids[1], ids[4]]
    read = scene.registry.describe_sessions
    assert [json.loads(part)["Id"] for part in read(wanted, (), 10).parts] == [ids[1], ids[4]]
    assert walk(lambda n, after: read(wanted, (), n, after), 1) == [
        scene.session(ids[1]),
        scene.session(ids[4]),
    ]
    assert read(["unknown"], (), 10).parts == []
    assert len(read([], (), 10).parts) == 6
    owner = (scene.session(ids[4]) or {})["Owner"]
    assert len(read(wanted, (("owner", owner),), 10).parts) == 1
    servers = scene.registry.describe_servers(["s003", "x", "s001", "s003"], 10)
    assert [json.loads(part)["Id"] for part in servers.parts] == ["s001", "s003"]


def test_an_id_on_several_servers() -> None:
    scene = Scene()
    for server_id, owner in (("s1", "alice"), ("s2", "bob")):
        scene.hello(server_id, sessions=[report("console", owner, creationTime="2026-01-01T00:00:00.000Z")])
    read = scene.registry.describe_sessions
    met = walk(lambda n, after: read(["console"], (), n, after), 1)
    assert [session["Server"]["Id"] for session in met] == ["s1", "s2"]
    with pytest.raises(Ambiguous):
        scene.registry.session("console")
    record = scene.registry.session("console", "bob")
    assert record is not None
    assert json.loads(scene.registry.session_json(record)) == met[1]
    assert scene.registry.session("unknown") is None


def test_parts_follow_every_change_that_is_shown() -> None:
    scene = Scene()
    scene.hello()
    session_id = scene.ready()
    before = scene.session(session_id)
    scene.create(Owner="bob")  # another session on the same server
    after = scene.session(session_id)
    assert before is not None
    assert after is not None
    assert (before["Server"]["VirtualSessionCount"], after["Server"]["VirtualSessionCount"]) == (1, 2)
    scene.close("s1", force=True)
    assert (scene.session(session_id) or {})["Server"]["Availability"] == "UNAVAILABLE"
    record = scene.registry.session(session_id)
    assert record is not None
    assert json.loads(scene.registry.session_json(record)) == scene.session(session_id)


def test_any_text_of_a_host_can_be_encoded() -> None:
    scene = Scene()
    scene.hello(sessions=[report("x", "ü\u202e\x1b", name='"\\')])
    session = scene.session("x")
    assert session is not None
    assert (session["Owner"], session["Name"]) == ("ü\u202e\x1b", '"\\')
