"""The broker's state: events go in, changes to store and commands to send come out.

Nothing here waits, opens a socket or reads a clock: the caller passes the time
and carries out what the `Outcome` says, the changes first. The rules stand in the
modules this one is made of: `creation` (placing, trying again), `deletion`,
`observation` (what hosts report), `hello`, over the state in `fleet`.

Warning: the state changes only through `Registry.handle`. Records that are
handed out are for reading.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from broker_stub.broker import creation, deletion, hello, observation
from broker_stub.broker.events import (
    Accepted,
    AgentConnected,
    AgentDisconnected,
    ClockAdvanced,
    CommandExpired,
    CommandFinished,
    Event,
    FleetChanges,
    Outcome,
    Page,
    PermissionsUpdateRequested,
    Refused,
    ReportsPaced,
    Rules,
    RulesChanged,
    ServerClosingRequested,
    ServerOpeningRequested,
    ServerReported,
    SessionDeletionRequested,
    SessionRequested,
    SessionsReported,
    Stored,
    Tally,
)
from broker_stub.broker.fleet import Fleet, OpenCommand
from broker_stub.broker.listing import Key, Listing
from broker_stub.broker.server import ServerRecord, brief_json, server_of_row, server_part, unavailability
from broker_stub.broker.session import SessionRecord, session_of_row, session_part
from broker_stub.broker.session_request import is_blank
from dcvtui.api.states import SessionState

SERVER_NOT_FOUND = Refused("Dcv server not found.", "DCV_SERVER_NOT_FOUND")
SERVER_HAS_SESSIONS = Refused("Dcv server has running sessions.", "DCV_SERVER_HAS_SESSIONS")
SERVER_ID_REQUIRED = Refused("ServerId is required", "INVALID_REQUEST")

LOOKED_AT_ONCE = 25
"""Things the time demands that are done in one event, before others get their turn."""

Filters = Sequence[tuple[str, str]]


def _uuid() -> str:
    return str(uuid4())


class Registry:
    """Servers and sessions. Change it only through `handle`.

    Args:
        rules: limits and times.
        new_id: makes ids of sessions and commands.
    """

    def __init__(self, rules: Rules, new_id: Callable[[], str] = _uuid) -> None:
        self._rules = rules
        self._fleet = Fleet(rules, new_id)
        self._started_at: datetime | None = None
        self._queue_looked_at: datetime | None = None

    # -------------------------------------------------------------- start

    def restore(self, stored: Stored, now: datetime) -> None:
        """Take over what the store held. Until agents say hello nothing is known of their hosts."""
        fleet = self._fleet
        self._started_at = now
        for server_id, row in stored.servers.items():
            if "closedMark" in row:
                seen_at = datetime.fromisoformat(row["closedMark"])
                fleet.closed_marks[server_id] = seen_at
                forgotten_at = seen_at + timedelta(seconds=self._rules.closed_mark_kept_s)
                fleet.call_at(forgotten_at, "mark", server_id)
                continue
            server = server_of_row(row)
            fleet.add_server(server, save=False)
            observation.watch(fleet, server, now + timedelta(seconds=self._rules.startup_grace_s))
        records = [session_of_row(row) for row in stored.sessions.values()]
        for record in sorted(records, key=lambda record: record.order_key):
            self._restore_session(record, now)
        for record in sorted(records, key=_queue_number):
            if record.is_queued:
                fleet.queue.add(record)
        for command_id, row in stored.commands.items():
            command = OpenCommand.of_row(command_id, row)
            # Agents need a moment to come back: no attempt is given up before they had it.
            grace_ends = now + timedelta(seconds=self._rules.startup_grace_s)
            command.deadline_at = max(command.deadline_at, grace_ends)
            fleet.file_command(command)

    def _restore_session(self, record: SessionRecord, now: datetime) -> None:
        fleet = self._fleet
        if record.server_id is not None and record.server_id not in fleet.servers:
            record.server_id = None
        if record.state in (SessionState.READY, SessionState.DELETING):
            record.state, record.state_reason = SessionState.UNKNOWN, deletion.NO_AGENT
        fleet.add_session(record, save=False)
        due = self._ends_at(record) or now
        grace_ends = now + timedelta(seconds=self._rules.startup_grace_s)
        if record.ended_at is not None or record.state == SessionState.CREATING:
            fleet.call_at(max(due, grace_ends), "session", record.key)

    # -------------------------------------------------------------- events

    def handle(self, event: Event, now: datetime) -> Outcome:
        """Work on one event.

        Args:
            event: what happened.
            now: when, aware, in UTC; never before the event handled last.

        Returns:
            The result for whoever asked, what to store, and what to send once it is stored.
        """
        if self._started_at is None:
            self._started_at = now
        result = self._dispatch(event, now)
        if self._fleet.is_queue_due:
            self._look_at_queue(now)
        changes, commands = self._fleet.take_changes()
        return Outcome(result, changes, commands)

    def _dispatch(self, event: Event, now: datetime) -> Any:
        fleet = self._fleet
        match event:
            case ServerReported():
                return observation.server_reported(fleet, event, now)
            case SessionsReported():
                return observation.sessions_reported(fleet, event, now)
            case CommandFinished():
                return observation.command_finished(fleet, event, now)
            case ClockAdvanced():
                return self._advance(now)
            case SessionRequested(request):
                return creation.request_session(fleet, request, now)
            case SessionDeletionRequested(session_id, owner, force):
                return deletion.request_deletion(fleet, session_id, owner, now, force=bool(force))
            case PermissionsUpdateRequested(session_id, owner, file):
                return deletion.request_permissions(fleet, session_id, owner, file, now)
            case ServerOpeningRequested(server_id):
                return self._open_server(server_id)
            case ServerClosingRequested(server_id, force):
                return self._close_server(server_id, force=bool(force))
            case AgentConnected():
                return hello.connected(fleet, event, now)
            case AgentDisconnected():
                return observation.disconnected(fleet, event, now)
            case CommandExpired(command_id):
                return self._look_at("command", command_id, now)
            case ReportsPaced(least_interval_s):
                return observation.pace_reports(fleet, least_interval_s, now)
            case RulesChanged(rules):
                return self._change_rules(rules, now)

    def _change_rules(self, rules: Rules, now: datetime) -> None:
        """Take other limits and times; what waits is looked at when the new times say so."""
        fleet = self._fleet
        self._rules = fleet.rules = rules
        for record in fleet.sessions.values():
            if ends_at := self._ends_at(record):
                fleet.call_at(max(ends_at, now), "session", record.key)
        for server in fleet.servers.values():
            for seconds in (rules.unreachable_sessions_kept_s, rules.unreachable_server_kept_s):
                if server.unreachable_since is not None and seconds is not None:
                    due = server.unreachable_since + timedelta(seconds=seconds)
                    fleet.call_at(max(due, now), "server", server.id)

    def _ends_at(self, record: SessionRecord) -> datetime | None:
        """When a session is forgotten, or given up because no server takes it; `None` for any other."""
        if record.ended_at is not None:
            return record.ended_at + timedelta(seconds=self._rules.deleted_session_kept_s)
        if record.is_queued and record.creation and record.creation.queued_at:
            return record.creation.queued_at + timedelta(seconds=self._rules.queue_max_time_s)
        return None

    def _open_server(self, server_id: str | None) -> Accepted | Refused:
        server, refused = self._named_server(server_id)
        if server_id in self._fleet.closed_marks:
            self._fleet.remove_closed_mark(server_id)
            return Accepted()
        if server is None:
            return refused
        if not server.open:
            server.open = True
            self._fleet.touch_server(server)
            self._fleet.is_queue_due = True
        return Accepted()

    def _close_server(self, server_id: str | None, *, force: bool) -> Accepted | Refused:
        server, refused = self._named_server(server_id)
        if server is None:
            return refused
        if server.session_count and not force and server.open:
            return SERVER_HAS_SESSIONS
        if server.open:
            server.open = False
            self._fleet.touch_server(server)
        return Accepted()

    def _named_server(self, server_id: str | None) -> tuple[ServerRecord | None, Refused]:
        if server_id is None or is_blank(server_id):
            return None, SERVER_ID_REQUIRED
        return self._fleet.servers.get(server_id), SERVER_NOT_FOUND

    # -------------------------------------------------------------- time

    def next_wakeup(self, now: datetime) -> datetime | None:
        """When `ClockAdvanced` is due at the latest; `None` while nothing depends on the time."""
        due = self._fleet.next_call_at()
        if len(self._fleet.queue):
            looked_at = self._queue_looked_at
            is_due = looked_at is None or self._fleet.is_queue_due
            look_at = now if is_due or looked_at is None else looked_at + self._queue_interval
            due = look_at if due is None else min(due, look_at)
        return due

    @property
    def _queue_interval(self) -> timedelta:
        return timedelta(seconds=self._rules.queue_look_interval_s)

    def _advance(self, now: datetime) -> None:
        # A fleet that is lost at once is due at once; the rest is due again right after this.
        for _ in range(LOOKED_AT_ONCE):
            call = self._fleet.next_call(now)
            if call is None:
                break
            self._look_at(*call, now)
        looked_at = self._queue_looked_at
        if len(self._fleet.queue) and (looked_at is None or now >= looked_at + self._queue_interval):
            self._look_at_queue(now)

    def _look_at_queue(self, now: datetime) -> None:
        self._queue_looked_at = now
        creation.look_at_queue(self._fleet, now)

    def _look_at(self, kind: str, key: str, now: datetime) -> None:
        fleet = self._fleet
        if kind == "server":
            if server := fleet.servers.get(key):
                observation.look_at_server(fleet, server, self._started_at or now, now)
        elif kind == "command":
            if command := fleet.commands.get(key):
                observation.expire_command(fleet, command, now)
        elif kind == "session":
            if record := fleet.sessions.get(key):
                self._look_at_session(record, now)
        elif kind == "forced":
            server_id, _, session_id = key.partition("/")
            observation.end_forced(fleet, server_id, session_id, now)
        elif kind == "mark":
            seen_at = fleet.closed_marks.get(key)
            if seen_at and now >= seen_at + timedelta(seconds=self._rules.closed_mark_kept_s):
                fleet.remove_closed_mark(key)

    def _look_at_session(self, record: SessionRecord, now: datetime) -> None:
        if record.is_queued:
            creation.end_waiting(self._fleet, record, now)
        elif record.is_preparing and record.create_command not in self._fleet.commands:
            # The store lost the order: without it nothing would ever end the attempt.
            creation.fail_attempt(self._fleet, record, creation.NO_ANSWER, now)
        else:
            deletion.remove_ended(self._fleet, record, now)

    # -------------------------------------------------------------- reads

    def describe_sessions(
        self, ids: Sequence[str] | None, filters: Filters, limit: int, after: Key | None = None
    ) -> Page:
        """A page of sessions in order of creation.

        Args:
            ids: only these; all if `None` or empty.
            filters: pairs of `owner` or `tag:<key>` and a value, all of which must hold.
            limit: how many at most.
            after: `next_key` of the page before.
        """
        listing, accept = self._choose_listing(ids, filters)
        records, next_key = listing.page(limit, after, accept)
        servers = self._fleet.servers
        parts = [
            record.part
            or session_part(record, brief_json(servers[record.server_id]) if record.server_id else None)
            for record in records
        ]
        return Page(parts, next_key)

    def _choose_listing(
        self, ids: Sequence[str] | None, filters: Filters
    ) -> tuple[Listing[SessionRecord], Callable[[SessionRecord], bool] | None]:
        """The shortest list that holds all that is asked for, and what else must be checked."""
        listings = [self._filter_listing(*one) for one in filters]
        if ids:
            by_id: Listing[SessionRecord] = Listing()
            for session_id in set(ids):
                for record in self._fleet.sessions_by_id.get(session_id, ()):
                    by_id.add(record.order_key, record)
            return by_id, (lambda record: self._passes(record, filters)) if filters else None
        if not listings:
            return self._fleet.session_list, None
        shortest = min(listings, key=len)
        return shortest, (lambda record: self._passes(record, filters)) if len(filters) > 1 else None

    def _filter_listing(self, key: str, value: str) -> Listing[SessionRecord]:
        if key.lower() == "owner":
            return self._fleet.sessions_by_owner.get(value) or Listing()
        return self._fleet.sessions_by_tag.get((key.removeprefix("tag:"), value)) or Listing()

    def _passes(self, record: SessionRecord, filters: Filters) -> bool:
        server = self._fleet.servers[record.server_id] if record.server_id is not None else None
        for key, value in filters:
            if key.lower() == "owner":
                if record.owner != value:
                    return False
            elif server is None or server.tags.get(key.removeprefix("tag:")) != value:
                return False
        return True

    def describe_servers(self, ids: Sequence[str] | None, limit: int, after: Key | None = None) -> Page:
        """A page of servers in order of their ids; the arguments are those of `describe_sessions`."""
        listing = self._fleet.server_list
        if ids:
            listing = Listing()
            for server_id in set(ids):
                if server := self._fleet.servers.get(server_id):
                    listing.add((server_id,), server)
        records, next_key = listing.page(limit, after)
        return Page([record.part or server_part(record) for record in records], next_key)

    def session(self, session_id: str, owner: str | None = None) -> SessionRecord | None:
        """The session that a request names, the owner's one where several have the id.

        Raises:
            Ambiguous: several servers have a session with that id, and the owner does not tell which.
        """
        return deletion.find(self._fleet, session_id, owner)

    def session_json(self, record: SessionRecord) -> bytes:
        """A session's JSON with its server, as pages hold it."""
        if record.part is not None:
            return record.part
        server = self._fleet.servers[record.server_id] if record.server_id is not None else None
        return session_part(record, brief_json(server) if server else None)

    @property
    def change_number(self) -> int:
        """Of the last change of any server or session."""
        return self._fleet.changes.number

    def changes_since(self, number: int, most: int) -> FleetChanges | None:
        """What became of servers and sessions after a change.

        Args:
            number: of the last change that is known.
            most: how many entities at most; the oldest changes come first.

        Returns:
            Each entity once, as it is now; `None` if so much has happened that all is to be read anew.
        """
        found = self._fleet.changes.since(number, most)
        if found is None:
            return None
        changes = FleetChanges(number=found[1])
        for changed in found[0]:
            if not changed.is_session:
                server = self._fleet.servers.get(changed.key)
                if server is None:
                    changes.gone_servers.append(changed.key)
                else:
                    changes.servers.append(server.part or server_part(server))
            elif record := self._fleet.sessions.get(changed.key):
                changes.sessions.append(self.session_json(record))
            else:
                changes.gone_sessions.append((changed.id, changed.server_id))
        return changes

    @staticmethod
    def is_connectable(record: SessionRecord) -> bool:
        """Whether clients may be told how to connect: READY, or UNKNOWN with a server (API, 10)."""
        return record.state == SessionState.READY or record.is_out_of_sight

    def server(self, server_id: str) -> ServerRecord | None:
        """The server with that id."""
        return self._fleet.servers.get(server_id)

    def queue_length(self) -> int:
        """How many sessions wait for a server."""
        return len(self._fleet.queue)

    def counts(self) -> dict[str, int]:
        """Numbers for health and metrics: servers, sessions by state, what waits."""
        servers = self._fleet.servers.values()
        available = sum(1 for server in servers if unavailability(server) is None)
        return {
            "servers": len(servers),
            "servers_available": available,
            "sessions": len(self._fleet.sessions),
            **{
                f"sessions_{state.value.lower()}": self._fleet.session_states[state] for state in SessionState
            },
            "queued": len(self._fleet.queue),
            "open_commands": len(self._fleet.commands),
        }

    def tally(self) -> Tally:
        """The fleet in numbers, by kind; looks at every record."""
        fleet = self._fleet
        reasons = Counter(unavailability(server) for server in fleet.servers.values())
        waiting = [
            record.creation.queued_at
            for record in fleet.queue
            if record.creation and record.creation.queued_at
        ]
        sessions = Counter((record.type, record.state) for record in fleet.sessions.values())
        return Tally(
            servers=Counter(
                {
                    ("UNAVAILABLE" if reason else "AVAILABLE", reason.value if reason else ""): number
                    for reason, number in reasons.items()
                }
            ),
            sessions=Counter({(str(kind), str(state)): number for (kind, state), number in sessions.items()}),
            queued=len(fleet.queue),
            queued_since=min(waiting, default=None),
        )


def _queue_number(record: SessionRecord) -> int:
    return record.creation.queue_number if record.creation else 0
