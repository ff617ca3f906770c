"""Which server a session goes to, how many a server takes, and what waits in the queue."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker_stub.agent.simulated_fleet import PlannedServer, PlannedSession
from dcvtui.api.states import SessionType
from tests.broker.client_view import Fleet
from tests.hosts import NOT_LOCAL, A, B, Host, NotingServer, running_hosts, several
from tests.running import MovedClock, running_broker

NO_SERVER = "no dcv server found for placement"
ON_A = {"Requirements": "server:Id = 'srv-a'"}
ON_B = {"Requirements": "server:Id = 'srv-b'"}


@contextlib.asynccontextmanager
async def running_fleet(
    folder: Path, *plans: PlannedServer, servers: Sequence[NotingServer] = (), **settings: Any
) -> AsyncIterator[Fleet]:
    """A broker with hosts, A and B unless said otherwise."""
    rules = settings.pop("rules", None)
    async with (
        running_broker(folder, rules, **settings) as broker,
        running_hosts(broker, *(plans or (A, B)), servers=servers) as hosts,
    ):
        yield Fleet(broker, *hosts)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """A broker with the hosts A (Windows) and B (Linux)."""
    async with running_fleet(tmp_path) as found:
        yield found


def planned(session_id: str, **fields: Any) -> PlannedSession:
    """A session that somebody starts on a host by hand."""
    usual: dict[str, Any] = {
        "name": "by hand",
        "owner": "carol",
        "type": SessionType.VIRTUAL,
        "age_s": 60,
        "connections": 0,
        "idle_s": None,
    }
    return PlannedSession(id=session_id, **usual | fields)


def orders(hosts: Sequence[Host]) -> list[str]:
    """The hosts that were told to create something, once for each time."""
    return [host.server.plan.server_id for host in hosts for _ in host.server.orders]


# ------------------------------------------------------------------ what a server takes


@pytest.mark.covers("C81", "C82", "C83")
async def test_console_and_virtual_sessions_exclude_each_other(fleet: Fleet) -> None:
    """A server has one console session or virtual ones, never both; Windows has no virtual ones at all."""
    await fleet.ready(Type="CONSOLE", **ON_A)
    a = await fleet.server("srv-a")
    assert (a["Availability"], a["UnavailabilityReason"]) == ("UNAVAILABLE", "SERVER_FULL")
    assert a["ConsoleSessionCount"] == 1
    assert await fleet.refusal(Type="CONSOLE", **ON_A) == NO_SERVER
    console = await fleet.ready(Type="CONSOLE", **ON_B)
    assert await fleet.refusal(Type="VIRTUAL", **ON_B) == NO_SERVER
    await fleet.delete(console)
    await fleet.until_state(console["Id"], "DELETED")
    await fleet.ready(Type="VIRTUAL", **ON_B)
    assert await fleet.refusal(Type="CONSOLE", **ON_B) == NO_SERVER
    assert (await fleet.server("srv-b"))["Availability"] == "AVAILABLE"


@pytest.mark.covers("C82")
async def test_no_virtual_session_goes_to_windows(fleet: Fleet) -> None:
    """An empty Windows server takes no virtual session, not even one that asks for that server."""
    assert (await fleet.server("srv-a"))["Availability"] == "AVAILABLE"
    assert await fleet.refusal(Type="VIRTUAL", **ON_A) == NO_SERVER
    waiting = await fleet.create(Type="VIRTUAL", EnqueueRequest=True, **ON_A)
    assert (await fleet.session(waiting["Id"]) or {})["Substate"] == "SESSION_PLACING"


@pytest.mark.covers("C84", "C85")
async def test_a_server_takes_ten_sessions_and_two_of_one_owner(fleet: Fleet) -> None:
    """Limits of virtual sessions hold for a server and for one owner on it; what is beyond them fails."""
    for owner in ("alice", "bob", "carl", "dora", "emil"):
        for _ in range(2):
            await fleet.create(Owner=owner)
        if owner != "emil":
            assert await fleet.refusal(Owner=owner) == NO_SERVER
    server = await fleet.server("srv-b")
    assert server["UnavailabilityReason"] == "SERVER_FULL"
    assert (server["ConsoleSessionCount"], server["VirtualSessionCount"]) == (0, 10)
    assert await fleet.refusal(Owner="fred") == NO_SERVER


@pytest.mark.covers("C86")
async def test_parallel_requests_never_exceed_a_limit(fleet: Fleet) -> None:
    """Of twenty requests at the same time for ten places exactly ten are accepted."""
    item = {"Name": "n", "Type": "VIRTUAL"}
    answers = await asyncio.gather(
        *(fleet.call("createSessions", [{**item, "Owner": f"owner-{number}"}]) for number in range(20))
    )
    assert sum(len(answer["SuccessfulList"]) for answer in answers) == 10
    server = await fleet.server("srv-b")
    assert (server["UnavailabilityReason"], server["VirtualSessionCount"]) == ("SERVER_FULL", 10)
    assert {len(answer["SuccessfulList"]) + len(answer["UnsuccessfulList"]) for answer in answers} == {1}


@pytest.mark.covers("C87")
async def test_a_console_session_with_a_program_goes_to_windows(fleet: Fleet) -> None:
    """A console session that starts a program is placed on Windows servers only."""
    autorun = {"Type": "CONSOLE", "AutorunFile": "x.exe"}
    assert await fleet.refusal(**autorun, **ON_B) == NO_SERVER
    assert (await fleet.ready(**autorun))["Server"]["Id"] == "srv-a"
    assert await fleet.refusal(**autorun) == NO_SERVER, "B is free, but it runs Linux"


@pytest.mark.covers("C88")
@pytest.mark.parametrize("trouble", ["closed", "agent", "unhealthy"])
async def test_nothing_is_placed_on_a_server_in_trouble(fleet: Fleet, trouble: str) -> None:
    """A server that is closed, unreachable or unhealthy gets no session; once it is well again it does."""
    host = fleet.hosts[1]
    if trouble == "closed":
        await fleet.call("closeServers", [{"ServerId": "srv-b"}])
    elif trouble == "agent":
        host.agent.leave()
    else:
        host.server.faults.unhealthy = "the server does not answer"
    await fleet.until_server("srv-b", lambda server: server["Availability"] == "UNAVAILABLE")
    assert await fleet.refusal(**ON_B) == NO_SERVER
    assert await fleet.refusal(Type="CONSOLE", **ON_B) == NO_SERVER
    if trouble == "closed":
        await fleet.call("openServers", [{"ServerId": "srv-b"}])
    elif trouble == "agent":
        host.agent.come_back()
    else:
        host.server.faults.unhealthy = ""
    await fleet.until_server("srv-b", lambda server: server["Availability"] == "AVAILABLE")
    await fleet.ready(**ON_B)


@pytest.mark.covers("C89", "C90")
async def test_sessions_made_by_hand_count_and_tags_of_users_do_not(tmp_path: Path) -> None:
    """A session found on a host takes a place; a user's tag cannot change the limits of the host."""
    cheating = replace(B, tags={**B.tags, "dcv:max-virtual-sessions": "99"})
    async with running_fleet(tmp_path, cheating) as fleet:
        fleet.hosts[0].server.start_on_host(planned("by-hand", owner="owner-0"))
        await fleet.until_state("by-hand", "READY")
        for number in range(1, 10):
            await fleet.create(Owner=f"owner-{number % 5}")
        server = await fleet.server("srv-b")
        assert (server["UnavailabilityReason"], server["VirtualSessionCount"]) == ("SERVER_FULL", 10)
        assert {"Key": "dcv:max-virtual-sessions", "Value": "10"} in server["Tags"]
        assert await fleet.refusal() == NO_SERVER


