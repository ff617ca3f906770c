"""What every backend must do, run against each of them (S36 of the DCV server specification)."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image as Pictures

from broker_stub.agent.backend import Backend, BackendError, Failure, ImageFormat
from broker_stub.agent.dcv_backend import DcvBackend
from broker_stub.agent.simulated_backend import SimulatedFleet
from broker_stub.agent.x_backend import XBackend
from dcvtui.api.states import SessionType
from tests.agent.fake_dcv import FakeDcv, dcv_settings
from tests.agent.x_sessions import needs_xvfb, passable_place, script, settings_in, spec_of

ABSENT = "00000000-0000-4000-8000-000000000000"


@asynccontextmanager
async def simulated() -> AsyncIterator[Backend]:
    yield SimulatedFleet.invent(servers=1, sessions=0, is_still=True).servers[0]


@asynccontextmanager
async def x_sessions() -> AsyncIterator[Backend]:
    with passable_place() as place:
        settings = settings_in(place)
        script(settings.init_folder / "stay.sh", "exec sleep 600")
        backend = await XBackend.open(
            replace(settings, desktop_commands=((str(settings.init_folder / "stay.sh"),),))
        )
        try:
            yield backend
        finally:
            for session in await backend.list():
                await backend.close(session.id, force=True)
            await backend.stop()


@asynccontextmanager
async def dcv_sessions() -> AsyncIterator[Backend]:
    with passable_place() as place:
        backend = await DcvBackend.open(dcv_settings(FakeDcv(place / "dcv"), place))
        try:
            yield backend
        finally:
            await backend.stop()


@pytest.fixture(
    params=[
        pytest.param(simulated, id="simulated"),
        pytest.param(x_sessions, id="x", marks=needs_xvfb),
        pytest.param(dcv_sessions, id="dcv"),
    ]
)
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    async with request.param() as backend:
        yield backend


async def test_a_healthy_host_says_what_it_can_do(backend: Backend) -> None:
    probe = await backend.probe()
    assert probe.healthy
    assert probe.virtual_allowed
    assert probe.version
    assert probe.endpoints
    assert {"virtual", "screenshot", "setPermissions", "init", "autorun"} <= probe.capabilities


async def test_a_created_session_is_listed_as_answered(backend: Backend) -> None:
    assert await backend.list() == []
    before = datetime.now(UTC)
    made = await backend.create(replace(spec_of(name="n 'quoted'; x"), max_concurrent_clients=3))
    assert await backend.list() == [made]
    assert (made.id, made.name, made.type) == ("s-1", "n 'quoted'; x", SessionType.VIRTUAL)
    assert (made.num_of_connections, made.max_concurrent_clients) == (0, 3)
    assert before - timedelta(seconds=1) <= made.creation_time <= datetime.now(UTC)
    assert made.last_disconnection_time is None
    assert await backend.connections("s-1") == 0


async def test_creating_the_same_session_again_answers_the_first_one(backend: Backend) -> None:
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


async def test_changes_are_told(backend: Backend) -> None:
    backend.changed.clear()
    await backend.create(spec_of())
    assert backend.changed.is_set()
    backend.changed.clear()
    await backend.close("s-1", force=False)
    assert backend.changed.is_set()


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
        backend.set_permissions(ABSENT, "x"),
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


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", ""])
async def test_start_files_outside_their_folder_are_refused(backend: Backend, name: str) -> None:
    with pytest.raises(BackendError) as refused:
        await backend.create(spec_of(init_file=name))
    assert refused.value.code is Failure.INIT_FILE_INVALID
    with pytest.raises(BackendError) as refused:
        await backend.create(spec_of(autorun_file=name))
    assert refused.value.code is Failure.AUTORUN_FILE_INVALID
    assert await backend.list() == []


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
async def test_screenshots_keep_proportions_within_their_bounds(
    backend: Backend, image_format: ImageFormat
) -> None:
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


async def test_a_cancelled_creation_leaves_no_session(backend: Backend) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(backend.create(spec_of()), 0.05)
    assert await backend.list() == []


async def test_stopping_ends_no_session(backend: Backend) -> None:
    made = await backend.create(spec_of())
    await backend.stop()
    assert await backend.list() == [made]
