"""Items that fail, on a broker without hosts."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.broker.api_calls import UUID, call, error_of, new_owner, queue, refused
from tests.running import RunningBroker, running_broker

# One broker for all tests of this module: a start costs more than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path_factory.mktemp("items")) as running:
        yield running


# ------------------------------------------------------------------ items that fail


async def test_c66_c68_c69_c70_c71_failed_items_echo_what_was_sent(broker: RunningBroker) -> None:
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


async def test_c64_c78_c80_c91_an_accepted_session(broker: RunningBroker) -> None:
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


GOOD = {"Name": "n", "Owner": "alice", "Type": "VIRTUAL", "EnqueueRequest": True}
CONSOLE = {**GOOD, "Type": "CONSOLE"}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({**GOOD, "Name": " "}, "Name is required"),
        ({**GOOD, "Owner": None}, "Owner is required"),
        ({**GOOD, "Type": ""}, "Type is required"),
        ({**GOOD, "Name": "n" * 257}, "Name is too long"),
        ({**GOOD, "Owner": "a\nb"}, "Owner contains invalid characters"),
        ({**GOOD, "InitFile": "/etc/x"}, "InitFile must be a relative path"),
        ({**GOOD, "InitFile": "a/../b"}, "InitFile must be a relative path"),
        ({**CONSOLE, "InitFile": "a"}, "InitFile is not supported for CONSOLE sessions"),
        ({**CONSOLE, "DcvGLEnabled": True}, "DcvGlEnabled is not supported for CONSOLE sessions"),
        (
            {**CONSOLE, "AutorunFile": "a", "AutorunFileArguments": ["b"]},
            "AutorunFileArguments is not supported for CONSOLE sessions",
        ),
        ({**GOOD, "AutorunFileArguments": ["b"]}, "AutorunFileArguments requires AutorunFile"),
        (
            {**GOOD, "AutorunFile": "a", "AutorunFileArguments": ["b"] * 51},
            "AutorunFileArguments exceeds the maximum of 50 arguments",
        ),
        (
            {**GOOD, "AutorunFile": "a", "AutorunFileArguments": ["b" * 151]},
            "AutorunFileArguments has an argument longer than 150 characters",
        ),
        ({**GOOD, "PermissionFile": "/etc/permissions.txt"}, "PermissionsFile is not valid Base64"),
        ({**GOOD, "MaxConcurrents": 0}, "MaxConcurrentClients must be greater than 0"),
        ({**GOOD, "Requirements": "x" * 4097}, "Invalid requirements: expression too long"),
        ({**GOOD, "Requirements": "color = 'pink'"}, "Invalid requirements: "),
        (
            {**GOOD, "Requirements": "server:Host.Gpus.Vendor := 'NVIDIA'"},
            "Invalid requirements: Server property server:Host.Gpus.Vendor not found",
        ),
        (
            {**GOOD, "Requirements": "tag:ram_gb := 8"},
            "Invalid requirements: Unexpected CONTAINS operator",
        ),
        ({**GOOD, "Requirements": "(" * 2000}, "Invalid requirements: "),
    ],
)
async def test_c67_c72_c73_c74_c75_c76_c77_c142_c143_c146_what_fails_an_item(
    broker: RunningBroker, item: dict[str, Any], reason: str
) -> None:
    answer = await call(broker, "createSessions", [item, GOOD])
    (failed,) = answer["UnsuccessfulList"]
    assert failed["FailureReason"].startswith(reason)
    assert len(answer["SuccessfulList"]) == 1


async def test_c73_c74_c75_c146_what_does_not(broker: RunningBroker) -> None:
    items: list[dict[str, Any]] = [
        {**GOOD, "InitFilePath": "/absolute/path"},
        {**CONSOLE, "DcvGlEnabled": False},
        {**GOOD, "AutorunFile": "a", "AutorunFileArguments": ["b" * 150] * 50},
        {**GOOD, "Requirements": "(" * 100 + "tag:a = 'b'" + ")" * 100},
        {**GOOD, "Requirements": "\"tag:color = 'pink'\""},
        {**GOOD, "StorageRoot": "%home%", "Name": "n" * 256},
    ]
    answer = await call(broker, "createSessions", items)
    assert answer["UnsuccessfulList"] == []
