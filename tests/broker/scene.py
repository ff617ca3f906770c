"""A broker without I/O for tests: a registry, a clock, a disk that is three dictionaries, and hosts.

`Scene.check` holds what must be true after any event whatsoever.
"""

import json
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from broker_stub.broker.events import (
    Accepted,
    AgentConnected,
    AgentDisconnected,
    CancelCommand,
    ClockAdvanced,
    CommandFinished,
    Event,
    HelloAnswer,
    Outcome,
    PermissionsUpdateRequested,
    Refused,
    RemoveCommand,
    RemoveServer,
    RemoveSession,
    Rules,
    SaveCommand,
    SaveServer,
    SaveSession,
    SendCommand,
    ServerClosingRequested,
    ServerOpeningRequested,
    ServerReported,
    SessionDeletionRequested,
    SessionRequested,
    SessionsReported,
    Stored,
)
from broker_stub.broker.placement import standing_of
from broker_stub.broker.registry import Registry
from broker_stub.broker.requirement_facts import requirement_facts
from broker_stub.broker.server import (
    MAX_SESSIONS_PER_USER_TAG,
    MAX_VIRTUAL_SESSIONS_TAG,
    brief_json,
    server_part,
    server_row,
)
from broker_stub.broker.session import SessionRecord, session_part, session_row
from dcvtui.api.models import CreateSessionRequestData, Server, WireModel, read_request
from dcvtui.api.models import Session as WireSession

START = datetime(2026, 3, 30, 12, tzinfo=UTC)


def tag_list(**tags: str) -> list[dict[str, str]]:
    """Tags as a host reports them; `dcv_` stands for the reserved prefix."""
    return [
        {"key": key.replace("dcv_", "dcv:").replace("_", "-"), "value": value} for key, value in tags.items()
    ]


def server_block(
    family: str = "linux", tags: Iterable[dict[str, str]] = (), **members: Any
) -> dict[str, Any]:
    """What a host reports of itself."""
    host: dict[str, Any] = {
        "os": {"family": family, "name": family, "version": "2"},
        "memory": {"totalBytes": 8_000_000_000, "usedBytes": 1_000_000_000},
        "cpuInfo": {"numberOfCpus": 4},
        "cpuLoadAverage": {"oneMinute": 0.5, "fiveMinutes": 0.25, "fifteenMinutes": 0},
    }
    return {
        "ip": "192.0.2.1",
        "hostname": "host",
        "endpoints": [
            {"ipAddress": "192.0.2.1", "port": 8443, "protocol": "QUIC"},
            {"ipAddress": "192.0.2.1", "port": 8443, "protocol": "HTTP", "webUrlPath": "/"},
        ],
        "version": "2024.0",
        "consoleAllowed": True,
        "virtualAllowed": family == "linux",
        "host": host,
        "tags": list(tags),
        **members,
    }


def report(session_id: str, owner: str = "alice", type_: str = "VIRTUAL", **members: Any) -> dict[str, Any]:
    """What a host reports of a session."""
    return {"id": session_id, "name": "", "owner": owner, "type": type_, "numOfConnections": 0, **members}


