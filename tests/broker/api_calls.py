"""Calling the API in tests: every answer is held against the definition."""

import json
import re
from typing import Any
from uuid import uuid4

import httpx

from tests import strict_schema, wire_schema
from tests.running import RunningBroker

DEFINITION = wire_schema.own_definition()
ARRAY_OPERATIONS = {
    "createSessions": ("POST", "CreateSessionsResponse"),
    "deleteSessions": ("POST", "DeleteSessionsResponse"),
    "sessionPermissions": ("PUT", "UpdateSessionPermissionsResponse"),
    "getSessionScreenshots": ("POST", "GetSessionScreenshotsResponse"),
    "openServers": ("POST", "OpenServersResponse"),
    "closeServers": ("POST", "CloseServersResponse"),
}
OBJECT_OPERATIONS = {
    "describeSessions": ("POST", "DescribeSessionsResponse"),
    "describeServers": ("POST", "DescribeServersResponse"),
}
OPERATIONS = ARRAY_OPERATIONS | OBJECT_OPERATIONS
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


async def call(broker: RunningBroker, operation: str, body: Any = None) -> dict[str, Any]:
    """An operation that must succeed; without a body nothing is sent."""
    method, schema = OPERATIONS[operation]
    content = b"" if body is None else json.dumps(body)
    answer = await broker.client.request(method, f"/{operation}", content=content)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    assert strict_schema.faults(DEFINITION, schema, found) == []
    assert UUID.fullmatch(found["RequestId"])
    return found


async def refused(broker: RunningBroker, operation: str, body: Any) -> str:
    """The `error` text of a request that is refused with 400."""
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    answer = await broker.client.request(OPERATIONS[operation][0], f"/{operation}", content=content)
    assert answer.status_code == 400, answer.text
    return error_of(answer)


def error_of(answer: httpx.Response) -> str:
    """The text of an error answer, whose form is always the same."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["error"]
    assert isinstance(body["error"], str)
    return str(body["error"])


async def without_header(broker: RunningBroker, method: str, path: str) -> httpx.Response:
    """A request of somebody who has no token."""
    async with httpx.AsyncClient(base_url=broker.url, verify=broker.tls) as client:
        return await client.request(method, path)


async def queue(broker: RunningBroker, owner: str, count: int = 1, **fields: Any) -> list[str]:
    """Sessions that wait for a server."""
    item = {"Name": "n", "Owner": owner, "Type": "VIRTUAL", "EnqueueRequest": True, **fields}
    answer = await call(broker, "createSessions", [item] * count)
    assert answer["UnsuccessfulList"] == []
    return [session["Id"] for session in answer["SuccessfulList"]]


def owner_filter(owner: str) -> dict[str, Any]:
    """What DescribeSessions takes to describe the sessions of one owner."""
    return {"Filters": [{"Key": "owner", "Value": owner}]}


def new_owner() -> str:
    """An owner whom no other test knows."""
    return f"owner-{uuid4()}"
