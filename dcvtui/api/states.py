"""The words of the Session Manager API: session states, availability, reasons, types.

Plain strings without any import, so that the console can use them before the
models (and pydantic) are loaded. Brokers may send other words; readers treat
those as plain text.
"""

from enum import StrEnum


class SessionState(StrEnum):
    """What a session's `State` can say (Session Manager guide, DescribeSessions)."""

    CREATING = "CREATING"
    READY = "READY"
    DELETING = "DELETING"
    DELETED = "DELETED"
    UNKNOWN = "UNKNOWN"


class SessionSubstate(StrEnum):
    """What `Substate` can say while a session is CREATING."""

    SESSION_PLACING = "SESSION_PLACING"
    PENDING_PREPARATION = "PENDING_PREPARATION"


class SessionType(StrEnum):
    """The two kinds of sessions."""

    CONSOLE = "CONSOLE"
    VIRTUAL = "VIRTUAL"


class Availability(StrEnum):
    """What a server's `Availability` can say."""

    AVAILABLE = "AVAILABLE"
    UNAVAILABLE = "UNAVAILABLE"


class UnavailabilityReason(StrEnum):
    """Why a server takes no session, in the order in which one reason hides the next."""

    UNREACHABLE_AGENT = "UNREACHABLE_AGENT"
    UNHEALTHY_DCV_SERVER = "UNHEALTHY_DCV_SERVER"
    SERVER_CLOSED = "SERVER_CLOSED"
    EXISTING_LOGGED_IN_USER = "EXISTING_LOGGED_IN_USER"
    SERVER_FULL = "SERVER_FULL"
    UNKNOWN = "UNKNOWN"
