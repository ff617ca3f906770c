"""The console as a program: wires broker, poller, watch and screen, and holds nothing else.

Paints first and loads the HTTP library, the models and the dialogs in a thread
afterwards. It never exits by itself: whatever the broker does is a banner, and
the poller goes on.
"""

import asyncio
import gc
import importlib
import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events, on
from textual.binding import Binding, BindingType
from textual.worker import WorkerState

from dcvtui.attention import Limits
from dcvtui.config import Connection
from dcvtui.known_brokers import KnownBroker
from dcvtui.polling import LinkState, Pace, Update
from dcvtui.saved import Saved
from dcvtui.settings import Settings
from dcvtui.terminal import Answers, CopyError, Images, Terminal, copy_text, from_environment
from dcvtui.tui.actions import Actions, Hands
from dcvtui.tui.brokers import Broker, Brokers
from dcvtui.tui.console_screen import ConsoleScreen
from dcvtui.tui.details_pane import TextScreen
from dcvtui.tui.fleet_list import FleetList
from dcvtui.tui.keys import BY_ID, keymap
from dcvtui.tui.lists import ProfilesList
from dcvtui.tui.live_picture import LivePicture
from dcvtui.tui.ordered_keys import OrderedKeysApp
from dcvtui.tui.palette import ActionPalette, ReadingActions, ViewActions
from dcvtui.tui.size_screen import SizeScreen, is_too_small
from dcvtui.tui.themes import DARK, LIGHT
from dcvtui.watch import Watch

if TYPE_CHECKING:
    from textual.driver import Driver

    from dcvtui.client import BrokerClient

_MINUTE_S = 60.0
_TWICE_S = 2.0
_MANY = 100
_MOUSE_MODES = (1000, 1003, 1015, 1006)
_CLIENT_MODULE = "dcvtui.client"
"""What nobody needs before the first paint: HTTP."""
_ACTING_MODULES = ("dcvtui.api.models", "dcvtui.tui.flows")
"""What nobody needs before the first rows: pydantic, dialogs and forms, a fifth of the whole start."""


@dataclass(frozen=True, slots=True)
class ConsoleOptions:
    """How the console looks and behaves.

    Attributes:
        theme: name of a theme; None for the dark one of our own.
        ascii_only: signs in ASCII; None decides by the terminal.
        pace: how often the broker is asked.
        notice: what is said at the foot at first, until a key is pressed.
        follows_changes: listen to what the broker tells by itself, where it does.
        state_folder: where is kept what outlives the console; None keeps nothing.
        settings: how the operator wants the console.
        images: how pictures are to be drawn.
        answers: what the terminal said when it was asked; None if it was not.
    """

    theme: str | None = None
    ascii_only: bool | None = None
    pace: Pace = field(default_factory=Pace)
    notice: str = ""
    follows_changes: bool = True
    state_folder: Path | None = None
    settings: Settings = field(default_factory=Settings)
    images: Images = Images.AUTO
    answers: Answers | None = None


def make_client(connection: Connection) -> "BrokerClient":
    """The client of a connection.

    Raises:
        ConfigError: the CA file cannot be used.
    """
    from dcvtui.client import BrokerClient  # noqa: PLC0415  loaded after the first paint

    return BrokerClient(connection.url, connection.credentials, connection.trust)


