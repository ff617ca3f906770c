"""How sessions come to be: accepted, placed, tried again, given up (API, 6.2 and 6.3).

All steps until a session is READY or has failed. Part of the registry: the functions
change the fleet, and only the registry calls them, while it works on an event.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from broker_stub.broker.events import Accepted, Refused
from broker_stub.broker.fleet import Fleet, OpenCommand
from broker_stub.broker.placement import question_of
from broker_stub.broker.server import ServerRecord
from broker_stub.broker.session import (
    FAILED_CREATION_STATE,
    Creation,
    SessionRecord,
    exact_time,
    session_wire,
)
from broker_stub.broker.session_request import MeaninglessRequest, read_creation
from broker_stub.channel import RETRY_ELSEWHERE, CommandKind
from broker_stub.channel_messages import wire_time
from dcvtui.api.models import CreateSessionRequestData
from dcvtui.api.states import SessionState, SessionSubstate

NO_SERVER = "no dcv server found for placement"
QUEUE_FULL = "The create sessions queue is full"
PLACED_AT_ONCE = 100
"""Waiting sessions that are placed in one event, before others get their turn."""
NO_ANSWER = "The host did not answer in time"

_MOST_CLIENTS = 2**31 - 1
"""What the agent channel can say; the API's numbers have 64 bits."""
_PAYLOAD_NAMES = {
    "MaxConcurrentClients": "maxConcurrentClients",
    "DcvGlEnabled": "dcvGlEnabled",
    "InitFile": "initFile",
    "AutorunFile": "autorunFile",
    "AutorunFileArguments": "autorunFileArguments",
    "PermissionsFile": "permissionsFile",
    "StorageRoot": "storageRoot",
}


def request_session(fleet: Fleet, request: CreateSessionRequestData, now: datetime) -> Accepted | Refused:
    """Accept a session and place it at once or queue it; or refuse it."""
    try:
        checked = read_creation(request, fleet.rules)
    except MeaninglessRequest as error:
        return Refused(str(error))
    record = SessionRecord(
        id=fleet.new_id(),
        name=checked["Name"],
        owner=checked["Owner"],
        type=checked["Type"],
        creation_time=wire_time(now),
        max_clients=checked.get("MaxConcurrentClients"),
        storage_root=checked.get("StorageRoot"),
        creation=Creation(checked),
    )
    look_at_queue(fleet, now)  # a direct request never overtakes a queued one that fits the same place
    server = fleet.placement.choose(question_of(record), record.owner)
    if server is None and not checked.get("EnqueueRequest"):
        return Refused(NO_SERVER)
    if server is None and len(fleet.queue) >= fleet.rules.queue_max_size:
        return Refused(QUEUE_FULL)
    fleet.add_session(record)
    accepted = Accepted(session=session_wire(record))
    if server is not None:
        place(fleet, record, server, now)
    else:
        enqueue(fleet, record, now)
    return accepted


def place(fleet: Fleet, record: SessionRecord, server: ServerRecord, now: datetime) -> None:
    """Bind a session to a server and order the host to make it."""
    creation = _creation(record)
    fleet.queue.discard(record)
    creation.queued_at = None
    creation.attempt += 1
    fleet.bind(record, server)
    record.create_command = fleet.new_id()
    fleet.set_state(record, SessionState.CREATING, SessionSubstate.PENDING_PREPARATION)
    payload: dict[str, Any] = {
        "sessionId": record.id,
        "name": record.name,
        "owner": record.owner,
        "type": record.type,
    }
    for wire_name, name in _PAYLOAD_NAMES.items():
        if wire_name in creation.request:
            payload[name] = creation.request[wire_name]
    if "maxConcurrentClients" in payload:
        payload["maxConcurrentClients"] = min(payload["maxConcurrentClients"], _MOST_CLIENTS)
    fleet.open_command(
        OpenCommand(
            record.create_command,
            server.id,
            record.key,
            CommandKind.CREATE_SESSION,
            creation.attempt,
            now + timedelta(seconds=fleet.rules.create_deadline_s),
            payload,
        )
    )


