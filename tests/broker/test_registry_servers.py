"""Servers: availability, lost contact, all kinds of hello, open and closed (API, 7; agent, 4 and 5.7)."""

from typing import Any

import pytest

from broker_stub.broker.events import (
    Accepted,
    AgentDisconnected,
    CommandFinished,
    HelloAnswer,
    Refused,
    ReportAnswer,
    ReportsPaced,
    Rules,
    ServerReported,
    SessionsReported,
)
from tests.broker.scene import Scene, report, server_block, tag_list

WINDOWS = server_block("windows", tag_list(dcv_max_virtual_sessions="0"))

# ------------------------------------------------------------------ availability


@pytest.mark.parametrize(
    ("block", "sessions", "expected"),
    [
        (server_block(), [], "AVAILABLE"),
        (server_block(healthy=False), [], "UNHEALTHY_DCV_SERVER"),
        (server_block("windows", existingLoggedInUser=True), [], "EXISTING_LOGGED_IN_USER"),
        (server_block("linux", existingLoggedInUser=True), [], "AVAILABLE"),
        (server_block(), [report("console", type_="CONSOLE")], "SERVER_FULL"),
        (WINDOWS, [report("console", type_="CONSOLE")], "SERVER_FULL"),
        (WINDOWS, [], "AVAILABLE"),  # an empty host is never full
        (
            server_block(tags=tag_list(dcv_max_virtual_sessions="10")),
            [report(f"v{number}") for number in range(5)],
            "AVAILABLE",
        ),
        (
            server_block(tags=tag_list(dcv_max_virtual_sessions="5")),
            [report(f"v{number}") for number in range(5)],
            "SERVER_FULL",
        ),
        (
            server_block(tags=tag_list(dcv_max_concurrent_sessions_per_user="1")),
            [report("v")],
            "AVAILABLE",  # the limit per user never makes a server full
        ),
        (
            server_block("windows", existingLoggedInUser=True),
            [report("console", type_="CONSOLE")],
            "EXISTING_LOGGED_IN_USER",
        ),
    ],
)
def test_availability_at_hello(block: dict[str, Any], sessions: list[dict[str, Any]], expected: str) -> None:
    scene = Scene()
    scene.hello(block=block, sessions=sessions)
    assert scene.availability() == expected
    scene.check()


@pytest.mark.covers("G22")
def test_of_several_reasons_the_first_in_order_is_shown() -> None:
    """When several reasons make a server unavailable, the one shown is the first of the fixed order: no
    agent, no DCV server, closed by an operator, somebody logged in."""
    scene = Scene()
    scene.hello(block=server_block("windows", existingLoggedInUser=True, healthy=False))
    scene.close("s1")
    scene.drop(goodbye=True)
    seen = [scene.availability()]
    scene.hello(block=server_block("windows", existingLoggedInUser=True, healthy=False))
    seen.append(scene.availability())
    scene.reports_server("s1", {"healthy": True})
    seen.append(scene.availability())
    scene.open("s1")
    seen.append(scene.availability())
    scene.reports_server("s1", {"existingLoggedInUser": None})
    seen.append(scene.availability())
    assert seen == [
        "UNREACHABLE_AGENT",
        "UNHEALTHY_DCV_SERVER",
        "SERVER_CLOSED",
        "EXISTING_LOGGED_IN_USER",
        "AVAILABLE",
    ]


def test_a_broken_channel_is_a_lost_agent_after_the_grace_time() -> None:
    scene = Scene()
    scene.hello()
    scene.drop()
    scene.wait(14.9)
    assert scene.availability() == "AVAILABLE"
    scene.wait(0.1)
    assert scene.availability() == "UNREACHABLE_AGENT"
    scene.hello()
    assert scene.availability() == "AVAILABLE"


def test_coming_back_in_the_grace_time_is_not_noticed() -> None:
    scene = Scene()
    scene.hello()
    session_id = scene.ready()
    scene.drop()
    scene.wait(10)
    scene.hello(sessions=[report(session_id)])
    scene.wait(10)
    assert scene.availability() == "AVAILABLE"
    assert scene.state(session_id) == "READY"