class Scene:
    """A registry with a clock that stands still unless it is moved, and what it stored and sent."""

    def __init__(self, **rules: Any) -> None:
        self.rules = Rules(**rules)
        self.now = START
        self._ids = 0
        self._channels = 0
        self.disk = Stored()
        self.sent: list[SendCommand] = []
        self.cancelled: list[str] = []
        self.registry = Registry(self.rules, self._new_id)

    def _new_id(self) -> str:
        self._ids += 1
        return f"00000000-0000-4000-8000-{self._ids:012d}"

    # -------------------------------------------------------------- events

    def handle(self, event: Event) -> Any:
        """Handle an event, store, and remember what is sent; the result."""
        outcome: Outcome = self.registry.handle(event, self.now)
        for change in outcome.changes:
            match deepcopy(change):
                case SaveSession(key, row):
                    self.disk.sessions[key] = row
                case RemoveSession(key):
                    self.disk.sessions.pop(key, None)
                case SaveServer(key, row):
                    self.disk.servers[key] = row
                case RemoveServer(key):
                    self.disk.servers.pop(key, None)
                case SaveCommand(key, row):
                    self.disk.commands[key] = row
                case RemoveCommand(key):
                    self.disk.commands.pop(key, None)
        for command in outcome.commands:
            if isinstance(command, CancelCommand):
                self.cancelled.append(command.command_id)
            else:
                self.sent.append(command)
        return outcome.result

    def wait(self, seconds: float) -> None:
        """Let time pass; the registry is called when it wants to be, and at the end."""
        end = self.now + timedelta(seconds=seconds)
        while (due := self.registry.next_wakeup(self.now)) is not None and due <= end:
            self.now = max(self.now, due)
            self.handle(ClockAdvanced())
        self.now = end
        self.handle(ClockAdvanced())

    def restart(self) -> None:
        """Kill the broker and start it on what it stored."""
        self.sent.clear()
        self.registry = Registry(self.rules, self._new_id)
        self.registry.restore(
            Stored(
                **json.loads(
                    json.dumps(
                        {
                            "sessions": self.disk.sessions,
                            "servers": self.disk.servers,
                            "commands": self.disk.commands,
                        }
                    )
                )
            ),
            self.now,
        )

    # -------------------------------------------------------------- agents

    def hello(
        self,
        server_id: str = "s1",
        block: dict[str, Any] | None = None,
        sessions: Iterable[dict[str, Any]] = (),
        open_commands: Iterable[str] = (),
        **members: Any,
    ) -> HelloAnswer:
        """An agent says hello on a new channel."""
        self._channels += 1
        hello = {
            "epoch": self._channels,
            "instanceId": f"instance-{self._channels}",
            "machineFingerprint": f"machine-{server_id}",
            "agentVersion": "1.0",
            "capabilities": ["console", "virtual"],
            "server": block or server_block(),
            "sessions": list(sessions),
            "openCommands": [{"commandId": command_id, "state": "accepted"} for command_id in open_commands],
            "updateIntervalSeconds": 30,
            **members,
        }
        answer = self.handle(AgentConnected(server_id, f"channel-{self._channels}", hello))
        assert isinstance(answer, HelloAnswer)
        return answer

    def channel(self, server_id: str) -> str:
        server = self.registry.server(server_id)
        return (server.channel_id if server else None) or "no channel"

    def drop(self, server_id: str = "s1", *, goodbye: bool = False) -> None:
        """The channel breaks."""
        self.handle(AgentDisconnected(server_id, self.channel(server_id), goodbye))

    def reports_sessions(self, server_id: str = "s1", *sessions: dict[str, Any], **members: Any) -> Any:
        """The agent sends a sessions update, full and healthy unless said otherwise."""
        event = SessionsReported(
            server_id,
            self.channel(server_id),
            full=members.get("full", True),
            healthy=members.get("healthy", True),
            changed=list(sessions),
            removed=members.get("removed", ()),
        )
        return self.handle(event)

    def reports_server(self, server_id: str, block: dict[str, Any], *, full: bool = False) -> Any:
        return self.handle(ServerReported(server_id, self.channel(server_id), full, block))

    def finish(self, command: SendCommand, code: str = "OK", message: str = "", **data: Any) -> None:
        """The host answers an order."""
        channel = self.channel(command.server_id)
        is_good = code == "OK"
        event = CommandFinished(command.server_id, channel, command.command_id, is_good, code, message, data)
        self.handle(event)

    def take_order(self, kind: str | None = None) -> SendCommand:
        """The oldest order sent that nobody has taken, of that kind."""
        command = next(command for command in self.sent if kind in (None, command.kind))
        self.sent.remove(command)
        return command

    # -------------------------------------------------------------- clients

    def request(self, **fields: Any) -> Accepted | Refused:
        """CreateSessions with one item; name, owner and type have defaults."""
        raw = {"Name": "desk", "Owner": "alice", "Type": "VIRTUAL"} | fields
        result = self.handle(SessionRequested(read_request(CreateSessionRequestData, raw)))
        assert isinstance(result, Accepted | Refused)
        return result

    def create(self, **fields: Any) -> str:
        """A session that was accepted; its id."""
        result = self.request(**fields)
        assert isinstance(result, Accepted), result
        assert result.session is not None
        return str(result.session["Id"])

    def ready(self, **fields: Any) -> str:
        """A session that is READY on the one server that fits; its id."""
        session_id = self.create(**fields)
        self.finish(self.take_order("createSession"))
        assert self.state(session_id) == "READY"
        return session_id

    def delete(self, session_id: str | None, owner: str | None = "alice", *, force: bool = False) -> Any:
        return self.handle(SessionDeletionRequested(session_id, owner, force))

    def update_permissions(self, session_id: str | None, owner: str | None, file: str | None) -> Any:
        return self.handle(PermissionsUpdateRequested(session_id, owner, file))

    def open(self, server_id: str | None) -> Any:
        return self.handle(ServerOpeningRequested(server_id))

    def close(self, server_id: str | None, *, force: bool = False) -> Any:
        return self.handle(ServerClosingRequested(server_id, force))

    # -------------------------------------------------------------- what clients see

    def sessions(self, *filters: tuple[str, str]) -> list[dict[str, Any]]:
        return [json.loads(part) for part in self.registry.describe_sessions(None, filters, 1000).parts]

    def session(self, session_id: str) -> dict[str, Any] | None:
        """The one session with that id as DescribeSessions shows it."""
        parts = self.registry.describe_sessions([session_id], (), 1000).parts
        assert len(parts) <= 1
        return json.loads(parts[0]) if parts else None

    def state(self, session_id: str) -> str | None:
        """State, substate and whether there is a server, in one word; `None` if it is not listed."""
        session = self.session(session_id)
        if session is None:
            return None
        state = str(session.get("Substate", session["State"]))
        return f"{state}@{session['Server']['Id']}" if state == "UNKNOWN" and "Server" in session else state

    def reason(self, session_id: str) -> str | None:
        session = self.session(session_id)
        return session.get("StateReason") if session else None

    def server(self, server_id: str = "s1") -> dict[str, Any] | None:
        parts = self.registry.describe_servers([server_id], 1000).parts
        return json.loads(parts[0]) if parts else None

    def availability(self, server_id: str = "s1") -> str | None:
        """`AVAILABLE`, or the reason why not; `None` if the server is not listed."""
        server = self.server(server_id)
        return server.get("UnavailabilityReason", server["Availability"]) if server else None

    def record(self, session_id: str) -> SessionRecord:
        record = self.registry.session(session_id)
        assert record is not None
        return record

    # -------------------------------------------------------------- what is always true

    def check(self) -> None:
        """Assert what no sequence of events may break."""
        sessions, servers = self.sessions(), self._all_servers()
        _check_form(sessions, servers)
        _check_counts(sessions, servers)
        self._check_disk()
        self._check_indexes(sessions)
        self._check_kept()

    def _all_servers(self) -> list[dict[str, Any]]:
        return [json.loads(part) for part in self.registry.describe_servers(None, 1000).parts]

    def _check_disk(self) -> None:
        """What a restart would find is what there is."""
        fleet = self.registry._fleet
        assert self.disk.sessions.keys() == fleet.sessions.keys()
        for key, record in fleet.sessions.items():
            # The number of connections is live data: not worth a write of its own.
            stored, row = dict(self.disk.sessions[key]), session_row(record)
            del stored["connections"], row["connections"]
            assert stored == row
        marks = {key for key, row in self.disk.servers.items() if "closedMark" in row}
        assert marks == set(fleet.closed_marks) - set(fleet.servers)
        assert self.disk.servers.keys() - marks == fleet.servers.keys()
        for server_id, server in fleet.servers.items():
            assert self.disk.servers[server_id] == server_row(server)
        assert self.disk.commands.keys() == fleet.commands.keys()
        for key, command in fleet.commands.items():
            stored, row = dict(self.disk.commands[key]), command.to_row()
            assert stored.pop("deadlineAt") <= row.pop("deadlineAt")  # a restart grants some more time
            assert stored == row

    def _check_kept(self) -> None:
        """What is made once and kept is what would be made now."""
        fleet = self.registry._fleet
        for server in fleet.servers.values():
            fresh = replace(server, brief_json=None, lasting_json=None, part=None, facts=None, standing=None)
            assert server_part(server) == server_part(fresh)
            assert requirement_facts(server) == requirement_facts(fresh)
            if server.standing is not None:
                made = standing_of(fresh)
                assert (server.standing.takes_console, server.standing.takes_virtual) == (
                    made.takes_console,
                    made.takes_virtual,
                )
                rank = server.standing.rank
                assert rank is None or rank == (server.session_count, server.load_per_cpu, server.id, rank[3])
        for record in fleet.sessions.values():
            fresh_record = replace(record, own_json=None, part=None)
            shown = fleet.servers[record.server_id] if record.server_id else None
            brief = brief_json(replace(shown, brief_json=None)) if shown else None
            assert self.registry.session_json(record) == session_part(fresh_record, brief)

    def _check_indexes(self, sessions: list[dict[str, Any]]) -> None:
        keys = [_key(session) for session in sessions]
        assert len(set(keys)) == len(keys)
        for owner in {session["Owner"] for session in sessions}:
            wanted = [session for session in sessions if session["Owner"] == owner]
            assert self.sessions(("owner", owner)) == wanted
        pairs = {(t["Key"], t["Value"]) for s in sessions for t in s.get("Server", {}).get("Tags", ())}
        for key, value in pairs:
            tag = {"Key": key, "Value": value}
            wanted = [session for session in sessions if tag in session.get("Server", {}).get("Tags", ())]
            assert self.sessions((f"tag:{key}", value)) == wanted
        fleet = self.registry._fleet
        queued = {record.key for record in fleet.queue}
        assert queued == {record.key for record in fleet.sessions.values() if record.is_queued}
        for record in fleet.sessions.values():
            assert (record.server_id is None) == (record.is_queued or "Server" not in _wire(record, sessions))
            if record.is_preparing:
                assert record.create_command in fleet.commands
        assert sum(fleet.session_states.values()) == len(sessions)
        for state, count in fleet.session_states.items():
            assert count == sum(1 for session in sessions if session["State"] == state)


