"""The screen of the console: frame, lists, and the way between them.

Shows what the watch knows; what concerns the broker goes up to the application
as messages of the lists.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.screen import Screen
from textual.suggester import SuggestFromList
from textual.widgets import Input

from dcvtui.api.text import visible
from dcvtui.config import Connection
from dcvtui.details import Detail
from dcvtui.errors import ConfigError
from dcvtui.fleet import Difference, Key, ServerRecord, SessionRecord, changes_between
from dcvtui.known_brokers import KnownBroker, broker_rows
from dcvtui.polling import Link, LinkState
from dcvtui.query import QueryError
from dcvtui.saved import Saved
from dcvtui.terminal import IN_BLOCKS, Drawing
from dcvtui.tui.details_pane import DetailsScreen
from dcvtui.tui.fleet_list import FleetList
from dcvtui.tui.frame import Crumbs, Foot, LineInput, PromptLine, StaleBanner, Tone, TopLine, Truth
from dcvtui.tui.help_screen import HelpScreen
from dcvtui.tui.keys import BY_ID, KEYS, bindings, is_shown
from dcvtui.tui.lists import LISTS, ProfilesList, SessionsList
from dcvtui.tui.picture_view import put_up_pictures, take_down_pictures
from dcvtui.tui.wall import WallList
from dcvtui.watch import Watch, vanished

_PLAIN_VALUE = re.compile(r'[^\s()",*!~/]+\Z')


@dataclass(slots=True, frozen=True)
class Place:
    """Where the operator was: a view and its filter."""

    view: str
    filter: str
    is_narrowed: bool = False
    """The filter came with the way here, so `esc` leads back instead of clearing it."""


class ConsoleScreen(Screen[None], inherit_bindings=False):
    """Frame and lists."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("any")]

    class RefreshRequested(Message):
        """The broker is to be asked now."""

    class CommandGiven(Message):
        """Something was typed that the screen does not do itself: `quit`, `palette`."""

        def __init__(self, command: str) -> None:
            super().__init__()
            self.command = command

    class VisibleChanged(Message):
        """Other items are on screen."""

        def __init__(self, servers: Sequence[Key], sessions: Sequence[Key]) -> None:
            super().__init__()
            self.servers, self.sessions = servers, sessions

    def __init__(
        self,
        watch: Watch,
        connections: Callable[[], Sequence[Connection]],
        now: Callable[[], datetime],
        *,
        ascii_only: bool,
        known: Callable[[], Sequence[KnownBroker]] = list,
        drawing: Drawing = IN_BLOCKS,
        saved: Saved | None = None,
    ) -> None:
        """A screen on what the watch knows.

        Args:
            watch: what is known.
            connections: the brokers that are looked at now.
            now: the broker's time.
            ascii_only: whether signs must be ASCII.
            known: reads which brokers the operator knows; may raise `ConfigError`.
            drawing: how pictures are drawn on this terminal.
            saved: columns and filters saved earlier.
        """
        super().__init__(id="console")
        self.saved = saved or Saved()
        self._read_known = known
        self._known: Sequence[KnownBroker] = ()
        self._watch, self._connections, self._now = watch, connections, now
        self._ascii_only = ascii_only
        self.lists: dict[str, FleetList] = {
            kind.LISTS_WHAT.view: kind(kind.LISTS_WHAT, watch, now, ascii_only=ascii_only) for kind in LISTS
        }
        self.wall = WallList(
            WallList.LISTS_WHAT,
            watch,
            now,
            ascii_only=ascii_only,
            listing=self.lists["sessions"].listing,
            drawing=drawing,
        )
        self.lists["wall"] = self.wall
        self.view = "sessions"
        self._places: list[Place] = [Place("sessions", "")]
        self._place = 0
        self._filter_before = ""
        self._shown_items: dict[str, dict[Key, Any]] = {"attention": {}, "activity": {}, "profiles": {}}
        self._follow: Callable[[], list[Detail]] = list
        """What the page of details on the whole screen shows now."""
        self.stop_work: Callable[[], bool] = lambda: False
        """Stops what is being sent to the broker; False if nothing is. The application sets it."""

    def compose(self) -> ComposeResult:
        """The frame around the lists."""
        words = [row.words for row in KEYS if is_shown(row.id, is_read_only=self.is_read_only)]
        commands = sorted({*words, *self.lists, "filter ", "profile ", "quit", "palette"})
        yield TopLine(self._truth(), ascii_only=self._ascii_only)
        yield StaleBanner()
        yield Crumbs(ascii_only=self._ascii_only)
        with Vertical(id="views"):
            for view, one in self.lists.items():
                one.display = view == self.view
                # Before it is mounted: later each class would be matched with all styles of all its parts.
                one.make_room(self.app.size.width)
                yield one
        yield PromptLine("/", id="filter")
        yield PromptLine(":", id="command", suggester=SuggestFromList(commands, case_sensitive=False))
        yield Foot(is_read_only=self.is_read_only)

    def on_mount(self) -> None:
        """Begin in the list of sessions."""
        for view, one in self.lists.items():
            if heads := self.saved.columns(view):
                one.show_columns(heads)
        self.current.table.focus()
        self.show_brokers()

    def on_resize(self, event: events.Resize) -> None:
        """Give every list its room."""
        for one in self.lists.values():
            one.make_room(event.size.width)

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be changed on any broker."""
        return all(connection.read_only for connection in self._connections())

    @property
    def sessions(self) -> SessionsList:
        """The list of sessions."""
        one = self.lists["sessions"]
        assert isinstance(one, SessionsList)  # noqa: S101  made above
        return one

    @property
    def current(self) -> FleetList:
        """The list on screen."""
        return self.lists[self.view]

    def say(self, text: str) -> None:
        """Say something at the foot until the next key."""
        self.query_one(Foot).say(text)

    # ------------------------------------------------------------------ what has become of the fleet

    def take(self, difference: Difference) -> None:
        """Show a changed fleet."""
        snapshot = self._watch.snapshot
        marks = self.lists["sessions"].table.marks | self.lists["servers"].table.marks
        for name in vanished(marks, difference):
            self._watch.activity.note("mark", name, "dropped: no longer listed", self._now())
        self.lists["sessions"].take(difference.sessions, snapshot.sessions)
        if self.view == "wall":
            self.wall.take_shared(difference.sessions)
        self.lists["servers"].take(difference.servers, snapshot.servers)
        self.take_items()

    def show_brokers(self) -> None:
        """Show which brokers are looked at."""
        for one in self.lists.values():
            one.show_profiles(shown=len(self._connections()) > 1)
        self.take_items()

    def take_items(self) -> None:
        """Show what needs a person and what was done, and the frame."""
        watch = self._watch
        brokers = broker_rows(self._known, self._connections(), watch.links, watch.counts_by_profile)
        for view, items in (
            ("attention", watch.items), ("activity", watch.entries()), ("profiles", brokers),
        ):  # fmt: skip
            self.lists[view].take(changes_between(self._shown_items[view], items), items)
            self._shown_items[view] = dict(items)
        for one in self.lists.values():
            one.show_stale(watch.is_stale)
        self.show_frame()
        self._follow_details()

    def time_passed(self) -> None:
        """A minute has passed."""
        self._watch.look(self._now())
        self.take_items()
        self.current.time_passed()

    def show_frame(self) -> None:
        """Bring top line, banner and breadcrumbs up to date; equal values draw nothing."""
        if not self.query(TopLine):
            return
        self.query_one(TopLine).show(self._truth())
        self.query_one(StaleBanner).tell(banner_text(self._watch.links))
        current = self.current
        name = self.saved.name_of(self.view, current.filter_text) if current.filter_text else ""
        filters = [f"{name}: {current.filter_text}" if name else current.filter_text]
        filters = [text for text in filters if text]
        if current.is_only_trouble:
            filters.append("only trouble")
        self.query_one(Crumbs).show(current.definition.title, filters, current.counts_text)

    def _truth(self) -> Truth:
        watch, connections = self._watch, self._connections()
        counts = watch.counts
        # Servers come first, page by page: none of the other kind so far is not yet a number.
        has_servers = bool(watch.snapshot.servers) or watch.is_complete
        has_sessions = bool(watch.snapshot.sessions) or watch.is_complete
        return Truth(
            profile=" + ".join(connection.name for connection in connections),
            address=connections[0].url.partition("://")[2] if len(connections) == 1 else "",
            freshness=freshness(watch.links),
            tone=_TONES[watch.link.state],
            is_read_only=self.is_read_only,
            servers=(counts.available, counts.servers) if has_servers else None,
            sessions=tuple(counts.sessions.items()) if has_sessions else None,
            attention=len(watch.items),
        )

    def _follow_details(self) -> None:
        stack = self.app.screen_stack  # empty at the end, when an update may still be on its way
        screen = stack[-1] if stack else None
        if isinstance(screen, DetailsScreen):
            screen.show(self._follow())

    def _details(self, record: Any) -> list[Detail]:
        definition = self.current.definition
        newest = self.current.listing.records.get(record.key, record)
        return definition.details(newest, self._watch, self._now())

    # ------------------------------------------------------------------ messages of the lists

    @on(FleetList.Changed)
    def show_changes(self) -> None:
        """Other rows: other counts, and others to ask for."""
        self.show_frame()
        keys = self.current.table.keys_on_screen()
        servers: Iterable[Key] = keys if self.view == "servers" else ()
        sessions: Iterable[Key] = keys if self.view in ("sessions", "wall") else ()
        if self.view == "attention":
            items = [self._watch.items[key] for key in keys if key in self._watch.items]
            servers = [item.key for item in items if item.kind == "server"]
            sessions = [item.key for item in items if item.kind == "session"]
        self.post_message(self.VisibleChanged(tuple(servers), tuple(sessions)))

    def on_screen_suspend(self) -> None:
        """A dialog comes over the pictures."""
        self.wall.grid.take_down()
        take_down_pictures(self)

    def on_screen_resume(self) -> None:
        """The dialog is gone."""
        if self.view == "wall":
            self.wall.grid.put_up()
        put_up_pictures(self)

    @on(FleetList.FilterRequested)
    def open_filter(self) -> None:
        """Type a filter after the present one."""
        self._filter_before = self.current.filter_text
        self._open_prompt("filter", self._filter_before)

    @on(FleetList.Opened)
    def open_row(self, message: FleetList.Opened) -> None:
        """A server opens its sessions, anything else its details."""
        match message.record:
            case ServerRecord():
                self.go("sessions", f"server:{quoted(message.record.name)}")
            case SessionRecord() if self.view == "attention":
                self.go("sessions", f"id:{quoted(message.record.id)}")
            case _:
                self.show_details(message.record)

    @on(FleetList.DetailsRequested)
    def open_details(self, message: FleetList.DetailsRequested) -> None:
        """Show details on the whole screen."""
        self.show_details(message.record)

    def show_details(self, record: Any) -> None:
        """Show the details of a row of the present list on the whole screen."""
        self._show_page(lambda: self._details(record))

    def action_open_overview(self) -> None:
        """Show the whole fleet on one page, a fleet after the other where there are several."""
        self._show_page(lambda: overviews(self._watch, self._connections(), self._now()))

    def _show_page(self, follow: Callable[[], list[Detail]]) -> None:
        self._follow = follow
        self.app.push_screen(DetailsScreen(follow(), ascii_only=self._ascii_only))

    @on(FleetList.NothingToDo)
    def say_why_not(self, message: FleetList.NothingToDo) -> None:
        """Say that something is not there yet."""
        self.say(message.sentence)

    # ------------------------------------------------------------------ views

    def go(self, view: str, filter_text: str | None = None, select: Key | None = None) -> None:
        """Go to a view.

        Args:
            view: its name.
            filter_text: the filter to set there; None leaves the present one.
            select: the item to put the cursor on.
        """
        self._places[self._place] = Place(self.view, self.current.filter_text)
        before = self.lists[view].filter_text
        target = Place(view, before if filter_text is None else filter_text, is_narrowed=bool(filter_text))
        if target != self._places[self._place]:
            self._places[self._place + 1 :] = [target]
            self._place += 1
        self._show(target)
        if select is not None:
            self.current.table.select(select)

    def _show(self, place: Place) -> None:
        before, self.view = self.view, place.view
        # A `ContentSwitcher` would paint the area twice, before and after the layout.
        for view, one in self.lists.items():
            one.display = view == place.view
        self.current.set_filter(place.filter)
        if self.view != before and {self.view, before} == {"sessions", "wall"}:
            self.current.take_place_of(self.lists[before])
        elif self.view in ("sessions", "wall"):
            self.current.table.rows_changed()  # the other one may have filtered the rows they share
        self._close_prompts()
        self.current.time_passed()
        self.show_changes()
        self.refresh_bindings()

    def action_open_view(self, view: str) -> None:
        """Open one of the views."""
        if view == "profiles":
            self._look_at_profiles()
        self.go(view)

    def _switch_to(self, name: str) -> None:
        """Look at the broker of a profile; the view stays."""
        self._look_at_profiles()
        known = {broker.name: broker for broker in self._known}
        broker = known.get(name)
        if broker is None:
            nearest = get_close_matches(name, known, 1)
            hint = f" The nearest is {nearest[0]}." if nearest else f" Known: {', '.join(known) or 'none'}."
            self.say(f"No profile is called {visible(name)}." + hint)
        elif broker.connection is None:
            self.say(broker.problem)
        else:
            self.post_message(ProfilesList.BrokersChosen([broker.connection], is_switch=True))

    def _look_at_profiles(self) -> None:
        """Read the profile file again: another program may have changed it."""
        try:
            self._known = self._read_known()
        except ConfigError as error:
            self.say(error.sentence)
        self.take_items()

    @property
    def _is_narrowed(self) -> bool:
        here = self._places[self._place]
        return here.is_narrowed and here.filter == self.current.filter_text

    def _note_place(self) -> None:
        self._places[self._place] = Place(self.view, self.current.filter_text, self._is_narrowed)

    def _step(self, places: int) -> bool:
        if not 0 <= self._place + places < len(self._places):
            return False
        self._note_place()
        self._place += places
        self._show(self._places[self._place])
        return True

    def action_go_back(self) -> None:
        """Go where the operator was before."""
        self._step(-1)

    def action_go_forward(self) -> None:
        """Go where the operator went back from."""
        self._step(1)

    def action_close_top(self) -> None:
        """Stop what is being sent, end a range, clear the filter, or go back, whichever comes first."""
        current = self.current
        if self.stop_work():
            return
        if current.table.is_in_range:
            current.table.mark_range_off()
        elif current.is_only_trouble:
            current.action_toggle_trouble()
        elif not current.filter_text or self._is_narrowed:
            self._step(-1)
        else:
            current.set_filter("")

    def action_refresh_view(self) -> None:
        """Ask the broker now."""
        self.post_message(self.RefreshRequested())

    def action_open_help(self) -> None:
        """List the keys that work here."""
        is_read_only = self.is_read_only
        shown = {
            key: active
            for key, active in self.active_bindings.items()
            if is_shown(active.binding.id, is_read_only=is_read_only)
        }
        self.app.push_screen(HelpScreen(shown, f"Keys in {self.current.definition.title}"))

    # ------------------------------------------------------------------ the two lines one types in

    def _open_prompt(self, name: str, text: str) -> None:
        # In the place of the footer, so that the list keeps its height.
        self.add_class("-typing")
        self.query_one(f"#{name}", PromptLine).open(text)

    def _close_prompts(self) -> None:
        self.remove_class("-typing")
        for prompt in self.query(PromptLine):
            prompt.close()
        # At once: a command that follows is looked for in what has the focus.
        self.set_focus(self.current.table)

    @on(Input.Changed, "#filter-input")
    def filter_typed(self, event: Input.Changed) -> None:
        """Filter as one types; the last good filter stays in force."""
        prompt = self.query_one("#filter", PromptLine)
        if not prompt.is_open:
            return
        try:
            self.current.set_filter(event.value)
        except QueryError as error:
            prompt.complain(str(error), error.column)
        else:
            prompt.complain("")

    @on(Input.Submitted, "#filter-input")
    def filter_done(self) -> None:
        """Keep the filter."""
        current, before = self.current, self._filter_before
        self._close_prompts()
        if current.filter_text != before:
            self.post_message(FleetList.Undoable("filter", lambda: current.set_filter(before)))

    @on(LineInput.Left)
    def line_left(self, message: LineInput.Left) -> None:
        """Give up what was typed."""
        if message.line.id == "filter-input":
            self._close_prompts()
            self.current.set_filter(self._filter_before)
        self._close_prompts()

    def action_open_command(self) -> None:
        """Type a command."""
        self._open_prompt("command", "")

    @on(Input.Submitted, "#command-input")
    async def command_done(self, event: Input.Submitted) -> None:
        """Do what was typed."""
        self._close_prompts()
        word, _, rest = event.value.strip().partition(" ")
        if word:
            await self.run_command(word.lower().lstrip(":"), rest.strip())

    async def run_command(self, word: str, rest: str) -> None:
        """Do what a word of the command line stands for."""
        if word in self.lists:
            self.action_open_view(word)
        elif word == "profile":
            self._switch_to(rest)
        elif word == "filter":
            try:
                self.current.set_filter(rest)
            except QueryError as error:
                self.say(f"{error} (column {error.column})")
        elif word in ("quit", "palette"):
            self.post_message(self.CommandGiven(word))
        else:
            self._run_words(word)

    def _run_words(self, word: str) -> None:
        """Do what a key does, named by the words of its id."""
        for active in self.active_bindings.values():
            row = BY_ID.get(active.binding.id or "")
            if row is not None and row.words == word:
                # From the widget itself: a message that its parent sends never gets beyond that parent.
                active.node.call_later(self.app.run_action, active.binding.action, active.node)
                return
        known = {row.words for row in KEYS}
        if word in known:
            self.say(f"{word} does not work in {self.current.definition.title}.")
            return
        nearest = get_close_matches(word, [*known, *self.lists, "filter", "quit"], 1)
        self.say(f"No command is called {word}." + (f" The nearest is {nearest[0]}." if nearest else ""))


# ------------------------------------------------------------------ words

_TONES = {
    LinkState.CONNECTING: Tone.WAITING,
    LinkState.POLLING: Tone.FRESH,
    LinkState.LIVE: Tone.FRESH,
    LinkState.STALE: Tone.STALE,
}


def freshness(links: Mapping[str, Link]) -> str:
    """How fresh the data are, in a word or two; of several brokers the one that is worst."""
    stale = [name for name, link in links.items() if link.state is LinkState.STALE]
    if not stale:
        states = {link.state for link in links.values()}
        return next((state.value for state in LinkState if state in states), LinkState.CONNECTING.value)
    who = f"{' + '.join(stale)} " if len(links) > 1 else ""
    times = [link.last_good for link in (links[name] for name in stale) if link.last_good]
    return f"{who}stale since {min(times).astimezone():%H:%M:%S}" if times else f"{who}no data yet"


def banner_text(links: Mapping[str, Link]) -> str:
    """Why the data are not fresh, and when it goes on."""
    stale = {name: link for name, link in links.items() if link.state is LinkState.STALE}
    if not stale:
        return ""
    name, link = next(iter(stale.items()))
    who = f"{name} is " if len(links) > 1 else ""
    since = f"{who}stale since {link.last_good.astimezone():%H:%M:%S}: " if link.last_good else ""
    others = f" So {'is' if len(stale) == 2 else 'are'} {', '.join([*stale][1:])}." if len(stale) > 1 else ""
    next_try = f" Next try {link.next_try.astimezone():%H:%M:%S}, r tries now." if link.next_try else ""
    # A fingerprint has no full stop of its own, and would run into what comes after it.
    why = link.why if link.why.endswith((".", "!", "?", "…")) else f"{link.why}."
    return f"{since}{why}{others}{next_try}"


def overviews(watch: Watch, connections: Sequence[Connection], now: datetime) -> list[Detail]:
    """The fleets that are looked at, each on its own."""
    from dcvtui.overview import overview  # noqa: PLC0415  not needed before the first rows

    lines: list[Detail] = []
    for name in (connection.name for connection in connections):
        counts = watch.counts_by_profile.get(name)
        course = watch.history.course((name,), now)
        sessions = counts.sessions if counts else {}
        lines += [Detail("")] if lines else []
        lines += overview(name, watch.of_profile(name), sessions, course, now)
    return lines


def quoted(value: str) -> str:
    """A value as it is written in a filter."""
    return value if _PLAIN_VALUE.match(value) else '"' + value.replace('"', '"*"') + '"'
