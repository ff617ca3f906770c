"""What Prometheus reads: the documented metrics of the original product, with the fleet's name, and more."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker_stub.broker.front import OPERATIONS
from tests.end_to_end.stand import free_port
from tests.hosts import A, B, running_hosts
from tests.running import running_broker

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

VIRTUAL = {"Name": "v", "Owner": "alice", "Type": "VIRTUAL"}
CONSOLE = {"Name": "c", "Owner": "alice", "Type": "CONSOLE"}
DOCUMENTED = {
    "Number of DCV servers": "dcvsm_servers",
    "Number of ready DCV servers": "dcvsm_ready_servers",
    "Number of DCV sessions": "dcvsm_sessions",
    "Number of DCV console sessions": "dcvsm_console_sessions",
    "Number of DCV virtual sessions": "dcvsm_virtual_sessions",
    "Heap memory used": "dcvsm_memory_used_bytes",
    "Cpu Load": "dcvsm_cpu_load",
}
TIMED = (
    "describe-sessions",
    "delete-sessions",
    "create-sessions",
    "get-session-connection-data",
    "update-session-permissions",
)


async def scrape(port: int) -> Samples:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted({"fleet": "blue", **labels}.items()))]


@pytest.mark.covers("B46")
async def test_every_documented_metric_is_there_with_the_fleet_as_a_label(tmp_path: Path) -> None:
    """The documented metrics of servers, sessions, memory, load and request times carry the fleet's name."""
    port = free_port()
    settings: dict[str, Any] = {"metrics_fleet_name_dimension": "blue", "ext_metrics_port": port}
    async with running_broker(tmp_path, **settings) as broker, running_hosts(broker, A, B):
        await broker.until(lambda: broker.broker.registry.counts()["servers_available"] == 2)
        empty = await scrape(port)
        created = (await broker.client.post("/createSessions", json=[VIRTUAL, CONSOLE])).json()
        ids = [session["Id"] for session in created["SuccessfulList"]]
        assert len(ids) == 2
        registry = broker.broker.registry
        await broker.until(lambda: registry.counts()["sessions_ready"] == 2)
        both = await scrape(port)
        await broker.client.get(f"/sessionConnectionData/{ids[0]}/alice")
        await broker.client.put("/sessionPermissions", json=[])
        await broker.client.post("/describeSessions")
        answer = await broker.client.get(f"/sessionConnectionData/{ids[0]}/alice")
        for token in (answer.json()["ConnectionToken"], "x.y.z"):
            form = {"sessionId": ids[0], "authenticationToken": token}
            await broker.client.post(f"{broker.agent_url}/agent/validate-authentication-token", data=form)
        await broker.client.post("/deleteSessions", json=[{"SessionId": ids[0], "Owner": "alice"}])
        await broker.until(lambda: registry.counts()["sessions_ready"] == 1)
        await broker.until(lambda: registry.counts()["sessions_deleted"] == 1)
        found = await scrape(port)
    for name in DOCUMENTED.values():
        assert value(found, name) >= 0
    numbers = ("servers", "ready_servers", "sessions", "console_sessions", "virtual_sessions")
    counted = [[value(one, f"dcvsm_{name}") for name in numbers] for one in (empty, both, found)]
    # The Windows host has room for its console session only.
    assert counted == [[2, 2, 0, 0, 0], [2, 1, 2, 1, 1], [2, 1, 1, 1, 0]]
    assert value(found, "dcvsm_memory_used_bytes") > 1e6
    for operation in TIMED:
        assert operation in OPERATIONS.values() or operation == "get-session-connection-data"
        assert value(found, "dcvsm_request_seconds_count", operation=operation, status="200") >= 1
    assert value(found, "dcvsm_token_checks_total", result="yes") == 1
    assert value(found, "dcvsm_token_checks_total", result="no") == 1
    assert value(found, "dcvsm_command_seconds_count", kind="createSession", outcome="done") == 2
    assert value(found, "dcvsm_command_seconds_count", kind="deleteSession", outcome="done") == 1
    assert value(found, "dcvsm_agent_channels") == 2
    assert value(found, "dcvsm_certificate_days_left", listener="client") > 300
    assert value(found, "dcvsm_database_errors_total") == 0
    assert not any("off_heap" in name for name, _ in found)


async def test_what_waits_and_what_is_unavailable_is_counted_by_reason(tmp_path: Path) -> None:
    port = free_port()
    settings: dict[str, Any] = {"metrics_fleet_name_dimension": "blue", "ext_metrics_port": port}
    async with running_broker(tmp_path, **settings) as broker, running_hosts(broker, B):
        await broker.until(lambda: broker.broker.registry.counts()["servers_available"])
        (server_id,) = broker.broker.registry._fleet.servers
        await broker.client.post("/closeServers", json=[{"ServerId": server_id}])
        await broker.client.post("/createSessions", json=[{**VIRTUAL, "EnqueueRequest": True}])
        found = await scrape(port)
    assert value(found, "dcvsm_ready_servers") == 0
    closed = {"availability": "UNAVAILABLE", "reason": "SERVER_CLOSED"}
    assert value(found, "dcvsm_servers_by_availability", **closed) == 1
    assert value(found, "dcvsm_queued_sessions") == 1
    assert value(found, "dcvsm_queue_age_seconds") >= 0
    assert value(found, "dcvsm_sessions_by_state", type="VIRTUAL", state="CREATING") == 1


async def test_without_a_port_nothing_listens_and_cloud_watch_gets_nothing(tmp_path: Path) -> None:
    async with running_broker(tmp_path, enable_cloud_watch_metrics="true") as broker:
        assert len(broker.broker._listeners) == 3, "clients, agents, administration"
