"""What a hello means: who is speaking, what became of its host, which orders are still open.

A hello carries full state, so it settles a server at once (agent, 5.5 rule 8 and
5.7). Part of the registry: only it calls these functions.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from broker_stub.broker.deletion import UNHEALTHY
from broker_stub.broker.events import AgentConnected, HelloAnswer
from broker_stub.broker.fleet import Fleet
from broker_stub.broker.observation import longest_silence, lose_sight, take_sessions, watch
from broker_stub.broker.server import ServerRecord, server_row
from broker_stub.channel import CloseCode
from broker_stub.channel_messages import without_nulls

_SERVER_ID = re.compile(r"[A-Za-z0-9._=-]{1,256}")


def connected(fleet: Fleet, event: AgentConnected, now: datetime) -> HelloAnswer:
    """Decide whether an agent may speak for a server, and take over all it says."""
    hello = event.hello
    server = fleet.servers.get(event.server_id)
    if not _SERVER_ID.fullmatch(event.server_id) or (server and _is_other_machine(server, hello)):
        return HelloAnswer(accepted=False, new_server_id=True, close_code=CloseCode.DUPLICATE_SERVER)
    superseded = server.channel_id if server else None
    if superseded == event.channel_id:
        superseded = None
    if server and superseded and not _supersedes(server, hello):
        return HelloAnswer(accepted=False, close_code=CloseCode.DUPLICATE_SERVER)
    if server is None:
        server = ServerRecord(event.server_id, open=event.server_id not in fleet.closed_marks)
        server.fingerprint = hello.get("machineFingerprint")
        if not server.open:
            fleet.remove_closed_mark(server.id)
        fleet.add_server(server)
    superseded = _take_over(fleet, server, hello) or superseded
    _greet(fleet, server, event, now)
    orphans: list[str] = []
    sessions = hello.get("sessions") or []
    if server.is_healthy:
        orphans = take_sessions(fleet, server, sessions, (), now, is_full=True)
        server.orphans_closed.update(orphans)
    else:
        server.reported_ids.update(report["id"] for report in sessions)
        lose_sight(fleet, server, UNHEALTHY)
    return HelloAnswer(
        accepted=True,
        superseded_channel=superseded,
        orphan_sessions=orphans,
        forget_commands=_compare_commands(fleet, server, hello, now),
    )


def _is_other_machine(server: ServerRecord, hello: Mapping[str, Any]) -> bool:
    """A cloned image brings its original's id along, but not its machine."""
    fingerprint = hello.get("machineFingerprint")
    return bool(server.fingerprint and fingerprint and server.fingerprint != fingerprint)


def _supersedes(server: ServerRecord, hello: Mapping[str, Any]) -> bool:
    """Whether a second channel for a server is the one to go on with.

    The process that holds the first one may open another: it has noticed before us that the first
    is dead.
    """
    instance = hello.get("instanceId")
    is_same_process = instance is not None and instance == server.instance_id
    return is_same_process or (hello.get("epoch") or 0) > server.epoch


def _take_over(fleet: Fleet, server: ServerRecord, hello: Mapping[str, Any]) -> str | None:
    """Let a host that changed its id keep what it had; the channel of the old record, if one is open."""
    previous = hello.get("previousServerId")
    if not previous or previous == server.id:
        return None
    old = fleet.servers.get(previous)
    if old is None:
        if previous in fleet.closed_marks:
            fleet.remove_closed_mark(previous)
            server.open = False
        return None
    if not old.fingerprint or old.fingerprint != hello.get("machineFingerprint"):
        return None
    server.open = server.open and old.open
    fleet.hand_over(old, server)
    fleet.remove_server(old)
    return old.channel_id


def _greet(fleet: Fleet, server: ServerRecord, event: AgentConnected, now: datetime) -> None:
    hello = event.hello
    before = server_row(server)
    server.channel_id = event.channel_id
    server.capabilities = frozenset(hello.get("capabilities") or ())
    server.agent_version = hello.get("agentVersion") or server.agent_version
    server.fingerprint = hello.get("machineFingerprint") or server.fingerprint
    server.epoch = hello.get("epoch") or 0
    server.instance_id = hello.get("instanceId")
    server.update_interval_s = float(hello.get("updateIntervalSeconds") or server.update_interval_s)
    server.has_contact = server.is_reachable = True
    server.disconnected_at = server.unreachable_since = None
    server.last_report_at = now
    server.orphans_closed.clear()
    server.reported_ids.clear()
    block = without_nulls(hello.get("server") or {})
    server.is_healthy = block.get("healthy") is not False
    fleet.set_block(server, block)
    if server_row(server) != before:
        fleet.touch_server(server)
    watch(fleet, server, now + longest_silence(fleet, server))


def _compare_commands(
    fleet: Fleet, server: ServerRecord, hello: Mapping[str, Any], now: datetime
) -> list[str]:
    """Send again what the agent does not know of; returns what it may forget."""
    known_there = {command["commandId"] for command in hello.get("openCommands") or ()}
    sent = fleet.just_sent()
    for command in fleet.commands_for(server.id):
        if command.id not in known_there and command.id not in sent and now < command.deadline_at:
            fleet.send_command(command)
    return sorted(command_id for command_id in known_there if command_id not in fleet.commands)
