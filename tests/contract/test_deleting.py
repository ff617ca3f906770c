"""DeleteSessions: what it says, what becomes of the session, and what force does."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.broker.api_calls import call
from tests.broker.client_view import Fleet
from tests.hosts import B, running_hosts
from tests.running import MovedClock, running_broker

NO_SESSION = "The requested dcvSession does not exist"
NOT_OWNED = "The requested dcvSession is not owned by the specified owner"
NO_AGENT = "The agent of the dcv server is not reachable"


@pytest.fixture
async def fleet(tmp_path: Path, clock: MovedClock) -> AsyncIterator[Fleet]:
    """A broker with the host B (Linux)."""
    async with running_broker(tmp_path, now=clock) as broker, running_hosts(broker, B) as hosts:
        yield Fleet(broker, *hosts)


async def preparing(fleet: Fleet, **fields: Any) -> dict[str, Any]:
    """A session that its host has been told to make and does not make yet."""
    host = fleet.hosts[0].server
    host.may_create.clear()
    session = await fleet.create(**fields)
    await fleet.broker.until(lambda: session["Id"] in [order.session_id for order in host.orders])
    return session


async def failed(fleet: Fleet, **fields: Any) -> dict[str, Any]:
    """A session that no host could make."""
    fleet.hosts[0].server.strangers.add("mallory")
    session = await fleet.create(Owner="mallory", **fields)
    return await fleet.until_state(session["Id"], "UNKNOWN")


async def reasons(fleet: Fleet, *items: dict[str, Any]) -> list[str]:
    """Why each of these deletions fails, as all of them must."""
    answer = await fleet.call("deleteSessions", list(items))
    assert answer["SuccessfulList"] == []
    return [each["FailureReason"] for each in answer["UnsuccessfulList"]]


def item(session: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"SessionId": session["Id"], "Owner": session["Owner"], **fields}


# ------------------------------------------------------------------ without force


@pytest.mark.covers("C102")
async def test_a_session_is_deleting_and_then_deleted(fleet: Fleet) -> None:
    """A deletion is answered at once; the session is DELETING until its host has closed it, then DELETED."""
    session = await fleet.ready()
    host = fleet.hosts[0].server
    host.may_close.clear()
    answer = await fleet.call("deleteSessions", [item(session)])
    assert answer["SuccessfulList"] == [{"SessionId": session["Id"], "State": "DELETING"}]
    assert answer["UnsuccessfulList"] == []
    deleting = await fleet.session(session["Id"]) or {}
    assert (deleting["State"], deleting["Server"]["Id"]) == ("DELETING", "srv-b")
    host.may_close.set()
    deleted = await fleet.until_state(session["Id"], "DELETED")
    assert deleted["Server"]["Id"] == "srv-b", "it shows where it was"
    assert host.sessions == ()
    assert (await fleet.server("srv-b"))["VirtualSessionCount"] == 0


@pytest.mark.covers("C103")
async def test_a_deleted_session_is_listed_for_a_while(tmp_path: Path, clock: MovedClock) -> None:
    """What was deleted stays listed as DELETED for the configured time, and then no longer."""
    async with (
        running_broker(tmp_path, now=clock, delete_session_duration_seconds=3000) as broker,
        running_hosts(broker, B) as hosts,
    ):
        fleet = Fleet(broker, *hosts)
        session = await fleet.ready()
        await fleet.delete(session)
        await fleet.until_state(session["Id"], "DELETED")
        clock.advance(2900)
        assert (await fleet.session(session["Id"]) or {})["State"] == "DELETED"
        clock.advance(101)
        await fleet.until_gone(session["Id"])


@pytest.mark.covers("C104", "C106")
async def test_what_cannot_be_deleted_says_why(fleet: Fleet) -> None:
    """An unknown session and one that is deleted already do not exist; id and owner are required."""
    session = await fleet.ready()
    await fleet.delete(session)
    await fleet.until_state(session["Id"], "DELETED")
    owner = session["Owner"]
    assert await reasons(
        fleet,
        {"SessionId": "nothing", "Owner": owner},
        {"SessionId": "nothing", "Owner": owner, "Force": True},
        item(session),
        {"Owner": owner},
        {"SessionId": " ", "Owner": owner},
        {"SessionId": session["Id"]},
        {"SessionId": session["Id"], "Owner": "", "Force": True},
        {},
    ) == [
        NO_SESSION,
        NO_SESSION,
        NO_SESSION,
        "SessionId is required",
        "SessionId is required",
        "Owner is required",
        "Owner is required",
        "SessionId is required",
    ]
    answer = await fleet.call("deleteSessions", [{"SessionId": "nothing", "Owner": owner}])
    assert answer["UnsuccessfulList"] == [{"SessionId": "nothing", "FailureReason": NO_SESSION}]


@pytest.mark.covers("C105")
async def test_only_the_owner_is_believed(fleet: Fleet) -> None:
    """Naming another owner fails, with force and without, and the session stays as it is."""
    session = await fleet.ready(Owner="alice")
    others = [{"SessionId": session["Id"], "Owner": owner} for owner in ("bob", "Alice", "alice ")]
    assert await reasons(fleet, *others, *({**each, "Force": True} for each in others)) == [NOT_OWNED] * 6
    assert (await fleet.session(session["Id"]) or {})["State"] == "READY"


@pytest.mark.covers("C107")
async def test_a_session_can_be_deleted_while_it_is_prepared(fleet: Fleet) -> None:
    """A session that its host is still making becomes DELETED, and nothing of it stays on the host."""
    session = await preparing(fleet)
    await fleet.delete(session)
    assert (await fleet.session(session["Id"]) or {})["State"] == "DELETING"
    fleet.hosts[0].server.may_create.set()
    await fleet.until_state(session["Id"], "DELETED")
    assert fleet.hosts[0].server.sessions == ()


@pytest.mark.covers("C108")
async def test_deleting_again_is_no_error(fleet: Fleet) -> None:
    """A session that is being deleted can be deleted again, also twice within one request."""
    session = await fleet.ready()
    fleet.hosts[0].server.may_close.clear()
    again = {"SessionId": session["Id"], "State": "DELETING"}
    answer = await fleet.call("deleteSessions", [item(session), item(session)])
    assert (answer["SuccessfulList"], answer["UnsuccessfulList"]) == ([again, again], [])
    answer = await fleet.call("deleteSessions", [item(session)])
    assert (answer["SuccessfulList"], answer["UnsuccessfulList"]) == ([again], [])
    fleet.hosts[0].server.may_close.set()
    await fleet.until_state(session["Id"], "DELETED")


@pytest.mark.covers("C111")
async def test_connected_clients_do_not_hold_a_deletion_up(fleet: Fleet) -> None:
    """A session that somebody looks at is deleted like any other, without force."""
    session = await fleet.ready()
    fleet.hosts[0].server.connect_client(session["Id"])
    await fleet.until(session["Id"], lambda found: found["NumOfConnections"] == 1)
    await fleet.delete(session)
    await fleet.until_state(session["Id"], "DELETED")


@pytest.mark.covers("C112")
async def test_a_failed_creation_can_be_deleted(fleet: Fleet) -> None:
    """A session that no host could make is deleted without force and reads DELETED at once."""
    session = await failed(fleet)
    assert "Server" not in session
    await fleet.delete(session)
    assert (await fleet.session(session["Id"]) or {})["State"] == "DELETED"


async def test_a_host_that_refuses_to_close_keeps_its_session(fleet: Fleet) -> None:
    """When a host cannot close a session, the session is READY again and says what the host said."""
    session = await fleet.ready()
    fleet.hosts[0].server.failing_close = "the session is locked"
    await fleet.delete(session)
    kept = await fleet.until_state(session["Id"], "READY")
    assert kept["StateReason"] == "the session is locked"
    fleet.hosts[0].server.failing_close = ""
    await fleet.delete(session)
    await fleet.until_state(session["Id"], "DELETED")


# ------------------------------------------------------------------ out of reach, and by force


@pytest.mark.covers("C109")
async def test_on_an_unreachable_server_only_force_deletes(fleet: Fleet) -> None:
    """Out of reach a session cannot be closed and stays; by force it is gone from the lists at once."""
    kept, forced = await fleet.ready(Owner="alice"), await fleet.ready(Owner="bob")
    fleet.hosts[0].agent.leave()
    await fleet.until_state(kept["Id"], "UNKNOWN")
    answer = await fleet.call("deleteSessions", [item(kept), item(forced, Force=True)])
    assert answer["UnsuccessfulList"] == [{"SessionId": kept["Id"], "FailureReason": NO_AGENT}]
    assert answer["SuccessfulList"] == [{"SessionId": forced["Id"], "State": "DELETING"}]
    listed = (await fleet.call("describeSessions"))["Sessions"]
    assert [session["Id"] for session in listed] == [kept["Id"]]
    fleet.hosts[0].agent.come_back()
    await fleet.until_state(kept["Id"], "READY")


async def test_an_unhealthy_server_is_told_apart(fleet: Fleet) -> None:
    """When the agent is there and its DCV server is not, a refused deletion says so."""
    session = await fleet.ready()
    fleet.hosts[0].server.faults.unhealthy = "it does not answer"
    await fleet.until_state(session["Id"], "UNKNOWN")
    assert await reasons(fleet, item(session)) == ["The dcv server is not healthy"]
    await fleet.delete(session, Force=True)
    assert await fleet.session(session["Id"]) is None


@pytest.mark.covers("C109")
@pytest.mark.parametrize("state", ["placing", "preparing", "ready", "deleting", "deleted", "failed"])
async def test_force_removes_a_session_in_any_state(fleet: Fleet, state: str) -> None:
    """By force a session leaves the lists at once, whatever its state, and its host is told to close it."""
    host = fleet.hosts[0].server
    if state == "placing":
        session = await fleet.create(EnqueueRequest=True, Requirements="tag:color = 'green'")
    elif state == "preparing":
        session = await preparing(fleet)
    elif state == "failed":
        session = await failed(fleet)
    else:
        session = await fleet.ready()
        if state != "ready":
            host.may_close.clear()
            await fleet.delete(session)
        if state == "deleted":
            host.may_close.set()
            await fleet.until_state(session["Id"], "DELETED")
    await fleet.delete(session, Force=True)
    assert await fleet.session(session["Id"]) is None
    assert await reasons(fleet, item(session)) == [NO_SESSION]
    host.may_create.set()
    host.may_close.set()
    await fleet.broker.until(lambda: host.sessions == ())
    assert await fleet.session(session["Id"]) is None


@pytest.mark.covers("C110")
async def test_a_session_that_outlives_force_comes_back_after_a_minute(
    fleet: Fleet, clock: MovedClock
) -> None:
    """What its host still has a minute after a forced deletion is listed again; until then it is not."""
    session = await fleet.ready(Owner="alice")
    fleet.hosts[0].server.failing_close = "the session is locked"
    await fleet.delete(session, Force=True)
    assert await fleet.session(session["Id"]) is None
    clock.advance(30)
    fleet.hosts[0].server.connect_client(session["Id"])  # so that its agent speaks of it
    forced = fleet.broker.broker.registry.server("srv-b").forced_away  # type: ignore[union-attr]
    await fleet.broker.until(lambda: (forced[session["Id"]].report or {}).get("numOfConnections"))
    assert await fleet.session(session["Id"]) is None, "reports of it are not believed yet"
    clock.advance(31)
    found = await fleet.until_state(session["Id"], "READY")
    assert (found["Owner"], found["Server"]["Id"]) == ("alice", "srv-b")


async def test_force_counts_for_the_host_only_once(fleet: Fleet, clock: MovedClock) -> None:
    """An agent that was away during a forced deletion is not told about it later: the session comes back."""
    session = await fleet.ready(Owner="alice")
    fleet.hosts[0].agent.leave()
    await fleet.until_state(session["Id"], "UNKNOWN")
    await fleet.delete(session, Force=True)
    fleet.hosts[0].agent.come_back()
    await fleet.until_server("srv-b", lambda server: server["Availability"] == "AVAILABLE")
    assert await fleet.session(session["Id"]) is None
    clock.advance(61)
    assert (await fleet.until_state(session["Id"], "READY"))["Server"]["Id"] == "srv-b"
    assert [one.id for one in fleet.hosts[0].server.sessions] == [session["Id"]]


async def test_items_are_carried_out_in_their_order(fleet: Fleet) -> None:
    """The second item of a request sees what the first one did; each list keeps the order of the request."""
    waiting = [await fleet.create(EnqueueRequest=True, Requirements="tag:color = 'green'") for _ in range(2)]
    first, second = (item(session) for session in waiting)
    answer = await call(
        fleet.broker, "deleteSessions", [second, {**second, "Force": True}, second, first, first]
    )
    named = [each["SessionId"] for each in answer["SuccessfulList"]]
    assert named == [second["SessionId"], second["SessionId"], first["SessionId"]]
    assert [each["SessionId"] for each in answer["UnsuccessfulList"]] == [
        second["SessionId"],
        first["SessionId"],
    ]
    assert [session["Id"] for session in (await fleet.call("describeSessions"))["Sessions"]] == [
        first["SessionId"]
    ]
