"""Servers and their sessions as they are described, and what becomes of them when hosts change or vanish."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker_stub.agent.simulated_fleet import PlannedSession
from dcvtui.api.states import SessionType
from tests.broker.client_view import Fleet
from tests.hosts import A, B, running_hosts, several
from tests.running import MovedClock, running_broker

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
async def fleet(tmp_path: Path, clock: MovedClock) -> AsyncIterator[Fleet]:
    """A broker with the hosts A (Windows) and B (Linux)."""
    async with running_broker(tmp_path, now=clock) as broker, running_hosts(broker, A, B) as hosts:
        yield Fleet(broker, *hosts)


def console(owner: str = "carol") -> PlannedSession:
    """The console session of a host, as somebody starts it there."""
    return PlannedSession(
        id="console", name="", owner=owner, type=SessionType.CONSOLE, age_s=60, connections=0, idle_s=None
    )


async def ids(fleet: Fleet, *filters: tuple[str, str]) -> set[str]:
    """The ids of the sessions that fit filters."""
    body = {"Filters": [{"Key": key, "Value": value} for key, value in filters]}
    return {session["Id"] for session in (await fleet.call("describeSessions", body))["Sessions"]}


# ------------------------------------------------------------------ servers as they are described


@pytest.mark.covers("C56", "C57", "C58", "C121")
async def test_a_server_is_described_with_all_that_clients_need(fleet: Fleet) -> None:
    """New servers are open and come with host, tags, endpoints, counts and versions; a port is a text."""
    a, b = (await fleet.call("describeServers"))["Servers"]
    assert (a["Id"], b["Id"]) == ("srv-a", "srv-b")
    assert (a["Hostname"], b["Hostname"]) == ("host-a", "host-b")
    for server in (a, b):
        assert server["Availability"] == "AVAILABLE"
        assert (server["ConsoleSessionCount"], server["VirtualSessionCount"]) == (0, 0)
        assert server["Version"]
        assert server["SessionManagerAgentVersion"]
        assert server["Host"]["Os"]["Family"]
        http = next(each for each in server["Endpoints"] if each["Protocol"] == "HTTP")
        assert isinstance(http["Port"], int)
        assert server["Port"] == str(http["Port"])
        assert server["WebUrlPath"] == http["WebUrlPath"]
        assert server["WebUrlPath"].startswith("/")
        quic = [each for each in server["Endpoints"] if each["Protocol"] == "QUIC"]
        assert all("WebUrlPath" not in each for each in quic)
        tags = {tag["Key"]: tag["Value"] for tag in server["Tags"]}
        assert list(tags) == sorted(tags)
        assert tags["dcv:os-family"] == server["Host"]["Os"]["Family"]
    assert any(each["Protocol"] == "QUIC" for each in b["Endpoints"])
    assert {"Key": "color", "Value": "pink"} in a["Tags"]
    assert {"Key": "dcv:max-virtual-sessions", "Value": "10"} in b["Tags"]


@pytest.mark.covers("C59", "C60")
async def test_a_host_shows_what_it_has_and_nothing_else(fleet: Fleet) -> None:
    """Facts that a host does not have are left out: EC2 elsewhere, kernels on Windows, builds on Linux."""
    a, b = (server["Host"] for server in (await fleet.call("describeServers"))["Servers"])
    assert set(a["Aws"]) == {"Region", "EC2InstanceId", "EC2InstanceType", "EC2ImageId"}
    assert a["Aws"]["EC2InstanceType"] == "t2.large"
    assert "Aws" not in b
    assert "KernelVersion" not in a["Os"]
    assert a["Os"]["BuildNumber"] == "20348"
    assert "BuildNumber" not in b["Os"]
    assert b["Os"]["KernelVersion"] == "4.14.203-156.332.amzn2.x86_64"
    assert a["Gpus"] == []
    assert [gpu["ModelName"] for gpu in b["Gpus"]] == ["NVIDIA A10G"]
    assert a["LoggedInUsers"] == b["LoggedInUsers"] == []
    for host in (a, b):
        assert set(host["CpuInfo"]) == {
            "Vendor",
            "ModelName",
            "Architecture",
            "NumberOfCpus",
            "PhysicalCoresPerCpu",
        }
        for memory in (host["Memory"], host["Swap"]):
            assert {type(value) for value in memory.values()} == {int}
            assert set(memory) == {"TotalBytes", "UsedBytes"}


@pytest.mark.covers("C44", "C45", "C50")
async def test_pages_of_servers(tmp_path: Path) -> None:
    """Pages of servers come in the order of their ids, each server once; a full last page is the last."""
    async with running_broker(tmp_path) as broker, running_hosts(broker, *several(B, 4)) as hosts:
        fleet = Fleet(broker, *hosts)

        async def walk(size: int) -> list[list[str]]:
            pages, token = [], ""
            while True:
                page = await fleet.call("describeServers", {"MaxResults": size, "NextToken": token})
                pages.append([server["Id"] for server in page["Servers"]])
                if "NextToken" not in page:
                    return pages
                token = page["NextToken"]

        assert await walk(1) == [["srv-b-0"], ["srv-b-1"], ["srv-b-2"], ["srv-b-3"]]
        assert await walk(2) == [["srv-b-0", "srv-b-1"], ["srv-b-2", "srv-b-3"]]
        assert await walk(3) == [["srv-b-0", "srv-b-1", "srv-b-2"], ["srv-b-3"]]
        named = {"ServerIds": ["srv-b-3", "nothing", "srv-b-1", "srv-b-3"]}
        found = (await fleet.call("describeServers", named))["Servers"]
        assert [server["Id"] for server in found] == ["srv-b-1", "srv-b-3"]


@pytest.mark.covers("C49")
async def test_a_page_token_outlives_a_restart_of_the_broker(tmp_path: Path) -> None:
    """A walk over pages goes on where it was after the broker was started anew."""
    async with running_broker(tmp_path) as broker, running_hosts(broker, *several(B, 3)) as hosts:
        page = await Fleet(broker, *hosts).call("describeServers", {"MaxResults": 2})
    async with running_broker(tmp_path) as broker:
        rest = await Fleet(broker).call("describeServers", {"NextToken": page["NextToken"]})
        assert [server["Id"] for server in rest["Servers"]] == ["srv-b-2"]
        assert "NextToken" not in rest


@pytest.mark.covers("C61")
async def test_a_server_says_why_it_is_not_available(fleet: Fleet) -> None:
    """A reason is given exactly while a server is not available."""
    for state in (False, True, False):
        operation = "closeServers" if state else "openServers"
        await fleet.call(operation, [{"ServerId": "srv-a"}])
        server = await fleet.server("srv-a")
        assert ("UnavailabilityReason" in server) is state
        assert server["Availability"] == ("UNAVAILABLE" if state else "AVAILABLE")


# ------------------------------------------------------------------ sessions as they are described


@pytest.mark.covers("C62", "C63")
async def test_a_session_is_described_with_its_server_and_exact_times(fleet: Fleet) -> None:
    """A session shows its server without the host; times are UTC with milliseconds and exact."""
    created = await fleet.create(Owner="alice")
    assert TIME.fullmatch(created["CreationTime"])
    ready = await fleet.until_state(created["Id"], "READY")
    assert {"Id", "Availability", "Tags", "Endpoints", "Port", "WebUrlPath"} <= set(ready["Server"])
    assert "Host" not in ready["Server"]
    whole = await fleet.server("srv-b")
    del whole["Host"]
    assert ready["Server"] == whole
    assert ready["NumOfConnections"] == 0
    assert "LastDisconnectionTime" not in ready
    host = fleet.hosts[1].server
    host.connect_client(created["Id"])
    await fleet.until(created["Id"], lambda found: found["NumOfConnections"] == 1)
    host.disconnect_client(created["Id"])
    left = await fleet.until(created["Id"], lambda found: "LastDisconnectionTime" in found)
    assert TIME.fullmatch(left["LastDisconnectionTime"])
    await fleet.delete(left)
    deleted = await fleet.until_state(created["Id"], "DELETED")
    assert {each["CreationTime"] for each in (created, ready, left, deleted)} == {created["CreationTime"]}


@pytest.mark.covers("C52", "C53", "C54")
async def test_tags_of_the_server_choose_sessions(fleet: Fleet) -> None:
    """A tag filter finds the sessions on servers with that tag and value, and none that are on no server."""
    on_a = await fleet.ready(Owner="alice", Type="CONSOLE", Requirements="server:Id = 'srv-a'")
    on_b = await fleet.ready(Owner="alice")
    other = await fleet.ready(Owner="bob")
    waiting = await fleet.create(Owner="alice", EnqueueRequest=True, Requirements="tag:color = 'green'")
    assert await ids(fleet, ("tag:color", "pink")) == {on_a["Id"]}
    assert await ids(fleet, ("tag:dcv:os-family", "linux")) == {on_b["Id"], other["Id"]}
    for key, value in (("tag:color", "Pink"), ("tag:Color", "pink"), ("tag:", "pink"), ("tag:none", "")):
        assert await ids(fleet, (key, value)) == set()
    assert await ids(fleet, ("owner", "alice")) == {on_a["Id"], on_b["Id"], waiting["Id"]}
    assert await ids(fleet, ("owner", "alice"), ("tag:size", "big")) == {on_b["Id"]}
    assert await ids(fleet, ("tag:color", "pink"), ("tag:color", "blue-red")) == set()


# ------------------------------------------------------------------ agents that come and go


@pytest.mark.covers("C113")
async def test_sessions_of_a_lost_agent_are_unknown_until_it_is_back(fleet: Fleet) -> None:
    """Without its agent a server is unreachable and its sessions are UNKNOWN and say why; both come back."""
    session = await fleet.ready()
    fleet.hosts[1].agent.leave()
    unknown = await fleet.until_state(session["Id"], "UNKNOWN")
    assert unknown["StateReason"]
    assert unknown["Server"]["Id"] == "srv-b"
    server = await fleet.server("srv-b")
    assert (server["Availability"], server["UnavailabilityReason"]) == ("UNAVAILABLE", "UNREACHABLE_AGENT")
    fleet.hosts[1].agent.come_back()
    again = await fleet.until_state(session["Id"], "READY")
    assert "StateReason" not in again
    assert again["CreationTime"] == session["CreationTime"]
    assert (await fleet.server("srv-b"))["Availability"] == "AVAILABLE"


@pytest.mark.covers("C114")
async def test_a_session_that_ended_while_its_agent_was_away_is_deleted(fleet: Fleet) -> None:
    """What ended on the host in the meantime reads DELETED once its agent is back."""
    session = await fleet.ready()
    fleet.hosts[1].agent.leave()
    await fleet.until_state(session["Id"], "UNKNOWN")
    fleet.hosts[1].server.end_on_host(session["Id"])
    fleet.hosts[1].agent.come_back()
    await fleet.until_state(session["Id"], "DELETED")


@pytest.mark.covers("C115")
async def test_a_session_that_ends_on_its_host_is_deleted(fleet: Fleet) -> None:
    """A session whose user logs out, or that is closed on the host by hand, reads DELETED."""
    session = await fleet.ready()
    fleet.hosts[1].server.end_on_host(session["Id"])
    deleted = await fleet.until_state(session["Id"], "DELETED")
    assert deleted["Server"]["VirtualSessionCount"] == 0


@pytest.mark.covers("C116")
async def test_a_session_started_on_its_host_is_listed(fleet: Fleet) -> None:
    """What somebody starts on a host by hand is READY under the id it has there; it may have no name."""
    fleet.hosts[0].server.start_on_host(console())
    found = await fleet.until_state("console", "READY")
    assert (found["Name"], found["Owner"], found["Type"]) == ("", "carol", "CONSOLE")
    assert found["Server"]["Id"] == "srv-a"
    assert (await fleet.server("srv-a"))["UnavailabilityReason"] == "SERVER_FULL"
    fleet.hosts[0].server.end_on_host("console")
    await fleet.until_state("console", "DELETED")


async def test_one_id_on_several_hosts_is_told_apart_by_its_owner(fleet: Fleet) -> None:
    """`console` may run on many servers: each is listed; an operation takes that of the named owner."""
    for host, owner in zip(fleet.hosts, ("carol", "dave"), strict=True):
        host.server.start_on_host(console(owner))
        await fleet.until_server(
            host.server.plan.server_id, lambda server: server["ConsoleSessionCount"] == 1
        )
    sessions = (await fleet.call("describeSessions", {"SessionIds": ["console"]}))["Sessions"]
    assert {(one["Server"]["Id"], one["Owner"]) for one in sessions} == {
        ("srv-a", "carol"),
        ("srv-b", "dave"),
    }
    answer = await fleet.connection_data("console")
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "The requested dcvSession is ambiguous"},
    )
    shots = await fleet.call("getSessionScreenshots", [{"SessionId": "console"}])
    assert shots["UnsuccessfulList"][0]["FailureReason"] == "The requested dcvSession is ambiguous"
    await fleet.call("deleteSessions", [{"SessionId": "console", "Owner": "dave"}])
    await fleet.broker.until(lambda: not fleet.hosts[1].server.sessions)
    assert fleet.hosts[0].server.sessions
    assert (await fleet.connection_data("console")).status_code == 200, "one is left"


async def test_one_id_and_one_owner_on_several_hosts_are_ambiguous(fleet: Fleet) -> None:
    """Where even the owner does not tell sessions apart, what names one of them fails and ends none."""
    for host in fleet.hosts:
        host.server.start_on_host(console())
        await fleet.until_server(
            host.server.plan.server_id, lambda server: server["ConsoleSessionCount"] == 1
        )
    item = {"SessionId": "console", "Owner": "carol"}
    ambiguous = {"SessionId": "console", "FailureReason": "The requested dcvSession is ambiguous"}
    answer = await fleet.call("deleteSessions", [item, {**item, "Force": True}])
    assert (answer["SuccessfulList"], answer["UnsuccessfulList"]) == ([], [ambiguous] * 2)
    answer = await fleet.call("sessionPermissions", [{**item, "PermissionsFile": "W10="}])
    assert answer["UnsuccessfulList"] == [ambiguous]
    assert all(host.server.sessions for host in fleet.hosts)


@pytest.mark.covers("C117")
@pytest.mark.timeout(90)
async def test_what_is_out_of_reach_for_long_leaves_the_lists(tmp_path: Path, clock: MovedClock) -> None:
    """Sessions of a lost agent leave after their time, and later the server after its own."""
    settings: dict[str, Any] = {
        "seconds_before_deleting_sessions_unreachable_server": 2,
        "seconds_before_deleting_unreachable_dcv_server": 600,
    }
    async with running_broker(tmp_path, now=clock, **settings) as broker, running_hosts(broker, B) as hosts:
        fleet = Fleet(broker, *hosts)
        session = await fleet.ready()
        hosts[0].agent.leave()
        await fleet.until_gone(session["Id"])
        assert (await fleet.server("srv-b"))["UnavailabilityReason"] == "UNREACHABLE_AGENT"
        clock.advance(500)
        assert (await fleet.call("describeServers"))["Servers"]
        clock.advance(101)
        await broker.until(lambda: broker.broker.registry.server("srv-b") is None)
        assert (await fleet.call("describeServers"))["Servers"] == []


@pytest.mark.covers("C118")
async def test_a_dcv_server_that_does_not_answer_is_unhealthy(fleet: Fleet) -> None:
    """A server whose agent is there but cannot talk to its DCV server is unhealthy, until it can again."""
    session = await fleet.ready()
    fleet.hosts[1].server.faults.unhealthy = "the server does not answer"
    unknown = await fleet.until_state(session["Id"], "UNKNOWN")
    assert unknown["Server"]["UnavailabilityReason"] == "UNHEALTHY_DCV_SERVER"
    assert (await fleet.server("srv-b"))["UnavailabilityReason"] == "UNHEALTHY_DCV_SERVER"
    fleet.hosts[1].server.faults.unhealthy = ""
    await fleet.until_state(session["Id"], "READY")
    assert (await fleet.server("srv-b"))["Availability"] == "AVAILABLE"


@pytest.mark.covers("C118")
async def test_a_user_at_a_windows_desktop_keeps_sessions_away(fleet: Fleet) -> None:
    """A Windows server with a user logged in outside DCV takes no session; on Linux that is no obstacle."""
    for host in fleet.hosts:
        host.server.faults.outside_user = True
    await fleet.until_server(
        "srv-a", lambda server: server.get("UnavailabilityReason") == "EXISTING_LOGGED_IN_USER"
    )
    refused = await fleet.refusal(Type="CONSOLE", Requirements="server:Id = 'srv-a'")
    assert refused == "no dcv server found for placement"
    assert (await fleet.server("srv-b"))["Availability"] == "AVAILABLE"
    fleet.hosts[0].server.faults.outside_user = False
    await fleet.until_server("srv-a", lambda server: server["Availability"] == "AVAILABLE")


@pytest.mark.covers("C119")
async def test_a_closed_server_that_is_lost_says_so_first(fleet: Fleet) -> None:
    """Of two reasons the unreachable agent is told first; the server is closed again when it is back."""
    await fleet.call("closeServers", [{"ServerId": "srv-b"}])
    assert (await fleet.server("srv-b"))["UnavailabilityReason"] == "SERVER_CLOSED"
    fleet.hosts[1].agent.leave()
    for reason in ("UNREACHABLE_AGENT", "SERVER_CLOSED"):
        await fleet.until_server("srv-b", lambda server: server["UnavailabilityReason"] == reason)  # noqa: B023
        fleet.hosts[1].agent.come_back()


@pytest.mark.covers("C120", "B38")
async def test_a_restart_of_the_broker_forgets_nothing(tmp_path: Path) -> None:
    """Sessions, the queue and closed servers outlive a restart; once agents have spoken all is as before."""
    async with running_broker(tmp_path) as broker, running_hosts(broker, A, B) as hosts:
        fleet = Fleet(broker, *hosts)
        port = int(broker.agent_url.rpartition(":")[2])
        session = await fleet.ready(Owner="alice", StorageRoot="%home%")
        waiting = await fleet.create(EnqueueRequest=True, Type="CONSOLE", Requirements="tag:size = 'small'")
        await fleet.until_state(waiting["Id"], "READY")
        await fleet.call("closeServers", [{"ServerId": "srv-a", "Force": True}])
        queued = await fleet.create(EnqueueRequest=True, Requirements="tag:color = 'green'")
        before = (await fleet.call("describeSessions"))["Sessions"]
        servers = [host.server for host in hosts]
    async with running_broker(tmp_path, agent_to_broker_connector_https_port=port) as broker:
        fleet = Fleet(broker)
        found = await fleet.session(session["Id"]) or {}
        assert (found["State"], found["Server"]["Id"]) == ("UNKNOWN", "srv-b")
        assert (await fleet.session(queued["Id"]) or {})["Substate"] == "SESSION_PLACING"
        assert (await fleet.server("srv-b"))["Availability"] == "UNAVAILABLE"
        async with running_hosts(broker, servers=servers):
            await fleet.until_state(session["Id"], "READY")
            await fleet.until_state(waiting["Id"], "READY")
            assert (await fleet.server("srv-a"))["UnavailabilityReason"] == "SERVER_CLOSED"
            assert (await fleet.call("describeSessions"))["Sessions"] == before


# ------------------------------------------------------------------ opening and closing


@pytest.mark.covers("C122", "C125")
async def test_servers_are_closed_and_opened(fleet: Fleet) -> None:
    """A closed server is not available and says so, an opened one is; doing either twice is no error."""
    for operation, reason in (("closeServers", "SERVER_CLOSED"), ("openServers", None)):
        for _ in range(2):
            answer = await fleet.call(operation, [{"ServerId": "srv-a"}, {"ServerId": "srv-b"}])
            assert answer["SuccessfulList"] == [{"ServerId": "srv-a"}, {"ServerId": "srv-b"}]
            assert answer["UnsuccessfulList"] == []
            for server_id in ("srv-a", "srv-b"):
                server = await fleet.server(server_id)
                assert server["Availability"] == ("UNAVAILABLE" if reason else "AVAILABLE")
                assert server.get("UnavailabilityReason") == reason


@pytest.mark.covers("C123")
async def test_a_server_with_sessions_is_closed_by_force_alone(fleet: Fleet) -> None:
    """A server with a session is not closed; by force it is, and the session goes on."""
    session = await fleet.ready()
    refused = await fleet.call("closeServers", [{"ServerId": "srv-b"}, {"ServerId": "srv-b", "Force": False}])
    assert refused["SuccessfulList"] == []
    assert refused["UnsuccessfulList"] == [
        {
            "CloseServerRequestData": item,
            "FailureCode": "DCV_SERVER_HAS_SESSIONS",
            "FailureReason": "Dcv server has running sessions.",
        }
        for item in ({"ServerId": "srv-b"}, {"ServerId": "srv-b", "Force": False})
    ]
    assert (await fleet.server("srv-b"))["Availability"] == "AVAILABLE"
    answer = await fleet.call("closeServers", [{"ServerId": "srv-b", "Force": "true"}])
    assert answer["SuccessfulList"] == [{"ServerId": "srv-b"}]
    assert (await fleet.server("srv-b"))["UnavailabilityReason"] == "SERVER_CLOSED"
    assert (await fleet.session(session["Id"]) or {})["State"] == "READY"


@pytest.mark.covers("C124", "C126")
@pytest.mark.parametrize("operation", ["openServers", "closeServers"])
async def test_a_server_that_nobody_knows(fleet: Fleet, operation: str) -> None:
    """An unknown server and a missing id have codes and reasons of their own, beside the request."""
    echo = "OpenServerRequestData" if operation == "openServers" else "CloseServerRequestData"
    answer = await fleet.call(operation, [{"ServerId": "nothing"}, {}, {"ServerId": " "}])
    missing: dict[str, Any] = {"FailureCode": "INVALID_REQUEST", "FailureReason": "ServerId is required"}
    assert answer["UnsuccessfulList"] == [
        {
            echo: {"ServerId": "nothing"},
            "FailureCode": "DCV_SERVER_NOT_FOUND",
            "FailureReason": "Dcv server not found.",
        },
        {echo: {}, **missing},
        {echo: {"ServerId": " "}, **missing},
    ]
