"""Reads what the `dcv` command prints, of any release: unknown keys, missing keys, both forms of time.

Pure: bytes in, values out. Text forms are never read, only JSON (DCV server
specification, 2). What cannot be read raises `NotReadable`, which must never be
taken for "there are no sessions".
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from broker_stub.agent.backend import Endpoint
from dcvtui.api.states import SessionType

CONSOLE_ID = "console"
"""Id of the console session that the server makes by itself."""
_VERSION = re.compile(r"\d{4}\.\d+[-.]\d+")
_MOST_ENDPOINTS = 32
_DEFAULT_PORT = 8443


class NotReadable(ValueError):  # noqa: N818  named by what happened
    """The output is not what this command prints; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DcvSession:
    """A session as `list-sessions` and `describe-session` show it; only the id is always there."""

    id: str
    owner: str | None = None
    name: str = ""
    type: SessionType | None = None
    num_of_connections: int | None = None
    creation_time: datetime | None = None
    last_disconnection_time: datetime | None = None
    storage_root: str = ""
    display: str | None = None
    authority: str | None = None

    @property
    def is_sparse(self) -> bool:
        """Whether an old release listed it without what has to be reported."""
        return self.owner is None or self.num_of_connections is None


def read_sessions(output: bytes) -> list[DcvSession]:
    """Read `list-sessions --json`; no output at all means no sessions.

    Raises:
        NotReadable: it is something else, and nothing is known of the sessions.
    """
    if not output.strip():
        return []
    found = _json(output)
    if not isinstance(found, list):
        raise NotReadable("the list of sessions is not a JSON array")
    return [_session(one) for one in found]


def read_session(output: bytes) -> DcvSession:
    """Read `describe-session --json`.

    Raises:
        NotReadable: it describes no session.
    """
    return _session(_json(output))


def _json(output: bytes) -> Any:
    try:
        return json.loads(output)
    except (ValueError, RecursionError):
        shown = output[:60].decode("utf-8", "replace")
        raise NotReadable(f"not JSON: {shown!r}") from None


def _session(value: Any) -> DcvSession:
    if not isinstance(value, dict) or not isinstance(value.get("id"), str) or not value["id"]:
        raise NotReadable("a session without an id")
    connections = value.get("num-of-connections")
    is_count = isinstance(connections, int) and not isinstance(connections, bool) and connections >= 0
    return DcvSession(
        id=value["id"],
        owner=_words(value, "owner"),
        name=_words(value, "name") or "",
        type=_type(value),
        num_of_connections=connections if is_count else None,
        creation_time=_time(value.get("creation-time")),
        last_disconnection_time=_time(value.get("last-disconnection-time")),
        storage_root=_words(value, "storage-root") or "",
        display=_words(value, "x11-display"),
        authority=_words(value, "x11-authority"),
    )


def _words(value: dict[str, Any], name: str) -> str | None:
    found = value.get(name)
    return found if isinstance(found, str) and found and "\0" not in found else None


def _type(value: dict[str, Any]) -> SessionType | None:
    found = str(value.get("type") or "").upper()
    if found in SessionType.__members__:
        return SessionType[found]
    # Old releases do not say; the one the server makes by itself has always the same id.
    return SessionType.CONSOLE if value["id"] == CONSOLE_ID else None


def _time(value: Any) -> datetime | None:
    """`2020-03-02T16:08:50Z`, or with parts of seconds; `""` means never."""
    if not isinstance(value, str) or not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def read_connections(output: bytes) -> int:
    """Count what `list-connections --json` lists; its elements are not documented.

    Raises:
        NotReadable: it is no list. That is not zero: somebody may be connected.
    """
    found = _json(output)
    if not isinstance(found, list):
        raise NotReadable("the list of connections is not a JSON array")
    return len(found)


def read_picture(output: bytes) -> tuple[str, bytes]:
    """Read `get-screenshot --json`: the stated format in lower case, and the file.

    Raises:
        NotReadable: there is no picture of that format in it.
    """
    found = _json(output)
    if not isinstance(found, dict) or not isinstance(found.get("base64"), str):
        raise NotReadable("the screenshot has no picture in it")
    try:
        data = base64.b64decode("".join(found["base64"].split()), validate=True)
    except (binascii.Error, ValueError):
        raise NotReadable("the screenshot is not Base64") from None
    stated = str(found.get("format") or "").lower()
    signs = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "jpg": b"\xff\xd8\xff"}
    if stated not in signs or not data.startswith(signs[stated]):
        raise NotReadable(f"the screenshot is not the {stated[:16]!r} it says it is")
    return "jpeg" if stated == "jpg" else stated, data


def read_version(output: bytes) -> str:
    """The version of the server in what `dcv version` prints; empty if there is none in it."""
    found = _VERSION.search(output.decode("utf-8", "replace"))
    return found[0] if found else ""


def read_endpoints(output: bytes) -> tuple[Endpoint, ...]:
    """Read `list-endpoints --json` leniently: its keys are not documented.

    Every object with a port counts, whatever it is nested in; the protocol and the web path are
    taken from the spellings that other DCV tools use. Without one, the default port of the server.
    """
    try:
        objects = list(_objects(json.loads(output), 0))
    except (ValueError, RecursionError):
        objects = []
    found: dict[tuple[int, str], Endpoint] = {}
    for one in objects:
        by_name = {re.sub(r"[^a-z0-9]", "", str(key).lower()): value for key, value in one.items()}
        if endpoint := _endpoint(by_name):
            found.setdefault((endpoint.port, endpoint.protocol), endpoint)
    return tuple(found.values())[:_MOST_ENDPOINTS] or (Endpoint(port=_DEFAULT_PORT),)


def _objects(value: Any, depth: int) -> Iterable[dict[str, Any]]:
    if depth > 4:
        return
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _objects(one, depth + 1)


def _endpoint(members: dict[str, Any]) -> Endpoint | None:
    port = members.get("port", members.get("webport"))
    if isinstance(port, str) and port.isdecimal():
        port = int(port)
    if not isinstance(port, int) or not 1 <= port <= 65535:
        return None
    words = f"{members.get('protocol', '')} {members.get('transport', '')} {members.get('type', '')}".lower()
    if "quic" in words or "udp" in words:
        return Endpoint(port=port, protocol="QUIC", web_url_path=None)
    path = members.get("weburlpath", members.get("urlpath", members.get("path", "/")))
    is_path = isinstance(path, str) and path.startswith("/")
    # Addresses are left out: the server listens on all of them, and says 0.0.0.0.
    return Endpoint(port=port, web_url_path=path if is_path else "/")
