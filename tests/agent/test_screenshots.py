"""Screenshots are taken in processes of their own, which hang, die and end without harm."""

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from PIL import Image as Pictures

from broker_stub.agent import processes, x_server
from broker_stub.agent.backend import BackendError, Failure
from broker_stub.agent.owners import find_owner
from broker_stub.agent.processes import Children
from broker_stub.agent.screenshots import ScreenGrabber
from broker_stub.agent.x_programs import ServerKind
from tests.agent.x_sessions import ME, needs_xvfb, passable_place

pytestmark = needs_xvfb


@dataclass
class Screen:
    """An X display and what takes its pictures."""

    display: int
    grabber: ScreenGrabber


@pytest.fixture
async def screen() -> AsyncIterator[Screen]:
    children = Children()
    with passable_place() as place:
        owner, cookie = find_owner(ME, 0), x_server.new_cookie()
        x_server.write_private(place / "authority", x_server.authority_record(cookie), owner)
        with (place / "log").open("wb") as log:
            server = await x_server.start_x_server(
                ServerKind.XVFB,
                owner,
                place / "authority",
                children,
                rfb_socket=place / "rfb",
                title="",
                geometry=(640, 480),
                log=log.fileno(),
                limit_s=15,
            )
        x_server.write_merged_authority(place / "merged", {server.display: cookie})
        grabber = ScreenGrabber(place / "merged", limit_s=5)
        try:
            yield Screen(server.display, grabber)
        finally:
            await grabber.stop()
            await processes.end([server.process], 2)
            children.reap()


def grabbers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "broker_stub.agent.screenshots" in child.cmdline()
    ]


async def test_many_pictures_at_once_take_two_processes(screen: Screen) -> None:
    images = await asyncio.gather(
        *(screen.grabber.take(screen.display, 64 + number, None, "png") for number in range(6))
    )
    assert [image.width for image in images] == [64 + number for number in range(6)]
    for image in images:
        with Pictures.open(io.BytesIO(image.data)) as picture:
            assert picture.size == (image.width, image.height)
    assert 1 <= len(grabbers()) <= 2


async def test_a_display_that_is_not_there_is_told_and_the_process_is_kept(screen: Screen) -> None:
    await screen.grabber.take(screen.display, 64, None, "png")
    before = {one.pid for one in grabbers()}
    with pytest.raises(BackendError, match="The session display is not reachable") as refused:
        await screen.grabber.take(12_345, 64, None, "png")
    assert refused.value.code is Failure.DCV_COMMAND_FAILED
    assert {one.pid for one in grabbers()} == before


async def test_a_killed_process_costs_one_picture(screen: Screen) -> None:
    await screen.grabber.take(screen.display, 64, None, "png")
    for one in grabbers():
        one.kill()
    with pytest.raises(BackendError):
        await screen.grabber.take(screen.display, 64, None, "png")
    assert await screen.grabber.take(screen.display, 64, None, "png")


async def test_a_cancelled_picture_leaves_no_half_answer_for_the_next(screen: Screen) -> None:
    await screen.grabber.take(screen.display, 64, None, "png")
    taking = asyncio.create_task(screen.grabber.take(screen.display, 600, None, "png"))
    await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert (await screen.grabber.take(screen.display, 64, None, "png")).width == 64


async def test_stopping_ends_the_processes(screen: Screen) -> None:
    await screen.grabber.take(screen.display, 64, None, "png")
    assert grabbers()
    await screen.grabber.stop()
    assert not grabbers()


def test_a_process_ends_with_its_agent(tmp_path: Path) -> None:
    grabber = subprocess.Popen(
        [sys.executable, "-m", "broker_stub.agent.screenshots"], stdin=subprocess.PIPE, cwd=tmp_path
    )
    grabber.communicate(timeout=10)
    assert grabber.returncode == 0
