"""For which of the sessions and servers that a filter finds an action is meant, and why not for the others.

The rules for actions on many at once: deleting, reaping, permissions, opening,
closing. Pure; records come in. What is named one by one by its id passes by here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from dcvtui.api.states import Availability, SessionState, UnavailabilityReason
from dcvtui.fleet import ServerRecord, SessionRecord

RecordT = TypeVar("RecordT", ServerRecord, SessionRecord)

_GOING = frozenset[str]({SessionState.DELETING, SessionState.DELETED})


@dataclass(frozen=True, slots=True)
class Selection(Generic[RecordT]):
    """What was chosen.

    Attributes:
        chosen: what the action is for.
        left_out: what it is not for, each with the reason.
        hopeless: what it is meant for but cannot do, each with the reason; counts as failed.
        advice: how to have what was left out as well.
    """

    chosen: tuple[RecordT, ...]
    left_out: tuple[tuple[RecordT, str], ...] = ()
    hopeless: tuple[tuple[RecordT, str], ...] = ()
    advice: str = ""


def to_delete(sessions: Iterable[SessionRecord], *, include_connected: bool) -> Selection[SessionRecord]:
    """Sessions to delete; those that are going anyway are no matter, those in use are left out."""
    chosen: list[SessionRecord] = []
    left_out: list[tuple[SessionRecord, str]] = []
    for session in sessions:
        if session.state in _GOING:
            continue
        if session.connections and not include_connected:
            left_out.append((session, _connected(session.connections)))
        else:
            chosen.append(session)
    return Selection(tuple(chosen), tuple(left_out), advice="--include-connected takes them too")


def to_reap(
    sessions: Iterable[SessionRecord], *, include_connected: bool, force: bool
) -> Selection[SessionRecord]:
    """Sessions to clear away without anybody watching.

    A session whose server is not reachable can only be forgotten, which has to be asked for; a broker
    would refuse it or leave it half deleted (API specification, 4.4).
    """
    found = to_delete(sessions, include_connected=include_connected)
    if force:
        return found
    lost = {
        session.key for session in found.chosen if session.state == SessionState.UNKNOWN and session.server_id
    }
    reason = "its server is not reachable; --force forgets it"
    return Selection(
        tuple(session for session in found.chosen if session.key not in lost),
        found.left_out,
        tuple((session, reason) for session in found.chosen if session.key in lost),
        found.advice,
    )


def to_permit(sessions: Iterable[SessionRecord]) -> Selection[SessionRecord]:
    """Sessions to give new permissions to; those that are going have no more use for them."""
    return Selection(tuple(session for session in sessions if session.state not in _GOING))


def to_open(servers: Iterable[ServerRecord]) -> Selection[ServerRecord]:
    """Servers to open: those that are not open already."""
    return Selection(tuple(server for server in servers if server.availability != Availability.AVAILABLE))


def to_close(servers: Iterable[ServerRecord], *, force: bool) -> Selection[ServerRecord]:
    """Servers to close: those that are not closed; with sessions only by force."""
    chosen: list[ServerRecord] = []
    left_out: list[tuple[ServerRecord, str]] = []
    for server in servers:
        if server.unavailability_reason == UnavailabilityReason.SERVER_CLOSED:
            continue
        if server.sessions and not force:
            count = server.sessions
            left_out.append((server, f"{count} session{' runs' if count == 1 else 's run'} on it"))
        else:
            chosen.append(server)
    return Selection(tuple(chosen), tuple(left_out), advice="--force closes them too")


def _connected(count: int) -> str:
    return "1 client is connected" if count == 1 else f"{count} clients are connected"
