"""What the coordinator promises around the registry: durable first, in order, and nobody waits for ever."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker_stub.broker.coordinator import Coordinator
from broker_stub.broker.events import (
    Accepted,
    AgentConnected,
    Command,
    CommandFinished,
    PermissionsUpdateRequested,
    Refused,
    Rules,
    SendCommand,
    SessionDeletionRequested,
    SessionRequested,
)
from broker_stub.broker.registry import Registry
from broker_stub.broker.store import Store, StoreUnavailable
from dcvtui.api.models import CreateSessionRequestData

SESSION = {"id": "s1", "name": "one", "owner": "alice", "type": "VIRTUAL", "numOfConnections": 0}
HELLO: dict[str, Any] = {
    "server": {
        "hostname": "h",
        "ip": "192.0.2.1",
        "endpoints": [],
        "tags": [],
        "host": {"os": {"family": "linux"}},
    },
    "sessions": [SESSION],
    "openCommands": [],
    "capabilities": ["virtual", "console"],
}


class Parts:
    """A coordinator over a real registry and store, with the commands it delivered."""

    def __init__(self, path: Path, store: Store, rules: Rules) -> None:
        self.path = path
        self.store = store
        self.coordinator = Coordinator(Registry(rules), store)
        self.delivered: list[Command] = []
        self.coordinator.deliver = self.delivered.append

    def rows(self, table: str) -> int:
        """What is durable, as another process sees it."""
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608  a fixed name

    async def create(self, owner: str = "bob", *, wait: bool = False) -> Any:
        request = CreateSessionRequestData(name="n", owner=owner, type="VIRTUAL", enqueue_request=wait)
        return await self.coordinator.apply(SessionRequested(request))

    async def update(self, permissions: str = "W3Blcm1pc3Npb25zXQo=") -> Accepted:
        """A permissions update of the session that the host brought along."""
        result = await self.coordinator.apply(PermissionsUpdateRequested("s1", "alice", permissions))
        assert isinstance(result, Accepted)
        assert result.command_id
        return result


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    path = tmp_path / "broker.db"
    store = await Store.open(path)
    parts = Parts(path, store, Rules(queue_max_time_s=0.2, create_deadline_s=0.2))
    running = asyncio.create_task(parts.coordinator.run())
    await parts.coordinator.apply(AgentConnected("srv-1", "ch-1", HELLO))
    yield parts
    running.cancel()
    await asyncio.wait((running,))
    await store.close()


async def test_commands_leave_and_answers_come_after_the_commit(parts: Parts) -> None:
    stored_at_delivery: list[int] = []
    parts.coordinator.deliver = lambda _: stored_at_delivery.append(parts.rows("commands"))
    assert isinstance(await parts.create(), Accepted)
    assert stored_at_delivery == [1]
    assert parts.rows("sessions") == 2


async def test_events_are_answered_in_their_order(parts: Parts) -> None:
    answered: list[int] = []

    async def one(number: int) -> None:
        await parts.create(f"owner-{number}")
        answered.append(number)

    await asyncio.gather(*(one(number) for number in range(30)))
    assert answered == list(range(30))
    sent = [command for command in parts.delivered if isinstance(command, SendCommand)]
    assert [command.payload["owner"] for command in sent] == [f"owner-{number}" for number in range(30)]


async def test_what_changes_nothing_is_answered_at_once(parts: Parts) -> None:
    answer = parts.coordinator.apply(SessionDeletionRequested("nothing", "alice"))
    assert isinstance(answer, asyncio.Future)
    assert isinstance(answer.result(), Refused)


async def test_the_result_of_a_command_reaches_who_asked(parts: Parts) -> None:
    accepted = await parts.update()
    command_id = accepted.command_id or ""
    asked = asyncio.create_task(parts.coordinator.result_of(command_id, 5))
    await asyncio.sleep(0)
    await parts.coordinator.apply(
        CommandFinished("srv-1", "ch-1", command_id, False, "PERMISSIONS_INVALID", "no")
    )
    result = await asked
    assert result is not None
    assert (result.success, result.code, result.message) == (False, "PERMISSIONS_INVALID", "no")


async def test_a_result_that_comes_before_the_question_is_not_lost(parts: Parts) -> None:
    command_id = (await parts.update()).command_id or ""
    await parts.coordinator.apply(CommandFinished("srv-1", "ch-1", command_id, True))
    result = await parts.coordinator.result_of(command_id, 5)
    assert result is not None
    assert result.success


async def test_no_result_in_time_is_none_and_nothing_is_kept(parts: Parts) -> None:
    command_id = (await parts.update()).command_id or ""
    assert await parts.coordinator.result_of(command_id, 0.01) is None
    assert await parts.coordinator.result_of(command_id, 5) is None
    assert parts.coordinator._awaited == {}


async def test_time_passes_by_itself(parts: Parts) -> None:
    await parts.create("first", wait=True)
    registry = parts.coordinator.registry
    async with asyncio.timeout(10):
        while registry.counts()["sessions_unknown"] == 0:  # noqa: ASYNC110  the registry has no events
            await asyncio.sleep(0.01)


async def test_trouble_with_one_command_does_not_stop_the_others(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Command) -> None:
        raise RuntimeError("broken")

    parts.coordinator.deliver = fail
    assert isinstance(await parts.create(), Accepted)
    parts.coordinator.deliver = parts.delivered.append
    assert isinstance(await parts.create("carol"), Accepted)
    assert parts.delivered
    assert "could not be handed over" in caplog.text


@pytest.mark.covers("B39")
async def test_without_the_database_changes_are_refused_until_it_is_back(parts: Parts) -> None:
    """While the database cannot be written changes are refused and held commands wait; then all goes on."""
    with contextlib.closing(sqlite3.connect(parts.path)) as greedy:
        greedy.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            await parts.create()
        assert parts.coordinator.is_store_down
        assert parts.delivered == []
        before = parts.coordinator.registry.counts()
        with pytest.raises(StoreUnavailable):
            await parts.create("dave")
        assert parts.coordinator.registry.counts() == before, "refused before it changed anything"
    async with asyncio.timeout(10):
        while parts.coordinator.is_store_down:  # noqa: ASYNC110  as a load balancer asks
            await asyncio.sleep(0.02)
    await parts.coordinator.settle()
    # What was decided before the failure is stored now, and its command leaves: a placement is not lost.
    assert isinstance(parts.delivered[0], SendCommand)
    assert isinstance(await parts.create("carol"), Accepted)
