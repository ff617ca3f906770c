"""The API over HTTPS with real agents on simulated hosts: what only shows when there are hosts."""

import asyncio
import base64
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from broker_stub.agent.simulated_fleet import PlannedSession
from broker_stub.broker.operations import Operations, ScreenshotRules
from broker_stub.broker.page_tokens import PageTokens
from dcvtui.api.models import GetSessionScreenshotRequestData, read_request
from dcvtui.api.states import SessionType
from tests import strict_schema
from tests.broker.api_calls import DEFINITION
from tests.broker.client_view import Fleet
from tests.hosts import A, B, running_hosts, several
from tests.running import running_broker

PERMISSIONS = "[permissions]\n%owner% allow builtin\n"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """A broker with the hosts A (Windows) and B (Linux)."""
    async with running_broker(tmp_path) as broker, running_hosts(broker, A, B) as hosts:
        yield Fleet(broker, *hosts)


# ------------------------------------------------------------------ servers


async def test_c45_c56_c57_c58_c59_c60_c61_c121_servers_as_they_are_described(fleet: Fleet) -> None:
    a, b = (await fleet.call("describeServers"))["Servers"]
    assert (a["Id"], b["Id"]) == ("srv-a", "srv-b")
    for server in (a, b):
        assert server["Availability"] == "AVAILABLE"
        assert "UnavailabilityReason" not in server
        assert (server["ConsoleSessionCount"], server["VirtualSessionCount"]) == (0, 0)
        assert server["Version"]
        assert server["SessionManagerAgentVersion"]
        assert isinstance(server["Port"], str)
        http = next(each for each in server["Endpoints"] if each["Protocol"] == "HTTP")
        assert server["Port"] == str(http["Port"])
        assert server["WebUrlPath"].startswith("/")
        assert [tag["Key"] for tag in server["Tags"]] == sorted(tag["Key"] for tag in server["Tags"])
        assert isinstance(server["Host"]["Gpus"], list)
        assert isinstance(server["Host"]["LoggedInUsers"], list)
    assert all("WebUrlPath" not in each for each in b["Endpoints"] if each["Protocol"] == "QUIC")
    assert any(each["Protocol"] == "QUIC" for each in b["Endpoints"])
    assert {"EC2InstanceId", "EC2InstanceType", "EC2ImageId", "Region"} == set(a["Host"]["Aws"])
    assert "Aws" not in b["Host"]
    assert "KernelVersion" not in a["Host"]["Os"]
    assert "BuildNumber" not in b["Host"]["Os"]
    pages = [await fleet.call("describeServers", {"MaxResults": 1})]
    pages.append(await fleet.call("describeServers", {"MaxResults": 1, "NextToken": pages[0]["NextToken"]}))
    assert [page["Servers"][0]["Id"] for page in pages] == ["srv-a", "srv-b"]
    assert "NextToken" not in pages[1]


async def test_c122_c123_c125_open_and_closed_servers(fleet: Fleet) -> None:
    session = await fleet.ready()
    refused = (await fleet.call("closeServers", [{"ServerId": "srv-b"}]))["UnsuccessfulList"]
    assert refused == [
        {
            "CloseServerRequestData": {"ServerId": "srv-b"},
            "FailureCode": "DCV_SERVER_HAS_SESSIONS",
            "FailureReason": "Dcv server has running sessions.",
        }
    ]
    for _ in range(2):
        items = [{"ServerId": "srv-a"}, {"ServerId": "srv-b", "Force": "true"}]
        answer = await fleet.call("closeServers", items)
        assert answer["SuccessfulList"] == [{"ServerId": "srv-a"}, {"ServerId": "srv-b"}]
    for server_id in ("srv-a", "srv-b"):
        server = await fleet.server(server_id)
        assert (server["Availability"], server["UnavailabilityReason"]) == ("UNAVAILABLE", "SERVER_CLOSED")
    assert "dcv server found for placement" in await fleet.refusal()
    assert (await fleet.session(session["Id"]) or {})["State"] == "READY"
    for _ in range(2):
        answer = await fleet.call("openServers", [{"ServerId": "srv-a"}, {"ServerId": "srv-b"}])
        assert len(answer["SuccessfulList"]) == 2
    assert (await fleet.server("srv-a"))["Availability"] == "AVAILABLE"


# ------------------------------------------------------------------ sessions


