"""`watch`: a line of JSON per change, and for the broker that is lost and back."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.awkward_broker import Asked, AwkwardBroker, HangUp, reply
from tests.commands.recording import SERVER, Fleet, Shell, session

PROGRAM = [sys.executable, "-m", "dcvtui"]


class Lines:
    """The lines of a `watch` that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 60)
        found: dict[str, Any] = json.loads(line)
        return found


@asynccontextmanager
async def watching(*line: str) -> AsyncIterator[Lines]:
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, "watch", *line, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield Lines(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_first_what_is_there_then_every_change(broker: AwkwardBroker, fleet: Fleet) -> None:
    fleet.sessions = [session(1, Unknown={"x": 1}), session(2)]
    async with watching("sessions") as lines:
        found = [await lines.next(), await lines.next()]
        assert [line["kind"] for line in found] == ["added", "added"]
        assert [line["session"] for line in found] == fleet.sessions
        assert all(line["time"].endswith("Z") for line in found)
        fleet.sessions[0] |= {"State": "DELETING", "NumOfConnections": 3}
        changed = await lines.next()
        assert (changed["kind"], set(changed["fields"])) == ("changed", {"State", "NumOfConnections"})
        assert changed["session"] == fleet.sessions[0]
        last = fleet.sessions.pop()
        removed = await lines.next()
        assert (removed["kind"], removed["session"]) == ("removed", last)
        fleet.sessions.append(session(3))
        assert (await lines.next())["session"]["Id"] == "id-3"
    assert {asked.path for asked in broker.asked} == {"/describeSessions"}


async def test_servers_are_watched_without_asking_for_sessions(broker: AwkwardBroker, fleet: Fleet) -> None:
    fleet.servers = [dict(SERVER)]
    async with watching("servers") as lines:
        assert (await lines.next())["server"] == SERVER
        fleet.servers[0] |= {"Availability": "UNAVAILABLE", "UnavailabilityReason": "SERVER_FULL"}
        assert set((await lines.next())["fields"]) == {"Availability", "UnavailabilityReason"}
    assert {asked.path for asked in broker.asked} == {"/describeServers"}


async def test_what_comes_to_match_a_filter_is_added_and_what_ceases_to_is_removed(
    broker: AwkwardBroker, fleet: Fleet
) -> None:
    fleet.sessions = [session(1), session(2, State="CREATING")]
    async with watching("sessions", "--filter", "state:ready tag:team=cad") as lines:
        assert (await lines.next())["session"]["Id"] == "id-1"
        fleet.sessions[1]["State"] = "READY"
        added = await lines.next()
        assert (added["kind"], added["session"]["Id"]) == ("added", "id-2")
        fleet.sessions[0]["State"] = "UNKNOWN"
        removed = await lines.next()
        assert (removed["kind"], removed["session"]["Id"]) == ("removed", "id-1")


async def test_a_lost_broker_is_a_line_and_so_is_its_return(broker: AwkwardBroker, fleet: Fleet) -> None:
    fleet.sessions = [session(1)]
    usual = broker.answer
    async with watching("sessions") as lines:
        assert (await lines.next())["kind"] == "added"

        async def gone(_asked: Asked) -> bytes:
            raise HangUp

        broker.answer = gone
        lost = await lines.next()
        assert lost["kind"] == "lost"
        assert "The broker" in lost["reason"]
        fleet.sessions.append(session(2))
        broker.answer = usual
        assert (await lines.next())["kind"] == "back"
        assert (await lines.next())["session"]["Id"] == "id-2"


async def test_a_broker_that_is_not_there_at_the_start_ends_it(
    broker: AwkwardBroker, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_asked: Asked) -> bytes:
        return reply({"error": "invalid_client"}, "401 Unauthorized")

    broker.token_answer = refused
    await shell("watch", "sessions", code=254)
    monkeypatch.setenv("DCV_SM_BROKER_URL", "https://127.0.0.1:9")
    await shell("watch", "sessions", code=6)
    await shell("watch", "sesions", code=252)
    assert "Did you mean 'sessions'?" in shell.err
    await shell("watch", "sessions", "--filter", "stat:x", code=252)
    await shell("watch", "sessions", "--output", "csv", code=252)


async def test_whoever_reads_enough_ends_it_silently(broker: AwkwardBroker, fleet: Fleet) -> None:
    # All that there is fits into the pipe, and nothing changes: only looking at the pipe tells.
    fleet.sessions = [session(1), session(2)]
    line = f"{sys.executable} -m dcvtui watch sessions | head -n 1 | wc -l; echo ${{PIPESTATUS[0]}}"
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", line], capture_output=True, text=True, timeout=100
    )
    assert (done.stdout.split(), done.stderr) == (["1", "0"], "")
