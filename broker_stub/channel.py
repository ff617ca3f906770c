"""Words and rules of the channel between broker and agent, protocol version 1.

Both ends import this module and its two neighbours: `channel_messages` (what a
message looks like, building and reading) and `channel_commands` (what the
broker remembers of a command, large results in pieces). No sockets, no clocks,
no randomness in them: those come in as arguments.

What can go wrong, as one tree for the whole package::

    ChannelError
    ├── Unreachable             no connection, or it broke before an answer came
    │   ├── AgentUnreachable    the broker has no channel to that server
    │   └── NotTrusted          TLS: the other end's certificate does not fit
    ├── NotAuthorized           token, credentials or software statement refused
    ├── Refused                 the other end said no: code, text, when to try again
    ├── TimedOut                no answer within the limit
    ├── NotUnderstood           what came is not a message of this protocol
    │   └── UnknownMessage      well formed, but its name means nothing here
    └── ResultTooLarge          a result that does not fit in 32 MiB
"""

# ruff: noqa: N818  errors are named by what happened, as in the tree above; that all of them are errors is no news

from collections.abc import Sequence
from enum import IntEnum, StrEnum

SUBPROTOCOL = "dcvsm-agent.v1"
CHANNEL_PATH = "/agent/v1/channel"
REGISTER_PATH = "/agent/register"
TOKEN_PATH = "/agent/oauth2/token"  # noqa: S105  a path, no secret
PROTOCOL_VERSIONS = (1,)

PING_INTERVAL_S = 10.0
DEAD_AFTER_S = 30.0
HELLO_WITHIN_S = 10.0
CONNECT_WITHIN_S = 10.0
UPGRADE_WITHIN_S = 10.0
ACK_WITHIN_S = 5.0
SENDS_WITHOUT_ACK = 3
STABLE_AFTER_S = 60.0  # a channel that stood this long makes the next reconnect a first attempt again
REAUTHORIZE_WAIT_S = 5.0

MAX_MESSAGE_BYTES = 1024 * 1024
CHUNK_BYTES = 256 * 1024
MAX_RESULT_BYTES = 32 * 1024 * 1024
MAX_INFLIGHT_COMMANDS = 4
MAX_INFLIGHT_SCREENSHOTS = 2
MAX_QUEUED_COMMANDS = 32
MALFORMED_IN_A_ROW = 3
FULL_UPDATE_EVERY = 10
UPDATES_PER_S = 500  # of all agents together, before a broker asks them to speak less often


class ChannelError(Exception):
    """Something between broker and agent failed; the text is for people."""


class Unreachable(ChannelError):
    """No connection could be made, or it broke before an answer came."""


class AgentUnreachable(Unreachable):
    """The broker holds no channel to the agent of that server."""


class NotTrusted(Unreachable):
    """The other end's certificate is not one this side was told to trust."""


class NotAuthorized(ChannelError):
    """A token, credentials or a software statement were refused."""


