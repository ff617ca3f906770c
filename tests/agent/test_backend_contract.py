"""What every backend must do, run against each of them: simulated, X on Xvfb and on Xvnc, and `dcv`.

Beside the contract itself a backend has a stand here that makes things happen on its host which nobody
asked the agent for: a program ends, a client comes, the agent starts anew.
"""

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest
from PIL import Image as Pictures

from broker_stub.agent.backend import Backend, BackendError, Failure, ImageFormat
from broker_stub.agent.dcv_backend import DcvBackend
from broker_stub.agent.simulated_backend import SimulatedFleet
from broker_stub.agent.simulated_server import SimulatedServer
from broker_stub.agent.x_backend import XBackend
from broker_stub.agent.x_programs import ServerKind
from broker_stub.agent.x_session import XSettings
from broker_stub.agent.x_state import SessionFolder
from dcvtui.api.states import SessionType
from tests.agent.fake_dcv import FakeDcv, dcv_settings
from tests.agent.vnc_client import stranger
from tests.agent.x_sessions import needs_xvfb, needs_xvnc, passable_place, script, settings_in, spec_of

ABSENT = "00000000-0000-4000-8000-000000000000"


class Stand(Protocol):
    """A backend with its host."""

    takes_clients: bool

    @property
    def backend(self) -> Backend: ...

    async def start_anew(self) -> None:
        """The agent stops, and another one starts on the same host."""

    async def end_by_itself(self, session_id: str) -> None:
        """The session's owner logs out."""

    async def come(self, session_id: str) -> None:
        """A client connects."""

    async def go(self, session_id: str) -> None:
        """That client leaves."""


class SimulatedStand:
    takes_clients = True

    def __init__(self) -> None:
        self._server: SimulatedServer = SimulatedFleet.invent(servers=1, sessions=0, is_still=True).servers[0]

    @property
    def backend(self) -> Backend:
        return self._server

    async def start_anew(self) -> None:
        await self._server.stop()

    async def end_by_itself(self, session_id: str) -> None:
        self._server.end_on_host(session_id)

    async def come(self, session_id: str) -> None:
        self._server.connect_client(session_id)

    async def go(self, session_id: str) -> None:
        self._server.disconnect_client(session_id)


class XStand:
    def __init__(self, backend: XBackend, settings: XSettings) -> None:
        self.takes_clients = settings.server.takes_clients
        self._backend = backend
        self._settings = settings
        self._clients: dict[str, asyncio.StreamWriter] = {}

    @property
    def backend(self) -> XBackend:
        return self._backend

    def folder(self, session_id: str) -> SessionFolder:
        return SessionFolder(self._settings.state_folder / "sessions" / session_id)

    async def start_anew(self) -> None:
        await self._backend.stop()
        self._backend = await XBackend.open(self._settings)

    async def end_by_itself(self, session_id: str) -> None:
        session = self.folder(session_id).read()
        assert session is not None
        os.kill(session.init.pid, signal.SIGTERM)

    async def come(self, session_id: str) -> None:
        _, self._clients[session_id] = await stranger(self.folder(session_id).rfb_socket)

    async def go(self, session_id: str) -> None:
        writer = self._clients.pop(session_id)
        writer.close()
        await writer.wait_closed()


class DcvStand:
    takes_clients = True

    def __init__(self, fake: FakeDcv, backend: DcvBackend, place: Path) -> None:
        self._fake = fake
        self._backend = backend
        self._place = place

    @property
    def backend(self) -> DcvBackend:
        return self._backend

    async def start_anew(self) -> None:
        await self._backend.stop()
        self._backend = await DcvBackend.open(dcv_settings(self._fake, self._place))

    async def end_by_itself(self, session_id: str) -> None:
        self._fake.disappear(session_id)

    async def come(self, session_id: str) -> None:
        self._fake.change(session_id, **{"num-of-connections": 1})

    async def go(self, session_id: str) -> None:
        left = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self._fake.change(session_id, **{"num-of-connections": 0, "last-disconnection-time": left})


@asynccontextmanager
async def simulated() -> AsyncIterator[Stand]:
    yield SimulatedStand()


@asynccontextmanager
async def on_x(kind: ServerKind) -> AsyncIterator[Stand]:
    with passable_place() as place:
        stay = str(script(place / "stay.sh", "exec sleep 600"))
        settings = settings_in(place, server=kind, desktop_commands=((stay,),))
        stand = XStand(await XBackend.open(settings), settings)
        try:
            yield stand
        finally:
            for session in await stand.backend.list():
                await stand.backend.close(session.id, force=True)
            await stand.backend.stop()


def on_xvfb() -> object:
    return on_x(ServerKind.XVFB)


