"""What the lists of the console list: attention, sessions, servers, activity, profiles.

Five definitions of one widget, `dcvtui.tui.fleet_list.FleetList`, each with the
keys of its view.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from textual import events, on
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message

from dcvtui.activity import ActivityEntry
from dcvtui.api.states import Availability, SessionState
from dcvtui.api.text import visible
from dcvtui.attention import AttentionItem
from dcvtui.columns import Column, Sign
from dcvtui.config import Connection
from dcvtui.details import (
    Detail,
    activity_details,
    attention_details,
    broker_details,
    server_details,
    session_details,
    since_text,
)
from dcvtui.fields import SERVER_COLUMNS, SESSION_COLUMNS, state_sign
from dcvtui.fleet import ServerRecord, SessionRecord, Snapshot, server_wire, session_wire
from dcvtui.known_brokers import BrokerRow
from dcvtui.query import Tags
from dcvtui.tui.fleet_list import FleetList, ListDefinition
from dcvtui.tui.keys import BY_ID, bindings
from dcvtui.tui.live_picture import LivePicture
from dcvtui.tui.table import FleetTable
from dcvtui.watch import Counts, Watch

_LOW = 24
"""Below so many rows of the list the details need all of them."""

# ------------------------------------------------------------------ sessions and servers


def _session_details(session: SessionRecord, watch: Watch, now: datetime) -> list[Detail]:
    return session_details(session, watch.snapshot.server_of(session), watch.since(session.key), now)


def _session_tags(watch: Watch) -> Tags:
    def tags(session: SessionRecord) -> Iterable[tuple[str, str]]:
        server = watch.snapshot.server_of(session)
        return server.tags if server else ()

    return tags


class SessionsList(FleetList):
    """All sessions."""

    DEFAULT_CSS = """
    SessionsList > Vertical.side > DetailsPane { height: 1fr; }
    SessionsList.-wide > Vertical.side > LivePicture { height: 17; }
    SessionsList.-low > Vertical.side > LivePicture { display: none; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("sessions")]
    _picture: LivePicture | None = None

    LISTS_WHAT = ListDefinition(
        view="sessions",
        title="Sessions",
        columns=SESSION_COLUMNS,
        nothing="No sessions. `n` creates one.",
        details=_session_details,
        wire=lambda session, watch: session_wire(session, watch.snapshot.server_of(session)),
        tags=_session_tags,
        is_trouble=lambda session: session.state not in (SessionState.READY, SessionState.DELETED),
        is_hidden=lambda session: session.state == SessionState.DELETED,
        sort="name",
    )

    def show_pictures(self, picture: LivePicture) -> None:
        """Show the screen of the session under the cursor below its details; before the list is mounted."""
        self._picture = picture
        self.side = Vertical(self.pane, picture)

    def on_resize(self, event: events.Resize) -> None:
        """Keep a low window for the details."""
        self.set_class(event.size.height < _LOW, "-low")

    def _show_details(self) -> None:
        super()._show_details()
        if self._picture is not None and self.has_class("-pane") and self.is_attached:
            self._picture.follow(self.table.cursor_record)

    def action_open_wall(self) -> None:
        """Show the rows as pictures."""
        self.post_message(self.Act("open-wall", []))

    def action_open_server(self) -> None:
        """Go to the server of the session under the cursor."""
        session = self.table.cursor_record
        if session is not None and session.server_id:
            self.post_message(self.Act("show-server", [session]))


def _server_details(server: ServerRecord, watch: Watch, now: datetime) -> list[Detail]:
    return server_details(server, watch.since(server.key), now, watch.history.course(server.key, now))


