"""Commands on a backend without a channel: limits, order, deadlines, and never twice."""

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker_stub.agent.backend import SessionInfo
from broker_stub.agent.execution import Execution, Result
from broker_stub.agent.identity import Address
from broker_stub.agent.journal import Journal
from broker_stub.agent.journal_file import JournalFile
from broker_stub.agent.watch import Limits, Watch
from dcvtui.api.states import SessionType
from tests.agent.small_host import SmallBackend, SmallFacts, until

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)


class Bench:
    """An execution with everything it works on, and the results it delivered."""

    def __init__(self, journal: Journal, limits: Limits | None = None) -> None:
        self.backend = SmallBackend()
        self.journal = journal
        self.watch = Watch(self.backend, SmallFacts(), dict, limits or Limits(10, 2))
        self.execution = Execution(self.backend, self.watch, journal, lambda: NOW)
        self.execution.deliver = self._note
        self.results: dict[str, Result] = {}
        self._number = 0

    async def _note(self, result: Result) -> None:
        self.results[result["commandId"]] = result

    async def take(
        self, kind: str, payload: dict[str, Any], command_id: str = "", deadline_ms: int = 5000
    ) -> tuple[str, dict[str, Any]]:
        self._number += 1
        command_id = command_id or f"c-{self._number}"
        request = {"commandId": command_id, "kind": kind, "payload": payload, "deadlineMs": deadline_ms}
        ack, _ = await self.execution.take(request)
        return command_id, ack

    async def result(self, kind: str, payload: dict[str, Any], **options: Any) -> Result:
        command_id, ack = await self.take(kind, payload, **options)
        assert ack["accepted"], ack
        await until(lambda: command_id in self.results)
        return self.results[command_id]

    async def code_of_create(self, session_id: str = "s", owner: str = "ana", **members: Any) -> str:
        payload = {"sessionId": session_id, "owner": owner, "type": "VIRTUAL", **members}
        return str((await self.result("createSession", payload))["code"])


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(Journal())
    await bench.watch.measure(Address("host", "198.18.0.1"))
    yield bench
    await bench.execution.stop()


# ------------------------------------------------------------------ what a host takes


async def test_a_created_session_comes_back_with_the_result(bench: Bench) -> None:
    payload = {"sessionId": "s", "name": "n", "owner": "ana", "type": "VIRTUAL", "storageRoot": "%home%"}
    result = await bench.result("createSession", payload)
    assert (result["success"], result["code"], result["finishedAt"]) == (
        True,
        "OK",
        "2026-03-30T12:00:00.000Z",
    )
    assert result["data"]["session"]["id"] == "s"
    assert result["data"]["alreadyExisted"] is False
    assert bench.backend.specs[0].storage_root == "%home%"


async def test_a_list_begun_before_a_creation_ended_is_known_to_be_outdated(bench: Bench) -> None:
    """Sent after the result it would tell the broker that the new session is gone."""
    await bench.watch.look()
    assert not bench.watch.is_outdated
    assert await bench.code_of_create("s") == "OK"
    assert bench.watch.is_outdated
    await bench.watch.look()
    assert not bench.watch.is_outdated
    assert set(bench.watch.sessions) == {"s"}
    await bench.result("deleteSession", {"sessionId": "s", "owner": "ana"})
    assert bench.watch.is_outdated


async def test_a_creation_that_ends_while_the_sessions_are_listed_outdates_the_list(bench: Bench) -> None:
    slow, listed = asyncio.Event(), bench.backend.list

    async def list_slowly() -> list[SessionInfo]:
        found = await listed()
        await slow.wait()
        return found

    bench.backend.list = list_slowly  # type: ignore[method-assign]  # only this look is slow
    look = asyncio.create_task(bench.watch.look())
    await asyncio.sleep(0)
    bench.backend.list = listed  # type: ignore[method-assign]
    assert await bench.code_of_create("s") == "OK"
    slow.set()
    await look
    assert bench.watch.sessions == {}
    assert bench.watch.is_outdated


