"""Screenshots are taken in processes of their own, which hang, die and end without harm."""

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image as Pictures

from broker_stub.agent import processes, x_server
from broker_stub.agent.backend import BackendError, Failure, Image
from broker_stub.agent.child_limits import ChildLimits
from broker_stub.agent.owners import find_owner
from broker_stub.agent.processes import Children
from broker_stub.agent.screenshots import Screen, ScreenGrabber
from broker_stub.agent.x_authority import authority_record, new_cookie
from broker_stub.agent.x_programs import ServerKind
from tests.agent.x_sessions import GRABBER, ME, grabbers, needs_xvfb, passable_place

pytestmark = needs_xvfb


@dataclass
class Shown:
    """An X display and what takes its pictures."""

    screen: Screen
    grabber: ScreenGrabber

    async def take(self, max_width: int = 64) -> Image:
        _, (image,) = await self.grabber.take(self.screen, max_width, None, "png")
        return image


@pytest.fixture
async def shown() -> AsyncIterator[Shown]:
    children = Children()
    with passable_place() as place:
        owner = find_owner(ME, 0)
        x_server.write_private(place / "authority", authority_record(new_cookie()), owner)
        with (place / "log").open("wb") as log:
            server = await x_server.start_x_server(
                ServerKind.XVFB,
                owner,
                place / "authority",
                children,
                rfb_socket=place / "rfb",
                title="",
                limits=ChildLimits(),
                geometry=(640, 480),
                log=log.fileno(),
                limit_s=15,
            )
        grabber = ScreenGrabber(limit_s=5)
        try:
            yield Shown(Screen(server.display, place / "authority"), grabber)
        finally:
            await grabber.stop()
            await processes.end([server.process], 2)
            children.reap()


async def test_many_pictures_at_once_take_two_processes(shown: Shown) -> None:
    images = await asyncio.gather(*(shown.take(64 + number) for number in range(6)))
    assert [image.width for image in images] == [64 + number for number in range(6)]
    for image in images:
        with Pictures.open(io.BytesIO(image.data)) as picture:
            assert picture.size == (image.width, image.height)
    assert 1 <= len(grabbers()) <= 2


async def test_a_display_that_is_not_there_is_told_and_the_process_is_kept(shown: Shown) -> None:
    await shown.take()
    before = {one.pid for one in grabbers()}
    with pytest.raises(BackendError, match="The session display is not reachable") as refused:
        await shown.grabber.take(replace(shown.screen, display=12_345), 64, None, "png")
    assert refused.value.code is Failure.DCV_COMMAND_FAILED
    assert {one.pid for one in grabbers()} == before


async def test_a_killed_process_costs_one_picture(shown: Shown) -> None:
    await shown.take()
    for one in grabbers():
        one.kill()
    with pytest.raises(BackendError):
        await shown.take()
    assert await shown.take()


async def test_a_cancelled_picture_leaves_no_half_answer_for_the_next(shown: Shown) -> None:
    await shown.take()
    taking = asyncio.create_task(shown.take(600))
    await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert (await shown.take()).width == 64


async def test_stopping_ends_the_processes(shown: Shown) -> None:
    await shown.take()
    assert grabbers()
    await shown.grabber.stop()
    assert not grabbers()


def test_a_process_ends_with_its_agent(tmp_path: Path) -> None:
    grabber = subprocess.Popen(
        [sys.executable, "-m", GRABBER],
        stdin=subprocess.PIPE,
        cwd=tmp_path,
    )
    grabber.communicate(timeout=10)
    assert grabber.returncode == 0