class ServersList(FleetList):
    """All servers."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("servers")]

    LISTS_WHAT = ListDefinition(
        view="servers",
        title="Servers",
        columns=SERVER_COLUMNS,
        nothing="No servers: no agent has registered with this broker.",
        details=_server_details,
        wire=lambda server, _watch: server_wire(server),
        tags=lambda _watch: lambda server: server.tags,
        is_trouble=lambda server: server.availability != Availability.AVAILABLE,
        sort="name",
    )


# ------------------------------------------------------------------ attention


def _attention_subject(item: AttentionItem, snapshot: Snapshot) -> SessionRecord | ServerRecord | None:
    return snapshot.sessions.get(item.key) if item.kind == "session" else snapshot.servers.get(item.key)


def _attention_details(item: AttentionItem, watch: Watch, now: datetime) -> list[Detail]:
    subject = _attention_subject(item, watch.snapshot)
    if isinstance(subject, SessionRecord):
        return _session_details(subject, watch, now)
    if isinstance(subject, ServerRecord):
        return _server_details(subject, watch, now)
    return attention_details(item, now)


def _attention_wire(item: AttentionItem, watch: Watch) -> Mapping[str, Any]:
    subject = _attention_subject(item, watch.snapshot)
    if isinstance(subject, SessionRecord):
        return session_wire(subject, watch.snapshot.server_of(subject))
    return server_wire(subject) if subject else {"Reason": item.reason}


def _fix_text(item: AttentionItem, _now: datetime) -> str:
    key = BY_ID[item.fix].keys.partition(",")[0]
    return f"{key} {item.fix_label}"


ATTENTION_COLUMNS: tuple[Column[AttentionItem], ...] = (
    Column("NAME", lambda item, _now: visible(item.name), 20, narrow=12, wide=30, importance=0),
    Column(
        "STATE",
        lambda item, _now: visible(item.state),
        22,
        narrow=12,
        importance=1,
        sign=lambda item: state_sign(item.state.partition(" ")[0]) or state_sign("UNKNOWN"),
    ),
    Column("SINCE", lambda item, now: since_text(item.since, now), 15, narrow=8, importance=3),
    Column("REASON", lambda item, _now: visible(item.reason), 40, narrow=16, wide=100, importance=2),
    Column("KEY", _fix_text, 14, importance=4),
    Column("PROFILE", lambda item, _now: visible(item.key[0]), 12),
)


class AttentionList(FleetList):
    """What needs a person, worst first."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("attention"), *bindings("sessions", "servers")]

    LISTS_WHAT = ListDefinition(
        view="attention",
        title="Attention",
        columns=ATTENTION_COLUMNS,
        nothing="Nothing needs you.",
        details=_attention_details,
        wire=_attention_wire,
        pane_from=140,  # the reason is what one reads here; below, the details would cut it off
        rank=lambda item: (item.trouble, item.since.moment.timestamp() if item.since else 0.0, item.name),
    )

    _OF_SESSIONS = frozenset({"delete", "permissions", "screenshot", "connect"})
    _OF_SERVERS = frozenset({"close", "open", "drain"})

    @property
    def _kind(self) -> str:
        item = self.table.cursor_record
        return item.kind if item is not None else ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer the keys of the kind of the row under the cursor."""
        if action == "act" and parameters:
            if parameters[0] in self._OF_SESSIONS:
                return self._kind == "session"
            # Creating belongs to the lists themselves.
            return parameters[0] in self._OF_SERVERS and self._kind == "server"
        if action == "open_server":
            return self._kind == "session"
        if action == "open_wall":
            return False
        return action not in ("toggle_trouble",)

    def acted_on(self, *, only_cursor: bool = False) -> list[Any]:
        """What the marked items of the kind of the one under the cursor are about."""
        items = super().acted_on(only_cursor=only_cursor)
        subjects = [
            _attention_subject(item, self._watch.snapshot) for item in items if item.kind == self._kind
        ]
        return [subject for subject in subjects if subject is not None]

    @on(FleetTable.CursorMoved)
    def offer_keys(self) -> None:
        """Another row, other keys."""
        self.refresh_bindings()

    def action_apply_fix(self) -> None:
        """Do what the row names."""
        item = self.table.cursor_record
        if item is None:
            return
        match item.fix:
            case "sessions.delete-marked":
                self.post_message(self.Act("delete", self.acted_on(only_cursor=True)))
            case "servers.open-marked":
                self.post_message(self.Act("open", self.acted_on(only_cursor=True)))
            case "sessions.open-server":
                self.action_open_server()
            case "any.refresh-view":
                self.post_message(self.Act("refresh", []))
            case _:
                self.action_open_row()

    def action_open_row(self) -> None:
        """Open the session or server the row is about."""
        for subject in self.acted_on(only_cursor=True):
            self.post_message(self.Opened(subject.key, subject))

    def action_open_server(self) -> None:
        """Go to the server of the session under the cursor."""
        for session in self.acted_on(only_cursor=True):
            if isinstance(session, SessionRecord) and session.server_id:
                self.post_message(self.Act("show-server", [session]))


# ------------------------------------------------------------------ activity

ACTIVITY_COLUMNS: tuple[Column[ActivityEntry], ...] = (
    Column("TIME", lambda entry, _now: f"{entry.time.astimezone():%H:%M:%S}", 8, importance=0),
    Column("WHAT", lambda entry, _now: visible(entry.what), 12, importance=1),
    Column("NAME", lambda entry, _now: visible(entry.name), 20, narrow=14, wide=30, importance=1),
    Column("OUTCOME", lambda entry, _now: visible(entry.outcome), 34, narrow=16, wide=50, importance=1),
    Column("DETAIL", lambda entry, _now: visible(entry.detail), 30, narrow=10, wide=80, importance=4),
    Column("REQUEST", lambda entry, _now: visible(entry.request_id), 36, importance=8),
    Column("PROFILE", lambda entry, _now: visible(entry.about[0]) if entry.about else "", 12),
)


class ActivityList(FleetList):
    """What was done here, and what changed in the fleet."""

    LISTS_WHAT = ListDefinition(
        view="activity",
        title="Activity",
        columns=ACTIVITY_COLUMNS,
        nothing="Nothing was done here, and nothing has changed yet.",
        details=lambda entry, _watch, _now: activity_details(entry),
        wire=lambda entry, _watch: {
            "Time": entry.time.isoformat(),
            "What": entry.what,
            "Name": entry.name,
            "Outcome": entry.outcome,
            "Detail": entry.detail,
            "RequestId": entry.request_id,
        },
        rank=lambda entry: -entry.number,
    )


# ------------------------------------------------------------------ profiles

_LINK_SIGNS = {"live": Sign.GOOD, "polling": Sign.GOOD, "connecting": Sign.CREATING, "stale": Sign.BAD}


def _mode(row: BrokerRow) -> str:
    if row.broker.connection is None:
        return "cannot be used"
    return "read-only" if row.broker.connection.read_only else ""


def _if_open(number: Callable[[Counts], int]) -> Callable[[BrokerRow, datetime], str]:
    return lambda row, _now: f"{number(row.counts):,}" if row.is_open else ""


PROFILE_COLUMNS: tuple[Column[BrokerRow], ...] = (
    Column("NAME", lambda row, _now: visible(row.name), 20, narrow=12, wide=30, importance=0),
    Column(
        "STATE",
        lambda row, _now: row.state,
        10,
        importance=1,
        sign=lambda row: _LINK_SIGNS.get(row.state, Sign.DELETED),
    ),
    Column("ADDRESS", lambda row, _now: visible(row.broker.address), 34, narrow=16, wide=60, importance=2),
    Column("SERVERS", _if_open(lambda counts: counts.servers), 8, is_right=True, importance=3),
    Column(
        "SESSIONS", _if_open(lambda counts: sum(counts.sessions.values())), 9, is_right=True, importance=3
    ),
    Column("MODE", lambda row, _now: _mode(row), 14, importance=4),
    Column("REASON", lambda row, _now: visible(row.why), 30, wide=80, importance=5),
)


class ProfilesList(FleetList):
    """The brokers the operator knows."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("profiles")]

    class BrokersChosen(Message):
        """Other brokers are to be looked at."""

        def __init__(self, connections: Sequence[Connection], *, is_switch: bool) -> None:
            super().__init__()
            self.connections, self.is_switch = connections, is_switch

    LISTS_WHAT = ListDefinition(
        view="profiles",
        title="Profiles",
        columns=PROFILE_COLUMNS,
        nothing="No profile yet.",
        details=lambda row, _watch, _now: broker_details(row),
        wire=lambda row, _watch: {
            "Name": row.name,
            "Url": row.broker.address,
            "State": row.state,
            "Reason": row.why,
        },
        rank=lambda row: row.place,
    )

    @property
    def _open(self) -> list[Connection]:
        rows = self.listing.records.values()
        return [row.broker.connection for row in rows if row.is_open]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002  Textual's
        """Nothing here is in trouble, and marks serve nothing."""
        return action not in ("toggle_trouble", "mark_row", "mark_range", "mark_shown", "open_row")

    def action_switch_profile(self) -> None:
        """Look at the broker under the cursor, and at no other."""
        row = self._usable_row()
        if row is not None:
            self.post_message(self.BrokersChosen([row.broker.connection], is_switch=True))

    def action_toggle_profile(self) -> None:
        """Look at this broker beside the others, or no longer."""
        row = self._usable_row()
        if row is None:
            return
        others = [one for one in self._open if one.name != row.name]
        if row.is_open and not others:
            self.post_message(
                self.NothingToDo("This is the only broker that is looked at; enter on another switches.")
            )
            return
        chosen = others if row.is_open else [*others, row.broker.connection]
        self.post_message(self.BrokersChosen(chosen, is_switch=False))

    def _usable_row(self) -> Any:
        row = self.table.cursor_record
        if row is not None and row.broker.connection is None:
            self.post_message(self.NothingToDo(row.why))
            return None
        return row


LISTS: tuple[type[FleetList], ...] = (AttentionList, SessionsList, ServersList, ActivityList, ProfilesList)