def test_an_agent_that_is_silent_for_three_intervals_is_lost_until_it_speaks() -> None:
    scene = Scene()
    scene.hello(sessions=[report("x")], updateIntervalSeconds=10)
    for _ in range(5):
        scene.wait(20)
        scene.reports_server("s1", {"host": {"memory": {"usedBytes": 5}}})
    scene.wait(29.9)
    assert scene.availability() == "AVAILABLE"
    scene.wait(0.1)
    assert scene.availability() == "UNREACHABLE_AGENT"
    assert scene.state("x") == "UNKNOWN@s1"
    scene.reports_sessions("s1", full=False)
    assert scene.availability() == "AVAILABLE"
    assert scene.state("x") == "READY"
    scene.wait(30)
    assert scene.availability() == "UNREACHABLE_AGENT"
    scene.check()


def test_an_agent_that_was_asked_to_speak_less_often_is_not_lost_for_it() -> None:
    scene = Scene()
    scene.hello(updateIntervalSeconds=10)
    scene.handle(ReportsPaced(60.0))
    scene.wait(179)
    assert scene.availability() == "AVAILABLE"
    scene.wait(2)
    assert scene.availability() == "UNREACHABLE_AGENT"
    scene.reports_sessions("s1", full=False)
    scene.handle(ReportsPaced(1.0))
    scene.wait(29)
    assert scene.availability() == "AVAILABLE"
    scene.reports_sessions("s1", full=False)
    scene.wait(60)
    assert scene.availability() == "UNREACHABLE_AGENT"


def test_a_lost_server_goes_with_its_sessions_after_its_time() -> None:
    scene = Scene(unreachable_server_kept_s=100)
    scene.hello(sessions=[report("x")])
    preparing = scene.create(DisableRetryOnFailure=True)
    scene.drop(goodbye=True)
    scene.wait(50)
    assert scene.state("x") == "UNKNOWN@s1"
    scene.wait(49)
    assert scene.server() is not None
    scene.wait(1)
    assert scene.server() is None
    assert scene.state("x") is None
    assert scene.state(preparing) == "UNKNOWN"
    scene.check()


def test_a_creation_on_a_server_that_goes_is_tried_elsewhere() -> None:
    scene = Scene(unreachable_server_kept_s=30)
    scene.hello()
    session_id = scene.create()
    scene.drop(goodbye=True)
    scene.hello("s2")
    scene.wait(30)
    assert scene.server() is None
    assert (scene.session(session_id) or {})["Server"]["Id"] == "s2"
    scene.check()


@pytest.mark.covers("G24")
def test_sessions_of_a_lost_server_can_go_before_it() -> None:
    """Sessions of a lost agent leave the lists at their configured time, and the server at its own, later
    one."""
    scene = Scene(unreachable_sessions_kept_s=2)
    scene.hello(sessions=[report("x")])
    scene.drop(goodbye=True)
    scene.wait(2)
    assert scene.state("x") is None
    assert scene.availability() == "UNREACHABLE_AGENT"
    scene.check()
    scene.wait(Rules().unreachable_server_kept_s - 3)
    assert scene.availability() == "UNREACHABLE_AGENT"
    scene.wait(1)
    assert scene.availability() is None


# ------------------------------------------------------------------ open and closed


def test_open_and_close() -> None:
    scene = Scene()
    scene.hello()
    assert scene.close("s1") == scene.close("s1") == Accepted()
    assert scene.availability() == "SERVER_CLOSED"
    assert scene.open("s1") == scene.open("s1") == Accepted()
    assert scene.availability() == "AVAILABLE"
    scene.ready()
    assert scene.close("s1") == Refused("Dcv server has running sessions.", "DCV_SERVER_HAS_SESSIONS")
    assert scene.close("s1", force=True) == Accepted()
    assert scene.close("s1") == Accepted()  # closed already
    scene.check()


