"""What the messages of the channel look like: building, reading, checking.

A message is a JSON object with one key, its name, that holds `requestId`,
`sentAt` and its own fields. Reading checks types, lengths and ranges by plain
tables and closures: thousands of updates a second pass here, so there is no
model object per message. Unknown fields are dropped, which is how versions
live together.

The `server` member holds the Server of the public API in camel case: `ip`,
`hostname`, `defaultDnsName`, `endpoints`, `version`, `sessionManagerAgentVersion`,
`consoleSessionCount`, `virtualSessionCount`, `host` with its parts, `tags` as a
list of `key` and `value`; and what the API does not show: `healthy`,
`consoleAllowed`, `virtualAllowed` and `existingLoggedInUser`. In a delta, members of it and of its
`host` replace the former ones whole, and `null` removes (see `merged`). A
session object has `id`, `name`, `owner`, `type`, `state`, `creationTime`,
`lastDisconnectionTime`, `numOfConnections`, `storageRoot` and
`maxConcurrentClients`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from broker_stub.channel import CHUNK_BYTES, MAX_RESULT_BYTES, CommandKind, NotUnderstood, UnknownMessage


class Name(StrEnum):
    """The names of all messages."""

    AGENT_HELLO_REQUEST = "agentHelloRequest"
    AGENT_HELLO_RESPONSE = "agentHelloResponse"
    SERVER_UPDATE_REQUEST = "serverUpdateRequest"
    SERVER_UPDATE_RESPONSE = "serverUpdateResponse"
    SESSIONS_UPDATE_REQUEST = "sessionsUpdateRequest"
    SESSIONS_UPDATE_RESPONSE = "sessionsUpdateResponse"
    COMMAND_REQUEST = "commandRequest"
    COMMAND_CANCEL_REQUEST = "commandCancelRequest"
    COMMAND_ACK = "commandAck"
    COMMAND_PROGRESS = "commandProgress"
    COMMAND_RESULT = "commandResult"
    COMMAND_RESULT_CHUNK = "commandResultChunk"
    COMMAND_RESULT_ACK = "commandResultAck"
    FLOW_CONTROL = "flowControl"
    REFRESH_REQUEST = "refreshRequest"
    AGENT_GOODBYE = "agentGoodbye"
    BROKER_GOODBYE = "brokerGoodbye"
    PROTOCOL_ERROR = "protocolError"


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was read and checked; `body` holds its known fields."""

    name: str
    request_id: str
    body: dict[str, Any]


