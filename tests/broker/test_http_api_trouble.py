"""Queues, limits, failures and forced deletions over HTTPS, with real agents on simulated hosts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from broker_stub.agent.simulated_fleet import PlannedSession
from dcvtui.api.states import SessionType
from tests.broker.client_view import Fleet
from tests.hosts import A, B, running_hosts, several
from tests.running import running_broker

NO_SERVER = "no dcv server found for placement"


def delete(session: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """The body of DeleteSessions for one session."""
    return [{"SessionId": session["Id"], "Owner": session["Owner"], **fields}]


async def test_c84_c89_c90_limits_of_a_server(tmp_path: Path) -> None:
    found = PlannedSession(
        id="by-hand", name="x", owner="carol", type=SessionType.VIRTUAL, age_s=9, connections=0, idle_s=None
    )
    cheating = replace(B, tags={**B.tags, "dcv:max-virtual-sessions": "99"})
    async with running_broker(tmp_path) as broker, running_hosts(broker, cheating) as (host,):
        fleet = Fleet(broker, host)
        host.server.start_on_host(found)
        await fleet.until_state("by-hand", "READY")
        for number in range(9):
            await fleet.create(Owner=f"owner-{number % 5}")
        server = await fleet.server("srv-b")
        assert (server["UnavailabilityReason"], server["VirtualSessionCount"]) == ("SERVER_FULL", 10)
        assert {"Key": "dcv:max-virtual-sessions", "Value": "10"} in server["Tags"]
        assert await fleet.refusal() == NO_SERVER


async def test_c85_no_more_than_an_owner_may_have_on_a_server(tmp_path: Path) -> None:
    unlimited = replace(B, max_virtual_sessions=-1)
    async with running_broker(tmp_path) as broker, running_hosts(broker, unlimited) as (host,):
        fleet = Fleet(broker, host)
        tags = {tag["Key"]: tag["Value"] for tag in (await fleet.server(unlimited.server_id))["Tags"]}
        for _ in range(int(tags["dcv:max-concurrent-sessions-per-user"])):
            await fleet.create(Owner="alice")
        assert await fleet.refusal(Owner="alice") == NO_SERVER
        await fleet.create(Owner="bob")


async def test_c87_a_console_session_with_a_program_goes_to_windows(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker, running_hosts(broker, A, B) as hosts:
        fleet = Fleet(broker, *hosts)
        await fleet.ready(Type="CONSOLE", Requirements="server:Id = 'srv-a'")
        assert await fleet.refusal(Type="CONSOLE", AutorunFile="x.exe") == NO_SERVER


async def test_c93_c94_c95_c96_the_queue(tmp_path: Path) -> None:
    async with (
        running_broker(
            tmp_path, create_sessions_queue_max_size=3, create_sessions_queue_max_time_seconds=2
        ) as broker,
        running_hosts(broker, A, B) as hosts,
    ):
        fleet = Fleet(broker, *hosts)
        running = await fleet.ready(Type="CONSOLE", Requirements="server:Id = 'srv-b'")
        never = await fleet.create(EnqueueRequest=True, Requirements="tag:color = 'green'")
        waiting = {"Type": "CONSOLE", "Requirements": "tag:size = 'big'", "EnqueueRequest": True}
        first, second = [await fleet.create(**waiting) for _ in range(2)]
        full = await fleet.refusal(EnqueueRequest=True)
        assert full == "The create sessions queue is full"
        await fleet.call("deleteSessions", delete(running))
        await fleet.until_state(first["Id"], "READY")
        gone = await fleet.until_state(second["Id"], "UNKNOWN")
        assert NO_SERVER in gone["StateReason"]
        assert "Server" not in gone
        assert (await fleet.until_state(never["Id"], "UNKNOWN"))["StateReason"] == gone["StateReason"]


async def test_c99_c112_every_attempt_fails(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker, running_hosts(broker, *several(B, 4)) as hosts:
        fleet = Fleet(broker, *hosts)
        for host in hosts:
            host.server.faults.failing_create = f"{host.server.plan.hostname} is out of order"
        session = await fleet.create()
        failed = await fleet.until_state(session["Id"], "UNKNOWN")
        assert "is out of order" in failed["StateReason"]
        assert "Server" not in failed
        answer = await fleet.call("deleteSessions", delete(session))
        assert len(answer["SuccessfulList"]) == 1
        assert (await fleet.session(session["Id"]) or {})["State"] == "DELETED"


async def test_c103_c107_deleted_while_it_was_prepared_and_then_forgotten(tmp_path: Path) -> None:
    async with (
        running_broker(tmp_path, delete_session_duration_seconds=1) as broker,
        running_hosts(broker, B) as (host,),
    ):
        fleet = Fleet(broker, host)
        session = await fleet.create()
        await fleet.until(session["Id"], lambda found: found.get("Substate") == "PENDING_PREPARATION")
        await fleet.call("deleteSessions", delete(session))
        await fleet.until_state(session["Id"], "DELETED")
        assert host.server.sessions == ()
        await fleet.until_gone(session["Id"])


async def test_c110_a_forced_deletion_that_was_not_carried_out(tmp_path: Path) -> None:
    async with (
        running_broker(tmp_path, rules={"readopt_after_force_s": 1.0}) as broker,
        running_hosts(broker, B) as (host,),
    ):
        fleet = Fleet(broker, host)
        session = await fleet.ready()
        host.server.faults.stuck = True
        await fleet.call("deleteSessions", delete(session, Force=True))
        assert await fleet.session(session["Id"]) is None
        assert (await fleet.until_state(session["Id"], "READY"))["Server"]["Id"] == "srv-b"


async def test_c114_a_session_that_ended_while_its_agent_was_away(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker, running_hosts(broker, B) as (host,):
        fleet = Fleet(broker, host)
        session = await fleet.ready()
        host.agent.leave()
        await fleet.until_state(session["Id"], "UNKNOWN")
        host.server.end_on_host(session["Id"])
        host.agent.come_back()
        await fleet.until_state(session["Id"], "DELETED")


async def test_c117_sessions_and_servers_of_a_lost_agent_leave(tmp_path: Path) -> None:
    rules = {"unreachable_sessions_kept_s": 0.5, "unreachable_server_kept_s": 1.5}
    async with running_broker(tmp_path, rules) as broker, running_hosts(broker, B) as (host,):
        fleet = Fleet(broker, host)
        session = await fleet.ready()
        host.agent.leave()
        await fleet.until_gone(session["Id"])
        assert (await fleet.server("srv-b"))["UnavailabilityReason"] == "UNREACHABLE_AGENT"
        await broker.until(lambda: broker.broker.registry.server("srv-b") is None)
        assert (await fleet.call("describeServers"))["Servers"] == []
