"""The screenshot screen asks for just the pixels it can show, draws them, or says what went wrong."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image
from textual.app import App
from textual.pilot import Pilot

from dcvtui import images
from dcvtui.errors import Refused
from dcvtui.fleet import SessionRecord
from dcvtui.images import CellPicture, Colours
from dcvtui.shots import Shot
from dcvtui.terminal import IN_BLOCKS, NO_UTF8, Drawing
from dcvtui.tui.panel import Words
from dcvtui.tui.picture_view import PictureView
from dcvtui.tui.screenshot_screen import FULL_SIZE, ScreenshotScreen
from tests.tui.screens import assert_screen, screen_text

SESSION = SessionRecord(key=("p", "s1"), profile="p", id="s1", name="cad-ana-1", owner="ana", state="READY")
NOON = datetime(2026, 3, 30, 12, 0, 0)


def png(colour: tuple[int, int, int], size: tuple[int, int] = (1920, 1080)) -> bytes:
    output = BytesIO()
    Image.new("RGB", size, colour).save(output, "PNG")
    return output.getvalue()


class Broker:
    """Answers as a broker would: never larger than asked, never larger than the displays."""

    def __init__(self, *displays: Image.Image, refusal: Refused | None = None) -> None:
        self.displays = displays or (Image.new("RGB", (1920, 1080), (200, 0, 0)),)
        self.refusal = refusal
        self.asked: list[tuple[int, int]] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def take(self, width: int, height: int) -> Sequence[Shot]:
        self.asked.append((width, height))
        await self.answers.wait()
        if self.refusal:
            raise self.refusal
        return [Shot(self._picture(display, width, height), "12:00:00") for display in self.displays]

    @staticmethod
    def _picture(display: Image.Image, width: int, height: int) -> bytes:
        copy, output = display.copy(), BytesIO()
        copy.thumbnail((width, height))
        copy.save(output, "PNG")
        return output.getvalue()


class Viewer(App[None]):
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False

    def __init__(
        self,
        broker: Broker,
        drawing: Drawing = IN_BLOCKS,
        folder: Path | None = None,
    ) -> None:
        super().__init__()
        self.view = ScreenshotScreen(SESSION, broker.take, drawing=drawing, folder=folder, now=lambda: NOON)

    def on_mount(self) -> None:
        self.push_screen(self.view)

    @property
    def head(self) -> str:
        return self.view.query_one(".screenshot-head", Words).text

    @property
    def said(self) -> str:
        return self.view.query_one(".screenshot-said", Words).text if self.view.has_class("-words") else ""


def cells(view: PictureView) -> CellPicture:
    """The picture in cells that a view shows."""
    assert isinstance(view.picture, CellPicture)
    return view.picture


async def settled(pilot: Pilot[None]) -> None:
    """Until everything asked for has been drawn."""
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def test_it_asks_for_the_pixels_it_can_show() -> None:
    broker = Broker()
    async with Viewer(broker).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        view = pilot.app.screen.query_one(PictureView)
        assert view.size == (80, 22)
        assert broker.asked == [(160, 88)]
        assert view.picture is not None
        assert (view.picture.columns, view.picture.rows) == (78, 22)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_screen_looks_as_agreed(size: tuple[int, int]) -> None:
    screen = Image.new("RGB", (1920, 1080), (20, 20, 20))
    screen.paste((230, 230, 230), (400, 200, 1500, 900))
    async with Viewer(Broker(screen, screen)).run_test(size=size) as pilot:
        await settled(pilot)
        assert_screen(pilot.app, f"screenshot-{size[0]}x{size[1]}")


async def test_a_session_without_a_picture_shows_the_brokers_sentence() -> None:
    refusal = Refused(
        "Dcv session is not in READY state.", status=200, text="Dcv session is not in READY state."
    )
    broker = Broker(refusal=refusal)
    app = Viewer(broker)
    async with app.run_test(size=(60, 20)) as pilot:
        await settled(pilot)
        assert app.said == "Dcv session is not in READY state."
        assert "Dcv session is not in READY state." in screen_text(app)
        broker.refusal = None
        await pilot.press("r")
        await settled(pilot)
        assert app.said == ""
        assert app.view.query_one(PictureView).picture is not None


async def test_bytes_that_are_no_picture_are_said_to_be_so() -> None:
    class Garbage(Broker):
        @staticmethod
        def _picture(display: Image.Image, width: int, height: int) -> bytes:
            return b"garbage"

    app = Viewer(Garbage())
    async with app.run_test() as pilot:
        await settled(pilot)
        assert app.said.startswith("This cannot be shown: the picture is damaged")


async def test_without_utf8_there_is_a_sentence_and_saving_still_works(tmp_path: Path) -> None:
    app = Viewer(Broker(), Drawing(form=None, why_none=NO_UTF8), folder=tmp_path)
    async with app.run_test() as pilot:
        await settled(pilot)
        assert app.said == NO_UTF8
        await pilot.press("s")
        await settled(pilot)
        assert (tmp_path / "cad-ana-1_20260330-120000.png").exists()


async def test_fit_and_one_to_one_are_a_key_apart() -> None:
    broker = Broker()
    app = Viewer(broker)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("x")
        await settled(pilot)
        view = app.view.query_one(PictureView)
        assert broker.asked[-1] == (FULL_SIZE, FULL_SIZE)
        assert not view.is_fitted
        assert view.picture is not None
        assert (view.picture.columns, view.picture.rows, view.picture.width) == (80, 22, 1920)
        assert "1:1 · 1920x1080" in app.head
        await pilot.press("x")
        await settled(pilot)
        assert view.is_fitted


async def test_keys_move_over_a_picture_that_is_larger_than_the_view() -> None:
    screen = Image.new("RGB", (640, 352), (0, 0, 0))
    screen.paste((255, 0, 0), (480, 264, 640, 352))
    app = Viewer(Broker(screen))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("x")
        await settled(pilot)
        view = app.view.query_one(PictureView)
        assert view.picture is not None
        assert cells(view).lines[21][0].background == 0
        await pilot.press(*["right"] * 9, *["j"] * 9)
        await settled(pilot)
        assert cells(view).lines[0][0].background == 0xFF0000
        assert cells(view).lines[21][-1].background == 0xFF0000
        await pilot.press(*["left"] * 9, *["k"] * 9)
        await settled(pilot)
        assert cells(view).lines[0][0].background == 0


async def test_tab_goes_through_the_monitors() -> None:
    app = Viewer(Broker(Image.new("RGB", (64, 64), (1, 2, 3)), Image.new("RGB", (64, 64), (4, 5, 6))))
    async with app.run_test() as pilot:
        await settled(pilot)
        view = app.view.query_one(PictureView)
        seen = []
        for _ in range(3):
            assert view.picture is not None
            seen.append((app.head.split(" · ")[2], cells(view).lines[0][0].background))
            await pilot.press("tab")
            await settled(pilot)
        assert seen == [
            ("monitor 1 of 2", 0x010203),
            ("monitor 2 of 2", 0x040506),
            ("monitor 1 of 2", 0x010203),
        ]


async def test_one_monitor_offers_no_next_one() -> None:
    app = Viewer(Broker())
    async with app.run_test() as pilot:
        await settled(pilot)
        assert "next monitor" not in screen_text(app)
        await pilot.press("tab")
        await settled(pilot)


async def test_saving_asks_again_for_the_full_size_and_keeps_it_private(tmp_path: Path) -> None:
    broker = Broker()
    app = Viewer(broker, folder=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("s")
        await settled(pilot)
        path = tmp_path / "cad-ana-1_20260330-120000.png"
        assert broker.asked == [(160, 88), (FULL_SIZE, FULL_SIZE)]
        assert images.size_of(path.read_bytes()) == (1920, 1080)
        assert path.stat().st_mode & 0o777 == 0o600
        assert f"saved {path}" in app.head


async def test_a_folder_that_takes_no_file_is_said(tmp_path: Path) -> None:
    app = Viewer(Broker(), folder=tmp_path / "missing")
    async with app.run_test() as pilot:
        await settled(pilot)
        await pilot.press("s")
        await settled(pilot)
        assert "not saved" in app.head


async def test_a_growing_window_is_drawn_at_once_and_asked_for_afterwards() -> None:
    broker = Broker()
    app = Viewer(broker)
    async with app.run_test(size=(60, 20)) as pilot:
        await settled(pilot)
        broker.answers.clear()
        await pilot.resize_terminal(120, 40)
        await pilot.pause()
        view = app.view.query_one(PictureView)
        async with asyncio.timeout(30):
            while view.picture is None or view.picture.columns < 100:
                await pilot.pause()
            while len(broker.asked) < 2:
                await pilot.pause(0.01)
        assert broker.asked == [(120, 72), (240, 152)]
        broker.answers.set()
        await settled(pilot)


async def test_an_equal_picture_draws_nothing() -> None:
    app = Viewer(Broker())
    async with app.run_test() as pilot:
        await settled(pilot)
        view = app.view.query_one(PictureView)
        before = view.picture
        await pilot.press("r")
        await settled(pilot)
        assert view.picture is before


@pytest.mark.parametrize("key", ["escape", "q"])
async def test_it_closes_while_the_broker_is_silent(key: str) -> None:
    broker = Broker()
    broker.answers.clear()
    app = Viewer(broker)
    async with app.run_test() as pilot:
        await pilot.pause()
        await pilot.press(key)
        await pilot.pause()
        assert app.screen is not app.view


@pytest.mark.parametrize("colours", list(Colours))
async def test_colours_reach_the_terminal_as_they_were_chosen(colours: Colours) -> None:
    app = Viewer(Broker(Image.new("RGB", (64, 64), (255, 0, 0))), Drawing(colours=colours))
    async with app.run_test(size=(40, 12)) as pilot:
        await settled(pilot)
        strip = app.view.query_one(PictureView).render_line(5)
        codes = {
            segment.style.bgcolor.get_ansi_codes(False)
            for segment in strip
            if segment.style and segment.style.bgcolor
        }
        assert (("48", "5", "196") if colours is Colours.PALETTE else ("48", "2", "255", "0", "0")) in codes