def on_xvnc() -> object:
    return on_x(ServerKind.XVNC)


@asynccontextmanager
async def on_dcv() -> AsyncIterator[Stand]:
    with passable_place() as place:
        fake = FakeDcv(place / "dcv")
        stand = DcvStand(fake, await DcvBackend.open(dcv_settings(fake, place)), place)
        try:
            yield stand
        finally:
            await stand.backend.stop()


@pytest.fixture(
    params=[
        pytest.param(simulated, id="simulated"),
        pytest.param(on_xvfb, id="xvfb", marks=needs_xvfb),
        pytest.param(on_xvnc, id="xvnc", marks=needs_xvnc),
        pytest.param(on_dcv, id="dcv"),
    ]
)
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    async with request.param() as stand:
        yield stand


@pytest.fixture
def backend(stand: Stand) -> Backend:
    return stand.backend


# ------------------------------------------------------------------ creating and listing


async def test_a_healthy_host_says_what_it_can_do(backend: Backend) -> None:
    probe = await backend.probe()
    assert probe.healthy
    assert probe.virtual_allowed
    assert probe.version
    assert probe.endpoints
    assert {"virtual", "screenshot", "setPermissions", "init", "autorun"} <= probe.capabilities


@pytest.mark.covers("S36")
async def test_a_created_session_is_listed_as_answered(backend: Backend) -> None:
    """Whatever runs the sessions of a host, one and the same set of tests holds it to one contract: what
    was created is listed with the same id, name, owner, type, limit and time."""
    assert await backend.list() == []
    before = datetime.now(UTC)
    made = await backend.create(replace(spec_of(name="n 'quoted'; x"), max_concurrent_clients=3))
    assert await backend.list() == [made]
    assert (made.id, made.name, made.type) == ("s-1", "n 'quoted'; x", SessionType.VIRTUAL)
    assert (made.num_of_connections, made.max_concurrent_clients) == (0, 3)
    assert before - timedelta(seconds=1) <= made.creation_time <= datetime.now(UTC)
    assert made.last_disconnection_time is None
    assert await backend.connections("s-1") == 0


@pytest.mark.parametrize("name", ["", "-rfbport", "a\nb", "$(id) `id` ;", "ünïcode ☃", "x" * 256])
async def test_a_name_is_only_a_name(backend: Backend, name: str) -> None:
    assert (await backend.create(spec_of(name=name))).name == name
    assert [session.name for session in await backend.list()] == [name]


@pytest.mark.covers("G19")
async def test_creating_the_same_session_again_answers_the_first_one(backend: Backend) -> None:
    """A creation that is repeated with the same id, owner and type makes no second session; with another
    owner it is refused."""
    made = await backend.create(spec_of())
    assert await backend.create(spec_of()) == made
    with pytest.raises(BackendError) as refused:
        await backend.create(spec_of(owner="somebody-else"))
    assert refused.value.code is Failure.SESSION_ID_CONFLICT
    assert await backend.list() == [made]


async def test_sessions_created_at_once_do_not_get_in_each_others_way(backend: Backend) -> None:
    ids = [f"s-{number}" for number in range(4)]
    await asyncio.gather(*(backend.create(spec_of(one)) for one in ids))
    assert sorted(session.id for session in await backend.list()) == ids
    await asyncio.gather(*(backend.close(one, force=True) for one in ids))
    assert await backend.list() == []


async def test_a_cancelled_creation_leaves_no_session(backend: Backend) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(backend.create(spec_of()), 0.05)
    assert await backend.list() == []


@pytest.mark.covers("S4", "G15")
@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", ""])
async def test_start_files_outside_their_folder_are_refused(
    stand: Stand, backend: Backend, name: str
) -> None:
    """No name of an init or autorun file reaches a file outside its folder, and no session is made."""
    # The deprecated way names init files by their whole path; every path of an invented host is inside.
    if not (name.startswith("/") and isinstance(stand, SimulatedStand)):
        with pytest.raises(BackendError) as refused:
            await backend.create(spec_of(init_file=name))
        assert refused.value.code is Failure.INIT_FILE_INVALID
    with pytest.raises(BackendError) as refused:
        await backend.create(spec_of(autorun_file=name))
    assert refused.value.code is Failure.AUTORUN_FILE_INVALID
    assert await backend.list() == []


# ------------------------------------------------------------------ what happens by itself


async def test_changes_are_told(backend: Backend) -> None:
    backend.changed.clear()
    await backend.create(spec_of())
    assert backend.changed.is_set()
    backend.changed.clear()
    await backend.close("s-1", force=False)
    assert backend.changed.is_set()


