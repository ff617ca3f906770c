"""What in a fleet needs a person, worst first, with the reason and the key that helps.

The API tells no time of a state change, so `FirstSeen` remembers when this
console first saw each unusual state; what was so from the start is "at least"
that old. Pure: snapshots and times come in, items go out.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

from dcvtui.api.states import Availability, SessionState, SessionSubstate, UnavailabilityReason
from dcvtui.fleet import Difference, Key, ServerRecord, SessionRecord, Snapshot

_QUIET_STATES = frozenset[str]({SessionState.READY, SessionState.DELETED})


class Trouble(IntEnum):
    """The kinds of trouble, worst first."""

    BROKER = 0
    UNREACHABLE = 1
    UNHEALTHY = 2
    UNKNOWN = 3
    STUCK = 4
    FULL = 5
    CLOSED = 6
    IDLE = 7
    DRAINING = 8


@dataclass(slots=True, frozen=True)
class Limits:
    """How long something may last before it counts as trouble."""

    lost: timedelta = timedelta(seconds=30)
    """UNKNOWN sessions, unreachable and unhealthy servers: a broker's restart takes about that long."""
    preparing: timedelta = timedelta(minutes=2)
    deleting: timedelta = timedelta(minutes=2)
    placing: timedelta = timedelta(minutes=5)
    idle: timedelta | None = None
    """How long a READY session may be without a client; None for any time."""


@dataclass(slots=True, frozen=True)
class Since:
    """When a state was first seen here; `at_least` if it was so from the start."""

    moment: datetime
    at_least: bool = False


@dataclass(slots=True, frozen=True)
class AttentionItem:
    """One line of the attention list; `key` is that of the server or session it is about."""

    key: Key
    trouble: Trouble
    kind: str
    """`server`, `session` or `broker`."""
    name: str
    state: str
    reason: str
    since: Since | None
    fix: str
    """The id of the binding that helps, and its words."""
    fix_label: str


@dataclass(slots=True)
class FirstSeen:
    """Since when each server and session is in its present unusual state.

    Only unusual states are kept, so that this stays small in a large fleet.
    """

    servers: dict[Key, tuple[str, Since]] = field(default_factory=dict)
    sessions: dict[Key, tuple[str, Since]] = field(default_factory=dict)

    def note(self, difference: Difference, now: datetime, *, first_load: bool) -> None:
        """Remember what changed; `first_load` while the fleet is read for the first time."""
        for server in difference.servers.present():
            is_usual = server.availability == Availability.AVAILABLE
            condition = None if is_usual else server.unavailability_reason
            _remember(self.servers, server.key, condition, Since(now, first_load))
        for session in difference.sessions.present():
            is_usual = session.state in _QUIET_STATES
            condition = None if is_usual else f"{session.state}/{session.substate}"
            _remember(self.sessions, session.key, condition, Since(now, first_load))
        for gone in difference.servers.removed:
            self.servers.pop(gone.key, None)
        for ended in difference.sessions.removed:
            self.sessions.pop(ended.key, None)


def _remember(kept: dict[Key, tuple[str, Since]], key: Key, condition: str | None, since: Since) -> None:
    if condition is None:
        kept.pop(key, None)
    elif key not in kept or kept[key][0] != condition:
        kept[key] = (condition, since)


def attention(
    snapshot: Snapshot,
    first_seen: FirstSeen,
    now: datetime,
    limits: Limits,
    draining: Collection[Key] = (),
) -> list[AttentionItem]:
    """List what needs a person now, worst first, then oldest first.

    Args:
        snapshot: the fleet.
        first_seen: since when it is so, fed with every difference.
        now: the broker's time.
        limits: how long is too long.
        draining: servers that were closed from here on purpose; they come last.
    """
    items = [*_session_troubles(snapshot, first_seen, now, limits), *_idle(snapshot, now, limits)]
    is_waiting = any(state == "CREATING/SESSION_PLACING" for state, _ in first_seen.sessions.values())
    for key, (_, since) in first_seen.servers.items():
        server = snapshot.servers.get(key)
        if server is not None:
            is_lost = _is_due(since, now, limits.lost)
            found = _server_trouble(server, since, is_lost, is_waiting, key in draining)
            items.extend(found)
    items.sort(key=lambda item: (item.trouble, item.since.moment if item.since else now, item.name, item.key))
    return items


