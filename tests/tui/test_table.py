"""The fleet table: what it draws, and above all what it does not draw again."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.message import Message
from textual.pilot import Pilot

from dcvtui.fields import SESSION_COLUMNS
from dcvtui.fleet import Key, SessionRecord, Snapshot, difference
from dcvtui.listing import Listing
from dcvtui.query import compile_filter
from dcvtui.tui.table import FleetTable
from tests.tui.screens import screen_text

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)


def session(number: int, **fields: Any) -> SessionRecord:
    standard: dict[str, Any] = {
        "name": f"cad-{number:05}",
        "owner": "ana",
        "state": "READY",
        "creation_time": NOW - timedelta(minutes=5),
    }
    return SessionRecord(key=("lab", str(number)), profile="lab", id=str(number), **(standard | fields))


class TableApp(App[None]):
    """The smallest application around a table."""

    def __init__(self, count: int, *, ascii_only: bool = False) -> None:
        super().__init__()
        self.listing: Listing[SessionRecord] = Listing(SESSION_COLUMNS, sort="name")
        self.now = NOW
        self.table = FleetTable(SESSION_COLUMNS, self.listing, ascii_only=ascii_only, now=lambda: self.now)
        self.said: list[Message] = []
        self.become(session(number) for number in range(count))

    def compose(self) -> ComposeResult:
        yield self.table

    def on_mount(self) -> None:
        self.table.rows_changed()

    def become(self, sessions: Iterator[SessionRecord] | list[SessionRecord]) -> None:
        fleet: dict[Key, SessionRecord] = {one.key: one for one in sessions}
        changes = difference(Snapshot(sessions=self.listing.records), Snapshot(sessions=fleet)).sessions
        self.listing.apply(changes, fleet, self.now)
        if self.is_running:
            self.table.rows_changed()

    def change(self, *sessions: SessionRecord) -> None:
        self.become(list({**self.listing.records, **{one.key: one for one in sessions}}.values()))

    def filter(self, text: str) -> None:
        self.listing.set_filter(compile_filter(text, SESSION_COLUMNS, lambda _: ()), self.now)
        self.table.rows_changed()

    def on_fleet_table_cursor_moved(self, message: FleetTable.CursorMoved) -> None:
        self.said.append(message)

    def on_fleet_table_row_opened(self, message: FleetTable.RowOpened) -> None:
        self.said.append(message)

    def on_fleet_table_head_chosen(self, message: FleetTable.HeadChosen) -> None:
        self.said.append(message)


@contextmanager
def refreshed(table: FleetTable) -> Iterator[list[Region]]:
    """Collect the regions that are going to be sent."""
    regions: list[Region] = []
    original = table.refresh

    def refresh(*wanted: Region, **options: Any) -> Any:
        regions.extend(wanted or [table.size.region])
        return original(*wanted, **options)

    table.refresh = refresh  # type: ignore[method-assign]  # listens, changes nothing
    yield regions
    del table.refresh


def cursor_text(app: TableApp) -> str:
    return next((line for line in screen_text(app).splitlines() if line.startswith("▸")), "")


async def settle(pilot: Pilot[None]) -> None:
    await pilot.pause()


async def test_one_changed_cell_repaints_one_cell() -> None:
    app = TableApp(10_000)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        with refreshed(app.table) as regions:
            app.change(session(5, connections=3))
        (region,) = regions
        assert (region.y, region.height, region.width) == (6, 1, len("CLIENTS"))
        drawn = app.table.lines_drawn
        await settle(pilot)
        assert app.table.lines_drawn == drawn + 1
        assert screen_text(app).splitlines()[6].split()[-3:] == ["3", "5", "min"]


async def test_a_change_off_the_screen_repaints_nothing() -> None:
    app = TableApp(10_000)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        with refreshed(app.table) as regions:
            app.change(session(7000, connections=3), session(7001, state="UNKNOWN"))
        assert regions == []


async def test_time_repaints_only_ages_that_step() -> None:
    app = TableApp(0)
    async with app.run_test(size=(100, 30)) as pilot:
        app.become([session(0), session(1, creation_time=NOW - timedelta(hours=5, minutes=10))])
        await settle(pilot)
        app.now = NOW + timedelta(seconds=59)
        with refreshed(app.table) as regions:
            app.table.time_passed()
        assert regions == []
        app.now = NOW + timedelta(seconds=61)
        with refreshed(app.table) as regions:
            app.table.time_passed()
        assert [region.y for region in regions] == [1]


async def test_only_rows_on_screen_are_drawn() -> None:
    app = TableApp(100_000)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        before = app.table.lines_drawn
        assert before < 200
        app.table.move(1)
        await settle(pilot)
        assert app.table.lines_drawn - before == 2
        app.table.move_to_end(top=False)
        await settle(pilot)
        assert "cad-99999" in cursor_text(app)


async def test_the_view_jumps_half_a_page_at_its_edge() -> None:
    app = TableApp(1000)
    async with app.run_test(size=(100, 21)) as pilot:
        await settle(pilot)
        for _ in range(19):
            app.table.move(1)
        assert app.table.scroll_y == 0
        app.table.move(1)
        assert app.table.scroll_y == 10


async def test_the_cursor_stays_on_its_item_while_rows_move() -> None:
    app = TableApp(100)
    async with app.run_test(size=(100, 21)) as pilot:
        await settle(pilot)
        app.table.move(5)
        app.change(session(5, name="zzz"))
        await settle(pilot)
        assert "zzz" in cursor_text(app)
        app.listing.sort_by("name", NOW, is_reversed=True)
        app.table.rows_changed()
        await settle(pilot)
        assert app.table.cursor_key == ("lab", "5")
        assert "zzz" in cursor_text(app)


async def test_until_it_is_moved_the_cursor_stays_at_the_top() -> None:
    app = TableApp(10)
    async with app.run_test(size=(100, 21)) as pilot:
        await settle(pilot)
        app.change(session(99, name="aaa"))
        await settle(pilot)
        assert "aaa" in cursor_text(app)


async def test_a_vanished_item_leaves_the_cursor_to_its_neighbour() -> None:
    app = TableApp(10)
    async with app.run_test(size=(100, 21)) as pilot:
        app.table.move(9)
        app.become([session(number) for number in range(9)])
        await settle(pilot)
        assert "cad-00008" in cursor_text(app)
        app.become([])
        assert app.table.cursor_key is None


async def test_rows_that_come_above_the_view_repaint_nothing() -> None:
    app = TableApp(1000)
    async with app.run_test(size=(100, 21)) as pilot:
        await settle(pilot)
        app.table.move(500)
        await settle(pilot)
        shown, line = screen_text(app), cursor_text(app)
        with refreshed(app.table) as regions:
            app.change(session(5000, name="aaa"), session(5001, name="aab"))
        await settle(pilot)
        # The bar may step; what the rows say is not sent again.
        assert all(region.width == 1 for region in regions)
        assert app.table.scroll_y == 492
        assert (screen_text(app), cursor_text(app)) == (shown, line)


async def test_marks_survive_a_sort_and_a_filter() -> None:
    app = TableApp(50)
    async with app.run_test(size=(100, 21)) as pilot:
        await settle(pilot)
        app.table.toggle_mark()
        app.table.toggle_mark()
        app.listing.sort_by("name", NOW, is_reversed=True)
        app.table.rows_changed()
        app.filter("cad-00001")
        await settle(pilot)
        assert app.table.marks == {("lab", "0"), ("lab", "1")}
        assert screen_text(app).count("✓") == 1
        app.filter("")
        app.table.unmark_all()
        assert app.table.marks == set()


async def test_a_range_is_marked_from_here_to_there() -> None:
    app = TableApp(50)
    async with app.run_test(size=(100, 21)) as pilot:
        await settle(pilot)
        app.table.move(3)
        app.table.mark_range()
        assert app.table.is_in_range
        app.table.move(2)
        app.table.mark_range()
        assert {int(key[1]) for key in app.table.marks} == {3, 4, 5}
        app.filter("cad-0001")
        app.table.mark_shown()
        assert len(app.table.marks) == 13


async def test_columns_scroll_and_the_first_one_stays() -> None:
    app = TableApp(3)
    async with app.run_test(size=(60, 8)) as pilot:
        await settle(pilot)
        assert screen_text(app).split("\n")[0].split() == ["NAME", "OWNER", "STATE", "SERVER"]
        app.table.scroll_columns(5)
        await settle(pilot)
        assert screen_text(app).split("\n")[0].split() == ["NAME", "IDLE", "AGE"]
        app.table.scroll_columns(100)
        app.table.scroll_columns(-100)
        await settle(pilot)
        assert screen_text(app).split("\n")[0].split() == ["NAME", "OWNER", "STATE", "SERVER"]


async def test_signs_are_ascii_where_the_terminal_has_nothing_else() -> None:
    app = TableApp(3, ascii_only=True)
    async with app.run_test(size=(100, 8)) as pilot:
        app.change(session(1, state="UNKNOWN", name="a" * 80))
        app.table.move(1)
        app.table.toggle_mark()
        await settle(pilot)
        text = screen_text(app)
        assert text.isascii()
        assert "* READY" in text
        assert "x UNKNOWN" in text


async def test_names_that_are_too_long_or_wide_keep_the_columns_in_place() -> None:
    app = TableApp(3)
    async with app.run_test(size=(80, 8)) as pilot:
        app.change(session(1, name="会議" * 30), session(2, name="x" * 90))
        await settle(pilot)
        lines = screen_text(app).splitlines()
        assert "…" in lines[2]
        strips = [app.table.render_line(y) for y in range(1, 4)]
        assert {strip.cell_length for strip in strips} == {app.table.size.width}


async def test_the_mouse_moves_marks_opens_and_sorts() -> None:
    app = TableApp(30)
    async with app.run_test(size=(100, 21)) as pilot:
        await settle(pilot)
        await pilot.click(FleetTable, offset=(10, 4))
        assert app.table.cursor_key == ("lab", "3")
        await pilot.click(FleetTable, offset=(0, 6))
        assert app.table.marks == {("lab", "5")}
        await pilot.double_click(FleetTable, offset=(10, 8))
        await pilot.click(FleetTable, offset=(4, 0))
        await settle(pilot)
        opened = [message.key for message in app.said if isinstance(message, FleetTable.RowOpened)]
        heads = [message.column.head for message in app.said if isinstance(message, FleetTable.HeadChosen)]
        assert (opened, heads) == ([("lab", "7")], ["NAME"])


async def test_a_bar_shows_which_part_of_the_list_is_on_screen() -> None:
    app = TableApp(100)
    async with app.run_test(size=(100, 21)) as pilot:
        await settle(pilot)
        assert [line.endswith("┃") for line in screen_text(app).splitlines()].index(True) == 1
        app.table.move_to_end(top=False)
        await settle(pilot)
        assert screen_text(app).splitlines()[-1].endswith("┃")
        await pilot.click(FleetTable, offset=(99, 1))
        assert app.table.scroll_y == 0
        app.become([session(1)])
        await settle(pilot)
        assert "┃" not in screen_text(app)


async def test_an_empty_list_says_why() -> None:
    app = TableApp(0)
    app.table.empty_text = "No session matches this filter."
    async with app.run_test(size=(60, 8)) as pilot:
        await settle(pilot)
        assert "No session matches this filter." in screen_text(app)
        app.table.empty_text = "No session yet."
        await settle(pilot)
        assert "No session yet." in screen_text(app)
        app.table.move(1)
        app.table.toggle_mark()
        assert app.table.cursor_key is None


async def test_the_sentence_of_an_empty_list_goes_when_a_row_comes() -> None:
    app = TableApp(5)
    async with app.run_test(size=(80, 20)) as pilot:
        app.table.empty_text = "No row matches."
        app.filter("name:none")
        await pilot.pause()
        assert "No row matches." in screen_text(app)
        with refreshed(app.table) as regions:
            app.filter("name:cad-00001")
            await pilot.pause()
        # One row does not reach the line of the sentence, which has to be wiped all the same.
        assert any(region.y <= 2 < region.bottom for region in regions)


async def test_stale_rows_are_told_from_fresh_ones() -> None:
    app = TableApp(3)
    async with app.run_test(size=(100, 8)) as pilot:
        await settle(pilot)
        fresh = app.table.render_line(1)
        app.table.add_class("-stale")
        await settle(pilot)
        assert app.table.render_line(1) != fresh