class Refused(ChannelError):
    """The other end understood and said no.

    Args:
        message: its own text.
        code: its code (section 5.6) or the close code as text.
        retry_after_s: when it asks to be tried again, if it said so.
    """

    def __init__(self, message: str, code: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s


class TimedOut(ChannelError):
    """No answer came within the limit."""


class NotUnderstood(ChannelError):
    """What came is not a message of this protocol.

    Args:
        message: what is wrong with it.
        about: the offending request id, or the message's name, or nothing.
    """

    def __init__(self, message: str, about: str = "") -> None:
        super().__init__(message)
        self.about = about


class UnknownMessage(NotUnderstood):
    """A well-formed message whose name this side does not know; it is survived."""


class ResultTooLarge(ChannelError):
    """A command's result is larger than the channel carries."""


class Code(StrEnum):
    """How a command ended, and why a request was refused (agent specification, 5.6)."""

    OK = "OK"
    OWNER_NOT_FOUND = "OWNER_NOT_FOUND"
    TYPE_NOT_SUPPORTED = "TYPE_NOT_SUPPORTED"
    SERVER_FULL = "SERVER_FULL"
    USER_LIMIT_REACHED = "USER_LIMIT_REACHED"
    CONSOLE_BUSY = "CONSOLE_BUSY"
    SESSION_ID_CONFLICT = "SESSION_ID_CONFLICT"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    OWNER_MISMATCH = "OWNER_MISMATCH"
    INIT_FILE_INVALID = "INIT_FILE_INVALID"
    AUTORUN_FILE_INVALID = "AUTORUN_FILE_INVALID"
    PERMISSIONS_INVALID = "PERMISSIONS_INVALID"
    STORAGE_ROOT_INVALID = "STORAGE_ROOT_INVALID"
    DCV_SERVER_UNAVAILABLE = "DCV_SERVER_UNAVAILABLE"
    DCV_COMMAND_FAILED = "DCV_COMMAND_FAILED"
    TIMEOUT = "TIMEOUT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    INTERRUPTED = "INTERRUPTED"
    BUSY = "BUSY"
    TOO_LARGE = "TOO_LARGE"
    UNSUPPORTED = "UNSUPPORTED"
    INTERNAL = "INTERNAL"
    # Refusals of a hello or an update; no command ends with them.
    UNSUPPORTED_PROTOCOL = "UNSUPPORTED_PROTOCOL"
    OVERLOADED = "OVERLOADED"
    DUPLICATE_SERVER = "DUPLICATE_SERVER"
    MALFORMED = "MALFORMED"
    UNKNOWN_MESSAGE = "UNKNOWN_MESSAGE"


RETRY_ELSEWHERE = frozenset(
    {
        Code.SERVER_FULL,
        Code.CONSOLE_BUSY,
        Code.DCV_SERVER_UNAVAILABLE,
        Code.DCV_COMMAND_FAILED,
        Code.TIMEOUT,
        Code.DEADLINE_EXCEEDED,
        Code.INTERRUPTED,
        Code.BUSY,
        Code.INTERNAL,
        Code.OWNER_NOT_FOUND,
        Code.USER_LIMIT_REACHED,
    }
)
"""Codes after which another host may do better; after the others none would."""


class CloseCode(IntEnum):
    """Why a channel was closed."""

    NORMAL = 1000
    GOING_AWAY = 1001
    TOO_BIG = 1009
    OVERLOADED = 1013
    NO_HELLO = 4001
    FORBIDDEN = 4003
    NO_ACK = 4008
    SUPERSEDED = 4009
    NO_COMMON_VERSION = 4010
    DUPLICATE_SERVER = 4011
    MALFORMED = 4012


class CommandKind(StrEnum):
    """What the broker can ask an agent to do."""

    CREATE_SESSION = "createSession"
    DELETE_SESSION = "deleteSession"
    UPDATE_SESSION_PERMISSIONS = "updateSessionPermissions"
    GET_SESSION_SCREENSHOT = "getSessionScreenshot"


DEADLINES_S: dict[str, float] = {
    CommandKind.CREATE_SESSION: 60.0,
    CommandKind.DELETE_SESSION: 60.0,
    CommandKind.UPDATE_SESSION_PERMISSIONS: 15.0,
    CommandKind.GET_SESSION_SCREENSHOT: 10.0,
}
"""How long each kind of command may take unless its sender says otherwise."""

REPEATABLE = frozenset({CommandKind.UPDATE_SESSION_PERMISSIONS, CommandKind.GET_SESSION_SCREENSHOT})
"""Kinds that do no harm when they are carried out twice (5.5.4)."""


def common_version(offered: Sequence[object]) -> int | None:
    """The highest protocol version both sides speak, or nothing."""
    return max((version for version in PROTOCOL_VERSIONS if version in offered), default=None)


def reconnect_wait(attempt: int, chance: float) -> float:
    """Seconds to wait before reconnect number `attempt` (from 0), with full jitter.

    Args:
        attempt: how many attempts have failed since the channel last stood for a minute.
        chance: a random number from 0 up to 1.
    """
    return chance * min(30.0, float(2 ** min(attempt, 5)))


def least_update_interval(channels: int, present_s: int) -> int:
    """Seconds that should at least lie between two reports of an agent, so that all fit into a broker.

    Doubles and halves, and falls late: each change is a message to every agent.

    Args:
        channels: how many agents are connected.
        present_s: what they were told last; 1 says nothing at all.
    """
    least_s = present_s
    while channels > UPDATES_PER_S * least_s:
        least_s *= 2
    while least_s > 1 and channels * 4 < UPDATES_PER_S * least_s:
        least_s //= 2
    return least_s


class UpdateTurn:
    """The agent's side of one kind of update: numbers, and at most one unanswered.

    Made anew for every channel, because the hello already carried full state.
    """

    __slots__ = ("_needs_full", "_seq", "is_unanswered")

    def __init__(self) -> None:
        self._seq = 0
        self._needs_full = False
        self.is_unanswered = False

    def begin(self) -> tuple[int, bool]:
        """Take the next number; also says whether this update must be a full one."""
        self._seq += 1
        self.is_unanswered = True
        is_full = self._needs_full or self._seq % FULL_UPDATE_EVERY == 0
        self._needs_full = False
        return self._seq, is_full

    def answer(self, seq: int, *, needs_full: bool) -> None:
        """Note the broker's answer; one to an older number is ignored."""
        if seq == self._seq:
            self.is_unanswered = False
            self._needs_full = self._needs_full or needs_full

    def request_full(self) -> None:
        """Make the next update a full one."""
        self._needs_full = True

    @property
    def is_full_wanted(self) -> bool:
        """Whether a full update was asked for and has not been sent."""
        return self._needs_full


class UpdateOrder:
    """The broker's side of one kind of update: notices a gap and asks for everything."""

    __slots__ = ("_has_base", "_seq")

    def __init__(self) -> None:
        self._seq = 0
        self._has_base = True  # the hello is the base

    def accept(self, seq: int, *, is_full: bool) -> bool:
        """Whether an update may be applied; if not, the answer must ask for a full one."""
        follows = seq == self._seq + 1
        if is_full and seq > self._seq:
            self._has_base = True
        elif not follows:
            self._has_base = False
        self._seq = max(self._seq, seq)
        return self._has_base
