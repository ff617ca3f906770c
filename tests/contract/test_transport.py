"""The client port: paths, methods, bodies, refusals and their texts."""

import asyncio
import codecs
import contextlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.broker.api_calls import (
    ARRAY_OPERATIONS,
    OBJECT_OPERATIONS,
    OPERATIONS,
    UUID,
    call,
    error_of,
    new_owner,
    owner_filter,
    queue,
    refused,
    without_header,
)
from tests.running import RunningBroker, running_broker

# In the loop of the one broker of this module.
pytestmark = pytest.mark.asyncio(loop_scope="module")


# ------------------------------------------------------------------ transport and errors


@pytest.mark.covers("C1")
async def test_plain_http_gets_no_answer_of_the_api(broker: RunningBroker) -> None:
    """Whoever speaks HTTP without TLS to the port is not answered; over TLS the same request is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(broker.url.rpartition(":")[2]))
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert b"HTTP" not in await reader.read()
    writer.close()
    assert (await broker.client.get("/health")).status_code == 200


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
@pytest.mark.covers("C2")
async def test_a_wrong_method_is_told_the_right_one(
    broker: RunningBroker, method: str, path: str, allowed: str
) -> None:
    """A known path with another method is refused with 405, and `Allow` names the method that it takes."""
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
@pytest.mark.covers("C3", "C4")
async def test_an_unknown_path_is_not_found(broker: RunningBroker, path: str, token: bool) -> None:
    """Paths are compared letter by letter; any other gets 404, whether or not a token comes with it."""
    if token:
        answer = await broker.client.post(broker.url + path)
    else:
        answer = await without_header(broker, "POST", path)
    assert answer.status_code == 404
    assert error_of(answer) == "Not found"


@pytest.mark.covers("C5", "C6")
async def test_what_is_no_json_is_refused(broker: RunningBroker) -> None:
    """A body that is no JSON gets 400 and a text that says so, in the JSON form of all refusals."""
    for body in (
        "{",
        "[",
        '[{"Name": }]',
        "nonsense",
        "[NaN]",
        "[Infinity]",
        "[" * 100_000,
        "[1] [2]",
        "\ufeff",
        "[\ufeff]",
    ):
        assert (await refused(broker, "createSessions", body)).startswith("Malformed JSON request"), body[:20]


@pytest.mark.covers("C7")
async def test_operations_on_items_need_a_body(broker: RunningBroker) -> None:
    """An empty body where items are expected is refused with a text of its own."""
    for operation in ARRAY_OPERATIONS:
        assert await refused(broker, operation, b"") == "Request body is required"
        assert await refused(broker, operation, b" \n ") == "Request body is required"


@pytest.mark.covers("C8")
async def test_the_outermost_shape_of_a_body_is_checked(broker: RunningBroker) -> None:
    """An object where an array belongs, or the other way round, is refused with a text that says which."""
    for operation in ARRAY_OPERATIONS:
        for body in ("{}", '"text"', "1", "null"):
            assert await refused(broker, operation, body) == "Request body must be a JSON array"
        assert await refused(broker, operation, ["text"])
    for operation in OBJECT_OPERATIONS:
        for body in ("[]", '"text"', "1"):
            assert await refused(broker, operation, body) == "Request body must be a JSON object"


@pytest.mark.covers("C9")
async def test_unknown_fields_are_named(broker: RunningBroker) -> None:
    """A field that the API does not have gets 400 with its name as sent: in a body, an item and a filter."""
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
@pytest.mark.covers("C10")
async def test_fields_of_a_wrong_type_are_named(
    broker: RunningBroker, operation: str, body: Any, field: str
) -> None:
    """A value of a wrong JSON type gets 400 with the name of its field."""
    assert await refused(broker, operation, body) == f'Invalid value for field "{field}"'


@pytest.mark.covers("C11")
async def test_numbers_and_truth_values_may_be_sent_as_texts(broker: RunningBroker) -> None:
    """`2`, `2.0` and the text "2" mean the same number; "true" in any case means true."""
    owner = new_owner()
    made = await queue(broker, owner, 3)
    for value in ("2", 2, 2.0, "+2"):
        found = await call(broker, "describeSessions", {**owner_filter(owner), "MaxResults": value})
        assert len(found["Sessions"]) == 2
    for value in ("true", "TRUE", True):
        item = {"SessionId": made.pop(), "Owner": owner, "Force": value}
        await call(broker, "deleteSessions", [item])
        left = await call(broker, "describeSessions", owner_filter(owner))
        assert {session["Id"] for session in left["Sessions"]} == set(made), "removed at once, as by force"
    (kept,) = await queue(broker, owner)
    await call(broker, "deleteSessions", [{"SessionId": kept, "Owner": owner, "Force": "False"}])
    assert (await call(broker, "describeSessions", owner_filter(owner)))["Sessions"][0]["State"] == "DELETED"


@pytest.mark.covers("C12")
async def test_a_structural_error_executes_nothing(broker: RunningBroker) -> None:
    """One item of a wrong structure refuses the whole request; the good items before it leave no trace."""
    owner = new_owner()
    good = {"Name": "n", "Owner": owner, "Type": "VIRTUAL", "EnqueueRequest": True}
    await refused(broker, "createSessions", [good, {**good, "MaxConcurrentClients": "x"}])
    assert (await call(broker, "describeSessions", owner_filter(owner)))["Sessions"] == []


@pytest.mark.covers("C13")
async def test_a_body_above_1_mib_is_too_large(broker: RunningBroker) -> None:
    """A body of more than 1 MiB gets 413, and the connection can be used again afterwards."""
    for size in (1024 * 1024 + 1, 5 * 1024 * 1024, 40 * 1024 * 1024):
        answer = await broker.client.post("/createSessions", content=b" " * size)
        assert answer.status_code == 413
        assert error_of(answer) == "Request body too large"
    assert (await broker.client.get("/health")).status_code == 200
    exact = b"[" + b" " * (1024 * 1024 - 2) + b"]"
    assert (await broker.client.post("/createSessions", content=exact)).status_code == 200


@pytest.mark.covers("C14")
async def test_a_body_is_json_whatever_its_header_says(broker: RunningBroker) -> None:
    """Without a media type, or with a wrong one, a body is read as the JSON that it is."""
    owner = new_owner()
    item = {"Name": "n", "Owner": owner, "Type": "VIRTUAL", "EnqueueRequest": True}
    kinds: tuple[dict[str, str], ...] = (
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    )
    for headers in kinds:
        request = broker.client.build_request("POST", "/createSessions", content=json.dumps([item]))
        assert "content-type" not in request.headers
        request.headers.update(headers)
        answer = await broker.client.send(request)
        assert (answer.status_code, len(answer.json()["SuccessfulList"])) == (200, 1)
    found = await call(broker, "describeSessions", owner_filter(owner))
    assert len(found["Sessions"]) == len(kinds)


@pytest.mark.covers("C15")
async def test_text_that_is_no_utf_8_is_refused(broker: RunningBroker) -> None:
    """Bytes that are no UTF-8, and halves of surrogate pairs, are the caller's fault: 400, not 500."""
    for body in (b'[{"Name": "\xff"}]', "[]".encode("utf-16"), rb'[{"Name": "\ud800"}]', rb'{"\uDfff": 1}'):
        assert (await refused(broker, "createSessions", body)).startswith("Malformed JSON request")