def _is_due(since: Since, now: datetime, limit: timedelta) -> bool:
    # What was so from the start may have lasted for hours: it counts at once.
    return since.at_least or now - since.moment >= limit


def _server_trouble(
    server: ServerRecord, since: Since, is_lost: bool, is_waiting: bool, is_draining: bool
) -> Iterator[AttentionItem]:
    reason = server.unavailability_reason
    count = server.sessions
    held = f"{count} session{'' if count == 1 else 's'}" if count else "no sessions"

    def item(trouble: Trouble, text: str, fix: str, label: str) -> AttentionItem:
        return AttentionItem(
            server.key, trouble, "server", server.name, reason or server.availability, text, since, fix, label
        )

    if reason == UnavailabilityReason.UNREACHABLE_AGENT and is_lost:
        text = f"the agent is not reachable, {held}"
        yield item(Trouble.UNREACHABLE, text, "list.open-row", "sessions")
    elif reason == UnavailabilityReason.UNHEALTHY_DCV_SERVER and is_lost:
        text = f"the agent cannot talk to the DCV server, {held}"
        yield item(Trouble.UNHEALTHY, text, "list.open-row", "sessions")
    elif reason == UnavailabilityReason.SERVER_FULL and is_waiting:
        text = f"full with {held} while sessions wait for a server"
        yield item(Trouble.FULL, text, "list.open-row", "sessions")
    elif reason == UnavailabilityReason.SERVER_CLOSED and is_draining:
        text = f"draining, {held} left" if count else "drained, ready to be worked on"
        yield item(Trouble.DRAINING, text, "servers.open-marked", "open")
    elif reason == UnavailabilityReason.SERVER_CLOSED and count:
        yield item(Trouble.CLOSED, f"closed with {held} still running", "servers.open-marked", "open")


def _session_troubles(
    snapshot: Snapshot, first_seen: FirstSeen, now: datetime, limits: Limits
) -> Iterator[AttentionItem]:
    for key, (_, since) in first_seen.sessions.items():
        session = snapshot.sessions.get(key)
        if session is None:
            continue
        if session.state == SessionState.UNKNOWN and _is_due(since, now, limits.lost):
            text = session.state_reason or "the broker gives no reason"
            fix = ("sessions.open-server", "its server") if session.server_id else _DELETE
            yield _session_item(session, Trouble.UNKNOWN, text, since, fix)
        elif (limit := _stuck_after(session, limits)) and _is_stuck(session, since, now, limit):
            text = session.state_reason or _STUCK_TEXTS.get(session.substate or session.state, "stuck")
            yield _session_item(session, Trouble.STUCK, text, since, _DELETE)


_DELETE = ("sessions.delete-marked", "delete")
_STUCK_TEXTS = {
    SessionSubstate.SESSION_PLACING.value: "no server takes it",
    SessionSubstate.PENDING_PREPARATION.value: "the host does not finish preparing it",
    SessionState.DELETING.value: "the host does not confirm the deletion",
}


def _stuck_after(session: SessionRecord, limits: Limits) -> timedelta | None:
    if session.state == SessionState.DELETING:
        return limits.deleting
    if session.substate == SessionSubstate.PENDING_PREPARATION:
        return limits.preparing
    if session.substate == SessionSubstate.SESSION_PLACING:
        return limits.placing
    return None


def _is_stuck(session: SessionRecord, since: Since, now: datetime, limit: timedelta) -> bool:
    if session.state == SessionState.CREATING and since.at_least and session.creation_time:
        # A session still being created has been so since its request was accepted.
        return now - session.creation_time >= limit
    return now - since.moment >= limit


def _session_item(
    session: SessionRecord, trouble: Trouble, text: str, since: Since | None, fix: tuple[str, str]
) -> AttentionItem:
    state = f"{session.state} {session.substate}".strip()
    return AttentionItem(
        session.key, trouble, "session", session.name or session.id, state, text, since, fix[0], fix[1]
    )


def _idle(snapshot: Snapshot, now: datetime, limits: Limits) -> Iterator[AttentionItem]:
    if limits.idle is None:
        return
    for session in snapshot.sessions.values():
        since = session.idle_since
        if since is not None and now - since >= limits.idle:
            yield _session_item(session, Trouble.IDLE, "nobody has been connected", Since(since), _DELETE)
