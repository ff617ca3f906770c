"""Bars and courses in the details, at widths where they fit beside their text and where they do not."""

from collections.abc import Sequence

import pytest
from textual.app import App, ComposeResult

from dcvtui.columns import Sign
from dcvtui.details import Detail
from dcvtui.tui.details_pane import DetailsPane
from tests.tui.screens import screen_text


class PaneApp(App[None]):
    def __init__(self, details: Sequence[Detail], *, ascii_only: bool = False) -> None:
        super().__init__()
        self._details = details
        self.pane = DetailsPane(ascii_only=ascii_only)

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_mount(self) -> None:
        self.pane.show(self._details)


async def lines(details: Sequence[Detail], width: int, *, ascii_only: bool = False) -> list[str]:
    app = PaneApp(details, ascii_only=ascii_only)
    async with app.run_test(size=(width, 8)) as pilot:
        await pilot.pause()
        return [line for line in screen_text(app).splitlines() if line]


MEMORY = Detail("memory", "16.0 of 64.0 GiB", meter=0.25)
COURSE = Detail("", "0 to 4 in 4 min", course=(0, 2, None, 4), top=4)


@pytest.mark.parametrize(
    ("detail", "width", "wanted"),
    [
        (MEMORY, 40, ["memory     ━━─────── 16.0 of 64.0 GiB"]),
        (MEMORY, 30, ["memory     ━━──────", "           16.0 of 64.0 GiB"]),
        (COURSE, 40, ["           ▁▅ █ 0 to 4 in 4 min"]),
        (Detail("", "3 READY", Sign.GOOD, meter=1), 40, ["           ● ━━━━━━━━━ 3 READY"]),
    ],
)
async def test_what_is_drawn_stands_before_its_text(detail: Detail, width: int, wanted: list[str]) -> None:
    assert await lines([detail], width) == wanted


async def test_a_long_course_keeps_its_newest_end() -> None:
    course = Detail("", "0 to 59", course=(*range(1, 60), 0), top=59)
    (drawn, text) = await lines([course], 34)
    assert len(drawn.strip()) == 16
    assert drawn.endswith("█▁")
    assert text.strip() == "0 to 59"


async def test_everything_is_drawn_in_ascii_where_that_is_asked() -> None:
    found = await lines([MEMORY, COURSE], 40, ascii_only=True)
    assert found == ["memory     ##....... 16.0 of 64.0 GiB", "           _= # 0 to 4 in 4 min"]
