"""The client listener over HTTPS without hosts: paths, order of refusals, bodies, tokens, pages."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from tests import wire_schema
from tests.running import RunningBroker, running_broker

# One broker for all tests of this module: a start costs more than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")

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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    folder = tmp_path_factory.mktemp("http_api")
    async with running_broker(folder, create_sessions_queue_max_size=10_000) as running:
        yield running


async def call(broker: RunningBroker, operation: str, body: Any) -> dict[str, Any]:
    """An operation that must succeed; its answer is held against the definition (C17, C18)."""
    method, schema = OPERATIONS[operation]
    answer = await broker.client.request(method, f"/{operation}", content=json.dumps(body))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    assert wire_schema.faults(DEFINITION, schema, found) == []
    assert UUID.fullmatch(found["RequestId"])
    return found


async def refused(broker: RunningBroker, operation: str, body: Any, **kwargs: Any) -> str:
    """The `error` text of a request that is refused with 400."""
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    method = OPERATIONS[operation][0]
    answer = await broker.client.request(method, f"/{operation}", content=content, **kwargs)
    assert answer.status_code == 400, answer.text
    return error_of(answer)


def error_of(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["error"]
    assert isinstance(body["error"], str)
    return str(body["error"])


async def queue(broker: RunningBroker, owner: str, count: int = 1, **fields: Any) -> list[str]:
    """Sessions that wait for a server, which never comes here."""
    item = {"Name": "n", "Owner": owner, "Type": "VIRTUAL", "EnqueueRequest": True, **fields}
    answer = await call(broker, "createSessions", [item] * count)
    assert answer["UnsuccessfulList"] == []
    return [session["Id"] for session in answer["SuccessfulList"]]


def owner_filter(owner: str) -> dict[str, Any]:
    return {"Filters": [{"Key": "owner", "Value": owner}]}


def new_owner() -> str:
    return f"owner-{uuid4()}"


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


async def without_header(broker: RunningBroker, method: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=broker.url, verify=broker.tls) as client:
        return await client.request(method, path)


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
    assert (answer.status_code, answer.json()) == (200, {"status": "UP"})
    assert (await without_header(broker, "HEAD", "/health")).status_code == 200


# ------------------------------------------------------------------ describing


async def test_c39_no_parameters_in_every_form(broker: RunningBroker) -> None:
    await queue(broker, new_owner())
    bodies = [b"", b"null", b"{}", b'{"SessionIds":[],"Filters":[],"NextToken":""}']
    answers = [(await broker.client.post("/describeSessions", content=body)).json() for body in bodies]
    assert answers[0]["Sessions"]
    assert all(answer["Sessions"] == answers[0]["Sessions"] for answer in answers)


async def test_c40_null_equals_leaving_out(broker: RunningBroker) -> None:
    nothing = dict.fromkeys(("SessionIds", "Filters", "MaxResults", "NextToken"))
    with_nulls, without = (
        await call(broker, "describeSessions", nothing),
        await call(broker, "describeSessions", {}),
    )
    assert with_nulls["Sessions"] == without["Sessions"]
    await call(broker, "describeServers", dict.fromkeys(("ServerIds", "MaxResults", "NextToken")))
    for operation, fields in {
        "createSessions": ("Name", "Owner", "Type", "InitFile", "MaxConcurrentClients", "DcvGlEnabled"),
        "deleteSessions": ("SessionId", "Owner", "Force"),
        "sessionPermissions": ("SessionId", "Owner", "PermissionsFile"),
        "getSessionScreenshots": ("SessionId", "MaxWidth", "MaxHeight"),
        "openServers": ("ServerId",),
        "closeServers": ("ServerId", "Force"),
    }.items():
        (with_null,) = (await call(broker, operation, [dict.fromkeys(fields)]))["UnsuccessfulList"]
        (empty,) = (await call(broker, operation, [{}]))["UnsuccessfulList"]
        assert with_null == empty


async def test_c41_other_spellings(broker: RunningBroker) -> None:
    (session_id,) = await queue(broker, new_owner())
    for field in ("SessionIds", "session_ids", "sessionIds", "session-ids"):
        (session,) = (await call(broker, "describeSessions", {field: [session_id]}))["Sessions"]
        assert session["Id"] == session_id


async def test_c42_the_range_of_max_results(broker: RunningBroker) -> None:
    for operation in OBJECT_OPERATIONS:
        for value in (0, -1, 1001, 10**30):
            text = await refused(broker, operation, {"MaxResults": value})
            assert text == "MaxResults must be between 1 and 1000"
        for value in (1, 1000):
            await call(broker, operation, {"MaxResults": value})


async def test_c43_a_page_holds_a_thousand(broker: RunningBroker) -> None:
    owner = new_owner()
    made = await queue(broker, owner, 500) + await queue(broker, owner, 500) + await queue(broker, owner, 200)
    first = await call(broker, "describeSessions", owner_filter(owner))
    assert len(first["Sessions"]) == 1000
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,1024}", first["NextToken"])
    second = await call(broker, "describeSessions", {**owner_filter(owner), "NextToken": first["NextToken"]})
    assert len(second["Sessions"]) == 200
    assert "NextToken" not in second
    found = [session["Id"] for session in first["Sessions"] + second["Sessions"]]
    assert sorted(found) == sorted(made)
    await call(
        broker, "deleteSessions", [{"SessionId": id, "Owner": owner, "Force": True} for id in made[:1000]]
    )


async def test_c44_a_full_last_page_is_the_last(broker: RunningBroker) -> None:
    owner = new_owner()
    await queue(broker, owner, 4)
    first = await call(broker, "describeSessions", {**owner_filter(owner), "MaxResults": 2})
    body = {**owner_filter(owner), "MaxResults": 2, "NextToken": first["NextToken"]}
    second = await call(broker, "describeSessions", body)
    assert len(second["Sessions"]) == 2
    assert "NextToken" not in second


async def test_c46_pages_survive_changes_between_them(broker: RunningBroker) -> None:
    owner = new_owner()
    made = await queue(broker, owner, 6)
    order = [each["Id"] for each in (await call(broker, "describeSessions", owner_filter(owner)))["Sessions"]]
    body: dict[str, Any] = {**owner_filter(owner), "MaxResults": 2}
    page = await call(broker, "describeSessions", body)
    seen = [session["Id"] for session in page["Sessions"]]
    gone = [order[1], order[2]]
    await call(broker, "deleteSessions", [{"SessionId": id, "Owner": owner, "Force": True} for id in gone])
    await queue(broker, owner, 1)
    while "NextToken" in page:
        page = await call(broker, "describeSessions", {**body, "NextToken": page["NextToken"]})
        seen += [session["Id"] for session in page["Sessions"]]
    assert len(seen) == len(set(seen))
    assert set(made) - set(gone) <= set(seen)


async def test_c47_a_token_goes_on_with_other_criteria(broker: RunningBroker) -> None:
    owner = new_owner()
    await queue(broker, owner, 5)
    order = [each["Id"] for each in (await call(broker, "describeSessions", owner_filter(owner)))["Sessions"]]
    page = await call(broker, "describeSessions", {**owner_filter(owner), "MaxResults": 1})
    rest = await call(
        broker, "describeSessions", {**owner_filter(owner), "MaxResults": 3, "NextToken": page["NextToken"]}
    )
    assert [session["Id"] for session in rest["Sessions"]] == order[1:4]
    some = await call(
        broker, "describeSessions", {"SessionIds": [order[0], order[4]], "NextToken": page["NextToken"]}
    )
    assert [session["Id"] for session in some["Sessions"]] == [order[4]]


async def test_c48_tokens_that_were_not_issued(broker: RunningBroker) -> None:
    owner = new_owner()
    await queue(broker, owner, 2)
    token = (await call(broker, "describeSessions", {**owner_filter(owner), "MaxResults": 1}))["NextToken"]
    for bad in ("nonsense", token[:-3], token[1:], "é", "A" * 2000):
        assert await refused(broker, "describeSessions", {"NextToken": bad}) == "Invalid NextToken"
    assert await refused(broker, "describeServers", {"NextToken": token}) == "Invalid NextToken"


async def test_c50_unknown_and_repeated_ids(broker: RunningBroker) -> None:
    (session_id,) = await queue(broker, new_owner())
    found = await call(broker, "describeSessions", {"SessionIds": [session_id, "nothing", session_id]})
    assert [session["Id"] for session in found["Sessions"]] == [session_id]


async def test_c51_c53_c54_filters(broker: RunningBroker) -> None:
    owner = new_owner().upper()
    (session_id,) = await queue(broker, owner)

    async def found(*filters: tuple[str, str]) -> list[str]:
        body = {"Filters": [{"Key": key, "Value": value} for key, value in filters]}
        return [session["Id"] for session in (await call(broker, "describeSessions", body))["Sessions"]]

    assert await found(("owner", owner)) == await found(("Owner", owner)) == [session_id]
    assert await found(("owner", owner.lower())) == []
    assert await found(("owner", owner), ("tag:color", "pink")) == []
    assert await found(("owner", owner), ("owner", "other")) == []
    assert await found(("owner", owner), ("owner", owner)) == [session_id]


async def test_c55_other_filters_are_refused(broker: RunningBroker) -> None:
    for key in ("name", "Tag:x", ""):
        text = await refused(broker, "describeSessions", {"Filters": [{"Key": key, "Value": "x"}]})
        assert text == f'Unsupported filter "{key}"'
    for incomplete in ({"Key": "owner"}, {"Value": "x"}, {}, {"Key": "owner", "Value": None}):
        text = await refused(broker, "describeSessions", {"Filters": [incomplete]})
        assert text == 'Invalid value for field "Filters"'


# ------------------------------------------------------------------ items that fail


async def test_c69_c70_c71_failed_items_echo_what_was_sent(broker: RunningBroker) -> None:
    owner = new_owner()
    items = [
        {"Name": "a", "Owner": owner, "Type": "TABLET"},
        {"Name": "b", "Owner": owner, "Type": "virtual", "EnqueueRequest": True},
        {"Name": "c", "Owner": owner, "Type": "VIRTUAL", "max_concurrents": None, "InitFilePath": "/x"},
        {"Name": "d", "Owner": owner, "Type": "Console", "EnqueueRequest": "true"},
    ]
    answer = await call(broker, "createSessions", items)
    assert [session["Name"] for session in answer["SuccessfulList"]] == ["b", "d"]
    assert [session["Type"] for session in answer["SuccessfulList"]] == ["VIRTUAL", "CONSOLE"]
    tablet, nowhere = answer["UnsuccessfulList"]
    assert tablet == {
        "CreateSessionRequestData": {"Name": "a", "Owner": owner, "Type": "TABLET"},
        "FailureReason": "Type must be one of CONSOLE, VIRTUAL",
    }
    assert nowhere == {
        "CreateSessionRequestData": {"Name": "c", "Owner": owner, "Type": "VIRTUAL", "InitFilePath": "/x"},
        "FailureReason": "no dcv server found for placement",
    }


async def test_c64_c91_an_accepted_session(broker: RunningBroker) -> None:
    item = {"Name": "Zoë 名", "Owner": "CORP\\alice", "Type": "VIRTUAL", "EnqueueRequest": True}
    (session,) = (await call(broker, "createSessions", [item]))["SuccessfulList"]
    assert UUID.fullmatch(session["Id"])
    assert (session["State"], session["Substate"]) == ("CREATING", "SESSION_PLACING")
    (found,) = (await call(broker, "describeSessions", {"SessionIds": [session["Id"]]}))["Sessions"]
    assert "Server" not in found
    for field in ("Name", "Owner", "Type", "CreationTime"):
        assert found[field] == session[field]
    assert (found["Name"], found["Owner"]) == (item["Name"], item["Owner"])


async def test_c101_c104_c105_c106_c108_deleting(broker: RunningBroker) -> None:
    owner = new_owner()
    (session_id,) = await queue(broker, owner)
    items: list[dict[str, Any]] = [
        {"SessionId": "nothing", "Owner": owner},
        {"SessionId": session_id, "Owner": "other"},
        {"Owner": owner},
        {"SessionId": session_id},
        {"SessionId": session_id, "Owner": owner},
        {"SessionId": session_id, "Owner": owner},
    ]
    answer = await call(broker, "deleteSessions", items)
    assert answer["SuccessfulList"] == [{"SessionId": session_id, "State": "DELETING"}]
    assert [failed["FailureReason"] for failed in answer["UnsuccessfulList"]] == [
        "The requested dcvSession does not exist",
        "The requested dcvSession is not owned by the specified owner",
        "SessionId is required",
        "Owner is required",
        "The requested dcvSession does not exist",
    ]
    (found,) = (await call(broker, "describeSessions", {"SessionIds": [session_id]}))["Sessions"]
    assert found["State"] == "DELETED"


async def test_c124_c126_unknown_servers(broker: RunningBroker) -> None:
    for operation, echo in (
        ("openServers", "OpenServerRequestData"),
        ("closeServers", "CloseServerRequestData"),
    ):
        answer = await call(broker, operation, [{"ServerId": "nothing"}, {}])
        assert answer["UnsuccessfulList"] == [
            {
                echo: {"ServerId": "nothing"},
                "FailureCode": "DCV_SERVER_NOT_FOUND",
                "FailureReason": "Dcv server not found.",
            },
            {echo: {}, "FailureCode": "INVALID_REQUEST", "FailureReason": "ServerId is required"},
        ]


async def test_c128_permissions_of_what_is_not_ready(broker: RunningBroker) -> None:
    owner = new_owner()
    (session_id,) = await queue(broker, owner)
    good = {"SessionId": session_id, "Owner": owner, "PermissionsFile": "W3Blcm1pc3Npb25zXQo="}
    items = [
        {**good, "SessionId": "nothing"},
        {**good, "Owner": "other"},
        {"SessionId": session_id, "Owner": owner},
        good,
    ]
    answer = await call(broker, "sessionPermissions", items)
    assert [failed["FailureReason"] for failed in answer["UnsuccessfulList"]] == [
        "The requested dcvSession does not exist",
        "The requested dcvSession is not owned by the specified owner",
        "PermissionsFile is required",
        "The requested dcvSession is not in READY state",
    ]


async def test_c132_c133_connection_data_of_what_cannot_be_connected_to(broker: RunningBroker) -> None:
    (session_id,) = await queue(broker, new_owner())

    async def error(path: str) -> str:
        answer = await broker.client.get(f"{broker.url}/sessionConnectionData/{path}")
        assert answer.status_code == 400
        return error_of(answer)

    assert await error("nothing/alice") == "Dcv session not found."
    assert "neither in READY" in await error(f"{session_id}/alice")
    assert "neither in READY" in await error(f"{session_id}/CORP%5Calice")
    assert "neither in READY" in await error(f"{session_id}/a%2Fb")
    for user in ("a" * 257, "a%0Ab", "%00", "%FF"):
        assert await error(f"{session_id}/{user}") == "Invalid user"
    assert await error("%FF/alice") == "Dcv session not found."


async def test_c138_c140_screenshots_of_nothing(broker: RunningBroker) -> None:
    for field in ("MaxWidth", "MaxHeight"):
        for value in (0, -5, "0"):
            text = await refused(broker, "getSessionScreenshots", [{"SessionId": "x", field: value}])
            assert text == f"{field} must be greater than 0"
    (session_id,) = await queue(broker, new_owner())
    items = [{"SessionId": "x", "MaxWidth": 5}, {"SessionId": session_id}, {}] * 2
    answer = await call(broker, "getSessionScreenshots", items)
    assert answer["UnsuccessfulList"][:3] == [
        {
            "GetSessionScreenshotRequestData": {"SessionId": "x", "MaxWidth": 5},
            "FailureReason": "Dcv session not found.",
        },
        {
            "GetSessionScreenshotRequestData": {"SessionId": session_id},
            "FailureReason": "Dcv session is not in READY state.",
        },
        {"GetSessionScreenshotRequestData": {}, "FailureReason": "SessionId is required"},
    ]


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
