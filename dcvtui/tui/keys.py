"""The one table of the console's keys: footer, help, palette, command line and settings come from it.

Ids are interface: they are what people rebind, and `:` takes their words. Dialogs
and forms declare theirs beside what they do, in the same form.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from textual.binding import Binding

from dcvtui.api.text import visible
from dcvtui.nearest import did_you_mean
from dcvtui.tui.dialog_ids import DIALOG_IDS


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One action and its default keys."""

    id: str
    keys: str
    action: str
    label: str
    """The word of the footer."""
    tip: str
    """The sentence of the help page."""
    is_writing: bool = False
    """It changes something at the broker: hidden where the console is read-only."""

    @property
    def view(self) -> str:
        """Where it works: the first part of the id."""
        return self.id.partition(".")[0]

    @property
    def words(self) -> str:
        """What the command line calls it."""
        return self.id.partition(".")[2]


_ANY = (
    KeyRow("any.open-attention", "1", "open_view('attention')", "attention", "What needs a person"),
    KeyRow("any.open-sessions", "2", "open_view('sessions')", "sessions", "All sessions"),
    KeyRow("any.open-servers", "3", "open_view('servers')", "servers", "All servers"),
    KeyRow("any.open-wall", "4", "open_view('wall')", "wall", "Screenshots of many sessions"),
    KeyRow("any.open-activity", "5", "open_view('activity')", "activity", "What was done and what changed"),
    KeyRow("any.open-profiles", "6", "open_view('profiles')", "profiles", "The brokers you know"),
    KeyRow("any.open-overview", "0", "open_overview", "overview", "The whole fleet: states, capacity, load"),
    KeyRow("any.open-command", "colon", "open_command", "command", "Type a command"),
    KeyRow("any.open-help", "question_mark", "open_help", "help", "The keys that work here"),
    KeyRow("any.open-palette", "ctrl+p", "app.open_palette", "palette", "Search all actions"),
    KeyRow("any.close-top", "escape", "close_top", "close", "Close, clear the filter, or go back"),
    KeyRow("any.go-back", "b", "go_back", "back", "Where you were before"),
    KeyRow("any.go-forward", "f", "go_forward", "forward", "Where you went back from"),
    KeyRow("any.refresh-view", "r", "refresh_view", "refresh", "Ask the broker now"),
    KeyRow("any.undo-last", "Z", "app.undo_last", "undo", "Take back marks, filter, opening, closing"),
    KeyRow("any.toggle-mouse", "M", "app.toggle_mouse", "mouse", "Leave the mouse to the terminal, or not"),
    KeyRow("any.redraw-screen", "ctrl+l", "app.redraw_screen", "redraw", "Draw the whole screen anew"),
    KeyRow("any.quit-console", "q", "app.quit_console", "quit", "Leave the console"),
)  # fmt: skip

_LIST = (
    KeyRow("list.edit-filter", "slash", "edit_filter", "filter", "Show only rows that match"),
    KeyRow("list.move-down", "down,j", "move(1)", "down", "Next row"),
    KeyRow("list.move-up", "up,k", "move(-1)", "up", "Row before"),
    KeyRow("list.move-page-down", "pagedown", "move_page(1)", "page down", "A page down"),
    KeyRow("list.move-page-up", "pageup", "move_page(-1)", "page up", "A page up"),
    KeyRow("list.move-top", "g,home", "move_end(True)", "top", "First row"),
    KeyRow("list.move-bottom", "G,end", "move_end(False)", "bottom", "Last row"),
    KeyRow("list.move-right", "right,l", "move_columns(1)", "columns", "Columns to the right"),
    KeyRow("list.move-left", "left,h", "move_columns(-1)", "columns", "Columns to the left"),
    KeyRow("list.open-row", "enter", "open_row", "open", "Open: a server's sessions, a session's details"),
    KeyRow("list.show-details", "d", "show_details", "details", "Details on the whole screen"),
    KeyRow("list.show-json", "y", "show_json", "JSON", "The row as JSON"),
    KeyRow("list.copy-id", "Y", "copy_id", "copy id", "Copy the id"),
    KeyRow("list.focus-pane", "tab", "focus_pane", "pane", "Into the details beside the list, and out again"),
    KeyRow("list.toggle-pane", "i", "toggle_pane", "pane on/off", "Show or hide the details beside the list"),
    KeyRow("list.mark-row", "space", "mark_row", "mark", "Mark or unmark the row"),
    KeyRow("list.mark-range", "v", "mark_range", "range", "Mark from here, then to there"),
    KeyRow("list.mark-shown", "asterisk", "mark_shown", "mark all", "Mark all rows shown"),
    KeyRow("list.unmark-all", "U", "unmark_all", "unmark", "Take all marks away"),
    KeyRow("list.sort-rows", "o", "sort_rows", "sort", "Sort by the next column"),
    KeyRow("list.reverse-sort", "O", "reverse_sort", "reverse", "Turn the order round"),
    KeyRow("list.choose-columns", "C", "tool('choose_columns')", "columns", "Choose columns and their order"),
    KeyRow("list.open-filters", "F", "tool('open_filters')", "filters", "Filters saved by name"),
    KeyRow("list.toggle-trouble", "z", "toggle_trouble", "only trouble", "Only rows in trouble, or all"),
    KeyRow("list.save-rows", "E", "tool('save_rows')", "save", "Save the list as CSV or JSON"),
    KeyRow("list.show-command", "", "tool('show_command')", "command line",
           "The command line that does the same"),
)  # fmt: skip