@pytest.mark.covers("G14")
async def test_the_limits_of_the_host_have_the_last_word(bench: Bench) -> None:
    """A host that is full, or an owner who has as many sessions as one may have, is refused with its own
    code whatever the broker thought, and no session is made."""
    bench.watch.limits = Limits(max_virtual_sessions=3, max_concurrent_sessions_per_user=2)
    bench.backend.appear("by hand", owner="ana")
    assert await bench.code_of_create("1") == "OK"
    assert await bench.code_of_create("2") == "USER_LIMIT_REACHED"
    assert await bench.code_of_create("3", "ben") == "OK"
    assert await bench.code_of_create("4", "ben") == "SERVER_FULL"
    assert set(bench.backend.sessions) == {"by hand", "1", "3"}


async def test_sessions_that_are_just_being_made_count_too(bench: Bench) -> None:
    bench.watch.limits = Limits(max_virtual_sessions=1)
    bench.backend.go_on.clear()
    first, _ = await bench.take("createSession", {"sessionId": "1", "owner": "ana", "type": "VIRTUAL"})
    assert await bench.code_of_create("2", "ben") == "SERVER_FULL"
    bench.backend.go_on.set()
    await until(lambda: first in bench.results)
    assert bench.results[first]["success"]


@pytest.mark.covers("G14")
async def test_console_and_virtual_sessions_exclude_each_other(bench: Bench) -> None:
    """A console session and a virtual one never run together: the second is refused as busy."""
    bench.backend.appear("v")
    assert await bench.code_of_create("c", type="CONSOLE") == "CONSOLE_BUSY"
    bench.backend.disappear("v")
    assert await bench.code_of_create("c", type="CONSOLE") == "OK"
    assert await bench.code_of_create("v2") == "CONSOLE_BUSY"
    assert await bench.code_of_create("c2", type="CONSOLE") == "CONSOLE_BUSY"


@pytest.mark.covers("G14")
async def test_a_type_that_the_host_does_not_offer_is_refused() -> None:
    """A type of session that the host never offers is refused before anything is started."""
    bench = Bench(Journal())  # never measured: nothing is offered yet
    assert await bench.code_of_create() == "TYPE_NOT_SUPPORTED"
    assert bench.backend.calls == []


@pytest.mark.covers("G19")
async def test_a_repeated_create_makes_no_second_session(bench: Bench) -> None:
    """Creating a session that is there already succeeds without a second one; under another owner it is a
    conflict."""
    assert await bench.code_of_create("s") == "OK"
    again = await bench.result("createSession", {"sessionId": "s", "owner": "ana", "type": "VIRTUAL"})
    assert (again["success"], again["data"]["alreadyExisted"]) == (True, True)
    assert await bench.code_of_create("s", "eve") == "SESSION_ID_CONFLICT"
    assert bench.backend.calls == ["create"]


@pytest.mark.parametrize("file", ["not Base64!", base64.b64encode(b"\xff\xfe").decode()])
async def test_permissions_that_are_no_text_are_refused(bench: Bench, file: str) -> None:
    assert await bench.code_of_create(permissionsFile=file) == "PERMISSIONS_INVALID"
    assert bench.backend.sessions == {}


# ------------------------------------------------------------------ deletion


@pytest.mark.covers("G19")
async def test_deleting_what_is_gone_succeeds(bench: Bench) -> None:
    """Deleting a session that is not there succeeds, and says that it was gone already."""
    result = await bench.result("deleteSession", {"sessionId": "gone", "owner": "ana"})
    assert (result["success"], result["data"]) == (True, {"alreadyGone": True})


async def test_a_session_of_somebody_else_is_not_deleted(bench: Bench) -> None:
    bench.backend.appear("s", owner="eve")
    result = await bench.result("deleteSession", {"sessionId": "s", "owner": "ana"})
    assert result["code"] == "OWNER_MISMATCH"
    assert "s" in bench.backend.sessions


