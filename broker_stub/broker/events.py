"""What the registry is told, what it answers and what it wants done.

This is the vocabulary between the registry and everything around it: events go
in (past tense), an `Outcome` comes out: the result for whoever asked, changes
for the store, commands for agents. Nothing here has behaviour.

Members of reports (`hello`, `server`, `changed`, `data`) are spelled as on the agent
channel, see `broker_stub.channel_messages`, and were checked there.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dcvtui.api.models import CreateSessionRequestData

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that decide what the registry does."""

    queue_max_size: int = 1000
    queue_max_time_s: float = 1800
    retries_on_failure: int = 2
    deleted_session_kept_s: float = 3600
    unreachable_server_kept_s: float = 1800
    unreachable_sessions_kept_s: float | None = None
    """`None`: they go together with their server."""
    agent_loss_grace_s: float = 15.0
    startup_grace_s: float = 60.0
    create_deadline_s: float = 60.0
    close_deadline_s: float = 60.0
    permissions_deadline_s: float = 15.0
    autorun_arguments_max: int = 50
    autorun_argument_length_max: int = 150
    readopt_after_force_s: float = 60
    queue_look_interval_s: float = 5.0
    closed_mark_kept_s: float = 30 * 86400
    """How long a closed server that is gone is remembered as closed."""


# ------------------------------------------------------------------ events of API clients


@dataclass(frozen=True, slots=True)
class RulesChanged:
    """The administrator changed settings. Result: nothing."""

    rules: Rules


@dataclass(frozen=True, slots=True)
class SessionRequested:
    """One item of CreateSessions. Result: `Accepted` with `session`, or `Refused`."""

    request: CreateSessionRequestData


@dataclass(frozen=True, slots=True)
class SessionDeletionRequested:
    """One item of DeleteSessions. Result: `Accepted` or `Refused`."""

    session_id: str | None
    owner: str | None
    force: bool = False


@dataclass(frozen=True, slots=True)
class PermissionsUpdateRequested:
    """One item of UpdateSessionPermissions. Result: `Accepted` with `command_id`, or `Refused`."""

    session_id: str | None
    owner: str | None
    permissions_file: str | None


@dataclass(frozen=True, slots=True)
class ServerOpeningRequested:
    """One item of OpenServers. Result: `Accepted`, or `Refused` with a code."""

    server_id: str | None


@dataclass(frozen=True, slots=True)
class ServerClosingRequested:
    """One item of CloseServers. Result: `Accepted`, or `Refused` with a code."""

    server_id: str | None
    force: bool = False


# ------------------------------------------------------------------ events of the agent channel


@dataclass(frozen=True, slots=True)
class AgentConnected:
    """An agent said hello on a new channel. Result: `HelloAnswer`."""

    server_id: str
    channel_id: str
    hello: Mapping[str, Any]
    """The members of `agentHelloRequest`."""


@dataclass(frozen=True, slots=True)
class AgentDisconnected:
    """A channel ended; `goodbye` when the agent had said that it shuts down."""

    server_id: str
    channel_id: str
    goodbye: bool = False


@dataclass(frozen=True, slots=True)
class ServerReported:
    """A `serverUpdateRequest`. Result: `ReportAnswer`.

    A delta (`full` false) is merged as `broker_stub.channel_messages.merged` says.
    """

    server_id: str
    channel_id: str
    full: bool
    server: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SessionsReported:
    """A `sessionsUpdateRequest`. Result: `ReportAnswer`."""

    server_id: str
    channel_id: str
    full: bool
    healthy: bool = True
    changed: Sequence[Mapping[str, Any]] = ()
    removed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ReportsPaced:
    """All agents are being told to let at least so many seconds pass between two reports."""

    least_interval_s: float


@dataclass(frozen=True, slots=True)
class CommandFinished:
    """A `commandResult`, with its chunks put together."""

    server_id: str
    channel_id: str
    command_id: str
    success: bool
    code: str = "OK"
    message: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CommandExpired:
    """A command has no result at its deadline. The registry also finds that out by itself."""

    command_id: str


@dataclass(frozen=True, slots=True)
class ClockAdvanced:
    """Time passed: whatever is due is done."""