@pytest.mark.parametrize("operation", [Scene.open, Scene.close])
@pytest.mark.parametrize(
    ("server_id", "expected"),
    [
        (None, Refused("ServerId is required", "INVALID_REQUEST")),
        ("  ", Refused("ServerId is required", "INVALID_REQUEST")),
        ("x", Refused("Dcv server not found.", "DCV_SERVER_NOT_FOUND")),
    ],
)
def test_servers_that_cannot_be_opened_or_closed(operation: Any, server_id: str, expected: Refused) -> None:
    assert operation(Scene(), server_id) == expected


@pytest.mark.covers("G26")
@pytest.mark.parametrize("trouble", ["agent restart", "broker restart", "record removed"])
def test_the_closed_mark_survives(trouble: str) -> None:
    """A server that was closed is still closed after a restart of its agent or of the broker, and after
    its record was removed and it returned."""
    scene = Scene()
    scene.hello()
    scene.close("s1")
    match trouble:
        case "agent restart":
            scene.drop(goodbye=True)
            assert scene.availability() == "UNREACHABLE_AGENT"
        case "broker restart":
            scene.restart()
            assert scene.availability() == "SERVER_CLOSED"
        case "record removed":
            scene.drop(goodbye=True)
            scene.wait(1800)
            assert scene.server() is None
            scene.check()
            scene.restart()
    scene.hello()
    assert scene.availability() == "SERVER_CLOSED"
    scene.check()


def test_the_closed_mark_of_a_server_that_is_gone_can_be_taken_away() -> None:
    scene = Scene()
    scene.hello()
    scene.close("s1")
    scene.drop(goodbye=True)
    scene.wait(1800)
    assert scene.open("s1") == Accepted()
    scene.check()
    scene.hello()
    assert scene.availability() == "AVAILABLE"


def test_the_closed_mark_of_a_server_that_is_gone_ends_after_thirty_days() -> None:
    scene = Scene()
    scene.hello()
    scene.close("s1")
    scene.drop(goodbye=True)
    scene.wait(1800)
    scene.restart()
    scene.wait(30 * 86400)
    assert scene.disk.servers == {}
    scene.hello()
    assert scene.availability() == "AVAILABLE"


# ------------------------------------------------------------------ broker restart


def test_after_a_restart_servers_are_unknown_until_their_hello_or_a_minute_has_passed() -> None:
    scene = Scene()
    scene.hello(sessions=[report("x")])
    scene.hello("s2", sessions=[report("y")])
    before = scene.sessions()
    scene.restart()
    assert scene.availability("s1") == "UNKNOWN"
    assert scene.state("x") == "UNKNOWN@s1"
    scene.hello(sessions=[report("x")])
    assert scene.availability("s1") == "AVAILABLE"
    assert scene.sessions()[0] == before[0]
    scene.wait(59)
    assert scene.availability("s2") == "UNKNOWN"
    scene.reports_server("s1", {})
    scene.wait(1)
    assert scene.availability("s2") == "UNREACHABLE_AGENT"
    assert scene.state("y") == "UNKNOWN@s2"
    scene.check()


def test_no_deletion_timer_runs_before_agents_had_time_to_come_back() -> None:
    scene = Scene(unreachable_server_kept_s=100)
    scene.hello(sessions=[report("x")])
    scene.drop(goodbye=True)
    scene.wait(99)
    scene.restart()
    scene.wait(159)
    assert scene.state("x") == "UNKNOWN@s1"
    scene.wait(1)
    assert scene.server() is None


def test_an_open_creation_goes_on_after_a_restart() -> None:
    scene = Scene()
    scene.hello()
    session_id = scene.create()
    order = scene.take_order()
    scene.now = scene.now.replace(hour=14)  # the broker was down for two hours
    scene.restart()
    assert scene.state(session_id) == "PENDING_PREPARATION"
    scene.hello()
    again = scene.take_order()
    assert (again.command_id, again.payload) == (order.command_id, order.payload)
    scene.finish(again)
    assert scene.state(session_id) == "READY"
    scene.check()


