"""One session as the broker knows it: its record, its JSON, its row in the store.

Records are plain data. Only the registry and the modules it is split into change
them; everybody else reads. A record's JSON is kept until the record changes, and
apart from its server's, so that a page of sessions is a join of what is there.
"""

# The life of a session. In brackets what DescribeSessions calls it; each step is in the module named.
#
#   accepted -> placing [CREATING]        queued or placed at once                     creation
#   placing -> preparing [CREATING]       a server is chosen, its host is told         creation
#   placing -> failed [UNKNOWN]           it waited too long                           creation
#   preparing -> placing                  the host failed, another may do better       creation
#   preparing -> failed                   the host failed, no attempt is left          creation
#   preparing -> ready [READY]            the host says so                             creation
#   placing, failed -> deleted [DELETED]  on request, at once                          deletion
#   preparing, ready -> deleting          on request; the host is told                 deletion
#   deleting -> deleted                   the host confirms, or has it no more         deletion, observation
#   deleting -> ready                     the host did not close it                    deletion
#   ready -> deleted                      its host has it no more                      observation
#   ready, deleting -> unknown [UNKNOWN]  its host cannot be observed                  observation
#   unknown -> ready, deleting, deleted   it can again, and this is what it shows      observation
#   deleted -> ready                      a host has it again under its old id         observation
#   (found on a host) -> ready            nobody asked the broker for it               observation
#   deleted, failed -> (gone)             kept long enough                             deletion
#   any -> (gone)                         by force, or with a server lost for long     deletion, observation

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from broker_stub.channel_messages import wire_time
from dcvtui.api.states import SessionState, SessionSubstate

FAILED_CREATION_STATE = SessionState.UNKNOWN
"""Where a failed creation ends: two known clients read UNKNOWN with a StateReason rightly (API, 6.1)."""

_WIRE_TIME_LENGTH = len("2026-03-30T15:47:06.822Z")


@dataclass(slots=True)
class Creation:
    """What is left to do for a session that is not up yet: the request and how far it got."""

    request: dict[str, Any]
    """The accepted request, wire names, values as the host gets them."""
    attempt: int = 0
    failed_servers: list[str] = field(default_factory=list)
    last_failure: str | None = None
    queued_at: datetime | None = None
    queue_number: int = 0
    """Order of arrival in the queue."""

    @property
    def requirements(self) -> str:
        """The requirements expression, empty if none was given."""
        return str(self.request.get("Requirements", ""))


@dataclass(slots=True, eq=False)
class SessionRecord:
    """A session. `host_id` is the server it was found on, empty for one that this broker made."""

    id: str
    name: str
    owner: str
    type: str
    creation_time: str
    host_id: str = ""
    state: SessionState = SessionState.CREATING
    substate: SessionSubstate | None = SessionSubstate.SESSION_PLACING
    state_reason: str | None = None
    server_id: str | None = None
    last_disconnection_time: str | None = None
    connections: int = 0
    max_clients: int | None = None
    storage_root: str | None = None
    creation: Creation | None = None
    create_command: str | None = None
    delete_command: str | None = None
    was_ready: bool = False
    is_deletion_pending: bool = False
    """A deletion was accepted and neither carried out nor given up."""
    is_close_overdue: bool = False
    """The order to close was not answered in time: the next report decides."""
    ended_at: datetime | None = None
    own_json: bytes | None = None
    """JSON without the server; `None`: to be encoded."""
    part: bytes | None = None
    """JSON with the server, as pages hold it; `None`: to be put together."""

    @property
    def key(self) -> str:
        """What the record is filed under: ids such as `console` occur on many servers."""
        return f"{self.host_id}/{self.id}" if self.host_id else self.id

    @property
    def order_key(self) -> tuple[str, str, str]:
        """Where the record stands in lists. Never changes, so that a walk over pages meets it once."""
        return (self.creation_time, self.id, self.host_id)

    @property
    def is_found(self) -> bool:
        """Whether it was found on a host instead of made by this broker."""
        return bool(self.host_id)

    @property
    def is_counted(self) -> bool:
        """Whether it takes a place on its server."""
        return self.server_id is not None and self.state != SessionState.DELETED

    @property
    def is_out_of_sight(self) -> bool:
        """UNKNOWN because its host cannot be observed."""
        return self.state == SessionState.UNKNOWN and self.server_id is not None

    @property
    def is_failed_creation(self) -> bool:
        """UNKNOWN because no host could make it."""
        return self.state == FAILED_CREATION_STATE and self.server_id is None

    @property
    def is_queued(self) -> bool:
        """Whether it waits for a server."""
        return self.substate == SessionSubstate.SESSION_PLACING and self.state == SessionState.CREATING

    @property
    def is_preparing(self) -> bool:
        """Whether a host was told to make it."""
        return self.substate == SessionSubstate.PENDING_PREPARATION and self.state == SessionState.CREATING