Event = (
    SessionRequested
    | SessionDeletionRequested
    | PermissionsUpdateRequested
    | ServerOpeningRequested
    | ServerClosingRequested
    | AgentConnected
    | AgentDisconnected
    | ServerReported
    | SessionsReported
    | ReportsPaced
    | CommandFinished
    | CommandExpired
    | ClockAdvanced
    | RulesChanged
)


# ------------------------------------------------------------------ results


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request is carried out; once its changes are stored the client may be told so."""

    session: dict[str, Any] | None = None
    """Creation: the session in wire form, as the answer shows it."""
    command_id: str | None = None
    """Permissions: the command whose result decides what the client is told."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The item fails: `FailureReason`, and `FailureCode` for the server operations."""

    reason: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class HelloAnswer:
    """What to tell an agent that said hello, and which older channel to close with 4009."""

    accepted: bool
    new_server_id: bool = False
    close_code: int | None = None
    superseded_channel: str | None = None
    orphan_sessions: list[str] = field(default_factory=list)
    forget_commands: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """Whether a report came on the channel that counts, and whether a full one is needed."""

    accepted: bool
    need_full: bool = False


# ------------------------------------------------------------------ commands for agents


@dataclass(frozen=True, slots=True)
class SendCommand:
    """Send a command on the server's channel; deliver it only after the changes are stored."""

    server_id: str
    command_id: str
    kind: str
    attempt: int
    deadline_at: datetime
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CancelCommand:
    """The result of a command is no longer wanted."""

    server_id: str
    command_id: str


Command = SendCommand | CancelCommand


# ------------------------------------------------------------------ changes for the store


@dataclass(frozen=True, slots=True)
class SaveSession:
    """Insert or replace a session's row."""

    key: str
    row: Row


@dataclass(frozen=True, slots=True)
class RemoveSession:
    """Remove a session's row."""

    key: str


@dataclass(frozen=True, slots=True)
class SaveServer:
    """Insert or replace a server's row."""

    id: str
    row: Row


@dataclass(frozen=True, slots=True)
class RemoveServer:
    """Remove a server's row."""

    id: str


@dataclass(frozen=True, slots=True)
class SaveCommand:
    """Insert or replace an open command's row."""

    id: str
    row: Row


@dataclass(frozen=True, slots=True)
class RemoveCommand:
    """Remove the row of a command that is no longer open."""

    id: str


Change = SaveSession | RemoveSession | SaveServer | RemoveServer | SaveCommand | RemoveCommand


@dataclass(slots=True)
class Outcome:
    """What came of one event."""

    result: Any = None
    changes: list[Change] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)


@dataclass(slots=True)
class Stored:
    """What the store held when the broker started: rows by key."""

    sessions: dict[str, Row] = field(default_factory=dict)
    servers: dict[str, Row] = field(default_factory=dict)
    commands: dict[str, Row] = field(default_factory=dict)


# ------------------------------------------------------------------ reads


@dataclass(frozen=True, slots=True)
class Page:
    """A page of entities as JSON, and where the next one begins (`None`: this was the last)."""

    parts: list[bytes]
    next_key: tuple[str, ...] | None = None


@dataclass(slots=True)
class FleetChanges:
    """What became of servers and sessions: each entity once, as JSON, or that it is gone.

    Attributes:
        number: Of the last change told here.
        gone_sessions: Their ids with the servers they were on; ids found on hosts are not unique.
    """

    number: int
    servers: list[bytes] = field(default_factory=list)
    sessions: list[bytes] = field(default_factory=list)
    gone_servers: list[str] = field(default_factory=list)
    gone_sessions: list[tuple[str, str | None]] = field(default_factory=list)


class Ambiguous(Exception):  # noqa: N818  the name is what it says: a question with several answers
    """Several sessions on different servers have the id, and nothing tells which one is meant."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The fleet in numbers."""

    servers: Counter[tuple[str, str]]
    """By availability and the reason why not, which is empty for available ones."""
    sessions: Counter[tuple[str, str]]
    """By type and state, ended ones too."""
    queued: int
    queued_since: datetime | None
    """Since when the first of them has waited."""
