"""How sessions end: on request, by force, confirmed or refused by the host (API, 4.4 and 6.2).

All steps to DELETED and out of the lists, and new permissions, which are found and
refused the same way. Part of the registry: only it calls these functions.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from broker_stub.broker.creation import come_up
from broker_stub.broker.events import Accepted, Ambiguous, Refused
from broker_stub.broker.fleet import Fleet, OpenCommand
from broker_stub.broker.server import ForcedAway, ServerRecord
from broker_stub.broker.session import SessionRecord
from broker_stub.broker.session_request import MeaninglessRequest, read_permissions_file, required
from broker_stub.channel import Code, CommandKind
from dcvtui.api.states import SessionState

NO_SESSION = "The requested dcvSession does not exist"
NOT_OWNED = "The requested dcvSession is not owned by the specified owner"
AMBIGUOUS = "The requested dcvSession is ambiguous"
NOT_READY = "The requested dcvSession is not in READY state"
NO_AGENT = "The agent of the dcv server is not reachable"
UNHEALTHY = "The dcv server is not healthy"
NOT_CLOSED = "The host did not close the session in time"


def find(fleet: Fleet, session_id: str, owner: str | None = None) -> SessionRecord | None:
    """The session that an operation means.

    Ids such as `console` occur on several servers: then the owner decides, and a session that is
    gone does not stand in the way of one that is there.

    Raises:
        Ambiguous: more than one is left.
    """
    found: Sequence[SessionRecord] = fleet.sessions_by_id.get(session_id, ())
    if len(found) > 1 and owner is not None:
        found = [record for record in found if record.owner == owner] or found[:1]
    if len(found) > 1:
        found = [record for record in found if record.state != SessionState.DELETED] or found[:1]
    if len(found) > 1:
        raise Ambiguous(session_id)
    return found[0] if found else None


def find_owned(fleet: Fleet, session_id: str | None, owner: str | None) -> SessionRecord | Refused:
    """The session that a client means, if the owner it names is the right one."""
    try:
        record = find(fleet, required("SessionId", session_id), required("Owner", owner))
    except MeaninglessRequest as error:
        return Refused(str(error))
    except Ambiguous:
        return Refused(AMBIGUOUS)
    if record is None:
        return Refused(NO_SESSION)
    return record if record.owner == owner else Refused(NOT_OWNED)


def request_deletion(
    fleet: Fleet, session_id: str | None, owner: str | None, now: datetime, *, force: bool
) -> Accepted | Refused:
    """Carry out one item of DeleteSessions as the table of section 4.4 says."""
    record = find_owned(fleet, session_id, owner)
    if isinstance(record, Refused):
        return record
    if force:
        force_away(fleet, record, now)
        return Accepted()
    if record.state == SessionState.DELETED:
        return Refused(NO_SESSION)
    if record.is_queued or record.is_failed_creation:
        end(fleet, record, now)
    elif record.state == SessionState.DELETING:
        return Accepted()
    elif record.is_out_of_sight:
        return Refused(_why_out_of_sight(_server(fleet, record)))
    elif record.state == SessionState.READY and _server(fleet, record).channel_id is None:
        return Refused(NO_AGENT)
    else:
        record.is_deletion_pending = True
        fleet.set_state(record, SessionState.DELETING)
        order_close(fleet, record, now)
    return Accepted()


def order_close(fleet: Fleet, record: SessionRecord, now: datetime) -> None:
    """Order the host to close a session; an order that is open already is sent again."""
    deadline = now + timedelta(seconds=fleet.rules.close_deadline_s)
    command = fleet.commands.get(record.delete_command or "")
    if command is not None:
        fleet.postpone_command(command, deadline)
        fleet.send_command(command)
        return
    record.delete_command = fleet.new_id()
    fleet.touch_session(record)
    fleet.open_command(
        OpenCommand(
            record.delete_command,
            _server(fleet, record).id,
            record.key,
            CommandKind.DELETE_SESSION,
            1,
            deadline,
            {"sessionId": record.id, "owner": record.owner, "force": False, "reason": "user"},
        )
    )


def close_orphan(fleet: Fleet, server: ServerRecord, session_id: str, now: datetime) -> None:
    """Tell a host to close a session that does not belong there (API, 6.3); once on each channel."""
    if session_id not in server.orphans_closed:
        server.orphans_closed.add(session_id)
        payload = {"sessionId": session_id, "force": False, "reason": "orphan"}
        fleet.order_once(server, CommandKind.DELETE_SESSION, payload, now)


def end(fleet: Fleet, record: SessionRecord, now: datetime) -> None:
    """The session is gone; the record is kept for a while."""
    fleet.queue.discard(record)
    fleet.close_command(record.create_command, cancel=True)
    fleet.close_command(record.delete_command)
    record.create_command = record.delete_command = None
    record.creation = None
    record.is_deletion_pending = record.is_close_overdue = False
    record.ended_at = now
    fleet.set_state(record, SessionState.DELETED)
    fleet.call_after(now, fleet.rules.deleted_session_kept_s, "session", record.key)


def forget(fleet: Fleet, record: SessionRecord) -> None:
    """Remove a record and the orders that go with it."""
    fleet.close_command(record.create_command, cancel=True)
    fleet.close_command(record.delete_command)
    fleet.remove_session(record)


def force_away(fleet: Fleet, record: SessionRecord, now: datetime) -> None:
    """Remove a session at once; its host is told once, and not believed for a while."""
    server = fleet.servers.get(record.server_id or "")
    if server is not None and record.state != SessionState.DELETED:
        until = now + timedelta(seconds=fleet.rules.readopt_after_force_s)
        report = _last_report(record) if record.id in server.reported_ids else None
        server.forced_away[record.id] = ForcedAway(until, report)
        fleet.call_at(until, "forced", f"{server.id}/{record.id}")
        forget(fleet, record)
        payload = {"sessionId": record.id, "owner": record.owner, "force": True, "reason": "user"}
        fleet.order_once(server, CommandKind.DELETE_SESSION, payload, now)
    else:
        forget(fleet, record)


def finish_close(fleet: Fleet, record: SessionRecord, code: str, message: str, now: datetime) -> None:
    """The host answered the order to close a session."""
    record.delete_command = None
    fleet.touch_session(record)
    if record.state != SessionState.DELETING:
        return  # out of sight: the next report of a healthy host decides
    if code in (Code.OK, Code.SESSION_NOT_FOUND):
        end(fleet, record, now)
    elif record.create_command in fleet.commands:
        record.is_close_overdue = True  # not even up: whether it comes up decides
    else:
        keep_open(fleet, record, message or code)


def expire_close(fleet: Fleet, record: SessionRecord) -> None:
    """The order to close a session was not answered in time: the next report decides."""
    fleet.close_command(record.delete_command, cancel=True)
    record.delete_command = None
    record.is_close_overdue = True
    fleet.touch_session(record)


def keep_open(fleet: Fleet, record: SessionRecord, reason: str = NOT_CLOSED) -> None:
    """The deletion failed: the session is there and says why."""
    record.is_deletion_pending = False
    come_up(fleet, record)
    fleet.set_state(record, SessionState.READY, reason=reason)


def remove_ended(fleet: Fleet, record: SessionRecord, now: datetime) -> None:
    """Remove a session that ended long enough ago."""
    kept = timedelta(seconds=fleet.rules.deleted_session_kept_s)
    if record.ended_at is not None and now >= record.ended_at + kept:
        forget(fleet, record)


def request_permissions(
    fleet: Fleet, session_id: str | None, owner: str | None, file: str | None, now: datetime
) -> Accepted | Refused:
    """Order a host to use a new permissions file for a session (API, 4.5)."""
    try:
        for field, value in (("SessionId", session_id), ("Owner", owner), ("PermissionsFile", file)):
            required(field, value)
        record = find_owned(fleet, session_id, owner)
        if isinstance(record, Refused):
            return record
        packed = read_permissions_file(file)
    except MeaninglessRequest as error:
        return Refused(str(error))
    if record.state != SessionState.READY:
        return Refused(NOT_READY)
    server = _server(fleet, record)
    if server.channel_id is None:
        return Refused(NO_AGENT)
    command_id = fleet.new_id()
    fleet.open_command(
        OpenCommand(
            command_id,
            server.id,
            record.key,
            CommandKind.UPDATE_SESSION_PERMISSIONS,
            1,
            now + timedelta(seconds=fleet.rules.permissions_deadline_s),
            {"sessionId": record.id, "owner": record.owner, "permissionsFile": packed},
        )
    )
    return Accepted(command_id=command_id)


def _server(fleet: Fleet, record: SessionRecord) -> ServerRecord:
    return fleet.servers[record.server_id or ""]


def _why_out_of_sight(server: ServerRecord) -> str:
    is_agent_there = server.is_reachable and server.has_contact and server.channel_id is not None
    return UNHEALTHY if is_agent_there and not server.is_healthy else NO_AGENT


def _last_report(record: SessionRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "name": record.name,
        "owner": record.owner,
        "type": record.type,
        "creationTime": record.creation_time,
        "lastDisconnectionTime": record.last_disconnection_time,
        "numOfConnections": record.connections,
        "maxConcurrentClients": record.max_clients,
        "storageRoot": record.storage_root,
    }