def wire_time(moment: datetime) -> str:
    """A moment as the channel writes it: RFC 3339, milliseconds, UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def build(name: str, request_id: str, sent_at: datetime, fields: Mapping[str, Any]) -> str:
    """The text of one message."""
    body = {"requestId": request_id, "sentAt": wire_time(sent_at), **fields}
    return json.dumps({name: body}, ensure_ascii=False, separators=(",", ":"))


def success() -> dict[str, Any]:
    """The `result` of an answer that says yes."""
    return {"success": True}


def failure(code: str, message: str, retry_after_ms: int = 0) -> dict[str, Any]:
    """The `result` of an answer that says no."""
    return {"success": False, "code": code, "message": message, "retryAfterMs": retry_after_ms}


# ------------------------------------------------------------------ checks of single values

Check = Callable[[Any], Any]
"""Takes a value from the wire, returns it, or raises ValueError with what is wrong."""


def _text(longest: int, shortest: int = 0) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("is not a text")  # noqa: TRY004  one kind of error for all checks
        if not shortest <= len(value) <= longest:
            raise ValueError(f"has {len(value)} characters, allowed are {shortest} to {longest}")
        if not value.isascii():
            try:
                value.encode()  # a lone surrogate would only be noticed when the answer is written
            except UnicodeEncodeError:
                raise ValueError("is not valid Unicode") from None
        if "\0" in value:
            raise ValueError("holds a NUL character")
        return value

    return check


def _integer(lowest: int = 0, highest: int = 2**63 - 1) -> Check:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("is not an integer")  # noqa: TRY004  one kind of error for all checks
        if not lowest <= value <= highest:
            raise ValueError(f"is not between {lowest} and {highest}")
        return value

    return check


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("is not a number")  # noqa: TRY004  one kind of error for all checks
    if not 0 <= value <= 1e9:  # also refuses NaN, which Python's JSON reads
        raise ValueError("is out of range")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is not a boolean")  # noqa: TRY004  one kind of error for all checks
    return value


def _time(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 40 or "T" not in value:
        raise ValueError("is not a time")
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("is a time without a zone")
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is a time before the year 1 or after the year 9999") from None
    return value


def _word(*words: str) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"is not one of {', '.join(words)}")
        return value

    return check


def _list(item: Check, most: int) -> Check:
    def check(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError("is not a list")  # noqa: TRY004  one kind of error for all checks
        if len(value) > most:
            raise ValueError(f"has {len(value)} items, allowed are {most}")
        return [item(one) for one in value]

    return check


def _object(fields: Mapping[str, Check], required: tuple[str, ...] = ()) -> Check:
    find = fields.get

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError("is not an object")  # noqa: TRY004  one kind of error for all checks
        result: dict[str, Any] = {}
        for name, one in value.items():
            known = find(name)
            if known is None:
                continue
            try:
                result[name] = None if one is None else known(one)
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None
        for name in required:
            if result.get(name) is None:
                raise ValueError(f"{name} is missing")
        return result

    return check


def _anything(value: Any) -> Any:
    return value


# ------------------------------------------------------------------ servers and sessions

MAX_TAGS = 64
MAX_TAG_KEY = 128
MAX_TAG_VALUE = 256
MAX_NAME = 256
MAX_SESSIONS = 1024

_SHORT = _text(256)
_PATH = _text(4096)
_COUNT = _integer(0, 1_000_000)
_BYTES = _object({"totalBytes": _integer(), "usedBytes": _integer()})

_TAG = _object({"key": _text(MAX_TAG_KEY, 1), "value": _text(MAX_TAG_VALUE)}, ("key", "value"))

_HOST = _object(
    {
        "os": _object(dict.fromkeys(("family", "name", "version", "kernelVersion", "buildNumber"), _SHORT)),
        "memory": _BYTES,
        "swap": _BYTES,
        "aws": _object(dict.fromkeys(("region", "ec2InstanceType", "ec2InstanceId", "ec2ImageId"), _SHORT)),
        "cpuInfo": _object(
            {
                "vendor": _SHORT,
                "modelName": _SHORT,
                "architecture": _SHORT,
                "numberOfCpus": _COUNT,
                "physicalCoresPerCpu": _COUNT,
            }
        ),
        "cpuLoadAverage": _object(dict.fromkeys(("oneMinute", "fiveMinutes", "fifteenMinutes"), _number)),
        "gpus": _list(_object({"vendor": _SHORT, "modelName": _SHORT}), 64),
        "loggedInUsers": _list(_object({"username": _SHORT}), 1024),
    }
)

_ENDPOINT = _object(
    {
        "ipAddress": _text(64),
        "port": _integer(1, 65535),
        "webUrlPath": _text(1024),
        "protocol": _word("HTTP", "QUIC"),
    }
)

_SERVER = _object(
    {
        "ip": _text(64),
        "hostname": _SHORT,
        "defaultDnsName": _SHORT,
        "endpoints": _list(_ENDPOINT, 32),
        "version": _SHORT,
        "sessionManagerAgentVersion": _SHORT,
        "healthy": _boolean,
        "consoleAllowed": _boolean,
        "virtualAllowed": _boolean,
        "existingLoggedInUser": _boolean,
        "consoleSessionCount": _COUNT,
        "virtualSessionCount": _COUNT,
        "host": _HOST,
        "tags": _list(_TAG, MAX_TAGS),
    }
)

_SESSION_ID = _text(MAX_NAME, 1)
_SESSION = _object(
    {
        "id": _SESSION_ID,
        "name": _text(MAX_NAME),
        "owner": _text(MAX_NAME),
        "type": _word("CONSOLE", "VIRTUAL"),
        "state": _text(32),
        "creationTime": _time,
        "lastDisconnectionTime": _time,
        "numOfConnections": _COUNT,
        "storageRoot": _PATH,
        "maxConcurrentClients": _integer(1, 2**31 - 1),
    },
    ("id", "owner", "type"),
)

# ------------------------------------------------------------------ forms of messages

_COMMAND_ID = _text(64, 1)
_CODE = _text(64)
_SAID = _text(4096)
_SEQ = _integer(1)
_MODE = _word("full", "delta")
_MILLISECONDS = _integer(0, 24 * 3600 * 1000)
_RESULT = _object(
    {"success": _boolean, "code": _CODE, "message": _SAID, "retryAfterMs": _MILLISECONDS}, ("success",)
)
_UPDATE_ANSWER = _object({"seq": _SEQ, "result": _RESULT, "needFull": _boolean}, ("seq", "result"))
_IMAGE = _object(
    {
        "format": _word("png", "jpeg"),
        "primary": _boolean,
        "creationTime": _time,
        "data": _text(MAX_RESULT_BYTES),
    },
    ("format", "data"),
)
_RESULT_DATA = _object(
    {
        "session": _SESSION,
        "alreadyExisted": _boolean,
        "alreadyGone": _boolean,
        "images": _list(_IMAGE, 64),
    }
)
_COMMAND_ABOUT = _object({"commandId": _COMMAND_ID}, ("commandId",))
_PROTOCOL_ERROR = _object({"code": _CODE, "message": _SAID, "about": _SHORT})

FROM_AGENT: dict[str, Check] = {
    Name.AGENT_HELLO_REQUEST: _object(
        {
            "protocolVersions": _list(_integer(1, 1000), 64),
            "capabilities": _list(_text(64), 64),
            "agentVersion": _SHORT,
            "instanceId": _text(64),
            "epoch": _integer(),
            "bootId": _text(64),
            "serverId": _text(64, 1),
            "previousServerId": _text(64, 1),
            "machineFingerprint": _text(128, 1),
            "hostname": _SHORT,
            "server": _SERVER,
            "sessions": _list(_SESSION, MAX_SESSIONS),
            "openCommands": _list(
                _object({"commandId": _COMMAND_ID, "state": _text(32)}, ("commandId", "state")), 1000
            ),
            "updateIntervalSeconds": _integer(1, 3600),
        },
        ("protocolVersions", "epoch", "serverId", "machineFingerprint", "server", "sessions"),
    ),
    Name.SERVER_UPDATE_REQUEST: _object(
        {"seq": _SEQ, "mode": _MODE, "server": _SERVER}, ("seq", "mode", "server")
    ),
    Name.SESSIONS_UPDATE_REQUEST: _object(
        {
            "seq": _SEQ,
            "mode": _MODE,
            "healthy": _boolean,
            "changed": _list(_SESSION, MAX_SESSIONS),
            "removed": _list(_SESSION_ID, MAX_SESSIONS),
        },
        ("seq", "mode", "healthy", "changed"),
    ),
    Name.COMMAND_ACK: _object(
        {
            "commandId": _COMMAND_ID,
            "accepted": _boolean,
            "code": _CODE,
            "message": _SAID,
            "duplicate": _boolean,
            "retryAfterMs": _MILLISECONDS,
        },
        ("commandId", "accepted"),
    ),
    Name.COMMAND_PROGRESS: _object({"commandId": _COMMAND_ID, "stage": _SHORT}, ("commandId",)),
    Name.COMMAND_RESULT: _object(
        {
            "commandId": _COMMAND_ID,
            "success": _boolean,
            "code": _CODE,
            "message": _SAID,
            "data": _RESULT_DATA,
            "chunks": _integer(0, 256),
            "finishedAt": _time,
        },
        ("commandId", "success"),
    ),
    Name.COMMAND_RESULT_CHUNK: _object(
        {"commandId": _COMMAND_ID, "index": _integer(0, 255), "data": _text(CHUNK_BYTES)},
        ("commandId", "index", "data"),
    ),
    Name.AGENT_GOODBYE: _object(
        {"reason": _text(64), "expectReturnSeconds": _integer(0, 7 * 24 * 3600)}, ("reason",)
    ),
    Name.PROTOCOL_ERROR: _PROTOCOL_ERROR,
}
"""What the broker reads."""

_PAYLOADS: dict[str, Check] = {
    CommandKind.CREATE_SESSION: _object(
        {
            "sessionId": _SESSION_ID,
            "name": _text(MAX_NAME),
            "owner": _text(MAX_NAME, 1),
            "type": _word("CONSOLE", "VIRTUAL"),
            "maxConcurrentClients": _integer(1, 2**31 - 1),
            "dcvGlEnabled": _boolean,
            "initFile": _PATH,
            "autorunFile": _PATH,
            "autorunFileArguments": _list(_PATH, 1000),
            "permissionsFile": _text(768 * 1024),
            "storageRoot": _PATH,
        },
        ("sessionId", "owner", "type"),
    ),
    CommandKind.DELETE_SESSION: _object(
        {"sessionId": _SESSION_ID, "owner": _text(MAX_NAME), "force": _boolean, "reason": _text(64)},
        ("sessionId",),
    ),
    CommandKind.UPDATE_SESSION_PERMISSIONS: _object(
        {"sessionId": _SESSION_ID, "owner": _text(MAX_NAME), "permissionsFile": _text(768 * 1024)},
        ("sessionId",),
    ),
    CommandKind.GET_SESSION_SCREENSHOT: _object(
        {
            "sessionId": _SESSION_ID,
            "maxWidth": _integer(1, 1_000_000),
            "maxHeight": _integer(1, 1_000_000),
            "format": _word("png", "jpeg"),
        },
        ("sessionId",),
    ),
}

FROM_BROKER: dict[str, Check] = {
    Name.AGENT_HELLO_RESPONSE: _object(
        {
            "result": _RESULT,
            "protocolVersion": _integer(1, 1000),
            "capabilities": _list(_text(64), 64),
            "brokerId": _text(64),
            "brokerVersion": _SHORT,
            "brokerTime": _time,
            "channelId": _text(64),
            "maxMessageBytes": _integer(1024),
            "maxInflightCommands": _integer(1, 1000),
            "chunkBytes": _integer(1024),
            "newServerId": _boolean,
            "orphanSessions": _list(_SESSION_ID, MAX_SESSIONS),
            "forgetCommands": _list(_COMMAND_ID, 1000),
        },
        ("result",),
    ),
    Name.SERVER_UPDATE_RESPONSE: _UPDATE_ANSWER,
    Name.SESSIONS_UPDATE_RESPONSE: _UPDATE_ANSWER,
    Name.COMMAND_REQUEST: _object(
        {
            "commandId": _COMMAND_ID,
            "kind": _text(64),
            "attempt": _integer(0, 1000),
            "deadlineMs": _MILLISECONDS,
            "payload": _anything,
        },
        ("commandId", "kind", "deadlineMs", "payload"),
    ),
    Name.COMMAND_CANCEL_REQUEST: _COMMAND_ABOUT,
    Name.COMMAND_RESULT_ACK: _COMMAND_ABOUT,
    Name.FLOW_CONTROL: _object(
        {"maxInflightCommands": _integer(1, 1000), "minUpdateIntervalSeconds": _integer(1, 3600)}
    ),
    Name.REFRESH_REQUEST: _object({"what": _word("server", "sessions", "all")}, ("what",)),
    Name.BROKER_GOODBYE: _object({"reason": _text(64), "reconnectAfterMs": _MILLISECONDS}, ("reason",)),
    Name.PROTOCOL_ERROR: _PROTOCOL_ERROR,
}
"""What the agent reads."""

_HEX = frozenset("0123456789abcdef")


def read(text: str | bytes, forms: Mapping[str, Check]) -> Message:
    """Read and check one message.

    Args:
        text: the frame as it came.
        forms: `FROM_AGENT` or `FROM_BROKER`.

    Raises:
        UnknownMessage: well formed, but this side has no such message.
        NotUnderstood: anything else that is wrong with it.
    """
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(f"not JSON: {error}") from None
    if not isinstance(whole, dict) or len(whole) != 1:
        raise NotUnderstood("a message is an object with one key")
    ((name, body),) = whole.items()
    if not isinstance(body, dict):
        raise NotUnderstood("the message holds no object", name[:64])
    request_id = body.get("requestId")
    if not isinstance(request_id, str) or len(request_id) != 32 or not _HEX.issuperset(request_id):
        raise NotUnderstood("requestId is not 32 lower-case hexadecimal digits", name[:64])
    check = forms.get(name)
    if check is None:
        raise UnknownMessage(f"unknown message {name[:64]!r}", request_id)
    try:
        return Message(name, request_id, check(body))
    except ValueError as error:
        raise NotUnderstood(f"{name}: {error}", request_id) from None


def read_payload(kind: str, payload: Any) -> dict[str, Any]:
    """Check what a command carries, on the agent.

    Raises:
        NotUnderstood: an unknown kind, or a payload that does not fit it.
    """
    check = _PAYLOADS.get(kind)
    if check is None:
        raise NotUnderstood(f"unknown kind of command {kind[:64]!r}")
    try:
        checked = check(payload)
    except ValueError as error:
        raise NotUnderstood(f"{kind}: {error}") from None
    return {name: value for name, value in checked.items() if value is not None}


def read_result_data(data: Any) -> dict[str, Any]:
    """Check the data of a result that came in pieces, on the broker.

    Raises:
        NotUnderstood: it does not have the form of any result.
    """
    try:
        checked: dict[str, Any] = _RESULT_DATA(data)
    except ValueError as error:
        raise NotUnderstood(f"result: {error}") from None
    return checked


# ------------------------------------------------------------------ deltas of the server block


def merged(base: Mapping[str, Any], delta: Mapping[str, Any]) -> dict[str, Any]:
    """A server block with a delta applied: members of it and of its host replaced, null removes."""
    result = {**base, **delta}
    if isinstance(delta.get("host"), Mapping):
        host = {**base.get("host", {}), **delta["host"]}
        result["host"] = {name: value for name, value in host.items() if value is not None}
    return {name: value for name, value in result.items() if value is not None}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The delta that turns `old` into `new` (see `merged`); empty if they are equal."""
    delta = _changed_members(old, new)
    if isinstance(old.get("host"), Mapping) and isinstance(delta.get("host"), Mapping):
        delta["host"] = _changed_members(old["host"], new["host"])
    return delta


def _changed_members(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    delta: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        if name not in old or old[name] != value:
            delta[name] = value
    return delta


def without_nulls(value: Any) -> Any:
    """A full block as it is kept: members that are null are not there."""
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value