def _key(session: dict[str, Any]) -> tuple[str, str]:
    return session["Id"], session.get("Server", {}).get("Id", "")


def _wire(record: SessionRecord, sessions: list[dict[str, Any]]) -> dict[str, Any]:
    return next(
        one
        for one in sessions
        if one["Id"] == record.id and record.host_id in ("", one.get("Server", {}).get("Id"))
    )


def _check_form(sessions: list[dict[str, Any]], servers: list[dict[str, Any]]) -> None:
    """Exact wire fields, no nulls, each thing sent exactly when it should be."""
    assert "null" not in json.dumps([sessions, servers])
    assert servers == sorted(servers, key=lambda server: server["Id"])
    assert [s["CreationTime"] for s in sessions] == sorted(s["CreationTime"] for s in sessions)
    for server in servers:
        assert _only_known_fields(Server, server)
        assert ("UnavailabilityReason" in server) == (server["Availability"] == "UNAVAILABLE")
    for session in sessions:
        assert _only_known_fields(WireSession, session)
        assert ("Substate" in session) == (session["State"] == "CREATING")
        has_server = "Server" in session
        if session["State"] in ("READY", "DELETING") or session.get("Substate") == "PENDING_PREPARATION":
            assert has_server
        if session.get("Substate") == "SESSION_PLACING":
            assert not has_server
        if session["State"] == "UNKNOWN":
            assert session["StateReason"]
        shows_connections = session["State"] in ("READY", "DELETING") or (
            session["State"] == "UNKNOWN" and has_server
        )
        assert ("NumOfConnections" in session) == shows_connections
        if has_server:
            full = next(server for server in servers if server["Id"] == session["Server"]["Id"])
            assert session["Server"] == {name: value for name, value in full.items() if name != "Host"}