async def test_an_orphan_in_use_stays(bench: Bench) -> None:
    bench.backend.appear("used", connections=1)
    bench.backend.appear("idle")
    used = await bench.result("deleteSession", {"sessionId": "used", "reason": "orphan"})
    idle = await bench.result("deleteSession", {"sessionId": "idle", "reason": "orphan"})
    assert (used["success"], idle["success"]) == (False, True)
    await bench.execution.remove_orphan("used")
    assert set(bench.backend.sessions) == {"used"}


async def test_a_deletion_waits_behind_the_creation(bench: Bench) -> None:
    bench.backend.go_on.clear()
    await bench.take("createSession", {"sessionId": "s", "owner": "ana", "type": "VIRTUAL"})
    deletion, _ = await bench.take("deleteSession", {"sessionId": "s", "owner": "ana"})
    await until(lambda: bench.backend.calls == ["create"])
    bench.backend.go_on.set()
    await until(lambda: deletion in bench.results)
    assert bench.backend.calls == ["create", "close"]
    assert bench.backend.sessions == {}


# ------------------------------------------------------------------ time and quantity


async def test_a_command_that_waits_past_its_deadline_is_never_run(bench: Bench) -> None:
    bench.backend.go_on.clear()
    await bench.take("createSession", {"sessionId": "s", "owner": "ana", "type": "VIRTUAL"})
    result = await bench.result("deleteSession", {"sessionId": "s"}, deadline_ms=30)
    assert result["code"] == "DEADLINE_EXCEEDED"
    assert bench.backend.calls == ["create"]


async def test_a_command_that_runs_past_its_deadline_is_given_up(bench: Bench) -> None:
    bench.backend.go_on.clear()
    payload = {"sessionId": "s", "owner": "ana", "type": "VIRTUAL"}
    result = await bench.result("createSession", payload, deadline_ms=30)
    assert result["code"] == "TIMEOUT"


async def test_a_cancelled_command_ends_as_such(bench: Bench) -> None:
    bench.backend.go_on.clear()
    command_id, _ = await bench.take("createSession", {"sessionId": "s", "owner": "ana", "type": "VIRTUAL"})
    await until(lambda: bench.backend.calls)
    assert bench.execution.cancel(command_id)["accepted"]
    await until(lambda: command_id in bench.results)
    assert bench.results[command_id]["code"] == "CANCELLED"
    assert bench.execution.cancel("unknown")["accepted"]


async def test_a_command_that_is_done_cannot_be_cancelled_any_more(bench: Bench) -> None:
    """Its result is on the way: cutting that short would lose it."""
    may_go_on, told = asyncio.Event(), bench.execution.deliver

    async def slowly(result: Result) -> None:
        await may_go_on.wait()
        await told(result)

    bench.execution.deliver = slowly
    payload = {"sessionId": "s", "owner": "ana", "type": "VIRTUAL"}
    command_id, _ = await bench.take("createSession", payload)
    await until(bench.execution.unsent_results)
    assert bench.execution.cancel(command_id)["accepted"]
    await asyncio.sleep(0)
    may_go_on.set()
    await until(lambda: command_id in bench.results)
    assert bench.results[command_id]["code"] == "OK"


@pytest.mark.covers("G38")
async def test_a_flood_is_answered_with_busy(bench: Bench) -> None:
    """An agent holds 32 commands; the next one is answered with BUSY and a time to come again, and is not
    lost."""
    bench.backend.go_on.clear()
    acks = [
        (await bench.take("createSession", {"sessionId": f"s{n}", "owner": "ana", "type": "VIRTUAL"}))[1]
        for n in range(34)
    ]
    assert [ack["accepted"] for ack in acks] == [True] * 32 + [False] * 2
    assert acks[-1]["code"] == "BUSY"
    assert acks[-1]["retryAfterMs"] > 0
    await until(lambda: len(bench.backend.calls) == 2)  # ana may have two sessions on this host


