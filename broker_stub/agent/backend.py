"""The contract between the agent and whatever runs sessions on its host: a backend.

The agent keeps the channel, the journal and the limits; a backend starts, lists
and ends sessions, and nothing else. The docstrings here are the manual for
authors of new backends. The agent does not know which backend it has.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

from dcvtui.api.states import SessionType

ImageFormat = Literal["png", "jpeg"]


class Failure(StrEnum):
    """Why a backend could not do what it was asked; sent as the code of a command's result.

    The broker tries another host after some of these (agent protocol, codes), so
    pick the one that tells whether another host could do better.
    """

    OWNER_NOT_FOUND = "OWNER_NOT_FOUND"
    """The owner is no user of this host, or the backend may not act for that user."""
    TYPE_NOT_SUPPORTED = "TYPE_NOT_SUPPORTED"
    """This host never offers sessions of that type."""
    SERVER_FULL = "SERVER_FULL"
    """A limit of the host is reached; the agent checks its own limits before it asks the backend."""
    CONSOLE_BUSY = "CONSOLE_BUSY"
    """Console and virtual sessions exclude each other, and one of the other kind is there."""
    SESSION_ID_CONFLICT = "SESSION_ID_CONFLICT"
    """A session of that id exists already and belongs to somebody else."""
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    """No session of that id is on this host (any more)."""
    INIT_FILE_INVALID = "INIT_FILE_INVALID"
    """The init file is missing, not executable, or outside its folder; the message names it."""
    AUTORUN_FILE_INVALID = "AUTORUN_FILE_INVALID"
    """The autorun file is missing, not executable, or outside its folder; the message names it."""
    PERMISSIONS_INVALID = "PERMISSIONS_INVALID"
    """The permissions text was refused; the message says why."""
    STORAGE_ROOT_INVALID = "STORAGE_ROOT_INVALID"
    """The storage root cannot be used and the host insists on it."""
    DCV_SERVER_UNAVAILABLE = "DCV_SERVER_UNAVAILABLE"
    """What the backend needs is not installed or does not answer at all."""
    DCV_COMMAND_FAILED = "DCV_COMMAND_FAILED"
    """Starting or asking failed; the message holds the program's own words."""
    TIMEOUT = "TIMEOUT"
    """Something did not answer within its limit and was given up."""
    INTERNAL = "INTERNAL"
    """Anything else, such as a full disk."""