async def test_a_session_that_ends_by_itself_is_told_and_listed_no_more(
    stand: Stand, backend: Backend
) -> None:
    """The end of a session that nobody asked for shows by itself, not only when somebody looks."""
    await backend.create(spec_of("s-1"))
    await backend.create(spec_of("s-2"))
    await backend.list()
    backend.changed.clear()
    await stand.end_by_itself("s-1")
    async with asyncio.timeout(30):
        while [session.id for session in await backend.list()] != ["s-2"]:
            await backend.changed.wait()
            backend.changed.clear()
    with pytest.raises(BackendError) as refused:
        await backend.screenshot("s-1", 100, 100, "png")
    assert refused.value.code is Failure.SESSION_NOT_FOUND


async def test_clients_are_counted_and_the_last_one_to_leave_is_timed(stand: Stand, backend: Backend) -> None:
    if not stand.takes_clients:
        pytest.skip("sessions on Xvfb take no clients")
    await backend.create(spec_of())
    await stand.come("s-1")
    await until_connected(backend, 1)
    assert (await backend.list())[0].last_disconnection_time is None
    before = datetime.now(UTC)
    await stand.go("s-1")
    await until_connected(backend, 0)
    left = (await backend.list())[0].last_disconnection_time
    assert left is not None
    assert before - timedelta(seconds=1) <= left <= datetime.now(UTC)


async def until_connected(backend: Backend, count: int) -> None:
    async with asyncio.timeout(30):
        while await backend.connections("s-1") != count:  # noqa: ASYNC110  nothing tells of the other end
            await asyncio.sleep(0.02)
        while (await backend.list())[0].num_of_connections != count:  # noqa: ASYNC110  as above
            await asyncio.sleep(0.02)


@pytest.mark.covers("G43")
async def test_sessions_are_there_for_the_next_agent(stand: Stand, backend: Backend) -> None:
    """The end of an agent ends no session, and the next agent of the host lists the same ones."""
    made = await backend.create(replace(spec_of(name="stays"), max_concurrent_clients=4))
    await stand.start_anew()
    (found,) = await stand.backend.list()
    assert (found.id, found.name, found.owner, found.type) == (made.id, "stays", made.owner, made.type)
    assert (found.creation_time, found.storage_root) == (made.creation_time, made.storage_root)
    assert found.max_concurrent_clients == 4
    (image,) = await stand.backend.screenshot("s-1", 100, 100, "png")
    assert image.data
    await stand.backend.close("s-1", force=False)
    assert await stand.backend.list() == []


# ------------------------------------------------------------------ closing and asking


async def test_a_closed_session_is_gone(backend: Backend) -> None:
    await backend.create(spec_of())
    await backend.close("s-1", force=False)
    assert await backend.list() == []
    with pytest.raises(BackendError) as refused:
        await backend.screenshot("s-1", 100, 100, "png")
    assert refused.value.code is Failure.SESSION_NOT_FOUND


async def test_every_question_about_an_absent_session_is_refused(backend: Backend) -> None:
    for question in (
        backend.close(ABSENT, False),
        backend.set_permissions(ABSENT, "[permissions]\n"),
        backend.screenshot(ABSENT, 10, 10, "png"),
        backend.connections(ABSENT),
    ):
        with pytest.raises(BackendError) as refused:
            await question
        assert refused.value.code is Failure.SESSION_NOT_FOUND
        assert refused.value.message


async def test_permissions_can_be_replaced_emptied_and_reset(backend: Backend) -> None:
    await backend.create(spec_of(permissions="[permissions]\n%owner% allow builtin\n"))
    for text in ("[permissions]\nana allow display\n", "", None):
        await backend.set_permissions("s-1", text)


@pytest.mark.covers("S16", "S17")
@pytest.mark.parametrize("image_format", ["png", "jpeg"])
async def test_screenshots_keep_proportions_within_their_bounds(
    backend: Backend, image_format: ImageFormat
) -> None:
    """A screenshot fits its bounds with the proportions of the screen, within one pixel, and is never
    larger than the screen; where only one bound is given the other side follows."""
    await backend.create(spec_of())
    (full,) = await backend.screenshot("s-1", None, None, image_format)
    for max_width, max_height in ((160, 100), (100, None), (None, 99), (50_000, 50_000)):
        (image,) = await backend.screenshot("s-1", max_width, max_height, image_format)
        with Pictures.open(io.BytesIO(image.data)) as picture:
            assert picture.format == image.format.upper() == image_format.upper()
            assert picture.size == (image.width, image.height)
        assert image.primary
        assert image.width <= min(max_width or full.width, full.width)
        assert image.height <= min(max_height or full.height, full.height)
        assert abs(image.width * full.height / full.width - image.height) <= 1
        assert image.creation_time.utcoffset() == timedelta(0)