# ------------------------------------------------------------------ the queue


@pytest.mark.covers("C91")
async def test_what_fits_nowhere_may_wait(fleet: Fleet) -> None:
    """A request that may wait succeeds though nothing fits; it is listed as being placed, on no server."""
    waiting = await fleet.create(EnqueueRequest=True, Requirements="tag:color = 'green'")
    assert (waiting["State"], waiting["Substate"]) == ("CREATING", "SESSION_PLACING")
    found = await fleet.session(waiting["Id"]) or {}
    assert (found["State"], found["Substate"]) == ("CREATING", "SESSION_PLACING")
    assert "Server" not in found


@pytest.mark.covers("C92")
@pytest.mark.timeout(60)
async def test_the_queue_moves_when_a_place_comes_up(tmp_path: Path) -> None:
    """A waiting session is placed when a server is opened, when one registers, and when a session ends."""
    async with running_fleet(tmp_path, A) as fleet:
        console = {"Type": "CONSOLE", "EnqueueRequest": True}
        await fleet.call("closeServers", [{"ServerId": "srv-a"}])
        first = await fleet.create(**console, **ON_A)
        second = await fleet.create(**console, **ON_A)
        virtual = await fleet.create(EnqueueRequest=True)
        assert (await fleet.session(first["Id"]) or {})["Substate"] == "SESSION_PLACING"
        await fleet.call("openServers", [{"ServerId": "srv-a"}])
        await fleet.until_state(first["Id"], "READY")
        assert (await fleet.session(second["Id"]) or {})["Substate"] == "SESSION_PLACING"
        await fleet.delete(first)
        assert (await fleet.until_state(second["Id"], "READY"))["Server"]["Id"] == "srv-a"
        assert (await fleet.session(virtual["Id"]) or {})["Substate"] == "SESSION_PLACING"
        async with running_hosts(fleet.broker, B):
            assert (await fleet.until_state(virtual["Id"], "READY"))["Server"]["Id"] == "srv-b"