class BackendError(Exception):
    """A backend refused or failed; the message reaches the operator as it is.

    Args:
        code: Which kind of failure, see `Failure`.
        message: One sentence without secrets that says what failed and why, for a
            person who sees only this sentence in a list of sessions.
    """

    def __init__(self, code: Failure, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where clients reach the sessions of this host."""

    port: int
    protocol: Literal["HTTP", "QUIC"] = "HTTP"
    web_url_path: str | None = "/"
    """Path of the web client; `None` for QUIC."""
    ip_address: str | None = None
    """`None` means the address of the host as the agent reports it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a backend can do at this moment; the agent asks before each report."""

    version: str
    """Version of the program that runs the sessions, as it is to be shown in the fleet."""
    endpoints: tuple[Endpoint, ...] = ()
    console_allowed: bool = False
    virtual_allowed: bool = False
    healthy: bool = True
    """`False` after it was found that sessions cannot be listed or started at all."""
    reason: str = ""
    """One sentence that says why it is not healthy and what to do about it; empty when it is."""
    capabilities: frozenset[str] = frozenset()
    """Words of the agent protocol: `screenshot`, `autorun`, `init`, `gl`, `console`, `virtual`,
    `storageRoot`, `setPermissions`. The broker sends only what is offered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSpec:
    """A session to be created, after the agent has checked the limits of the host."""

    session_id: str
    """Made by the broker, a lower-case UUID; the session keeps it for life."""
    name: str
    owner: str
    type: SessionType
    max_concurrent_clients: int | None = None
    dcv_gl_enabled: bool | None = None
    init_file: str | None = None
    """Relative path inside the init folder, or an absolute one that lies inside it."""
    autorun_file: str | None = None
    """Relative path inside the autorun folder."""
    autorun_file_arguments: tuple[str, ...] = ()
    permissions: str | None = None
    """Text of the permissions file, already decoded; `None` means the defaults of the host."""
    storage_root: str | None = None
    """As requested; `%home%` is for the backend to expand."""


@dataclass(frozen=True, slots=True)
class Monitor:
    """A part of a session's display that shows as one screen. In pixels of the display."""

    x: int
    y: int
    width: int
    height: int
    is_primary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A session that is on the host now, whoever made it. Times are aware UTC."""

    id: str
    name: str
    owner: str
    type: SessionType
    creation_time: datetime
    last_disconnection_time: datetime | None = None
    num_of_connections: int = 0
    storage_root: str = ""
    """The folder in use after expansion, `""` when storage is off."""
    max_concurrent_clients: int | None = None
    display_layout: tuple[Monitor, ...] = ()
    """The monitors when that was last looked up, the primary one first; empty where nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A screenshot of one display of a session."""

    format: ImageFormat
    primary: bool
    creation_time: datetime
    """When the picture was taken, aware UTC."""
    data: bytes
    width: int
    height: int


class Backend(Protocol):
    """Runs sessions on one host.

    All methods are coroutines on the agent's event loop and must not block it:
    work that takes longer than a few milliseconds goes to a thread or a process.
    The agent calls several at a time, but never two that change the same session.
    It gives up waiting at its own deadlines by cancelling; a cancelled call must
    leave no half-made session behind.

    Every method may raise `BackendError`. Any other exception is a bug and is
    answered to the broker as `INTERNAL`.
    """

    @property
    def changed(self) -> asyncio.Event:
        """Set by the backend whenever `list` would answer something new.

        That includes what nobody asked for: a session that ended by itself, a client
        that came or went. The agent clears it and then calls `list`, so setting it
        too often costs a report, forgetting it costs up to a whole update interval.
        """
        ...

    async def probe(self) -> Probe:
        """Tell what this backend can do now. Never raises: trouble is `healthy=False` with a reason."""
        ...

    async def list(self) -> list[SessionInfo]:
        """List every session on the host, also those that nobody asked this agent for.

        The answer is complete: the broker takes a session that is missing here for
        deleted. A backend that cannot tell raises instead of answering less.
        """
        ...

    async def create(self, spec: SessionSpec) -> SessionInfo:
        """Create a session and return when it is usable.

        Usable means that its display answers and that what runs in it has not died at
        once: the broker shows the session READY on this answer. If a session of this
        id, owner and type exists already, that one is returned.

        Raises:
            BackendError: nothing of the session is left behind then.
        """
        ...

    async def close(self, session_id: str, force: bool) -> None:
        """End a session with everything that runs in it and return when it is gone.

        Args:
            session_id: Which session.
            force: Give the programs in it no time to save their work.

        Raises:
            BackendError: `SESSION_NOT_FOUND` if there is none; the agent counts that as done.
        """
        ...

    async def set_permissions(self, session_id: str, text: str | None) -> None:
        """Replace the permissions of a session.

        Args:
            session_id: Which session.
            text: Whole text of a permissions file. `None` goes back to the defaults of the
                host; an empty text takes away everything from everybody.
        """
        ...

    async def screenshot(
        self, session_id: str, max_width: int | None, max_height: int | None, image_format: ImageFormat
    ) -> Sequence[Image]:
        """Take a picture of each display of a session; exactly one is the primary one.

        The picture keeps its proportions and is never larger than the display. A bound
        that is `None` follows the other; both `None` means full size.
        """
        ...

    async def connections(self, session_id: str) -> int:
        """Count the clients connected to a session now."""
        ...

    async def stop(self) -> None:
        """Let go of everything when the agent ends. Sessions live on and are found by the next agent."""
        ...
