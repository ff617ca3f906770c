"""The console session of a host: the display that is there already, with a real X server for it."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker_stub.agent import processes, x_server
from broker_stub.agent.backend import BackendError, Failure, Monitor
from broker_stub.agent.child_limits import ChildLimits
from broker_stub.agent.owners import find_owner
from broker_stub.agent.processes import Children
from broker_stub.agent.screenshots import Screen
from broker_stub.agent.x_authority import authority_record, new_cookie
from broker_stub.agent.x_backend import XBackend
from broker_stub.agent.x_programs import ServerKind
from broker_stub.agent.x_session import XSettings
from dcvtui.api.states import SessionType
from tests.agent.x_sessions import ME, needs_xvfb, opened, passable_place, script, settings_in, spec_of, until

pytestmark = needs_xvfb

CONSOLE = replace(spec_of("console"), type=SessionType.CONSOLE)


@pytest.fixture
def place() -> Iterator[Path]:
    with passable_place() as place:
        yield place


@pytest.fixture
async def display(place: Path) -> AsyncIterator[tuple[Screen, processes.Process]]:
    """A display as somebody who works at the host has it."""
    children, authority = Children(), place / "console-authority"
    owner = find_owner(ME, 0)
    x_server.write_private(authority, authority_record(new_cookie()), owner)
    with (place / "log").open("wb") as log:
        server = await x_server.start_x_server(
            ServerKind.XVFB,
            owner,
            authority,
            children,
            rfb_socket=place / "rfb",
            title="",
            limits=ChildLimits(),
            geometry=(640, 480),
            log=log.fileno(),
            limit_s=15,
        )
    try:
        yield Screen(server.display, authority), server.process
    finally:
        await processes.end([server.process], 2)
        children.reap()


@pytest.fixture
def settings(place: Path, display: tuple[Screen, processes.Process]) -> XSettings:
    settings = settings_in(place, console=display[0])
    script(settings.init_folder / "stay.sh", "exec sleep 600")
    return settings


async def test_the_console_is_the_display_that_runs_and_outlives_its_session(
    settings: XSettings, display: tuple[Screen, processes.Process]
) -> None:
    async with opened(settings) as backend:
        probe = await backend.probe()
        assert (probe.console_allowed, "console" in probe.capabilities) == (True, True)
        made = await backend.create(CONSOLE)
        assert (made.id, made.owner, made.type) == ("console", ME, SessionType.CONSOLE)
        assert made.display_layout == (Monitor(0, 0, 640, 480, is_primary=True),)
        assert await backend.create(CONSOLE) == made
        (image,) = await backend.screenshot("console", None, None, "png")
        assert (image.width, image.height) == (640, 480)
        await backend.close("console", force=True)
        assert await backend.list() == []
    assert display[1].is_alive
    async with opened(settings) as backend:
        made = await backend.create(CONSOLE)
        await backend.stop()
        later = await XBackend.open(settings)
        assert await later.list() == [made]
        await later.close("console", force=False)
        await later.stop()
        await backend.close("console", force=False)
    assert display[1].is_alive


@pytest.mark.covers("S32")
async def test_the_console_and_other_sessions_exclude_each_other(settings: XSettings) -> None:
    """A second console session, a virtual one beside a console, and a console beside a virtual one are each
    refused with the reason, and nothing of them is left."""
    virtual = spec_of(init_file="stay.sh")
    async with opened(settings) as backend:
        await backend.create(CONSOLE)
        for refused_spec in (replace(CONSOLE, session_id="second"), virtual):
            with pytest.raises(BackendError, match="console session") as refused:
                await backend.create(refused_spec)
            assert refused.value.code is Failure.CONSOLE_BUSY
        await backend.close("console", force=False)
        await backend.create(virtual)
        with pytest.raises(BackendError, match="without any other session") as refused:
            await backend.create(CONSOLE)
        assert refused.value.code is Failure.CONSOLE_BUSY
        assert [session.id for session in await backend.list()] == ["s-1"]
        folders = settings.state_folder / "sessions"
        assert sorted(path.name for path in folders.iterdir()) == ["s-1"]


async def test_the_console_takes_no_programs(settings: XSettings) -> None:
    async with opened(settings) as backend:
        with pytest.raises(BackendError) as refused:
            await backend.create(replace(CONSOLE, init_file="stay.sh"))
        assert refused.value.code is Failure.INIT_FILE_INVALID
        with pytest.raises(BackendError) as refused:
            await backend.create(replace(CONSOLE, autorun_file="stay.sh"))
        assert refused.value.code is Failure.AUTORUN_FILE_INVALID
        with pytest.raises(BackendError) as refused:
            await backend.create(replace(CONSOLE, owner="no-such-user"))
        assert refused.value.code is Failure.OWNER_NOT_FOUND


async def test_a_console_that_cannot_be_looked_at_is_no_session(
    settings: XSettings, display: tuple[Screen, processes.Process], place: Path
) -> None:
    wrong = place / "wrong"
    wrong.write_bytes(authority_record(new_cookie()))
    for screen in (replace(display[0], authority=wrong), replace(display[0], display=54_321)):
        async with opened(replace(settings, console=screen)) as backend:
            with pytest.raises(BackendError, match="not reachable"):
                await backend.create(CONSOLE)
            assert await backend.list() == []


async def test_the_end_of_the_display_is_the_end_of_the_session(
    settings: XSettings, display: tuple[Screen, processes.Process]
) -> None:
    async with opened(settings) as backend:
        await backend.create(CONSOLE)
        os.kill(display[1].pid, signal.SIGKILL)
        await until(lambda: not (settings.state_folder / "sessions" / "console").exists())
        assert await backend.list() == []
    x_server.remove_dead_socket(display[0].display)
