"""What hosts say and what their silence means: channels, reports, results, lost contact.

What becomes of sessions that are seen or missed, sessions found on hosts, and the
availability of servers (API, 6 and 7; agent, 4 and 5). Part of the registry: only
it calls these functions.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from broker_stub.broker import creation, deletion
from broker_stub.broker.events import (
    AgentDisconnected,
    CommandFinished,
    ReportAnswer,
    ServerReported,
    SessionsReported,
)
from broker_stub.broker.fleet import Fleet, OpenCommand
from broker_stub.broker.server import LIVE_HOST_MEMBERS, ServerRecord
from broker_stub.broker.session import SessionRecord, exact_time
from broker_stub.channel import Code, CommandKind
from broker_stub.channel_messages import merged, wire_time, without_nulls
from dcvtui.api.states import SessionState

SILENT_INTERVALS = 3
"""An agent that says nothing for so many update intervals counts as lost (agent, 4.1)."""

_COUNTS = frozenset(("consoleSessionCount", "virtualSessionCount"))

# ------------------------------------------------------------------ channels and contact


def disconnected(fleet: Fleet, event: AgentDisconnected, now: datetime) -> None:
    """A channel ended: at a goodbye the agent is lost at once, else after the grace time."""
    server = _speaking(fleet, event.server_id, event.channel_id)
    if server is None:
        return
    server.channel_id = None
    server.disconnected_at = now
    fleet.placement.touch(server)
    if event.goodbye:
        lose_agent(fleet, server, now)
    else:
        watch(fleet, server, now + timedelta(seconds=fleet.rules.agent_loss_grace_s))


def watch(fleet: Fleet, server: ServerRecord, at: datetime) -> None:
    """Have a server looked at when that time has come, unless that happens earlier anyway."""
    if server.watch_at is None or at < server.watch_at:
        server.watch_at = at
        fleet.call_at(at, "server", server.id)


def look_at_server(fleet: Fleet, server: ServerRecord, started_at: datetime, now: datetime) -> None:
    """Do what the time demands of a server: notice a lost agent, remove what was lost for long."""
    if server.watch_at is not None and server.watch_at <= now:
        server.watch_at = None
    if server.is_reachable:
        due = _lost_at(fleet, server, started_at)
        if now < due:
            watch(fleet, server, due)
            return
        lose_agent(fleet, server, now)
    else:
        _remove_lost(fleet, server, now)


def _lost_at(fleet: Fleet, server: ServerRecord, started_at: datetime) -> datetime:
    if not server.has_contact:
        return started_at + timedelta(seconds=fleet.rules.startup_grace_s)
    if server.channel_id is None and server.disconnected_at is not None:
        return server.disconnected_at + timedelta(seconds=fleet.rules.agent_loss_grace_s)
    return (server.last_report_at or started_at) + longest_silence(fleet, server)


def longest_silence(fleet: Fleet, server: ServerRecord) -> timedelta:
    """How long an agent may say nothing before it counts as lost."""
    return timedelta(seconds=SILENT_INTERVALS * max(server.update_interval_s, fleet.least_update_interval_s))


def pace_reports(fleet: Fleet, least_interval_s: float, now: datetime) -> None:
    """Agents are told to speak less often, or more often again: their silence means something else now."""
    fleet.least_update_interval_s = least_interval_s
    for server in fleet.servers.values():
        if server.is_reachable and server.channel_id is not None:
            watch(fleet, server, now + longest_silence(fleet, server))


def lose_agent(fleet: Fleet, server: ServerRecord, now: datetime) -> None:
    """The agent cannot be reached: nothing is known of the server's sessions."""
    server.is_reachable = False
    server.unreachable_since = now
    fleet.touch_server(server, save=False)
    lose_sight(fleet, server, deletion.NO_AGENT)
    rules = fleet.rules
    for seconds in (rules.unreachable_sessions_kept_s, rules.unreachable_server_kept_s):
        if seconds is not None:
            fleet.call_after(now, seconds, "server", server.id)