@pytest.mark.covers("C93", "C94")
async def test_who_fits_nothing_holds_up_nobody(fleet: Fleet) -> None:
    """The queue is first come, first served for one place; a request that fits nothing is passed by."""
    running = await fleet.ready(Type="CONSOLE", **ON_B)
    never = await fleet.create(EnqueueRequest=True, Requirements="tag:color = 'green'")
    waiting = {"Type": "CONSOLE", "Requirements": "tag:size = 'big'", "EnqueueRequest": True}
    first, second = [await fleet.create(**waiting) for _ in range(2)]
    for served, next_one in ((running, first), (first, second)):
        await fleet.delete(served)
        await fleet.until_state(next_one["Id"], "READY")
        if next_one is first:
            assert (await fleet.session(second["Id"]) or {})["Substate"] == "SESSION_PLACING"
    assert (await fleet.session(never["Id"]) or {})["Substate"] == "SESSION_PLACING"


@pytest.mark.covers("C95")
async def test_the_queue_has_a_length(tmp_path: Path) -> None:
    """What finds the queue full fails with a text of its own; a deletion makes room in it."""
    async with running_fleet(tmp_path, A, create_sessions_queue_max_size=2) as fleet:
        first = await fleet.create(EnqueueRequest=True)
        await fleet.create(EnqueueRequest=True)
        assert await fleet.refusal(EnqueueRequest=True) == "The create sessions queue is full"
        await fleet.delete(first)
        await fleet.create(EnqueueRequest=True)


@pytest.mark.covers("C96")
async def test_waiting_ends_after_its_time(tmp_path: Path) -> None:
    """A session that waited too long has failed: UNKNOWN, with the reason, on no server."""
    clock = MovedClock()
    limit: dict[str, Any] = {"create_sessions_queue_max_time_seconds": 300}
    async with running_fleet(tmp_path, A, now=clock, **limit) as fleet:
        waiting = await fleet.create(EnqueueRequest=True)
        clock.advance(200)
        assert (await fleet.session(waiting["Id"]) or {})["Substate"] == "SESSION_PLACING"
        clock.advance(101)
        gone = await fleet.until_state(waiting["Id"], "UNKNOWN")
        assert NO_SERVER in gone["StateReason"]
        assert "Server" not in gone