_SESSIONS = (
    KeyRow("sessions.create-session", "n", "act('create')", "new", "Create sessions", is_writing=True),
    KeyRow("sessions.delete-marked", "D", "act('delete')", "delete", "Delete the marked sessions",
           is_writing=True),
    KeyRow("sessions.edit-permissions", "p,e", "act('permissions')", "permissions",
           "Who may do what in the session", is_writing=True),
    KeyRow("sessions.show-screenshot", "s", "act('screenshot')", "screenshot", "See its screen"),
    KeyRow("sessions.open-wall", "w", "open_wall", "wall", "Screenshots of the rows shown"),
    KeyRow("sessions.connect-session", "c", "act('connect')", "connect", "Links and files to connect with"),
    KeyRow("sessions.open-server", "S", "open_server", "its server", "The server it runs on"),
)  # fmt: skip

_SERVERS = (
    KeyRow("servers.close-marked", "c", "act('close')", "close", "Keep new sessions off the marked servers",
           is_writing=True),
    KeyRow("servers.open-marked", "u", "act('open')", "open", "Let new sessions onto the marked servers",
           is_writing=True),
    KeyRow("servers.drain-marked", "R", "act('drain')", "drain",
           "Close the marked servers and follow until no session is left", is_writing=True),
    KeyRow("servers.create-session", "n", "act('create')", "new here", "Create a session on this server",
           is_writing=True),
)  # fmt: skip

_ATTENTION = (
    KeyRow("attention.apply-fix", "enter", "apply_fix", "fix", "The fix named in the row"),
)  # fmt: skip

_PROFILES = (
    KeyRow("profiles.switch-profile", "enter", "switch_profile", "switch", "Look at this broker alone"),
    KeyRow("profiles.toggle-profile", "a", "toggle_profile", "also", "This broker beside the others, or not"),
)  # fmt: skip


_WALL = (
    KeyRow("wall.grow-tiles", "plus", "resize_tiles(-1)", "larger", "Fewer and larger tiles"),
    KeyRow("wall.shrink-tiles", "minus", "resize_tiles(1)", "smaller", "More and smaller tiles"),
    KeyRow("wall.zoom-tile", "enter", "zoom_tile", "zoom", "One session on the whole screen"),
    KeyRow("wall.next-monitor", "tab", "next_monitor", "next monitor", "The next display of the session"),
)  # fmt: skip

KEYS: tuple[KeyRow, ...] = (*_ANY, *_LIST, *_SESSIONS, *_SERVERS, *_ATTENTION, *_WALL, *_PROFILES)
BY_ID = {row.id: row for row in KEYS}

FOOT = (
    "attention.apply-fix",
    "profiles.switch-profile",
    "profiles.toggle-profile",
    "wall.zoom-tile",
    "wall.grow-tiles",
    "wall.shrink-tiles",
    "list.open-row",
    "sessions.create-session",
    "sessions.delete-marked",
    "sessions.edit-permissions",
    "sessions.show-screenshot",
    "sessions.connect-session",
    "servers.close-marked",
    "servers.open-marked",
    "servers.drain-marked",
    "servers.create-session",
    "list.edit-filter",
    "any.open-command",
    "list.show-details",
    "list.mark-row",
    "list.toggle-trouble",
    "list.sort-rows",
    "list.toggle-pane",
    "list.show-json",
    "any.refresh-view",
    "any.quit-console",
)
"""What the footer offers, the most useful first; `? help` is always at its end."""


_UNBOUND = "unbound_"


def unbound(binding_id: str) -> str:
    """What stands for a key where an action has none: no terminal sends it, and each action has its own."""
    return _UNBOUND + re.sub("[^a-z]", "_", binding_id)


def is_bound(key: str) -> bool:
    """Whether this is a key that can be pressed."""
    return not key.startswith(_UNBOUND)


def keymap(keys: Mapping[str, str]) -> dict[str, str]:
    """The keys of the settings as Textual takes them; an action without a key keeps its name."""
    return {name: ",".join(wanted.split()) or unbound(name) for name, wanted in keys.items()}


def unknown_keys(keys: Mapping[str, str]) -> list[str]:
    """Sentences about ids in the settings that no action has."""
    known = (*BY_ID, *DIALOG_IDS)
    return [
        f"The settings bind '{visible(name)}', which no action is called.{did_you_mean(name, known)}"
        for name in keys
        if name not in known
    ]


def bindings(*views: str) -> list[Binding]:
    """The bindings of one or several views, for the widget or screen that has the actions."""
    return [
        Binding(row.keys or unbound(row.id), row.action, row.label, id=row.id, tooltip=row.tip)
        for row in KEYS
        if row.view in views
    ]


def is_shown(binding_id: str | None, *, is_read_only: bool) -> bool:
    """Whether footer and help offer this binding."""
    row = BY_ID.get(binding_id or "")
    return row is None or not (is_read_only and row.is_writing)
