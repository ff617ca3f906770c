"""The broker's whole state in memory: servers, sessions, open commands, and their indexes.

`Fleet` keeps what belongs together consistent (counts, indexes, cached JSON, what
has to be stored) and knows no rule of the life cycle: those are in `creation`,
`deletion` and `observation`, which are the only ones to call what changes anything
here, and only while the registry works on an event.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from broker_stub.broker.changes import Changed, ChangeLog
from broker_stub.broker.events import (
    CancelCommand,
    Change,
    Command,
    RemoveCommand,
    RemoveServer,
    RemoveSession,
    Row,
    Rules,
    SaveCommand,
    SaveServer,
    SaveSession,
    SendCommand,
)
from broker_stub.broker.listing import Listing
from broker_stub.broker.placement import Placement, Queue
from broker_stub.broker.requirement_facts import requirement_facts
from broker_stub.broker.server import (
    ServerRecord,
    lasting_block,
    server_row,
    tags_of_block,
)
from broker_stub.broker.session import SessionRecord, session_row
from broker_stub.channel import CommandKind
from dcvtui.api.states import SessionState, SessionSubstate, SessionType


@dataclass(slots=True, eq=False)
class OpenCommand:
    """An order to a host without a result so far."""

    id: str
    server_id: str
    session_key: str
    kind: CommandKind
    attempt: int
    deadline_at: datetime
    payload: dict[str, Any]

    def to_row(self) -> Row:
        """What the store keeps."""
        return {
            "serverId": self.server_id,
            "sessionKey": self.session_key,
            "kind": self.kind.value,
            "attempt": self.attempt,
            "deadlineAt": self.deadline_at.isoformat(),
            "payload": self.payload,
        }

    @staticmethod
    def of_row(command_id: str, row: Mapping[str, Any]) -> "OpenCommand":
        """The command that a row was made of."""
        return OpenCommand(
            command_id,
            row["serverId"],
            row["sessionKey"],
            CommandKind(row["kind"]),
            row["attempt"],
            datetime.fromisoformat(row["deadlineAt"]),
            row["payload"],
        )


@dataclass(slots=True)
class _Unsaved:
    sessions: dict[str, SessionRecord | None] = field(default_factory=dict)
    servers: dict[str, Row | ServerRecord | None] = field(default_factory=dict)
    commands: dict[str, OpenCommand | None] = field(default_factory=dict)
    outgoing: list[Command] = field(default_factory=list)


class Fleet:
    """Servers, sessions and open commands. Change it only while the registry handles an event."""

    def __init__(self, rules: Rules, new_id: Callable[[], str]) -> None:
        self.rules = rules
        self.new_id = new_id
        self.servers: dict[str, ServerRecord] = {}
        self.server_list: Listing[ServerRecord] = Listing()
        self.sessions: dict[str, SessionRecord] = {}
        self.session_list: Listing[SessionRecord] = Listing()
        self.sessions_by_id: dict[str, list[SessionRecord]] = {}
        self.sessions_by_owner: defaultdict[str, Listing[SessionRecord]] = defaultdict(Listing)
        self.sessions_by_tag: defaultdict[tuple[str, str], Listing[SessionRecord]] = defaultdict(Listing)
        self.session_states: Counter[SessionState] = Counter()
        self.commands: dict[str, OpenCommand] = {}
        self._commands_by_server: dict[str, dict[str, OpenCommand]] = {}
        self.closed_marks: dict[str, datetime] = {}
        """Servers that are gone but were closed, with the time they were last seen."""
        self.placement = Placement(self.servers)
        self.queue = Queue()
        self.least_update_interval_s = 0.0
        """What agents were told not to go below, whatever interval they said they keep."""
        self.is_queue_due = False
        """Something happened that the queue waits for."""
        self._timers: list[tuple[datetime, int, str, str]] = []
        self._timer_number = 0
        self._unsaved = _Unsaved()
        self.changes = ChangeLog()

    # -------------------------------------------------------------- sessions

    def add_session(self, record: SessionRecord, *, save: bool = True) -> None:
        """Take a new session in; its server, if it has one, must be here already."""
        order_key = record.order_key
        self.sessions[record.key] = record
        self.session_list.add(order_key, record)
        self.sessions_by_id.setdefault(record.id, []).append(record)
        self.sessions_by_owner[record.owner].add(order_key, record)
        self.session_states[record.state] += 1
        if record.server_id is not None:
            self._attach(record, self.servers[record.server_id])
        if save:
            self.touch_session(record)

    def remove_session(self, record: SessionRecord) -> None:
        """Forget a session as if it had never been."""
        server_id = record.server_id
        self.unbind(record)
        self.queue.discard(record)
        del self.sessions[record.key]
        self.session_list.discard(record.order_key)
        same_id = self.sessions_by_id[record.id]
        same_id.remove(record)
        if not same_id:
            del self.sessions_by_id[record.id]
        self._unlist(self.sessions_by_owner, record.owner, record)
        self.session_states[record.state] -= 1
        self._unsaved.sessions[record.key] = None
        self.changes.note(Changed(True, record.key, record.id, server_id))

    def bind(self, record: SessionRecord, server: ServerRecord) -> None:
        """Let a session take a place on a server."""
        self.unbind(record)
        record.server_id = server.id
        self._attach(record, server)
        self.touch_session(record)

    def unbind(self, record: SessionRecord) -> None:
        """Take a session off its server, if it is on one."""
        if record.server_id is None:
            return
        server = self.servers[record.server_id]
        for tag in server.tags.items():
            self._unlist(self.sessions_by_tag, tag, record)
        del server.sessions[record.key]
        if record.is_counted:
            self._count(server, record, -1)
        record.server_id = None
        self.touch_session(record)

    def set_state(
        self,
        record: SessionRecord,
        state: SessionState,
        substate: SessionSubstate | None = None,
        reason: str | None = None,
        *,
        save: bool = True,
    ) -> None:
        """Write a state down. Whether the transition is allowed is the caller's business."""
        was_counted = record.is_counted
        self.session_states[record.state] -= 1
        record.state, record.substate, record.state_reason = state, substate, reason
        self.session_states[state] += 1
        if record.server_id is not None and was_counted != record.is_counted:
            self._count(self.servers[record.server_id], record, -1 if was_counted else +1)
        self.touch_session(record, save=save)

    def touch_session(self, record: SessionRecord, *, save: bool = True) -> None:
        """Note that a session's own fields changed."""
        record.own_json = record.part = None
        self.changes.note(Changed(True, record.key))
        if save:
            self._unsaved.sessions[record.key] = record

    def _attach(self, record: SessionRecord, server: ServerRecord) -> None:
        server.sessions[record.key] = record
        order_key = record.order_key
        for tag in server.tags.items():
            self.sessions_by_tag[tag].add(order_key, record)
        if record.is_counted:
            self._count(server, record, +1)

    def _count(self, server: ServerRecord, record: SessionRecord, step: int) -> None:
        if record.type == SessionType.CONSOLE:
            server.console_count += step
        else:
            server.virtual_count += step
        if step < 0:
            self.is_queue_due = True
        self.touch_server(server, save=False)

    @staticmethod
    def _unlist(lists: dict[Any, Listing[SessionRecord]], name: Any, record: SessionRecord) -> None:
        listing = lists.get(name)
        if listing is not None:
            listing.discard(record.order_key)
            if not listing:
                del lists[name]

    # -------------------------------------------------------------- servers

    def add_server(self, server: ServerRecord, *, save: bool = True) -> None:
        """Take a new server in."""
        self.servers[server.id] = server
        self.server_list.add((server.id,), server)
        self.touch_server(server, save=save)
        self.is_queue_due = True

    def remove_server(self, server: ServerRecord, closed_mark: datetime | None = None) -> None:
        """Forget a server that has no sessions left.

        Args:
            server: the server.
            closed_mark: when it was last seen, if it has to be remembered as closed.
        """
        if server.sessions:
            raise ValueError(f"server {server.id} still has sessions")
        del self.servers[server.id]
        self.server_list.discard((server.id,))
        self.placement.touch(server)
        self._unsaved.servers[server.id] = None
        self.changes.note(Changed(False, server.id))
        if closed_mark is not None:
            self.closed_marks[server.id] = closed_mark
            self._unsaved.servers[server.id] = {"id": server.id, "closedMark": closed_mark.isoformat()}

    def remove_closed_mark(self, server_id: str) -> None:
        """Forget that a server which is gone was closed."""
        del self.closed_marks[server_id]
        if server_id not in self.servers:
            self._unsaved.servers[server_id] = None

    def touch_server(self, server: ServerRecord, *, save: bool = True) -> None:
        """Note that something changed which sessions show with their server."""
        if server.brief_json is not None:  # else no part was put together with it
            for record in server.sessions.values():
                record.part = None
        server.brief_json = server.part = None
        self.changes.note(Changed(False, server.id))
        self.placement.touch(server)
        if save:
            self._unsaved.servers[server.id] = server

    def touch_metrics(self, server: ServerRecord) -> None:
        """Note that only metrics changed: the JSON of sessions stays as it is."""
        server.part = None
        server.are_metrics_new = True
        self.changes.note(Changed(False, server.id))
        self.placement.touch_load(server)

    def set_block(self, server: ServerRecord, block: dict[str, Any]) -> None:
        """Give a server a new block of facts, and its tags to the index."""
        is_lasting_changed = lasting_block(block) != lasting_block(server.block)
        tags = tags_of_block(block)
        if tags != server.tags:
            for tag in server.tags.items() - tags.items():
                for record in server.sessions.values():
                    self._unlist(self.sessions_by_tag, tag, record)
            for tag in tags.items() - server.tags.items():
                for record in server.sessions.values():
                    self.sessions_by_tag[tag].add(record.order_key, record)
        server.block, server.tags = block, tags
        server.facts = server.lasting_json = None
        # Now, not when placement first asks: those of a whole fleet would hold everybody up.
        requirement_facts(server)
        if is_lasting_changed:  # sessions show the name of their server
            for key in server.sessions:
                self.changes.note(Changed(True, key))
        self.touch_server(server, save=is_lasting_changed)
        self.is_queue_due = True

    # -------------------------------------------------------------- commands

    def file_command(self, command: OpenCommand) -> None:
        """Keep an order until it has a result; it is looked at when its deadline has come."""
        self.commands[command.id] = command
        self._commands_by_server.setdefault(command.server_id, {})[command.id] = command
        self.call_at(command.deadline_at, "command", command.id)

    def commands_for(self, server_id: str) -> list[OpenCommand]:
        """The open orders to one host, oldest first."""
        return list(self._commands_by_server.get(server_id, {}).values())

    def open_command(self, command: OpenCommand) -> None:
        """File a new order and send it if there is a channel; else it goes with the next hello."""
        self.file_command(command)
        self._unsaved.commands[command.id] = command
        self.send_command(command)

    def send_command(self, command: OpenCommand) -> None:
        """Send an order (again), if there is a channel."""
        if self.servers[command.server_id].channel_id is not None:
            self._unsaved.outgoing.append(
                SendCommand(
                    command.server_id,
                    command.id,
                    command.kind.value,
                    command.attempt,
                    command.deadline_at,
                    command.payload,
                )
            )

    def just_sent(self) -> set[str]:
        """Ids of the orders that go out with this event."""
        return {command.command_id for command in self._unsaved.outgoing if isinstance(command, SendCommand)}

    def postpone_command(self, command: OpenCommand, deadline_at: datetime) -> None:
        """Give an order a new deadline."""
        command.deadline_at = deadline_at
        self._unsaved.commands[command.id] = command
        self.call_at(deadline_at, "command", command.id)

    def close_command(self, command_id: str | None, *, cancel: bool = False) -> None:
        """Forget an order, if it is still open; with `cancel` the host is told, too."""
        command = self.commands.pop(command_id, None) if command_id else None
        if command is None:
            return
        self._unsaved.commands[command.id] = None
        of_server = self._commands_by_server[command.server_id]
        del of_server[command.id]
        if not of_server:
            del self._commands_by_server[command.server_id]
        server = self.servers.get(command.server_id)
        if cancel and server is not None and server.channel_id is not None:
            self._unsaved.outgoing.append(CancelCommand(server.id, command.id))

    def order_once(
        self, server: ServerRecord, kind: CommandKind, payload: dict[str, Any], now: datetime
    ) -> None:
        """Send an order that nobody waits for and that is never repeated on another channel."""
        if server.channel_id is not None:
            deadline = now + timedelta(seconds=self.rules.close_deadline_s)
            self._unsaved.outgoing.append(
                SendCommand(server.id, self.new_id(), kind.value, 1, deadline, payload)
            )

    def hand_over(self, old: ServerRecord, new: ServerRecord) -> None:
        """Give everything that is on one server to another: the same host under a new id."""
        for record in list(old.sessions.values()):
            if not record.is_found:
                self.bind(record, new)
                continue
            former = record.key
            self.remove_session(record)
            record.host_id = record.server_id = new.id
            self.add_session(record)
            for command in self.commands_for(old.id):
                if command.session_key == former:
                    command.session_key = record.key
        for command in self.commands_for(old.id):
            command.server_id = new.id
            self._commands_by_server.setdefault(new.id, {})[command.id] = command
            self._unsaved.commands[command.id] = command
        self._commands_by_server.pop(old.id, None)
        new.forced_away.update(old.forced_away)

    # -------------------------------------------------------------- time

    def call_at(self, at: datetime, kind: str, key: str) -> None:
        """Have something looked at when that time has come; looking twice does no harm."""
        self._timer_number += 1
        heapq.heappush(self._timers, (at, self._timer_number, kind, key))

    def call_after(self, now: datetime, seconds: float, kind: str, key: str) -> None:
        """Have something looked at after so many seconds."""
        self.call_at(now + timedelta(seconds=seconds), kind, key)

    def next_call(self, now: datetime) -> tuple[str, str] | None:
        """Take out something that is due."""
        if self._timers and self._timers[0][0] <= now:
            _, _, kind, key = heapq.heappop(self._timers)
            return kind, key
        return None

    def next_call_at(self) -> datetime | None:
        """When something is due next."""
        return self._timers[0][0] if self._timers else None

    # -------------------------------------------------------------- what to store and to send

    def take_changes(self) -> tuple[list[Change], list[Command]]:
        """What has changed since the last time, one change for each entity, and what is to be sent."""
        unsaved = self._unsaved
        if not (unsaved.sessions or unsaved.servers or unsaved.commands or unsaved.outgoing):
            return [], []
        self._unsaved = _Unsaved()
        changes: list[Change] = []
        for server_id, server in unsaved.servers.items():
            if server is None:
                changes.append(RemoveServer(server_id))
            else:
                row = server_row(server) if isinstance(server, ServerRecord) else server
                changes.append(SaveServer(server_id, row))
        for key, record in unsaved.sessions.items():
            changes.append(SaveSession(key, session_row(record)) if record else RemoveSession(key))
        for command_id, command in unsaved.commands.items():
            changes.append(
                SaveCommand(command_id, command.to_row()) if command else RemoveCommand(command_id)
            )
        return changes, unsaved.outgoing