async def test_c62_c63_c65_c77_c79_c102_c111_a_session_from_creation_to_deletion(fleet: Fleet) -> None:
    created = await fleet.create(Owner="alice", MaxConcurrents=4, StorageRoot="%home%")
    seen = [await fleet.session(created["Id"]) or {}]
    assert seen[0]["Substate"] in ("SESSION_PLACING", "PENDING_PREPARATION")
    ready = await fleet.until_state(created["Id"], "READY")
    assert "Substate" not in ready
    assert ready["CreationTime"] == created["CreationTime"]
    assert (ready["MaxConcurrentClients"], ready["StorageRoot"], ready["NumOfConnections"]) == (
        4,
        "%home%",
        0,
    )
    assert ready["Server"]["Id"] == "srv-b"
    assert {"Id", "Availability", "Tags", "Endpoints", "Port", "WebUrlPath"} <= set(ready["Server"])
    assert "Host" not in ready["Server"]
    fleet.hosts[1].server.connect_client(created["Id"])
    await fleet.until(created["Id"], lambda session: session["NumOfConnections"] == 1)
    answer = await fleet.call("deleteSessions", [{"SessionId": created["Id"], "Owner": "alice"}])
    assert answer["SuccessfulList"] == [{"SessionId": created["Id"], "State": "DELETING"}]
    deleted = await fleet.until_state(created["Id"], "DELETED")
    assert deleted["Server"]["Id"] == "srv-b"
    assert fleet.hosts[1].server.sessions == ()


async def test_c52_c144_filters_by_tags_of_the_server(fleet: Fleet) -> None:
    quoted = "\"tag:color = 'pink' and (server:Host.Os.Family = 'windows' or tag:color := 'red')\""
    on_a = await fleet.ready(Type="CONSOLE", Requirements=quoted)
    on_b = await fleet.ready(Requirements="tag:color := 'red'")
    for key, value, expected in (("tag:color", "pink", on_a), ("tag:dcv:os-family", "linux", on_b)):
        found = await fleet.call("describeSessions", {"Filters": [{"Key": key, "Value": value}]})
        assert [session["Id"] for session in found["Sessions"]] == [expected["Id"]]


async def test_c76_c127_permissions_reach_the_host_decoded(fleet: Fleet) -> None:
    sent = base64.encodebytes(PERMISSIONS.encode()).decode()  # with line ends, which are ignored
    session = await fleet.ready(Owner="alice", PermissionsFile=sent)
    host = fleet.hosts[1].server
    assert host.permissions(session["Id"]) == PERMISSIONS
    new = "[permissions]\nbob allow display\n"
    item = {
        "SessionId": session["Id"],
        "Owner": "alice",
        "PermissionsFile": base64.b64encode(new.encode()).decode(),
    }
    answer = await fleet.call("sessionPermissions", [item, {**item, "PermissionsFile": "no.base64"}])
    assert answer["SuccessfulList"] == [{"SessionId": session["Id"]}]
    assert answer["UnsuccessfulList"][0]["FailureReason"] == "PermissionsFile is not valid Base64"
    assert host.permissions(session["Id"]) == new


async def test_c81_c82_c83_console_and_virtual_sessions(fleet: Fleet) -> None:
    await fleet.ready(Type="Console", Requirements="server:Id = 'srv-a'")
    a = await fleet.server("srv-a")
    assert (a["UnavailabilityReason"], a["ConsoleSessionCount"]) == ("SERVER_FULL", 1)
    none = "no dcv server found for placement"
    assert await fleet.refusal(Type="CONSOLE", Requirements="server:Id = 'srv-a'") == none
    assert await fleet.refusal(Requirements="server:Id = 'srv-a'") == none
    await fleet.ready(Requirements="server:Id = 'srv-b'")
    assert await fleet.refusal(Type="CONSOLE", Requirements="server:Id = 'srv-b'") == none
    assert (await fleet.server("srv-b"))["Availability"] == "AVAILABLE"


async def test_c86_parallel_requests_never_exceed_the_limit(fleet: Fleet) -> None:
    item = {"Name": "n", "Type": "VIRTUAL"}
    answers = await asyncio.gather(
        *(fleet.call("createSessions", [{**item, "Owner": f"owner-{number}"}]) for number in range(20))
    )
    assert sum(len(answer["SuccessfulList"]) for answer in answers) == 10
    server = await fleet.server("srv-b")
    assert (server["UnavailabilityReason"], server["VirtualSessionCount"]) == ("SERVER_FULL", 10)


async def test_c92_a_queued_session_is_placed_when_a_server_opens(fleet: Fleet) -> None:
    await fleet.call("closeServers", [{"ServerId": "srv-b"}])
    waiting = await fleet.create(EnqueueRequest=True)
    assert (await fleet.session(waiting["Id"]) or {})["Substate"] == "SESSION_PLACING"
    await fleet.call("openServers", [{"ServerId": "srv-b"}])
    assert (await fleet.until_state(waiting["Id"], "READY"))["Server"]["Id"] == "srv-b"


