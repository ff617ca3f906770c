"""X sessions whose agent has ended, by itself or by force."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace

import pytest

from broker_stub.agent import processes
from broker_stub.agent.x_backend import XBackend
from broker_stub.agent.x_session import XSettings
from tests.agent.x_sessions import (
    folder_of,
    needs_xvfb,
    nothing_left,
    opened,
    session_of,
    spec_of,
    until,
)

pytestmark = needs_xvfb


_AGENT = """
import asyncio, json, sys
from pathlib import Path
from broker_stub.agent.x_backend import XBackend
from tests.agent.x_sessions import settings_in, spec_of

async def main():
    backend = await XBackend.open(settings_in(Path(sys.argv[1])))
    for number in range(2):
        await backend.create(spec_of(f"s-{number}", init_file="stay.sh"))
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def killed_agent(settings: XSettings) -> None:
    """An agent in a process of its own makes the sessions s-0 and s-1 and is killed."""
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _AGENT, str(settings.state_folder.parent), stdout=asyncio.subprocess.PIPE
    )
    assert agent.stdout is not None
    assert await agent.stdout.readline() == b"ready\n"
    agent.kill()
    await agent.communicate()


@pytest.mark.covers("S24")
async def test_sessions_of_a_killed_agent_are_found_again(settings: XSettings) -> None:
    """After an agent was killed the next one lists the same sessions with the same ids, displays and
    creation times, takes their screenshots, notices their end and can close them."""
    await killed_agent(settings)
    before = {one: session_of(settings, one) for one in ("s-0", "s-1")}
    async with opened(settings) as backend:
        found = {session.id: session for session in await backend.list()}
        assert found == {key: session.info for key, session in before.items()}
        assert all(session.is_alive for session in before.values())
        assert await backend.screenshot("s-0", 100, 100, "png")
        # The end of an adopted one is noticed as well, though it is nobody's child here.
        backend.changed.clear()
        os.kill(before["s-0"].init.pid, signal.SIGKILL)
        await asyncio.wait_for(backend.changed.wait(), 30)
        assert [one.id for one in await backend.list()] == ["s-1"]
        await backend.close("s-1", False)
        assert nothing_left(settings, "s-1", before["s-1"].display)


@pytest.mark.covers("S24")
async def test_what_died_while_no_agent_ran_is_cleared_up(settings: XSettings) -> None:
    """A session that lost its X server or its program while no agent ran is not listed by the next one, and
    its remains are removed."""
    await killed_agent(settings)
    sessions = [session_of(settings, one) for one in ("s-0", "s-1")]
    os.kill(sessions[0].x_server.pid, signal.SIGKILL)
    os.kill(sessions[1].init.pid, signal.SIGKILL)
    await until(lambda: not (sessions[0].is_alive or sessions[1].is_alive))
    async with opened(settings) as backend:
        assert await backend.list() == []
        await until(lambda: all(nothing_left(settings, session.id, session.display) for session in sessions))


@pytest.mark.covers("S25")
async def test_a_recycled_process_id_is_not_taken_for_a_session(settings: XSettings) -> None:
    """A process that has the id of a session's program but another start is not taken for it, and is not
    ended either."""
    await killed_agent(settings)
    session = session_of(settings, "s-0")
    stranger = await asyncio.create_subprocess_exec("sleep", "600")
    recycled = processes.Process(stranger.pid, session.init.started)
    os.kill(session.init.pid, signal.SIGKILL)
    folder_of(settings, "s-0").write(replace(session, init=recycled))
    async with opened(settings) as backend:
        assert [one.id for one in await backend.list()] == ["s-1"]
        await until(lambda: nothing_left(settings, "s-0", session.display))
    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()


async def test_sessions_of_another_run_of_the_machine_are_not_adopted(settings: XSettings) -> None:
    await killed_agent(settings)
    folder = folder_of(settings, "s-0")
    state = json.loads((folder.path / "state.json").read_text())
    (folder.path / "state.json").write_text(json.dumps(state | {"boot_id": "another"}))
    async with opened(settings) as backend:
        assert [one.id for one in await backend.list()] == ["s-1"]


async def test_a_half_made_session_of_a_killed_agent_is_cleared_up(settings: XSettings) -> None:
    await killed_agent(settings)
    display = session_of(settings, "s-0").display
    (folder_of(settings, "s-0").path / "state.json").write_text("{")
    async with opened(settings) as backend:
        await until(lambda: not folder_of(settings, "s-0").path.exists())
        assert nothing_left(settings, "s-0", display)
        assert [one.id for one in await backend.list()] == ["s-1"]


async def test_sessions_outlive_an_agent_that_stops(settings: XSettings) -> None:
    backend = await XBackend.open(settings)
    made = await backend.create(spec_of(init_file="stay.sh"))
    await backend.stop()
    async with opened(settings) as later:
        assert await later.list() == [made]