async def test_a_bug_in_a_backend_is_an_answer(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    bench.backend.go_on.wait = broken  # type: ignore[assignment, method-assign]  # the fault a test needs
    assert await bench.code_of_create() == "INTERNAL"
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(("kind", "payload"), [("singSong", {}), ("createSession", {"sessionId": "s"})])
async def test_what_is_no_command_is_refused(bench: Bench, kind: str, payload: dict[str, Any]) -> None:
    _, ack = await bench.take(kind, payload)
    assert (ack["accepted"], ack["code"]) == (False, "UNSUPPORTED")


# ------------------------------------------------------------------ never twice


@pytest.mark.covers("G29")
async def test_a_command_that_comes_again_is_not_carried_out_again(bench: Bench) -> None:
    """A command that comes a second time while it runs or after it ended is acknowledged and not carried
    out again; its stored result is answered."""
    bench.backend.go_on.clear()
    payload = {"sessionId": "s", "owner": "ana", "type": "VIRTUAL"}
    command_id, _ = await bench.take("createSession", payload)
    _, ack = await bench.take("createSession", payload, command_id)
    assert (ack["accepted"], ack["duplicate"]) == (True, True)
    bench.backend.go_on.set()
    await until(lambda: command_id in bench.results)
    request = {"commandId": command_id, "kind": "createSession", "payload": payload, "deadlineMs": 1000}
    ack, former = await bench.execution.take(request)
    assert ack["duplicate"]
    assert former == bench.results[command_id]
    assert bench.backend.calls == ["create"]
    assert bench.execution.open_commands() == [{"commandId": command_id, "state": "finished"}]
    await bench.execution.forget(command_id)
    assert bench.execution.unsent_results() == []


async def test_pictures_are_not_kept(bench: Bench) -> None:
    bench.backend.appear("s")
    result = await bench.result("getSessionScreenshot", {"sessionId": "s", "format": "jpeg"})
    (image,) = result["data"]["images"]
    assert (image["format"], base64.b64decode(image["data"])) == ("jpeg", b"a picture")
    assert len(bench.journal) == 0


async def test_without_a_journal_nothing_is_done(tmp_path: Path) -> None:
    journal = Journal(JournalFile(tmp_path / "journal"))
    bench = Bench(journal)
    journal.close()
    _, ack = await bench.take("createSession", {"sessionId": "s", "owner": "ana", "type": "VIRTUAL"})
    assert (ack["accepted"], ack["code"]) == (False, "INTERNAL")
    assert bench.backend.calls == []


@pytest.mark.covers("G32")
@pytest.mark.parametrize(
    ("kind", "is_there", "code"),
    [
        ("createSession", True, "OK"),
        ("createSession", False, "INTERRUPTED"),
        ("deleteSession", False, "OK"),
        ("deleteSession", True, "INTERRUPTED"),
        ("updateSessionPermissions", True, "INTERRUPTED"),
    ],
)
async def test_what_a_killed_agent_left_is_settled_by_what_is_there(
    tmp_path: Path, kind: str, is_there: bool, code: str
) -> None:
    """A command that a killed agent had accepted is settled by looking at the host: done if its effect is
    there, interrupted if not; it is never simply run again."""
    killed = Journal(JournalFile(tmp_path / "journal"))
    await killed.accept("c-1", kind, {"sessionId": "s", "owner": "ana", "type": "VIRTUAL"})
    killed.close()
    bench = Bench(Journal(JournalFile(tmp_path / "journal")))
    if is_there:
        bench.backend.appear("s", type=SessionType.VIRTUAL)
    await bench.execution.recover()
    (result,) = bench.execution.unsent_results()
    assert (result["commandId"], result["code"]) == ("c-1", code)
    assert bench.backend.calls == []
    bench.journal.close()


async def test_an_agent_that_stops_leaves_its_command_to_the_next_one(tmp_path: Path) -> None:
    bench = Bench(Journal(JournalFile(tmp_path / "journal")))
    await bench.watch.measure(Address("host", "198.18.0.1"))
    bench.backend.go_on.clear()
    command_id, _ = await bench.take("createSession", {"sessionId": "s", "owner": "ana", "type": "VIRTUAL"})
    await until(lambda: bench.backend.calls)
    await bench.execution.stop()
    await asyncio.sleep(0)
    assert bench.results == {}
    assert bench.execution.open_commands() == [{"commandId": command_id, "state": "accepted"}]
    bench.journal.close()
