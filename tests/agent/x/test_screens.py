"""Pictures and layouts of X sessions."""

import io
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as Pictures

from broker_stub.agent.backend import BackendError, Failure, Image, ImageFormat, Monitor
from broker_stub.agent.layouts import read_layout
from broker_stub.agent.x_backend import XBackend
from broker_stub.agent.x_layout import resizing_program
from broker_stub.agent.x_programs import ServerKind
from broker_stub.agent.x_session import XSettings
from tests.agent.x_sessions import (
    needs_xvfb,
    needs_xvnc,
    opened,
    session_of,
    spec_of,
)

pytestmark = needs_xvfb


needs_xrandr = pytest.mark.skipif(
    resizing_program() is None, reason="xrandr is missing: apt-get install x11-xserver-utils"
)


@pytest.mark.covers("S16", "S17")
async def test_screenshots_are_bounded_in_proportion_and_never_enlarged(backend: XBackend) -> None:
    """A screenshot keeps the screen's proportions within its bounds, a missing bound follows the other, and
    it is never larger than the screen."""
    await backend.create(spec_of(init_file="stay.sh"))
    for bounds, size in (
        ((160, 100), (133, 100)),
        ((400, None), (400, 300)),
        ((None, 150), (200, 150)),
        ((4000, 3000), (800, 600)),
    ):
        formats: tuple[ImageFormat, ...] = ("png", "jpeg")
        for image_format in formats:
            (image,) = await backend.screenshot("s-1", bounds[0], bounds[1], image_format)
            with Pictures.open(io.BytesIO(image.data)) as picture:
                assert (picture.size, picture.format) == (size, image_format.upper())
            assert (image.width, image.height) == size


async def test_a_hanging_x_server_costs_one_screenshot_and_not_the_agent(
    settings: XSettings,
) -> None:
    async with opened(replace(settings, screenshot_limit_s=0.3)) as backend:
        await backend.create(spec_of("s-1", init_file="stay.sh"))
        await backend.create(spec_of("s-2", init_file="stay.sh"))
        hanging = session_of(settings).x_server
        os.kill(hanging.pid, signal.SIGSTOP)
        with pytest.raises(BackendError) as refused:
            await backend.screenshot("s-1", 100, 100, "png")
        assert refused.value.code is Failure.TIMEOUT
        assert await backend.screenshot("s-2", 100, 100, "png")


def sizes(images: Sequence[Image]) -> list[tuple[int, int]]:
    return [(image.width, image.height) for image in images]


@needs_xrandr
@pytest.mark.covers("S28")
async def test_another_layout_shows_in_the_screenshot_and_in_the_session(
    settings: XSettings, backend: XBackend
) -> None:
    """A session that is given another size has screenshots of that size, and says so itself; one on Xvfb
    can become smaller but not larger than it was started."""
    await backend.create(spec_of(init_file="stay.sh"))
    assert (await backend.list())[0].display_layout == (Monitor(0, 0, 800, 600, is_primary=True),)
    for size in ((640, 480), (800, 600), (700, 500), (640, 480)):
        backend.changed.clear()
        await backend.set_layout("s-1", f"{size[0]}x{size[1]}")
        assert backend.changed.is_set()
        assert sizes(await backend.screenshot("s-1", None, None, "png")) == [size]
        (session,) = await backend.list()
        assert session.display_layout == (Monitor(0, 0, *size, is_primary=True),)
    with pytest.raises(BackendError, match="cannot be larger than it was started, 800x600"):
        await backend.set_layout("s-1", "801x600")
    with pytest.raises(BackendError, match="is not a size such as"):
        await backend.set_layout("s-1", "huge")
    assert sizes(await backend.screenshot("s-1", None, None, "png")) == [(640, 480)]


@needs_xrandr
@needs_xvnc
@pytest.mark.covers("S28", "S29")
async def test_each_monitor_has_a_picture_and_the_primary_one_comes_first(settings: XSettings) -> None:
    """With several monitors there is one picture each, of that monitor's size; exactly one says that it is
    the primary one, and it is the first of the layout. A session on Xvnc can grow."""
    async with opened(replace(settings, server=ServerKind.XVNC)) as backend:
        await backend.create(spec_of(init_file="stay.sh"))
        await backend.set_layout("s-1", "1024x768+640+0,640x480+0+0")
        images = await backend.screenshot("s-1", None, None, "png")
        assert sizes(images) == [(1024, 768), (640, 480)]
        assert [image.primary for image in images] == [True, False]
        assert sizes(await backend.screenshot("s-1", 512, None, "png")) == [(512, 384), (512, 384)]
        assert (await backend.list())[0].display_layout == (
            Monitor(640, 0, 1024, 768, is_primary=True),
            Monitor(0, 0, 640, 480),
        )
        await backend.set_layout("s-1", "1920x1080")
        assert sizes(await backend.screenshot("s-1", None, None, "png")) == [(1920, 1080)]


@needs_xrandr
@needs_xvnc
async def test_new_sessions_can_have_several_monitors_from_the_start(settings: XSettings) -> None:
    layout = read_layout("800x600,640x480")
    async with opened(replace(settings, server=ServerKind.XVNC, layout=layout)) as backend:
        await backend.create(spec_of(init_file="stay.sh"))
        assert sizes(await backend.screenshot("s-1", None, None, "png")) == [(800, 600), (640, 480)]


@pytest.mark.covers("S35")
async def test_no_x_program_is_needed_and_a_missing_xrandr_only_keeps_the_size(
    settings: XSettings, backend: XBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a host with an X server and nothing of the usual X programs sessions run and are looked at;
    without xrandr they keep the size they were started with, and whoever asks for another is told what to
    install."""
    for program in ("Xvfb", "test", "sh", "sleep"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    for module in ("owners", "x_programs", "desktop", "x_layout", "child_limits"):
        monkeypatch.setattr(f"broker_stub.agent.{module}.PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    await backend.create(spec_of(init_file="stay.sh"))
    assert sizes(await backend.screenshot("s-1", None, None, "png")) == [(800, 600)]
    with pytest.raises(BackendError, match="apt-get install x11-xserver-utils"):
        await backend.set_layout("s-1", "640x480")
    assert sizes(await backend.screenshot("s-1", None, None, "png")) == [(800, 600)]