def test_a_creation_whose_order_was_lost_is_given_up() -> None:
    scene = Scene()
    scene.hello()
    session_id = scene.create()
    scene.disk.commands.clear()
    scene.restart()
    scene.wait(60)
    assert scene.state(session_id) == "UNKNOWN"
    assert scene.reason(session_id) == "The host did not answer in time"
    scene.check()


# ------------------------------------------------------------------ hello


def test_open_commands_are_compared() -> None:
    scene = Scene()
    scene.hello()
    first, second = scene.create(), scene.create(Owner="bob")
    orders = [scene.take_order(), scene.take_order()]
    answer = scene.hello(open_commands=[orders[0].command_id, "unknown"])
    assert answer.forget_commands == ["unknown"]
    assert [order.command_id for order in scene.sent] == [orders[1].command_id]
    assert scene.state(first) == scene.state(second) == "PENDING_PREPARATION"


def test_an_order_past_its_deadline_is_not_sent_again() -> None:
    scene = Scene()
    scene.hello()
    scene.create(DisableRetryOnFailure=True)
    order = scene.take_order()
    scene.drop()
    scene.wait(60)
    answer = scene.hello(open_commands=[order.command_id])
    assert scene.sent == []
    assert answer.forget_commands == [order.command_id]


def test_only_the_channel_that_counts_is_heard() -> None:
    scene = Scene()
    scene.hello(sessions=[report("x")], instanceId="i")
    old = scene.channel("s1")
    session_id = scene.create()
    order = scene.take_order()
    answer = scene.hello(sessions=[report("x")], instanceId="i")
    assert answer.superseded_channel == old
    unheard = ReportAnswer(accepted=False)
    assert scene.handle(SessionsReported("s1", old, full=True)) == unheard
    assert scene.handle(ServerReported("s1", old, True, {})) == unheard
    assert scene.handle(ServerReported("s9", old, True, {})) == unheard
    scene.handle(CommandFinished("s1", old, order.command_id, True))
    scene.handle(AgentDisconnected("s1", old, goodbye=True))
    assert scene.state("x") == "READY"
    assert scene.state(session_id) == "PENDING_PREPARATION"
    assert scene.availability() == "AVAILABLE"


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"epoch": 8}, HelloAnswer(True, superseded_channel="channel-1")),
        ({"epoch": 7}, HelloAnswer(False, close_code=4011)),
        ({"epoch": 6}, HelloAnswer(False, close_code=4011)),
        # The same process has noticed before us that its channel is dead.
        ({"epoch": 7, "instanceId": "i"}, HelloAnswer(True, superseded_channel="channel-1")),
        (
            {"epoch": 8, "machineFingerprint": "clone"},
            HelloAnswer(False, new_server_id=True, close_code=4011),
        ),
    ],
)
def test_a_second_agent_for_a_server(members: dict[str, Any], expected: HelloAnswer) -> None:
    scene = Scene()
    scene.hello(epoch=7, instanceId="i")
    assert scene.hello(**members) == expected
    scene.wait(1)
    assert scene.availability() == "AVAILABLE"
    assert scene.channel("s1") == ("channel-2" if expected.accepted else "channel-1")


def test_a_clone_is_sent_away_even_if_the_original_is_not_there() -> None:
    scene = Scene()
    scene.hello()
    scene.drop(goodbye=True)
    assert scene.hello(machineFingerprint="clone").new_server_id
    assert scene.availability() == "UNREACHABLE_AGENT"
    assert scene.hello(epoch=1).accepted  # without a channel the epoch does not matter


@pytest.mark.parametrize("server_id", ["a/b", "a b", "", "ä", "x" * 257])
def test_ids_that_the_api_does_not_know_are_refused(server_id: str) -> None:
    scene = Scene()
    assert scene.hello(server_id) == HelloAnswer(False, new_server_id=True, close_code=4011)
    assert scene._all_servers() == []