def lose_sight(fleet: Fleet, server: ServerRecord, reason: str) -> None:
    """Sessions that can no longer be observed become UNKNOWN."""
    for record in server.sessions.values():
        if record.state in (SessionState.READY, SessionState.DELETING):
            fleet.set_state(record, SessionState.UNKNOWN, reason=reason, save=False)


def hear(fleet: Fleet, server: ServerRecord, now: datetime) -> None:
    """The agent said something: it can be reached."""
    server.last_report_at = now
    if not server.is_reachable:
        server.is_reachable = True
        server.unreachable_since = None
        fleet.touch_server(server, save=False)
        fleet.is_queue_due = True
        watch(fleet, server, now + longest_silence(fleet, server))


def set_health(fleet: Fleet, server: ServerRecord, *, is_healthy: bool) -> None:
    """Note whether the agent can talk to its DCV server."""
    if server.is_healthy == is_healthy:
        return
    server.is_healthy = is_healthy
    fleet.touch_server(server, save=False)
    if is_healthy:
        fleet.is_queue_due = True
    else:
        lose_sight(fleet, server, deletion.UNHEALTHY)


def _remove_lost(fleet: Fleet, server: ServerRecord, now: datetime) -> None:
    if server.unreachable_since is None:
        return
    lost_for = (now - server.unreachable_since).total_seconds()
    sessions_kept = fleet.rules.unreachable_sessions_kept_s
    if sessions_kept is not None and lost_for >= sessions_kept:
        for record in [record for record in server.sessions.values() if record.is_out_of_sight]:
            deletion.forget(fleet, record)
    if lost_for >= fleet.rules.unreachable_server_kept_s:
        remove_server(fleet, server, now)


def remove_server(fleet: Fleet, server: ServerRecord, now: datetime) -> None:
    """Remove a server that was lost for long, with its sessions (API, 7.3)."""
    fleet.placement.touch(server)
    server.channel_id = None
    for record in list(server.sessions.values()):
        if record.is_preparing:
            fleet.close_command(record.create_command)
            creation.fail_attempt(fleet, record, creation.NO_ANSWER, now)
        else:
            deletion.forget(fleet, record)
    for command in fleet.commands_for(server.id):
        fleet.close_command(command.id)
    seen_at = server.unreachable_since or now
    fleet.remove_server(server, closed_mark=None if server.open else seen_at)
    if not server.open:
        fleet.call_at(seen_at + timedelta(seconds=fleet.rules.closed_mark_kept_s), "mark", server.id)


# ------------------------------------------------------------------ reports


def server_reported(fleet: Fleet, event: ServerReported, now: datetime) -> ReportAnswer:
    """Take over what an agent says of its server."""
    server = _speaking(fleet, event.server_id, event.channel_id)
    if server is None:
        return ReportAnswer(accepted=False)
    hear(fleet, server, now)
    if not event.full and _is_metrics_only(event.server):
        server.block = merged(server.block, event.server)
        fleet.touch_metrics(server)
        return ReportAnswer(accepted=True)
    block = without_nulls(event.server) if event.full else merged(server.block, event.server)
    fleet.set_block(server, block)
    if event.server.get("healthy") is not None:
        set_health(fleet, server, is_healthy=bool(event.server["healthy"]))
    return ReportAnswer(accepted=True)


def _is_metrics_only(delta: Mapping[str, Any]) -> bool:
    return all(
        name in _COUNTS
        or (name == "host" and isinstance(value, Mapping) and value.keys() <= LIVE_HOST_MEMBERS)
        for name, value in delta.items()
    )