class ConsoleApp(OrderedKeysApp[int], inherit_bindings=False):
    """The console of one broker or several."""

    CSS_PATH = "app.tcss"
    TITLE = "dcvtui"
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt_console", "interrupt", id="any.interrupt-console", show=False),
    ]

    def __init__(
        self,
        connections: Connection | Sequence[Connection],
        options: ConsoleOptions | None = None,
        client: Callable[[Connection], "BrokerClient"] = make_client,
        terminal: Terminal | None = None,
        known: Callable[[], Sequence[KnownBroker]] = list,
    ) -> None:
        """A console.

        Args:
            connections: the brokers to talk to, each with a name of its own.
            options: how it looks and behaves.
            client: makes the broker's client, once the libraries are loaded.
            terminal: what the terminal can do; read from the environment without it.
            known: reads which brokers the operator knows; may raise `ConfigError`.
        """
        self._options = options = options or ConsoleOptions()
        super().__init__(_driver(options.answers))
        self._brokers = Brokers(client)
        self._brokers.replace([connections] if isinstance(connections, Connection) else connections)
        self._terminal = terminal or from_environment(os.environ, getattr(sys.__stdout__, "encoding", None))
        self._drawing = self._terminal.drawing(options.images, options.answers)
        wanted = self._options.ascii_only
        self._ascii_only = not self._terminal.is_utf8 if wanted is None else wanted
        settings, folder = options.settings, options.state_folder
        self._keys = keymap(settings.keys)
        self._watch = Watch(Limits(idle=settings.idle_limit))
        for broker in self._brokers:
            self._watch.expect(broker.connection.name)
        self._console = ConsoleScreen(
            self._watch,
            self._brokers.connections,
            self.broker_now,
            ascii_only=self._ascii_only,
            known=known,
            drawing=self._drawing,
            saved=Saved(folder / "saved.json" if folder else None),
        )
        self._console.wall.take_pictures = self._brokers.take_pictures
        if settings.live_picture:
            looking = self._console.wall.looking
            self._console.sessions.show_pictures(
                LivePicture(self._drawing, self._brokers.take_pictures, looking)
            )
        self._console.stop_work = self._brokers.stop_work
        self._actions = Actions(
            self._brokers,
            self._watch,
            self._console,
            Hands(
                self._terminal,
                self._drawing,
                ask=self.push_screen_wait,
                copy=self.copy_text,
                run=lambda work: self.run_worker(work, group="action"),
            ),
            folder,
        )
        self._has_chosen_view = False
        self._is_ready_to_act = False
        self._interrupted_at = 0.0
        self._has_mouse = True
        self.animation_level = "none"

    # ------------------------------------------------------------------ start

    def get_default_screen(self) -> ConsoleScreen:
        """The console's own screen."""
        return self._console

    def on_mount(self) -> None:
        """Paint, then begin to work."""
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = self._options.theme or DARK.name
        self.set_class(self._ascii_only, "-ascii")
        self.set_keymap(self._keys)
        if not self._options.settings.mouse:
            self.call_after_refresh(self.action_toggle_mouse)
        self.set_interval(_MINUTE_S, self._minute)
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self._console.say(self._options.notice)
        self.run_worker(self._work(), group="refresh")

    def broker_now(self) -> datetime:
        """The present time by the broker's clock."""
        return self._brokers.now()

    async def _work(self) -> None:
        """Load what was not needed for the first paint, then look at every broker."""
        await asyncio.to_thread(importlib.import_module, _CLIENT_MODULE)
        self._console.show_changes()
        for broker in self._brokers:
            self._start(broker)

    def _start(self, broker: Broker) -> None:
        work = broker.work(self._take, self._options.pace, follows_changes=self._options.follows_changes)
        broker.worker = self.run_worker(work, name=broker.connection.name, group="refresh")

    def _look_at(self, connections: Sequence[Connection]) -> bool:
        """Look at these brokers from now on, and at no others; False if that is not possible now."""
        if self._is_busy():
            self._console.say("An action is under way; when it has ended, the brokers can be changed.")
            return False
        came, went = self._brokers.replace(connections)
        for broker in went:
            if broker.worker is not None:
                broker.worker.cancel()
            self._console.take(self._watch.forget(broker.connection.name, self.broker_now()))
        for broker in came:
            self._watch.expect(broker.connection.name)
            self._start(broker)
        self._console.show_brokers()
        return True

    async def _get_ready_to_act(self) -> None:
        """Load dialogs and forms once the rows are there."""
        for name in _ACTING_MODULES:
            await asyncio.to_thread(importlib.import_module, name)
        gc.freeze()  # as in `_take`: modules stay

    def _take(self, update: Update) -> None:
        was_complete = self._watch.is_complete
        link_before = self._watch.links.get(update.profile)
        self._watch.take(update, self.broker_now())
        self._console.take(update.difference)
        self._actions.tell_drain()
        if update.difference.servers or link_before is None or update.link.state is not link_before.state:
            self._tell_form(update.profile)
        if len(update.difference.servers.added) + len(update.difference.sessions.added) >= _MANY:
            # What came stays. The collector would look at all of it every few seconds, while keys wait:
            # 60 ms each time for ten thousand sessions, 230 ms for fifty thousand.
            gc.freeze()
        if not self._is_ready_to_act and (update.is_complete or update.link.state is LinkState.STALE):
            self._is_ready_to_act = True
            self.run_worker(self._get_ready_to_act(), group="late")
        if self._watch.is_complete and not was_complete and self._watch.items and not self._has_chosen_view:
            self._console.go("attention")

    def _tell_form(self, profile: str) -> None:
        """A form that evaluates against the fleet does so again."""
        for screen in self.screen_stack if self.is_running else ():
            show = getattr(screen, "show_servers", None)
            if show is not None and getattr(screen, "profile", profile) == profile:
                servers = self._watch.of_profile(profile).servers.values()
                show(
                    list(servers),
                    self._actions.stale_time(profile)
                    if self._watch.links[profile].state is LinkState.STALE
                    else "",
                )

    def _minute(self) -> None:
        self._console.time_passed()

    # ------------------------------------------------------------------ what the screen asks for

    @on(ConsoleScreen.RefreshRequested)
    def refresh_fleet(self) -> None:
        """Ask the brokers now."""
        self._brokers.refresh()

    @on(ConsoleScreen.VisibleChanged)
    def ask_for_visible(self, message: ConsoleScreen.VisibleChanged) -> None:
        """Ask for what is on screen more often than for the rest."""
        self._brokers.show(message.servers, message.sessions)

    @on(ProfilesList.BrokersChosen)
    def choose_brokers(self, message: ProfilesList.BrokersChosen) -> None:
        """Look at other brokers; the view that one came from stays."""
        if self._look_at(message.connections) and self._console.view == "profiles" and message.is_switch:
            self._console.action_go_back()

    @on(FleetList.Act)
    def act(self, message: FleetList.Act) -> None:
        """Do something with some items, while the screen stays usable."""
        if message.name == "refresh":
            self.refresh_fleet()
        elif message.name == "show-server":
            session = message.records[0]
            self._console.go("servers", "", select=(session.profile, session.server_id))
        elif message.name == "open-wall":
            self._console.go("wall")
        else:
            self.run_worker(self._actions.act(message.name, message.records), group="action")

    # ------------------------------------------------------------------ copying, quitting, small things

    async def copy_text(self, text: str) -> str:
        """Put a text on the clipboard of the terminal, and say what happened."""
        return await copy_text(text, self._terminal, os.environ, self._write_past)

    def _write_past(self, sequence: str) -> None:
        if self._driver is not None:
            self._driver.write(sequence)
            self._driver.flush()

    @on(FleetList.CopyRequested)
    def copy_id(self, message: FleetList.CopyRequested) -> None:
        """Copy an id."""
        self.run_worker(self._copy_and_say(message.text), group="copy", exclusive=True)

    async def _copy_and_say(self, text: str) -> None:
        try:
            self._console.say(f"{text}: {await self.copy_text(text)}")
        except CopyError as error:
            self._console.say(f"Not copied: {error}")

    @on(FleetList.ToolRequested)
    def use_tool(self, message: FleetList.ToolRequested) -> None:
        """Columns, saved filters, rows in a file, the command line: what every list can do."""
        from dcvtui.tui.list_tools import ListTools  # noqa: PLC0415  not needed before the first rows

        names = [one.name for one in self._brokers.connections()]
        profile = f"--profile {shlex.quote(names[0])}" if ":" not in names[0] else ""
        tools = ListTools(
            self._console.saved,
            self.push_screen_wait,
            self._console.say,
            self._copy_and_say,
            lambda: profile,
        )
        self.run_worker(getattr(tools, message.name)(message.one), group="tool")

    @on(FleetList.TextRequested)
    def show_json(self, message: FleetList.TextRequested) -> None:
        """Show a row as JSON."""
        self.run_worker(self._show_text(message.text), group="text")

    async def _show_text(self, text: str) -> None:
        if await self.push_screen_wait(TextScreen(text)):
            await self._copy_and_say(text)

    @on(ConsoleScreen.CommandGiven)
    def run_command(self, message: ConsoleScreen.CommandGiven) -> None:
        """Do what the screen cannot do itself."""
        if message.command == "quit":
            self.action_quit_console()
        else:
            self.action_open_palette()

    def action_open_palette(self) -> None:
        """Search all actions of the view."""
        provider = ReadingActions if self._brokers.is_read_only else ViewActions
        self.push_screen(ActionPalette(providers=[provider], placeholder="Search actions"))

    @on(FleetList.Undoable)
    def note_undoable(self, message: FleetList.Undoable) -> None:
        """Remember what can be taken back."""
        self._actions.note_undoable(message.label, message.undo)

    def action_undo_last(self) -> None:
        """Take back the last marks, filter, opening or closing."""
        self._actions.undo_last()

    def action_quit_console(self) -> None:
        """Leave; ask once more if something is under way."""
        if self._is_busy() and time.monotonic() - self._interrupted_at > _TWICE_S:
            self._interrupted_at = time.monotonic()
            text = "A form is open or an action is under way. Once more leaves it alone and quits."
            self._console.say(text)
            if isinstance(self.screen, SizeScreen):
                self.screen.say(text)
            return
        self.exit(0)

    def _is_busy(self) -> bool:
        return any(
            worker.group == "action" and worker.state is WorkerState.RUNNING for worker in self.workers
        )

    def action_interrupt_console(self) -> None:
        """Leave; the second time in any case."""
        self.action_quit_console()

    def action_redraw_screen(self) -> None:
        """Draw everything anew."""
        self.screen.refresh(repaint=True, layout=True)

    def action_toggle_mouse(self) -> None:
        """Leave the mouse to the terminal, so that it can select text, or take it back."""
        self._has_mouse = not self._has_mouse
        letter = "h" if self._has_mouse else "l"
        self._write_past("".join(f"\x1b[?{mode}{letter}" for mode in _MOUSE_MODES))
        self._console.say(
            "The mouse works here again." if self._has_mouse else "The mouse is the terminal's."
        )

    def get_key_display(self, binding: Binding) -> str:
        """Keys in words: signs such as `⏎` are missing in some fonts, and `^l` is read wrongly."""
        words = {"enter": "enter", "escape": "esc", "pageup": "pgup", "pagedown": "pgdn"}
        key = binding.key_display or words.get(binding.key)
        if key is not None:
            return key
        if binding.key.startswith("ctrl+"):
            return binding.key.replace("+", "-")
        return super().get_key_display(binding)

    def _fatal_error(self) -> None:
        """End with the report of a bug; Textual's own shows the variables, links with tokens among them."""
        self.panic(Text(traceback.format_exc()))

    async def on_event(self, event: events.Event) -> None:
        """Let any key clear what was said, and leaving and redrawing work everywhere."""
        if isinstance(event, events.AppFocus | events.AppBlur):
            self._console.wall.looking.has_focus = isinstance(event, events.AppFocus)
            self._console.wall.look_again()
        if isinstance(event, events.Key):
            self._has_chosen_view = True
            self._console.say("")
            self._note_key()
            if event.key == "ctrl+c":
                self.action_interrupt_console()
                return
            # Dialogs take no keys of the application, but a garbled screen may be under any of them.
            if event.key in self._redraw_keys:
                self.action_redraw_screen()
                return
        await super().on_event(event)

    @property
    def _redraw_keys(self) -> list[str]:
        name = "any.redraw-screen"
        return self._keys.get(name, BY_ID[name].keys).split(",")

    def _note_key(self) -> None:
        looking = self._console.wall.looking
        was_idle = bool(looking.why_not)
        looking.last_key = looking.clock()
        if was_idle:
            self._console.wall.look_again()

    def on_resize(self, event: events.Resize) -> None:
        """Say which size is needed where there is too little room."""
        stack = self.screen_stack  # empty at the end
        # Never two: the result of an action may have come over the first one.
        if is_too_small(event.size) and stack and not any(isinstance(one, SizeScreen) for one in stack):
            self.push_screen(SizeScreen())


def _driver(answers: Answers | None) -> "type[Driver] | None":
    """Our driver on a terminal that was asked; Textual's own choice elsewhere."""
    if answers is None:
        return None
    from dcvtui.tui.terminal_driver import driver_class  # noqa: PLC0415  not on every system

    return driver_class(answers)


def run(
    connections: Connection | Sequence[Connection],
    options: ConsoleOptions | None = None,
    known: Callable[[], Sequence[KnownBroker]] = list,
) -> int:
    """Open the console and stay until the operator leaves it; the exit code."""
    app = ConsoleApp(connections, options, known=known)
    return app.run() or app.return_code or 0
