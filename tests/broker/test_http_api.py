"""The client listener over HTTPS: paths, order of refusals, bodies, tokens, switches."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests import wire_schema
from tests.broker.api_calls import (
    ARRAY_OPERATIONS,
    OBJECT_OPERATIONS,
    OPERATIONS,
    call,
    error_of,
    new_owner,
    owner_filter,
    queue,
    refused,
    without_header,
)
from tests.running import RunningBroker, running_broker

# One broker for all tests of this module: a start costs more than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    folder = tmp_path_factory.mktemp("http_api")
    async with running_broker(folder, create_sessions_queue_max_size=10_000) as running:
        yield running


# ------------------------------------------------------------------ transport and errors


async def test_c1_plain_http_gets_no_api_answer(broker: RunningBroker) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(broker.url.rpartition(":")[2]))
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert b"HTTP" not in await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/oauth2/token", "POST"),
        ("GET", "/describeSessions", "POST"),
        ("HEAD", "/describeSessions", "POST"),
        ("POST", "/sessionPermissions", "PUT"),
        ("POST", "/sessionConnectionData/x/y", "GET"),
        ("DELETE", "/health", "GET"),
        ("POST", "/dcv-session-manager-api.yaml", "GET"),
    ],
)
async def test_c2_wrong_method(broker: RunningBroker, method: str, path: str, allowed: str) -> None:
    answer = await broker.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    if method != "HEAD":
        assert error_of(answer) == "Method not allowed"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/describesessions",
        "/describeSessions/",
        "//describeSessions",
        "/v1/describeSessions",
        "/sessionConnectionData/x",
        "/sessionConnectionData/x/",
        "/sessionConnectionData//y",
        "/sessionConnectionData/x/y/z",
        "/agent/register",
        "/agent/validate-authentication-token",
        "/resolveSession",
    ],
)
@pytest.mark.parametrize("token", [True, False])
async def test_c3_c4_unknown_paths(broker: RunningBroker, path: str, token: bool) -> None:
    headers = {} if token else {"Authorization": ""}
    answer = await broker.client.post(broker.url + path, headers=headers)
    assert answer.status_code == 404
    assert error_of(answer) == "Not found"


async def test_c6_malformed_json(broker: RunningBroker) -> None:
    for body in (
        "{",
        "[",
        '[{"Name": }]',
        "nonsense",
        "[NaN]",
        "[Infinity]",
        "[" * 100_000,
        "[1] [2]",
        "\ufeff[]",
    ):
        assert (await refused(broker, "createSessions", body)).startswith("Malformed JSON request"), body[:20]


async def test_c7_empty_bodies(broker: RunningBroker) -> None:
    for operation in ARRAY_OPERATIONS:
        assert await refused(broker, operation, b"") == "Request body is required"
        assert await refused(broker, operation, b" \n ") == "Request body is required"


async def test_c8_wrong_shapes(broker: RunningBroker) -> None:
    for operation in ARRAY_OPERATIONS:
        for body in ("{}", '"text"', "1", "null"):
            assert await refused(broker, operation, body) == "Request body must be a JSON array"
        assert await refused(broker, operation, ["text"])
    for operation in OBJECT_OPERATIONS:
        for body in ("[]", '"text"', "1"):
            assert await refused(broker, operation, body) == "Request body must be a JSON object"


async def test_c9_unknown_fields_are_named(broker: RunningBroker) -> None:
    for operation in ARRAY_OPERATIONS:
        assert 'Unrecognized field "Foo"' in await refused(broker, operation, [{}, {"Foo": 1}])
    for operation in OBJECT_OPERATIONS:
        assert 'Unrecognized field "Foo"' in await refused(broker, operation, {"Foo": None})
    in_filter = {"Filters": [{"Key": "owner", "Value": "x", "Foo": "y"}]}
    assert 'Unrecognized field "Foo"' in await refused(broker, "describeSessions", in_filter)


@pytest.mark.parametrize(
    ("operation", "body", "field"),
    [
        ("describeSessions", {"MaxResults": "abc"}, "MaxResults"),
        ("describeSessions", {"MaxResults": 2.5}, "MaxResults"),
        ("describeSessions", {"MaxResults": True}, "MaxResults"),
        ("describeSessions", {"SessionIds": "x"}, "SessionIds"),
        ("describeSessions", {"SessionIds": [1]}, "SessionIds"),
        ("describeSessions", {"Filters": "owner"}, "Filters"),
        ("describeSessions", {"Filters": ["owner"]}, "Filters"),
        ("describeSessions", {"NextToken": 1}, "NextToken"),
        ("deleteSessions", [{"Force": 3}], "Force"),
        ("createSessions", [{"Name": 1}], "Name"),
        ("createSessions", [{"AutorunFileArguments": ["a", None]}], "AutorunFileArguments"),
        ("getSessionScreenshots", [{"MaxWidth": "wide"}], "MaxWidth"),
    ],
)
async def test_c10_wrong_types_are_named(
    broker: RunningBroker, operation: str, body: Any, field: str
) -> None:
    assert await refused(broker, operation, body) == f'Invalid value for field "{field}"'


async def test_c11_numbers_and_booleans_may_be_texts(broker: RunningBroker) -> None:
    owner = new_owner()
    await queue(broker, owner, 3)
    for value in ("2", 2, 2.0, "+2"):
        found = await call(broker, "describeSessions", {**owner_filter(owner), "MaxResults": value})
        assert len(found["Sessions"]) == 2
    for value in ("true", "TRUE", True):
        (session_id,) = await queue(broker, new_owner(), EnqueueRequest=value)
        assert session_id


async def test_c12_a_structural_error_executes_nothing(broker: RunningBroker) -> None:
    owner = new_owner()
    good = {"Name": "n", "Owner": owner, "Type": "VIRTUAL", "EnqueueRequest": True}
    await refused(broker, "createSessions", [good, {**good, "MaxConcurrentClients": "x"}])
    assert (await call(broker, "describeSessions", owner_filter(owner)))["Sessions"] == []


async def test_c13_a_body_above_1_mib(broker: RunningBroker) -> None:
    for size in (1024 * 1024 + 1, 5 * 1024 * 1024):
        answer = await broker.client.post("/createSessions", content=b" " * size)
        assert answer.status_code == 413
        assert error_of(answer) == "Request body too large"
    assert (await broker.client.get("/health")).status_code == 200
    exact = b"[" + b" " * (1024 * 1024 - 2) + b"]"
    assert (await broker.client.post("/createSessions", content=exact)).status_code == 200


async def test_c14_any_content_type_is_json(broker: RunningBroker) -> None:
    for headers in (
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ):
        answer = await broker.client.post("/describeSessions", content=b"{}", headers=headers)
        assert answer.status_code == 200


async def test_c15_text_that_is_none_is_refused(broker: RunningBroker) -> None:
    for body in (b'[{"Name": "\xff"}]', "[]".encode("utf-16"), rb'[{"Name": "\ud800"}]', rb'{"\uDfff": 1}'):
        assert (await refused(broker, "createSessions", body)).startswith("Malformed JSON request")


async def test_c16_empty_arrays(broker: RunningBroker) -> None:
    for operation in ARRAY_OPERATIONS:
        found = await call(broker, operation, [])
        assert found["SuccessfulList"] == []
        assert found["UnsuccessfulList"] == []


async def test_c17_request_ids_differ(broker: RunningBroker) -> None:
    first, second = await call(broker, "describeServers", {}), await call(broker, "describeServers", {})
    assert first["RequestId"] != second["RequestId"]


async def test_limits_on_the_number_of_items(broker: RunningBroker) -> None:
    for operation, most in (("deleteSessions", 1000), ("getSessionScreenshots", 100)):
        assert await refused(broker, operation, [{}] * (most + 1)) == "Too many items"
        assert len((await call(broker, operation, [{}] * most))["UnsuccessfulList"]) == most
    for operation, field in (("describeSessions", "SessionIds"), ("describeServers", "ServerIds")):
        assert await refused(broker, operation, {field: ["x"] * 1001}) == "Too many items"
        await call(broker, operation, {field: ["x"] * 1000})


# ------------------------------------------------------------------ tokens


async def token_request(broker: RunningBroker, **kwargs: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=broker.url, verify=broker.tls) as client:
        return await client.post("/oauth2/token", **kwargs)


async def test_c20_a_token_is_given_and_works(broker: RunningBroker) -> None:
    answer = await token_request(
        broker, params={"grant_type": "client_credentials"}, auth=(broker.client_id, broker.client_secret)
    )
    body = answer.json()
    assert answer.status_code == 200
    assert sorted(body) == ["access_token", "expires_in", "token_type"]
    assert body["token_type"].lower() == "bearer"
    assert body["expires_in"] == 3600
    assert re.fullmatch(r"[A-Za-z0-9._~+/=-]+", body["access_token"])
    answer = await broker.client.post("/describeServers", headers=bearer(body["access_token"]))
    assert answer.status_code == 200


async def test_c24_wrong_credentials(broker: RunningBroker) -> None:
    for auth in ((broker.client_id, "wrong"), ("nobody", broker.client_secret), (broker.client_id, "")):
        answer = await token_request(broker, params={"grant_type": "client_credentials"}, auth=auth)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
        assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_c27_tokens_of_one_client_live_side_by_side(broker: RunningBroker) -> None:
    for token in [await broker.token() for _ in range(2)] * 2:
        assert (await broker.client.post("/describeServers", headers=bearer(token))).status_code == 200


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_c32_the_documented_probe(broker: RunningBroker) -> None:
    answer = await without_header(broker, "GET", "/sessionConnectionData/aSession/aOwner")
    assert answer.status_code == 401
    assert answer.json() == {"error": "No authorization header"}
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_c33_every_operation_needs_a_header(broker: RunningBroker) -> None:
    for operation, (method, _) in OPERATIONS.items():
        answer = await without_header(broker, method, f"/{operation}")
        assert answer.status_code == 401
        assert error_of(answer) == "No authorization header"


async def test_c34_the_header_must_be_a_bearer_token(broker: RunningBroker) -> None:
    token = await broker.token()
    for header in ("Basic eDp5", token, "Bearer", "Bearer a b"):
        answer = await broker.client.post("/describeServers", headers={"Authorization": header})
        assert answer.status_code == 401
        assert error_of(answer) == "Invalid authorization header", header
    answer = await broker.client.post("/describeServers", headers={"Authorization": f"bearer {token}"})
    assert answer.status_code == 200


async def test_c35_a_changed_token_is_refused(broker: RunningBroker) -> None:
    token = await broker.token()
    for at in (0, 30, token.index(".") + 3, len(token) - 1):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        answer = await broker.client.post("/describeServers", headers=bearer(changed))
        assert answer.status_code == 401
        assert error_of(answer) == "Invalid access token"
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_the_order_of_refusals(broker: RunningBroker) -> None:
    """404, then 405, then 401, then 413, then 400 (1.6)."""
    large = b"x" * (2 * 1024 * 1024)
    async with httpx.AsyncClient(base_url=broker.url, verify=broker.tls) as client:
        answers = [
            await client.request("DELETE", "/nothing", content=large),
            await client.request("DELETE", "/createSessions", content=large),
            await client.request("POST", "/createSessions", content=large),
            await client.request(
                "POST", "/createSessions", content=large, headers=bearer(await broker.token())
            ),
        ]
    assert [answer.status_code for answer in answers] == [404, 405, 401, 413]


async def test_c37_the_definition_needs_no_token(broker: RunningBroker) -> None:
    answer = await without_header(broker, "GET", "/dcv-session-manager-api.yaml")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/yaml")
    assert answer.content == wire_schema.OWN_PATH.read_bytes()


async def test_health_needs_no_token(broker: RunningBroker) -> None:
    answer = await without_header(broker, "GET", "/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "UP")
    assert (await without_header(broker, "HEAD", "/health")).status_code == 200


# ------------------------------------------------------------------ switches


async def test_c36_without_authorization_any_header_is_ignored(tmp_path: Path) -> None:
    async with running_broker(tmp_path, enable_authorization=False) as broker:
        assert (await without_header(broker, "POST", "/describeServers")).status_code == 200
        answer = await broker.client.post("/describeServers", headers={"Authorization": "nonsense"})
        assert answer.status_code == 200


async def test_c31_c37_what_is_switched_off_is_not_found(tmp_path: Path) -> None:
    async with running_broker(tmp_path, enable_authorization_server=False, enable_api_yaml=False) as broker:
        for method, path in (("POST", "/oauth2/token"), ("GET", "/dcv-session-manager-api.yaml")):
            answer = await without_header(broker, method, path)
            assert answer.status_code == 404
            assert error_of(answer) == "Not found"


async def test_b29_too_many_requests(tmp_path: Path) -> None:
    async with running_broker(
        tmp_path, max_api_requests_per_second=2, enable_throttling_forwarded_for_header=True
    ) as broker:
        first = {"X-Forwarded-For": "unknown, 192.0.2.1, 192.0.2.9"}
        answers = [await broker.client.get("/nothing", headers=first) for _ in range(4)]
        assert [answer.status_code for answer in answers[:2]] == [404, 404]
        limited = answers[-1]
        assert limited.status_code == 429
        assert error_of(limited) == "Too many requests"
        assert int(limited.headers["retry-after"]) >= 1
        other = await broker.client.post("/describeServers", headers={"X-Forwarded-For": "192.0.2.2"})
        assert other.status_code == 200
        assert (await broker.client.get("/health", headers=first)).status_code == 200