def sessions_reported(fleet: Fleet, event: SessionsReported, now: datetime) -> ReportAnswer:
    """Take over what an agent says of the sessions on its host."""
    server = _speaking(fleet, event.server_id, event.channel_id)
    if server is None:
        return ReportAnswer(accepted=False)
    hear(fleet, server, now)
    set_health(fleet, server, is_healthy=event.healthy)
    if not event.healthy:
        # Such an agent cannot look: what it does not list may well be there.
        server.reported_ids.update(report["id"] for report in event.changed)
        server.reported_ids.difference_update(event.removed)
        return ReportAnswer(accepted=True)
    was_out_of_sight = any(record.is_out_of_sight for record in server.sessions.values())
    orphans = take_sessions(fleet, server, event.changed, event.removed, now, is_full=event.full)
    for forced_id in list(server.forced_away):
        end_forced(fleet, server.id, forced_id, now)
    for session_id in orphans:
        deletion.close_orphan(fleet, server, session_id, now)
    return ReportAnswer(accepted=True, need_full=was_out_of_sight and not event.full)


def take_sessions(
    fleet: Fleet,
    server: ServerRecord,
    changed: Sequence[Mapping[str, Any]],
    removed: Sequence[str],
    now: datetime,
    *,
    is_full: bool,
) -> list[str]:
    """Compare a healthy host's report with what is known.

    Returns:
        Ids of sessions that do not belong on this host (API, 6.3).
    """
    if is_full:
        server.reported_ids = set()
    orphans = []
    for report in changed:
        server.reported_ids.add(report["id"])
        if not _seen(fleet, server, report, now):
            orphans.append(report["id"])
    server.reported_ids.difference_update(removed)
    if is_full:
        gone = [record for record in server.sessions.values() if record.id not in server.reported_ids]
    else:
        lost = set(removed)
        gone = [record for record in server.sessions.values() if record.id in lost]
    for record in gone:
        _missed(fleet, record, now)
    for session_id, forced in server.forced_away.items():
        if session_id not in server.reported_ids:
            forced.report = None
    if not is_full:
        for record in list(server.sessions.values()):
            if record.id in server.reported_ids:
                _still_there(fleet, record, now)
    return orphans


def _seen(fleet: Fleet, server: ServerRecord, report: Mapping[str, Any], now: datetime) -> bool:
    """A host has a session. False if it must not have it."""
    session_id = report["id"]
    forced = server.forced_away.get(session_id)
    if forced is not None:
        if now < forced.until:
            forced.report = report
            return True
        del server.forced_away[session_id]
    record = fleet.sessions.get(f"{server.id}/{session_id}") or fleet.sessions.get(session_id)
    if record is None:
        adopt(fleet, server, report, now)
    elif record.state == SessionState.DELETED:
        if not record.was_ready:
            return False  # deleted before it was READY, and made all the same
        _revive(fleet, record, server, report, now)
    elif record.server_id != server.id:
        return False
    else:
        if record.is_preparing:
            creation.come_up(fleet, record)  # the result of the order is then only filed
        _still_there(fleet, record, now)
        creation.take_facts(fleet, record, report)
    return True


def _still_there(fleet: Fleet, record: SessionRecord, now: datetime) -> None:
    if record.is_out_of_sight:
        record.is_close_overdue = False
        if record.is_deletion_pending:
            fleet.set_state(record, SessionState.DELETING, save=False)
            deletion.order_close(fleet, record, now)
        else:
            fleet.set_state(record, SessionState.READY, save=False)
    elif record.state == SessionState.DELETING and record.is_close_overdue:
        deletion.keep_open(fleet, record)


def _missed(fleet: Fleet, record: SessionRecord, now: datetime) -> None:
    """A healthy host does not have a session that should be there."""
    if record.state == SessionState.DELETED or record.is_preparing:
        return
    if record.state == SessionState.DELETING and record.create_command in fleet.commands:
        return  # not made yet: the order to close it waits on the host behind the one to make it
    deletion.end(fleet, record, now)


def adopt(fleet: Fleet, server: ServerRecord, report: Mapping[str, Any], now: datetime) -> None:
    """Take up a session that this broker did not make, or knows no more."""
    created = report.get("creationTime")
    record = SessionRecord(
        id=report["id"],
        name=report.get("name") or "",
        owner=report["owner"],
        type=report["type"],
        creation_time=exact_time(created) if created else wire_time(now),
        host_id=server.id,
        state=SessionState.READY,
        substate=None,
        server_id=server.id,
        was_ready=True,
    )
    creation.take_facts(fleet, record, report)
    fleet.add_session(record)