# ------------------------------------------------------------------ JSON


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def encode(value: Any) -> bytes:
    """JSON as it goes over the wire; ASCII only, so that any text a host reports can be encoded."""
    return _ENCODER.encode(value).encode("ascii")


def session_wire(record: SessionRecord) -> dict[str, Any]:
    """A session in wire form without its server; what is not known is left out (API, 3.4)."""
    wire: dict[str, Any] = {
        "Id": record.id,
        "Name": record.name,
        "Owner": record.owner,
        "Type": record.type,
        "State": record.state.value,
    }
    if record.substate is not None:
        wire["Substate"] = record.substate.value
    if record.state_reason:
        wire["StateReason"] = record.state_reason
    wire["CreationTime"] = record.creation_time
    if record.last_disconnection_time is not None:
        wire["LastDisconnectionTime"] = record.last_disconnection_time
    if record.state in (SessionState.READY, SessionState.DELETING) or record.is_out_of_sight:
        wire["NumOfConnections"] = record.connections
    if record.max_clients is not None:
        wire["MaxConcurrentClients"] = record.max_clients
    if record.storage_root is not None:
        wire["StorageRoot"] = record.storage_root
    return wire


def session_part(record: SessionRecord, server_json: bytes | None) -> bytes:
    """The session's JSON with its server's put in; kept in the record."""
    if record.own_json is None:
        record.own_json = encode(session_wire(record))
    own = record.own_json
    record.part = own if server_json is None else b'%b,"Server":%b}' % (own[:-1], server_json)
    return record.part


# ------------------------------------------------------------------ times


def exact_time(text: str) -> str:
    """A time as the API writes it: UTC, milliseconds, Z.

    Raises:
        ValueError: the text is no time.
    """
    if len(text) == _WIRE_TIME_LENGTH and text[-1] == "Z" and text[19] == ".":
        return text
    moment = datetime.fromisoformat(text)
    return wire_time(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


# ------------------------------------------------------------------ rows


def session_row(record: SessionRecord) -> dict[str, Any]:
    """What the store keeps. Contact with a host is not kept: after a restart there is none."""
    state, reason = record.state, record.state_reason
    if record.is_out_of_sight:
        state = SessionState.DELETING if record.is_deletion_pending else SessionState.READY
    if state in (SessionState.READY, SessionState.DELETING):
        reason = None  # a restart makes it UNKNOWN, with a reason of its own
    row: dict[str, Any] = {
        "id": record.id,
        "name": record.name,
        "owner": record.owner,
        "type": record.type,
        "creationTime": record.creation_time,
        "hostId": record.host_id,
        "state": state.value,
        "substate": record.substate.value if record.substate else None,
        "stateReason": reason,
        "serverId": record.server_id,
        "lastDisconnectionTime": record.last_disconnection_time,
        "connections": record.connections,
        "maxClients": record.max_clients,
        "storageRoot": record.storage_root,
        "createCommand": record.create_command,
        "deleteCommand": record.delete_command,
        "wasReady": record.was_ready,
        "isDeletionPending": record.is_deletion_pending,
        "isCloseOverdue": record.is_close_overdue,
        "endedAt": record.ended_at.isoformat() if record.ended_at else None,
    }
    if creation := record.creation:
        row["creation"] = {
            "request": creation.request,
            "attempt": creation.attempt,
            "failedServers": list(creation.failed_servers),
            "lastFailure": creation.last_failure,
            "queuedAt": creation.queued_at.isoformat() if creation.queued_at else None,
            "queueNumber": creation.queue_number,
        }
    return {name: value for name, value in row.items() if value is not None}


def session_of_row(row: Mapping[str, Any]) -> SessionRecord:
    """The record that a row was made of; sessions on hosts are as they were last seen."""
    substate = row.get("substate")
    return SessionRecord(
        id=row["id"],
        name=row["name"],
        owner=row["owner"],
        type=row["type"],
        creation_time=row["creationTime"],
        host_id=row["hostId"],
        state=SessionState(row["state"]),
        substate=SessionSubstate(substate) if substate else None,
        state_reason=row.get("stateReason"),
        server_id=row.get("serverId"),
        last_disconnection_time=row.get("lastDisconnectionTime"),
        connections=row["connections"],
        max_clients=row.get("maxClients"),
        storage_root=row.get("storageRoot"),
        creation=_creation_of_row(row["creation"]) if "creation" in row else None,
        create_command=row.get("createCommand"),
        delete_command=row.get("deleteCommand"),
        was_ready=row["wasReady"],
        is_deletion_pending=row["isDeletionPending"],
        is_close_overdue=row["isCloseOverdue"],
        ended_at=_moment(row.get("endedAt")),
    )


def _creation_of_row(row: Mapping[str, Any]) -> Creation:
    return Creation(
        request=row["request"],
        attempt=row["attempt"],
        failed_servers=list(row["failedServers"]),
        last_failure=row["lastFailure"],
        queued_at=_moment(row["queuedAt"]),
        queue_number=row["queueNumber"],
    )
