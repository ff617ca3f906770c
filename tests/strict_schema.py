"""A reader of answers as strict as any client: it takes nothing that the API definition does not list.

Clients generated for Java throw on a field that the schema does not have, and many
programs look into a list without asking whether it is there. Nothing here imports
more than the standard library: children of tests use it too.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}
_LIMITS = {"int32": 2**31, "int64": 2**63}

_LISTS = ("RequestId", "SuccessfulList", "UnsuccessfulList")
ALWAYS: dict[str, tuple[str, ...]] = {
    "DescribeSessionsResponse": ("RequestId", "Sessions"),
    "DescribeServersResponse": ("RequestId", "Servers"),
    "CreateSessionsResponse": _LISTS,
    "DeleteSessionsResponse": _LISTS,
    "UpdateSessionPermissionsResponse": _LISTS,
    "GetSessionScreenshotsResponse": _LISTS,
    "OpenServersResponse": _LISTS,
    "CloseServersResponse": _LISTS,
    "GetSessionConnectionDataResponse": ("Session", "ConnectionToken"),
    "Server": (
        "Id",
        "Ip",
        "Hostname",
        "Endpoints",
        "Availability",
        "ConsoleSessionCount",
        "VirtualSessionCount",
        "Tags",
    ),
    "Host": ("Gpus", "LoggedInUsers"),
    "Endpoint": ("Port", "Protocol"),
    "Session": ("Id", "Name", "Owner", "Type", "State", "CreationTime"),
    "KeyValuePair": ("Key", "Value"),
    "SessionScreenshot": ("SessionId", "Images"),
    "SessionScreenshotImage": ("Format", "Data", "CreationTime", "Primary"),
    "DeleteSessionSuccessfulResponse": ("SessionId", "State"),
    "UnsuccessfulCreateSessionRequestData": ("CreateSessionRequestData", "FailureReason"),
    "DeleteSessionUnsuccessfulResponse": ("FailureReason",),
    "UpdateSessionPermissionsUnsuccessfulResponse": ("FailureReason",),
    "GetSessionScreenshotUnsuccessfulResponse": ("GetSessionScreenshotRequestData", "FailureReason"),
    "OpenServerUnsuccessfulResponse": ("OpenServerRequestData", "FailureCode", "FailureReason"),
    "CloseServerUnsuccessfulResponse": ("CloseServerRequestData", "FailureCode", "FailureReason"),
}
"""Fields that the definition leaves open and the broker always sends, by schema."""

WORDS: dict[tuple[str, str], frozenset[str]] = {
    ("Session", "Type"): frozenset(("CONSOLE", "VIRTUAL")),
    ("Session", "State"): frozenset(("CREATING", "READY", "DELETING", "DELETED", "UNKNOWN")),
    ("Session", "Substate"): frozenset(("SESSION_PLACING", "PENDING_PREPARATION")),
    ("Server", "Availability"): frozenset(("AVAILABLE", "UNAVAILABLE")),
    ("Server", "UnavailabilityReason"): frozenset(
        (
            "SERVER_FULL",
            "SERVER_CLOSED",
            "UNREACHABLE_AGENT",
            "UNHEALTHY_DCV_SERVER",
            "EXISTING_LOGGED_IN_USER",
            "UNKNOWN",
        )
    ),
    ("DeleteSessionSuccessfulResponse", "State"): frozenset(("DELETING",)),
    ("SessionScreenshotImage", "Format"): frozenset(("png", "jpeg")),
}
"""Texts that have a few values only; the definition names them in its descriptions."""


def faults(definition: dict[str, Any], schema_name: str, value: Any) -> list[str]:
    """What a strict reader finds wrong with a value by the schema alone; each fault begins with its place."""
    return list(_faults(definition, schema_name, {"$ref": schema_name}, value, schema_name))


def answer_faults(definition: dict[str, Any], schema_name: str, body: bytes) -> list[str]:
    """What is wrong with the body of a good answer: its JSON, its schema, what is missing, odd words."""
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except ValueError as error:
        return [f"{schema_name}: {error}"]
    return list(_faults(definition, schema_name, {"$ref": schema_name}, value, schema_name, whole=True))


def error_faults(body: bytes) -> list[str]:
    """What is wrong with the body of a refusal: it is an object with the one text `error`."""
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_once)
    except ValueError as error:
        return [f"error: {error}"]
    if not isinstance(value, dict) or list(value) != ["error"] or not isinstance(value["error"], str):
        return [f"error: an object with the one text `error` expected, not {value!r:.200}"]
    return [] if value["error"] else ["error: the text is empty"]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a field is there twice: {[name for name, _ in pairs]}")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _faults(
    definition: dict[str, Any],
    name: str,
    schema: dict[str, Any],
    value: Any,
    place: str,
    *,
    whole: bool = False,
) -> Iterator[str]:
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        schema = definition["components"]["schemas"][name]
    kind = schema.get("type", "object")
    is_of_type = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not is_of_type:
        yield f"{place}: {kind} expected, not {value!r:.200}"
    elif kind == "array":
        for number, item in enumerate(value):
            yield from _faults(definition, name, schema["items"], item, f"{place}[{number}]", whole=whole)
    elif kind == "object":
        known = schema["properties"]
        for field, item in value.items():
            if field not in known:
                yield f"{place}.{field}: not in the schema"
                continue
            yield from _faults(definition, name, known[field], item, f"{place}.{field}", whole=whole)
            if whole and (name, field) in WORDS and item not in WORDS[name, field]:
                yield f"{place}.{field}: {item!r} is none of its words"
        if whole:
            yield from _object_faults(name, value, place)
    else:
        yield from _format_faults(schema.get("format"), value, place)


def _format_faults(form: str | None, value: Any, place: str) -> Iterator[str]:
    if form in _LIMITS and not -_LIMITS[form] <= value < _LIMITS[form]:
        yield f"{place}: {value} is no {form}"
    if form == "date-time" and not _TIME.fullmatch(value):
        yield f"{place}: {value} is no UTC time with milliseconds"


def _object_faults(name: str, value: Any, place: str) -> Iterator[str]:
    """What must be there, what must not, and what goes together."""
    for field in ALWAYS.get(name, ()):
        if field not in value:
            yield f"{place}.{field}: missing"
    if "RequestId" in value and not _UUID.fullmatch(value["RequestId"]):
        yield f"{place}.RequestId: {value['RequestId']!r} is no lower-case UUID"
    if name == "Server":
        if ("UnavailabilityReason" in value) != (value.get("Availability") == "UNAVAILABLE"):
            yield f"{place}: a reason goes with UNAVAILABLE and with nothing else"
        keys = [tag.get("Key") for tag in value.get("Tags", ())]
        if keys != sorted(set(keys)):
            yield f"{place}.Tags: not sorted, or a key is there twice"
    elif name == "Session":
        if ("Substate" in value) != (value.get("State") == "CREATING"):
            yield f"{place}: a substate goes with CREATING and with nothing else"
        if "Host" in value.get("Server", {}):
            yield f"{place}.Server.Host: a session shows its server without the host"
    elif name == "Endpoint" and value.get("Protocol") == "QUIC" and "WebUrlPath" in value:
        yield f"{place}.WebUrlPath: QUIC has no path"
    elif name == "SessionScreenshot" and sum(one.get("Primary") is True for one in value["Images"]) != 1:
        yield f"{place}.Images: exactly one is the primary one"