def _only_known_fields(model: type[WireModel], wire: dict[str, Any]) -> bool:
    return model.model_validate(wire).to_wire() == wire


def _check_counts(sessions: list[dict[str, Any]], servers: list[dict[str, Any]]) -> None:
    for server in servers:
        bound = [
            one
            for one in sessions
            if one.get("Server", {}).get("Id") == server["Id"] and one["State"] != "DELETED"
        ]
        consoles = [one for one in bound if one["Type"] == "CONSOLE"]
        virtuals = [one for one in bound if one["Type"] == "VIRTUAL"]
        assert server["ConsoleSessionCount"] == len(consoles)
        assert server["VirtualSessionCount"] == len(virtuals)


def check_limits(scene: Scene) -> None:
    """No limit is exceeded by what the broker itself placed (hosts may do as they like)."""
    sessions = scene.sessions()
    for server in scene._all_servers():
        tags = {tag["Key"]: tag["Value"] for tag in server["Tags"]}
        bound = [
            one
            for one in sessions
            if one.get("Server", {}).get("Id") == server["Id"] and one["State"] != "DELETED"
        ]
        consoles = [one for one in bound if one["Type"] == "CONSOLE"]
        virtuals = [one for one in bound if one["Type"] == "VIRTUAL"]
        assert len(consoles) <= 1
        assert not (consoles and virtuals)
        if int(tags.get(MAX_VIRTUAL_SESSIONS_TAG, -1)) >= 0:
            assert len(virtuals) <= int(tags[MAX_VIRTUAL_SESSIONS_TAG])
        if MAX_SESSIONS_PER_USER_TAG in tags:
            for owner in {one["Owner"] for one in virtuals}:
                owned = [one for one in virtuals if one["Owner"] == owner]
                assert len(owned) <= int(tags[MAX_SESSIONS_PER_USER_TAG])