def enqueue(fleet: Fleet, record: SessionRecord, now: datetime) -> None:
    """Let a session wait for a server."""
    _creation(record).queued_at = now
    fleet.queue.add(record)
    fleet.call_after(now, fleet.rules.queue_max_time_s, "session", record.key)
    fleet.touch_session(record)


def look_at_queue(fleet: Fleet, now: datetime) -> None:
    """Place what can be placed now, as many as do not hold others up; the rest with the next look."""
    fleet.is_queue_due = False
    if not len(fleet.queue):
        return
    for count, (record, server) in enumerate(fleet.queue.placeable(fleet.placement), start=1):
        place(fleet, record, server, now)
        if count == PLACED_AT_ONCE:
            fleet.is_queue_due = True
            return


def come_up(fleet: Fleet, record: SessionRecord) -> None:
    """The session is there."""
    record.was_ready = True
    record.creation = None
    record.is_close_overdue = False
    record.ended_at = None
    fleet.set_state(record, SessionState.READY)


def finish_creation(fleet: Fleet, record: SessionRecord, code: str, message: str, now: datetime) -> None:
    """A host said that it could not make the session it was told to make."""
    fail_attempt(fleet, record, message or code, now, can_retry=code in RETRY_ELSEWHERE)


def fail_attempt(
    fleet: Fleet, record: SessionRecord, reason: str, now: datetime, *, can_retry: bool = True
) -> None:
    """An attempt failed: try elsewhere, wait for a server, or give up."""
    creation = _creation(record)
    if record.server_id is not None and record.server_id not in creation.failed_servers:
        creation.failed_servers.append(record.server_id)
    creation.last_failure = reason
    fleet.unbind(record)
    record.create_command = None
    retries_used = creation.attempt - 1
    if (
        not can_retry
        or creation.request.get("DisableRetryOnFailure")
        or retries_used >= fleet.rules.retries_on_failure
    ):
        give_up(fleet, record, reason, now)
        return
    fleet.set_state(record, SessionState.CREATING, SessionSubstate.SESSION_PLACING)
    server = fleet.placement.choose(question_of(record), record.owner, creation.failed_servers)
    if server is not None:
        place(fleet, record, server, now)
    elif creation.request.get("EnqueueRequest") and len(fleet.queue) < fleet.rules.queue_max_size:
        enqueue(fleet, record, now)
    else:
        give_up(fleet, record, reason, now)


def give_up(fleet: Fleet, record: SessionRecord, reason: str, now: datetime) -> None:
    """End a creation that failed."""
    fleet.queue.discard(record)
    record.creation = None
    record.ended_at = now
    fleet.set_state(record, FAILED_CREATION_STATE, reason=reason)
    fleet.call_after(now, fleet.rules.deleted_session_kept_s, "session", record.key)


def end_waiting(fleet: Fleet, record: SessionRecord, now: datetime) -> None:
    """Give up a session that has waited long enough for a server."""
    creation = _creation(record)
    longest = timedelta(seconds=fleet.rules.queue_max_time_s)
    if creation.queued_at is not None and now >= creation.queued_at + longest:
        failure = creation.last_failure
        give_up(fleet, record, f"{NO_SERVER}; the last host said: {failure}" if failure else NO_SERVER, now)


def take_facts(fleet: Fleet, record: SessionRecord, report: Mapping[str, Any]) -> None:
    """Take over what a host says of a session; name and owner of ours are as requested."""
    former = (record.last_disconnection_time, record.name, record.max_clients, record.storage_root)
    connections = report.get("numOfConnections")
    is_changed = connections is not None and connections != record.connections
    if connections is not None:
        record.connections = connections
    if report.get("lastDisconnectionTime"):
        record.last_disconnection_time = exact_time(report["lastDisconnectionTime"])
    if record.is_found:
        record.name = report.get("name") or ""
        record.max_clients = report.get("maxConcurrentClients")
        record.storage_root = report.get("storageRoot") or None
    is_lasting = former != (
        record.last_disconnection_time,
        record.name,
        record.max_clients,
        record.storage_root,
    )
    if is_changed or is_lasting:
        fleet.touch_session(record, save=is_lasting)  # the number of connections is not worth a write


def _creation(record: SessionRecord) -> Creation:
    if record.creation is None:
        raise ValueError(f"session {record.id} has nothing left to create")
    return record.creation