def test_a_host_that_changed_its_id_keeps_what_it_had() -> None:
    scene = Scene()
    scene.hello("old", sessions=[report("console", type_="VIRTUAL")], machineFingerprint="m")
    ready, preparing = scene.ready(), scene.create(Owner="bob")
    order = scene.take_order()
    ready_before = scene.session(ready)
    scene.close("old", force=True)
    answer = scene.hello(
        "new",
        sessions=[report("console"), report(ready)],
        previousServerId="old",
        machineFingerprint="m",
        open_commands=[order.command_id],
    )
    assert answer == HelloAnswer(True, superseded_channel="channel-1")
    assert [server["Id"] for server in scene._all_servers()] == ["new"]
    assert scene.availability("new") == "SERVER_CLOSED"
    assert {one["Server"]["Id"] for one in scene.sessions()} == {"new"}
    assert (scene.session(ready) or {})["CreationTime"] == (ready_before or {})["CreationTime"]
    scene.handle(CommandFinished("new", scene.channel("new"), order.command_id, True))
    assert scene.state(preparing) == "READY"
    scene.check()
    scene.restart()
    scene.check()


def test_nobody_takes_over_the_record_of_another_machine() -> None:
    scene = Scene()
    scene.hello("old", sessions=[report("x")])
    scene.close("old", force=True)
    scene.hello("new", previousServerId="old")
    assert scene.state("x") == "READY"
    assert scene.availability("old") == "SERVER_CLOSED"
    assert scene.availability("new") == "AVAILABLE"


def test_a_closed_server_stays_closed_under_a_new_id_though_its_record_is_gone() -> None:
    scene = Scene()
    scene.hello("old")
    scene.close("old")
    scene.drop("old", goodbye=True)
    scene.wait(1800)
    scene.hello("new", previousServerId="old")
    assert scene.availability("new") == "SERVER_CLOSED"
    scene.check()


# ------------------------------------------------------------------ what is shown and stored


def test_the_wire_form_of_a_server() -> None:
    scene = Scene()
    block = server_block(
        tags=[
            {"key": "b", "value": "2"},
            {"key": "a", "value": "1"},
            {"key": "b", "value": "3"},
        ],
        defaultDnsName="host.example.com",
        endpoints=[
            {"port": 9443, "protocol": "QUIC", "webUrlPath": "/"},
            {"ipAddress": "192.0.2.1", "port": 9443, "protocol": "HTTP"},
        ],
    )
    block["host"]["aws"] = {"region": "r", "ec2InstanceType": "t", "ec2InstanceId": "i", "ec2ImageId": None}
    block["host"]["loggedInUsers"] = [{"username": "bob"}]
    scene.hello(block=block)
    assert scene.server() == {
        "Id": "s1",
        "Ip": "192.0.2.1",
        "Hostname": "host",
        "DefaultDnsName": "host.example.com",
        "Port": "9443",
        "Endpoints": [
            {"Port": 9443, "Protocol": "QUIC"},
            {"IpAddress": "192.0.2.1", "Port": 9443, "Protocol": "HTTP", "WebUrlPath": "/"},
        ],
        "WebUrlPath": "/",
        "Version": "2024.0",
        "SessionManagerAgentVersion": "1.0",
        "Availability": "AVAILABLE",
        "ConsoleSessionCount": 0,
        "VirtualSessionCount": 0,
        "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "3"}],
        "Host": {
            "Os": {"Family": "linux", "Name": "linux", "Version": "2"},
            "Memory": {"TotalBytes": 8_000_000_000, "UsedBytes": 1_000_000_000},
            "CpuInfo": {"NumberOfCpus": 4},
            "CpuLoadAverage": {"OneMinute": 0.5, "FiveMinutes": 0.25, "FifteenMinutes": 0},
            "Aws": {"Region": "r", "EC2InstanceType": "t", "EC2InstanceId": "i"},
            "LoggedInUsers": [{"Username": "bob"}],
            "Gpus": [],
        },
    }
    scene.check()