async def test_a_mark_of_the_byte_order_is_passed_over(broker: RunningBroker) -> None:
    """Tools that write UTF-8 with a byte order mark before it are understood."""
    for operation, body in (("createSessions", b"[]"), ("describeSessions", b'{"MaxResults": 1}')):
        answer = await broker.client.post(f"/{operation}", content=codecs.BOM_UTF8 + body)
        assert answer.status_code == 200


async def test_what_is_no_http_is_refused_like_everything_else(broker: RunningBroker) -> None:
    """A request that is none gets 400 as JSON with a text, and the connection ends."""
    port = int(broker.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=broker.tls)
    writer.write(b"POST /describeSessions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/json" in head
    assert json.loads(body) == {"error": "Invalid HTTP request received"}


@pytest.mark.covers("C16")
async def test_no_items_are_no_error(broker: RunningBroker) -> None:
    """An empty array gets 200 with two empty lists, for every operation on items."""
    for operation in ARRAY_OPERATIONS:
        found = await call(broker, operation, [])
        assert found["SuccessfulList"] == []
        assert found["UnsuccessfulList"] == []


@pytest.mark.covers("C17")
async def test_every_answer_has_an_id_of_its_own(broker: RunningBroker) -> None:
    """Each answer of the operations has a fresh lower-case UUID by which it can be told from others."""
    found = set()
    for _ in range(2):
        found |= {(await call(broker, operation, []))["RequestId"] for operation in ARRAY_OPERATIONS}
        found |= {(await call(broker, operation, {}))["RequestId"] for operation in OBJECT_OPERATIONS}
    assert len(found) == 2 * len(OPERATIONS)
    assert all(UUID.fullmatch(each) for each in found)


async def test_limits_on_the_number_of_items(broker: RunningBroker) -> None:
    for operation, most in (("deleteSessions", 1000), ("getSessionScreenshots", 100)):
        assert await refused(broker, operation, [{}] * (most + 1)) == "Too many items"
        assert len((await call(broker, operation, [{}] * most))["UnsuccessfulList"]) == most
    for operation, field in (("describeSessions", "SessionIds"), ("describeServers", "ServerIds")):
        assert await refused(broker, operation, {field: ["x"] * 1001}) == "Too many items"
        await call(broker, operation, {field: ["x"] * 1000})


async def test_refusals_come_in_a_fixed_order(broker: RunningBroker) -> None:
    """Of several faults the first of these is told: path, method, token, size, content."""
    large = b"x" * (2 * 1024 * 1024)
    token = {"Authorization": f"Bearer {await broker.token()}"}
    async with httpx.AsyncClient(base_url=broker.url, verify=broker.tls) as client:
        answers = [
            await client.request("DELETE", "/nothing", content=large),
            await client.request("DELETE", "/createSessions", content=large),
            await client.request("POST", "/createSessions", content=large),
            await client.request("POST", "/createSessions", content=large, headers=token),
            await client.request("POST", "/createSessions", content=large[:100], headers=token),
        ]
    assert [answer.status_code for answer in answers] == [404, 405, 401, 413, 400]


@pytest.mark.covers("C5")
async def test_every_refusal_has_the_same_form(broker: RunningBroker) -> None:
    """Whatever refuses a request to an operation, the answer is JSON with the one text `error`."""
    token = {"Authorization": f"Bearer {await broker.token()}"}
    large = b" " * (1024 * 1024 + 1)
    for operation, (method, _) in OPERATIONS.items():
        path = f"/{operation}"
        async with httpx.AsyncClient(base_url=broker.url, verify=broker.tls) as client:
            answers = [
                await client.request("PATCH", path),
                await client.request(method, path),
                await client.request(method, path, content=large, headers=token),
                await client.request(method, path, content=b"{", headers=token),
                await client.request(method, path, content=b'"x"', headers=token),
            ]
        assert [answer.status_code for answer in answers] == [405, 401, 413, 400, 400]
        assert all(error_of(answer) for answer in answers)
    for path in ("/sessionConnectionData/x/y", "/sessionConnectionData/x/%00"):
        answer = await broker.client.get(broker.url + path)
        assert (answer.status_code, bool(error_of(answer))) == (400, True)


async def test_answers_carry_nothing_for_browsers(broker: RunningBroker) -> None:
    """No cookies and no permissions for other origins: answers carry nothing that only browsers use."""
    answer = await broker.client.post("/describeSessions", headers={"Origin": "https://elsewhere.example"})
    assert answer.headers["content-type"] == "application/json"
    assert not [name for name in answer.headers if "cookie" in name or "access-control" in name]


@pytest.mark.covers("B29")
async def test_too_many_requests_are_refused_for_a_while(tmp_path: Path) -> None:
    """Above the limit of requests per second a caller gets 429 and is told when to come again."""
    async with running_broker(
        tmp_path, max_api_requests_per_second=2, enable_throttling_forwarded_for_header=True
    ) as broker:
        first = {"X-Forwarded-For": "unknown, 192.0.2.1, 192.0.2.9"}
        answers = [await broker.client.get("/nothing", headers=first) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [404, 404]
        for _ in range(100):  # on a busy machine the third may come a second later
            limited = await broker.client.get("/nothing", headers=first)
            if limited.status_code != 404:
                break
        assert limited.status_code == 429
        assert error_of(limited) == "Too many requests"
        assert int(limited.headers["retry-after"]) >= 1
        other = await broker.client.post("/describeServers", headers={"X-Forwarded-For": "192.0.2.2"})
        assert other.status_code == 200
        assert (await broker.client.get("/health", headers=first)).status_code == 200