@pytest.mark.covers("C101")
async def test_a_deleted_request_is_never_placed(tmp_path: Path) -> None:
    """A session that is deleted while it waits is DELETED at once and takes no place that comes up later."""
    async with running_fleet(tmp_path, A) as fleet:
        gone, next_one = [await fleet.create(EnqueueRequest=True) for _ in range(2)]
        await fleet.delete(gone)
        assert (await fleet.session(gone["Id"]) or {})["State"] == "DELETED"
        async with running_hosts(fleet.broker, B) as (host,):
            await fleet.until_state(next_one["Id"], "READY")
            assert [order.session_id for order in host.server.orders] == [next_one["Id"]]
        assert (await fleet.session(gone["Id"]) or {})["State"] == "DELETED"


# ------------------------------------------------------------------ hosts that fail


@pytest.mark.covers("C97")
async def test_a_failed_creation_is_tried_on_another_host(tmp_path: Path) -> None:
    """When a host cannot make a session, another one is asked, and the session comes up there."""
    async with running_fleet(tmp_path, *several(B, 3)) as fleet:
        for host in fleet.hosts:
            host.server.may_create.clear()
        created = await fleet.create()
        for attempt in range(3):
            await fleet.broker.until(lambda: len(orders(fleet.hosts)) > attempt)  # noqa: B023  used at once
            asked = next(
                host for host in fleet.hosts if host.server.orders and not host.server.may_create.is_set()
            )
            asked.server.faults.failing_create = "no display left" if attempt < 2 else ""
            asked.server.may_create.set()
        session = await fleet.until_state(created["Id"], "READY")
        assert session["Server"]["Id"] == asked.server.plan.server_id
        assert "StateReason" not in session
        assert sorted(orders(fleet.hosts)) == ["srv-b-0", "srv-b-1", "srv-b-2"]


@pytest.mark.covers("C98")
async def test_a_retry_can_be_refused(tmp_path: Path) -> None:
    """With retries disabled the first host's words are the end, and no other host is asked."""
    async with running_fleet(tmp_path, *several(B, 3)) as fleet:
        for host in fleet.hosts:
            host.server.faults.failing_create = f"no display left on {host.server.plan.hostname}"
        session = await fleet.create(DisableRetryOnFailure=True)
        failed = await fleet.until_state(session["Id"], "UNKNOWN")
        assert "Server" not in failed
        (asked,) = orders(fleet.hosts)
        assert failed["StateReason"] == f"no display left on {asked.replace('srv', 'host')}"


@pytest.mark.covers("C99")
@pytest.mark.parametrize("count", [4, 1])
async def test_three_attempts_are_the_end(tmp_path: Path, count: int) -> None:
    """Of several hosts that fail three are asked once each; a single one is asked three times."""
    async with running_fleet(tmp_path, *several(B, count)) as fleet:
        for host in fleet.hosts:
            host.server.faults.failing_create = f"{host.server.plan.hostname} is out of order"
        session = await fleet.create()
        failed = await fleet.until_state(session["Id"], "UNKNOWN")
        assert "is out of order" in failed["StateReason"]
        assert "Server" not in failed
        asked = orders(fleet.hosts)
        assert asked == ["srv-b-0"] * 3 if count == 1 else len(asked) == len(set(asked)) == 3


@pytest.mark.covers("C100")
async def test_an_owner_unknown_to_the_host_is_told(fleet: Fleet) -> None:
    """A host that does not know the owner says so, and the failed session keeps the host's words."""
    fleet.hosts[1].server.strangers.add("mallory")
    session = await fleet.create(Owner="mallory")
    failed = await fleet.until_state(session["Id"], "UNKNOWN")
    assert NOT_LOCAL in failed["StateReason"]
    assert "Server" not in failed