async def test_c97_c98_a_failed_creation_goes_to_another_host(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker, running_hosts(broker, *several(B, 3)) as hosts:
        fleet = Fleet(broker, *hosts)
        hosts[0].server.faults.failing_create = hosts[1].server.faults.failing_create = "no display left"
        session = await fleet.ready()
        assert session["Server"]["Id"] == "srv-b-2"
        alone = await fleet.create(DisableRetryOnFailure=True, Requirements="server:Id = 'srv-b-0'")
        failed = await fleet.until_state(alone["Id"], "UNKNOWN")
        assert "no display left" in failed["StateReason"]
        assert "Server" not in failed
        assert "neither in READY" in (await fleet.connection_data(alone["Id"])).text


async def test_c109_c113_c119_sessions_of_a_lost_agent(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker, running_hosts(broker, B) as (host,):
        fleet = Fleet(broker, host)
        kept, forced = await fleet.ready(Owner="alice"), await fleet.ready(Owner="bob")
        host.agent.leave()
        unknown = await fleet.until_state(kept["Id"], "UNKNOWN")
        assert unknown["StateReason"]
        assert unknown["Server"]["Id"] == "srv-b"
        assert (await fleet.server("srv-b"))["UnavailabilityReason"] == "UNREACHABLE_AGENT"
        assert (await fleet.connection_data(kept["Id"])).status_code == 200
        items = [
            {"SessionId": kept["Id"], "Owner": "alice"},
            {"SessionId": forced["Id"], "Owner": "bob", "Force": True},
        ]
        answer = await fleet.call("deleteSessions", items)
        assert answer["UnsuccessfulList"] == [
            {"SessionId": kept["Id"], "FailureReason": "The agent of the dcv server is not reachable"}
        ]
        assert await fleet.session(forced["Id"]) is None
        shot = await fleet.call("getSessionScreenshots", [{"SessionId": kept["Id"]}])
        assert shot["UnsuccessfulList"][0]["FailureReason"] == "Dcv session is not in READY state."
        host.agent.come_back()
        assert "StateReason" not in await fleet.until_state(kept["Id"], "READY")
        assert (await fleet.server("srv-b"))["Availability"] == "AVAILABLE"


async def test_c115_c116_sessions_of_the_host_itself(fleet: Fleet) -> None:
    planned = PlannedSession(
        id="console", name="", owner="carol", type=SessionType.CONSOLE, age_s=60, connections=0, idle_s=None
    )
    fleet.hosts[0].server.start_on_host(planned)
    found = await fleet.until_state("console", "READY")
    assert (found["Name"], found["Owner"], found["Type"]) == ("", "carol", "CONSOLE")
    fleet.hosts[0].server.end_on_host("console")
    await fleet.until_state("console", "DELETED")


async def test_c120_b38_a_restart_of_the_broker(tmp_path: Path) -> None:
    port = 0
    async with running_broker(tmp_path) as broker, running_hosts(broker, B) as (host,):
        port = int(broker.agent_url.rpartition(":")[2])
        session = await Fleet(broker, host).ready()
        server = host.server
    async with running_broker(tmp_path, agent_to_broker_connector_https_port=port) as broker:
        fleet = Fleet(broker)
        found = await fleet.session(session["Id"]) or {}
        assert (found["State"], found["Server"]["Id"]) == ("UNKNOWN", "srv-b")
        assert (await fleet.server("srv-b"))["Availability"] == "UNAVAILABLE"
        async with running_hosts(broker, B, servers=[server]):
            again = await fleet.until_state(session["Id"], "READY")
            assert again["CreationTime"] == session["CreationTime"]


# ------------------------------------------------------------------ connection data


async def test_c129_c130_c131_c132_c133_c134_b31_connection_data(fleet: Fleet) -> None:
    session = await fleet.ready(Owner="alice")
    answers = [
        await fleet.connection_data(session["Id"], user) for user in ("alice", "bob", "CORP%5Calice", "a%2Fb")
    ]
    tokens = []
    for answer in answers:
        found = answer.json()
        assert strict_schema.faults(DEFINITION, "GetSessionConnectionDataResponse", found) == []
        assert sorted(found) == ["ConnectionToken", "Session"]
        assert re.fullmatch(r"[A-Za-z0-9._-]+", found["ConnectionToken"])
        tokens.append(found["ConnectionToken"])
    assert len(set(tokens)) == len(tokens)
    server = found["Session"]["Server"]
    url = (
        f"https://{server['Ip']}:{server['Port']}{server['WebUrlPath']}?authToken={tokens[0]}#{session['Id']}"
    )
    parts = urlsplit(url)
    assert (parts.hostname, str(parts.port), parts.path) == (
        server["Ip"],
        server["Port"],
        server["WebUrlPath"],
    )
    assert (parts.query, parts.fragment) == (f"authToken={tokens[0]}", session["Id"])

    async def user_of(token: str, session_id: str) -> str:
        form = {"sessionId": session_id, "authenticationToken": token, "clientAddress": "192.0.2.1"}
        path = "/agent/validate-authentication-token"
        answer = await fleet.broker.client.post(f"{fleet.broker.agent_url}{path}", data=form)
        return answer.text

    for token, user in zip(tokens, ("alice", "bob", "CORP\\alice", "a/b"), strict=True):
        assert f"<username>{user}</username>" in await user_of(token, session["Id"])
        assert 'result="no"' in await user_of(token, "another")
        assert 'result="no"' in await user_of(token[:-2], session["Id"])
    await fleet.call("deleteSessions", [{"SessionId": session["Id"], "Owner": "alice"}])
    await fleet.until_state(session["Id"], "DELETED")
    assert 'result="no"' in await user_of(tokens[0], session["Id"])
    assert "neither in READY" in (await fleet.connection_data(session["Id"])).text


# ------------------------------------------------------------------ screenshots


def picture(shot: dict[str, Any]) -> tuple[str, tuple[int, int]]:
    """The kind and size of the primary picture."""
    (primary,) = [image for image in shot["SessionScreenshot"]["Images"] if image["Primary"]]
    image = Image.open(io.BytesIO(base64.b64decode(primary["Data"], validate=True)))
    assert primary["Format"] == str(image.format).lower()
    return primary["Format"], image.size


def fit(size: tuple[int, int], max_width: int, max_height: int) -> tuple[int, int]:
    """The size of a picture that keeps its proportions inside limits."""
    scale = min(1, max_width / size[0], max_height / size[1])
    return round(size[0] * scale), round(size[1] * scale)


async def test_c135_c136_c137_c140_screenshots(fleet: Fleet) -> None:
    sessions = [await fleet.ready() for _ in range(6)]
    shots = await fleet.call("getSessionScreenshots", [{"SessionId": session["Id"]} for session in sessions])
    assert [shot["SessionScreenshot"]["SessionId"] for shot in shots["SuccessfulList"]] == [
        session["Id"] for session in sessions
    ]
    kind, (width, height) = picture(shots["SuccessfulList"][0])
    assert kind == "png"
    assert width <= 160
    assert height <= 100
    one = {"SessionId": sessions[0]["Id"]}
    items = [
        {**one, "MaxWidth": 100_000, "MaxHeight": 100_000},
        {**one, "MaxWidth": 800, "MaxHeight": 600},
        {**one, "MaxWidth": 400},
        {"SessionId": "nothing"},
    ]
    answer = await fleet.call("getSessionScreenshots", items)
    full, fitted, half = (picture(shot)[1] for shot in answer["SuccessfulList"])
    assert fitted == fit(full, 800, 600)
    assert half == fit(full, 400, 100)
    assert answer["UnsuccessfulList"][0]["FailureReason"] == "Dcv session not found."


async def test_c139_pictures_as_jpeg(tmp_path: Path) -> None:
    async with (
        running_broker(tmp_path, session_screenshot_format="jpg") as broker,
        running_hosts(broker, B) as (host,),
    ):
        fleet = Fleet(broker, host)
        session = await fleet.ready()
        shots = await fleet.call("getSessionScreenshots", [{"SessionId": session["Id"]}])
        assert picture(shots["SuccessfulList"][0])[0] == "jpeg"


async def test_a_slow_host_fails_only_its_own_screenshots(fleet: Fleet) -> None:
    broker = fleet.broker.broker
    rules = ScreenshotRules(limit_s=0.5)
    operations = Operations(broker.coordinator, broker.tokens, PageTokens(b"s" * 32), broker.agents, rules)
    on_a = await fleet.ready(Type="CONSOLE", Requirements="tag:color = 'pink'")
    on_b = await fleet.ready(Requirements="tag:size = 'big'")
    fleet.hosts[0].server.faults.hanging_screenshot = True
    fields = [{"SessionId": on_a["Id"]}] * 4 + [{"SessionId": on_b["Id"]}]
    items = [read_request(GetSessionScreenshotRequestData, each) for each in fields]
    answer = json.loads(await operations.session_screenshots(items))
    assert [shot["SessionScreenshot"]["SessionId"] for shot in answer["SuccessfulList"]] == [on_b["Id"]]
    reasons = [failed["FailureReason"] for failed in answer["UnsuccessfulList"]]
    assert reasons == ["Timed out while getting the screenshot."] * 4


async def test_c88_c118_an_unhealthy_dcv_server(fleet: Fleet) -> None:
    session = await fleet.ready()
    fleet.hosts[1].server.faults.unhealthy = "the server does not answer"
    await fleet.until_state(session["Id"], "UNKNOWN")
    assert (await fleet.server("srv-b"))["UnavailabilityReason"] == "UNHEALTHY_DCV_SERVER"
    assert "dcv server found for placement" in await fleet.refusal()
    fleet.hosts[1].server.faults.unhealthy = ""
    await fleet.until_state(session["Id"], "READY")
