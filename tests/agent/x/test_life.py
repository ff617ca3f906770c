"""How X sessions live and end."""

import asyncio
import os
import signal

import psutil
import pytest

from broker_stub.agent.backend import BackendError, Failure
from broker_stub.agent.x_backend import XBackend
from broker_stub.agent.x_session import XSettings
from tests.agent.x_sessions import (
    folder_of,
    needs_xvfb,
    nothing_left,
    script,
    session_of,
    spec_of,
    until,
)

pytestmark = needs_xvfb


async def test_permissions_are_kept_in_a_private_file(settings: XSettings, backend: XBackend) -> None:
    await backend.create(spec_of(init_file="stay.sh", permissions="[permissions]\n%owner% allow builtin\n"))
    path = folder_of(settings).path / "permissions"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "builtin" in path.read_text()
    await backend.set_permissions("s-1", "")
    assert path.read_text() == ""
    await backend.set_permissions("s-1", None)
    assert not path.exists()


@pytest.mark.covers("S23")
async def test_the_session_ends_when_its_program_ends(settings: XSettings, backend: XBackend) -> None:
    """When the init program ends so does its session: it is listed no more, and nothing of it is left."""
    script(settings.init_folder / "wait.sh", f"while [ ! -e {settings.init_folder}/go ]; do sleep 0.05; done")
    await backend.create(spec_of(init_file="wait.sh"))
    display = session_of(settings).display
    backend.changed.clear()
    (settings.init_folder / "go").touch()
    await asyncio.wait_for(backend.changed.wait(), 30)
    assert await backend.list() == []
    await until(lambda: nothing_left(settings, "s-1", display))


@pytest.mark.covers("S26")
async def test_closing_ends_programs_before_the_x_server_and_leaves_nothing(
    settings: XSettings, backend: XBackend
) -> None:
    """Closing asks the programs of a session to end while their display is still there, those with a
    process session of their own included; then no process, socket, lock or folder is left."""
    said = settings.state_folder / "said"
    deaf = script(settings.init_folder / "deaf.sh", "trap '' TERM\nsleep 602")
    # Programs in a process session, and with an environment, of their own; one saves its work at the end.
    beside = f"setsid sleep 600 &\nenv -i setsid {deaf} &\n"
    work = f"trap 'echo saved > {said}; exit 0' TERM\nwhile :; do sleep 0.05; done"
    script(settings.init_folder / "work.sh", beside + work)
    await backend.create(spec_of(init_file="work.sh"))
    session = session_of(settings)
    closing = asyncio.create_task(backend.close("s-1", False))
    await until(said.exists)
    assert session.x_server.is_alive or not session.init.is_alive
    await closing
    assert nothing_left(settings, "s-1", session.display)
    assert not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "602"]]
    assert await backend.list() == []
    with pytest.raises(BackendError) as refused:
        await backend.close("s-1", False)
    assert refused.value.code is Failure.SESSION_NOT_FOUND


async def test_closing_kills_what_does_not_listen_and_force_kills_at_once(
    settings: XSettings, backend: XBackend
) -> None:
    script(settings.init_folder / "deaf.sh", "trap '' TERM\nwhile :; do sleep 0.05; done")
    loop = asyncio.get_running_loop()
    for force, most_s in ((True, 1.5), (False, settings.grace_s + 2)):
        await backend.create(spec_of(init_file="deaf.sh"))
        display, began = session_of(settings).display, loop.time()
        await backend.close("s-1", force)
        assert loop.time() - began < most_s
        assert nothing_left(settings, "s-1", display)


async def test_closing_goes_on_when_the_caller_stops_waiting(settings: XSettings, backend: XBackend) -> None:
    script(settings.init_folder / "deaf.sh", "trap '' TERM\nwhile :; do sleep 0.05; done")
    await backend.create(spec_of(init_file="deaf.sh"))
    display = session_of(settings).display
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(backend.close("s-1", False), 0.05)
    await until(lambda: nothing_left(settings, "s-1", display))


@pytest.mark.covers("S27")
async def test_a_killed_x_server_takes_its_session_with_it_and_no_other(
    settings: XSettings, backend: XBackend
) -> None:
    """When an X server is killed from outside its session is listed no more, and the other sessions of the
    host are as they were."""
    await backend.create(spec_of("s-1", init_file="stay.sh"))
    await backend.create(spec_of("s-2", init_file="stay.sh"))
    session = session_of(settings)
    backend.changed.clear()
    os.kill(session.x_server.pid, signal.SIGKILL)
    await asyncio.wait_for(backend.changed.wait(), 30)
    assert [one.id for one in await backend.list()] == ["s-2"]
    await until(lambda: nothing_left(settings, "s-1", session.display))
    assert await backend.screenshot("s-2", 100, 100, "png")


async def test_the_log_of_a_session_is_capped(
    settings: XSettings, backend: XBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker_stub.agent.x_state.LOG_LIMIT_BYTES", 1000)
    script(settings.init_folder / "talk.sh", "while :; do echo words words words; done")
    await backend.create(spec_of(init_file="talk.sh"))
    log = folder_of(settings).path / "session.log"
    await until(lambda: log.stat().st_size > 100_000)
    os.kill(session_of(settings).init.pid, signal.SIGSTOP)
    await backend.list()
    assert log.stat().st_size < 1000