def _revive(
    fleet: Fleet, record: SessionRecord, server: ServerRecord, report: Mapping[str, Any], now: datetime
) -> None:
    """A deleted session is there again under its old id."""
    if record.is_found:
        # `console` of tomorrow is another session than `console` of today, with its own creation time.
        deletion.forget(fleet, record)
        adopt(fleet, server, report, now)
        return
    if record.server_id != server.id:
        fleet.bind(record, server)
    creation.come_up(fleet, record)
    creation.take_facts(fleet, record, report)


def end_forced(fleet: Fleet, server_id: str, session_id: str, now: datetime) -> None:
    """Time is up: a session that was removed by force and is there all the same comes back."""
    server = fleet.servers.get(server_id)
    forced = server.forced_away.get(session_id) if server else None
    if server is None or forced is None or now < forced.until:
        return
    if forced.report is not None and (server.channel_id is None or not server.is_in_sight):
        return  # looked at again when the agent's word can be had
    del server.forced_away[session_id]
    if forced.report is None:
        return
    if f"{server_id}/{session_id}" not in fleet.sessions and session_id not in fleet.sessions:
        adopt(fleet, server, forced.report, now)


# ------------------------------------------------------------------ results of commands


def command_finished(fleet: Fleet, event: CommandFinished, now: datetime) -> None:
    """A host answered an order; one that nobody waits for any more is only filed."""
    server = _speaking(fleet, event.server_id, event.channel_id)
    command = fleet.commands.get(event.command_id)
    if server is None or command is None or command.server_id != server.id:
        return
    fleet.close_command(command.id)
    record = fleet.sessions.get(command.session_key)
    if record is None:
        return
    code = Code.OK if event.success else event.code
    if command.kind == CommandKind.DELETE_SESSION and record.delete_command == command.id:
        deletion.finish_close(fleet, record, code, event.message, now)
    elif command.kind == CommandKind.CREATE_SESSION and record.create_command == command.id:
        record.create_command = None
        fleet.touch_session(record)
        _creation_finished(fleet, server, record, event, now)


def _creation_finished(
    fleet: Fleet, server: ServerRecord, record: SessionRecord, event: CommandFinished, now: datetime
) -> None:
    if event.success:
        server.reported_ids.add(record.id)
        if record.is_preparing:
            creation.come_up(fleet, record)
            creation.take_facts(fleet, record, event.data.get("session") or {})
            if not server.is_in_sight:
                lose_sight(fleet, server, deletion.UNHEALTHY)
    elif record.is_preparing:
        creation.finish_creation(fleet, record, event.code, event.message, now)
    elif record.state == SessionState.DELETING:
        fleet.close_command(record.delete_command, cancel=True)
        deletion.end(fleet, record, now)


def expire_command(fleet: Fleet, command: OpenCommand, now: datetime) -> None:
    """A command has no result at its deadline."""
    if now < command.deadline_at:
        return
    record = fleet.sessions.get(command.session_key)
    if command.kind == CommandKind.DELETE_SESSION and record is not None:
        if record.is_out_of_sight and record.delete_command == command.id:
            return  # goes again, under its id, when the host is back (agent, 5.7)
        if record.state == SessionState.DELETING and record.delete_command == command.id:
            deletion.expire_close(fleet, record)
            return
    fleet.close_command(command.id, cancel=True)
    if record is None or record.create_command != command.id:
        return
    record.create_command = None
    fleet.touch_session(record)
    if record.is_preparing:
        creation.fail_attempt(fleet, record, creation.NO_ANSWER, now)
    elif record.state == SessionState.DELETING:
        deletion.end(fleet, record, now)


def _speaking(fleet: Fleet, server_id: str, channel_id: str) -> ServerRecord | None:
    """The server, if this is the channel that counts for it (agent, 5.5 rule 9)."""
    server = fleet.servers.get(server_id)
    return server if server is not None and server.channel_id == channel_id else None