def test_a_bare_server_shows_what_is_always_sent() -> None:
    scene = Scene()
    scene.hello(block={"host": {"aws": {}}}, agentVersion=None)
    assert scene.server() == {
        "Id": "s1",
        "Ip": "",
        "Hostname": "",
        "Endpoints": [],
        "Availability": "AVAILABLE",
        "ConsoleSessionCount": 0,
        "VirtualSessionCount": 0,
        "Tags": [],
        "Host": {"Gpus": [], "LoggedInUsers": []},
    }


def test_deltas_are_merged_and_null_removes() -> None:
    scene = Scene()
    scene.hello()
    scene.reports_server("s1", {"host": {"memory": {"usedBytes": 5}, "cpuLoadAverage": None}})
    scene.reports_server("s1", {"version": None, "hostname": "new", "host": {"os": {"version": "3"}}})
    server = scene.server()
    assert server is not None
    assert server["Host"] == {
        "Os": {"Version": "3"},
        "Memory": {"UsedBytes": 5},
        "CpuInfo": {"NumberOfCpus": 4},
        "Gpus": [],
        "LoggedInUsers": [],
    }
    assert server["Hostname"] == "new"
    assert "Version" not in server
    scene.reports_server("s1", server_block(), full=True)
    assert (scene.server() or {})["Hostname"] == "host"
    scene.check()


def test_metrics_are_neither_stored_nor_do_they_touch_the_json_of_sessions() -> None:
    scene = Scene()
    scene.hello(sessions=[report("x")])
    part = scene.registry.describe_sessions(None, (), 1).parts[0]
    stored = dict(scene.disk.servers)
    record = scene.registry.session("x")
    assert record is not None
    scene.reports_server("s1", {"host": {"memory": {"usedBytes": 5}, "cpuLoadAverage": {"oneMinute": 9}}})
    scene.reports_server("s1", server_block(hostname="host"), full=True)
    assert scene.disk.servers["s1"] == stored["s1"]
    scene.registry.describe_sessions(None, (), 1)
    scene.reports_server("s1", {"host": {"memory": {"usedBytes": 6}}})
    assert record.part == part
    assert b"memory" not in repr(scene.disk).lower().encode()


def test_a_hello_that_says_nothing_new_is_not_stored() -> None:
    scene = Scene()
    scene.hello(epoch=3, instanceId="i", sessions=[report("x")])
    scene.disk.servers.clear()
    scene.disk.sessions.clear()
    scene.hello(epoch=3, instanceId="i", sessions=[report("x")])
    assert scene.disk.servers == {}
    assert scene.disk.sessions == {}


def test_a_restarted_broker_shows_the_lasting_facts() -> None:
    scene = Scene()
    scene.hello(block=server_block(tags=tag_list(color="red")), sessions=[report("x", numOfConnections=1)])
    before = scene.server()
    assert before is not None
    scene.restart()
    after = scene.server()
    assert after is not None
    assert after["Host"] == {
        **{k: before["Host"][k] for k in ("Os", "CpuInfo")},
        "Gpus": [],
        "LoggedInUsers": [],
    }
    assert after["Tags"] == before["Tags"]
    assert len(scene.sessions(("tag:color", "red"))) == 1
    scene.check()


def test_counts_for_health_and_metrics() -> None:
    scene = Scene()
    scene.hello(sessions=[report("x")])
    scene.hello("s2", block=server_block(healthy=False))
    scene.create()
    scene.create(EnqueueRequest=True, Requirements="tag:a = 'b'")
    counts = scene.registry.counts()
    assert counts == {
        "servers": 2,
        "servers_available": 1,
        "sessions": 3,
        "sessions_creating": 2,
        "sessions_ready": 1,
        "sessions_deleting": 0,
        "sessions_deleted": 0,
        "sessions_unknown": 0,
        "queued": 1,
        "open_commands": 1,
    }


def test_nothing_to_do_means_no_wakeup() -> None:
    scene = Scene()
    assert scene.registry.next_wakeup(scene.now) is None
    scene.create(EnqueueRequest=True)
    assert scene.registry.next_wakeup(scene.now) is not None
