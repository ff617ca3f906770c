"""The audit trail of a running broker: one line for each request that changes something."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.broker_process import broker_command, broker_process, write_config
from tests.hosts import B, running_hosts
from tests.running import RunningBroker, running_broker

VIRTUAL = {"Name": "v", "Owner": "alice", "Type": "VIRTUAL"}
PERMISSIONS = "W3Blcm1pc3Npb25zXQolb3duZXIlIGFsbG93IGJ1aWx0aW4K"


def audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.__dict__["audit"] for record in caplog.records if hasattr(record, "audit")]


async def ready(broker: RunningBroker) -> None:
    await broker.until(lambda: broker.broker.registry.counts()["sessions_ready"])


@pytest.mark.covers("B45")
async def test_every_changing_call_leaves_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Token requests, creates, deletes, permission changes, opens and closes each leave one line.

    It names the client, the address, the request's id as the answer has it, how many items were
    done and which; calls that only read leave none, refused ones say so.
    """
    caplog.set_level("INFO", "broker_stub.audit")
    async with running_broker(tmp_path) as broker, running_hosts(broker, B):
        client = broker.client
        caplog.clear()
        await broker.token()
        created = (await client.post("/createSessions", json=[VIRTUAL, {**VIRTUAL, "Owner": ""}])).json()
        (session_id,) = (session["Id"] for session in created["SuccessfulList"])
        await ready(broker)
        item = {"SessionId": session_id, "Owner": "alice"}
        update = [{**item, "PermissionsFile": PERMISSIONS}]
        permissions = (await client.put("/sessionPermissions", json=update)).json()
        (server_id,) = (server["Id"] for server in (await client.post("/describeServers")).json()["Servers"])
        closed = (await client.post("/closeServers", json=[{"ServerId": server_id, "Force": True}])).json()
        opened = (await client.post("/openServers", json=[{"ServerId": server_id}])).json()
        deleted = (await client.post("/deleteSessions", json=[item])).json()
        await client.get(f"/sessionConnectionData/{session_id}/alice")
        refused = await client.post("/deleteSessions", json=[item], headers={"Authorization": "Bearer x"})
        lines = audited(caplog)
    answers = (created, permissions, closed, opened, deleted)
    assert [line["action"] for line in lines] == [
        "request-token",
        "create-sessions",
        "update-session-permissions",
        "close-servers",
        "open-servers",
        "delete-sessions",
        "delete-sessions",
    ]
    assert [line["request"] for line in lines[1:6]] == [answer["RequestId"] for answer in answers]
    assert [line["outcome"] for line in lines] == ["done"] * 6 + ["refused (401)"]
    assert {line["actor"] for line in lines[:6]} == {broker.client_id}
    assert lines[6]["actor"] == "anybody"
    assert {line["address"] for line in lines} == {"127.0.0.1"}
    assert [(line["done"], line["failed"]) for line in lines[1:6]] == [(1, 1)] + [(1, 0)] * 4
    assert [line["ids"] for line in lines[1:6]] == [session_id, session_id, server_id, server_id, session_id]
    assert lines[6]["request"] == refused.headers["x-request-id"]
    assert PERMISSIONS not in str(lines)


async def test_behind_a_load_balancer_the_trail_names_both_addresses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "broker_stub.audit")
    headers = {"X-Forwarded-For": "unknown, 198.51.100.7, 10.0.0.1"}
    for is_believed in ("true", "false"):
        caplog.clear()
        async with running_broker(tmp_path, enable_throttling_forwarded_for_header=is_believed) as broker:
            await broker.client.post("/createSessions", json=[VIRTUAL], headers=headers)
        (line,) = audited(caplog)
        assert line["address"] == "127.0.0.1"
        assert line.get("forwarded") == ("198.51.100.7" if is_believed == "true" else None)


@pytest.mark.covers("B45")
async def test_an_agent_is_named_when_it_registers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The registration of an agent and its token leave a line each, with its client id."""
    caplog.set_level("INFO", "broker_stub.audit")
    async with running_broker(tmp_path) as broker, running_hosts(broker, B):
        (agent,) = broker.broker.tokens.agents.all()
        found = [(line["action"], line["outcome"], line["actor"]) for line in audited(caplog)]
    for action in ("register-agent", "request-agent-token"):
        assert (action, "done", agent.client_id) in found


@pytest.mark.covers("B3")
async def test_a_bad_configuration_opens_no_port(tmp_path: Path) -> None:
    """With a key store that cannot be read and a wrong value the broker says both and touches no port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = write_config(
            tmp_path,
            "enable-authorization = perhaps\n",
            client_to_broker_connector_https_port=str(taken.getsockname()[1]),
            agent_to_broker_connector_key_store_file="/nothing.p12",
        )
        status, output, errors = await broker_command("start", "--config", config)
    assert (status, output) == (78, "")
    assert len(errors.splitlines()) == 2
    assert "Cannot listen" not in errors


async def test_systemd_is_told_when_it_is_ready_and_when_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        config = write_config(tmp_path)
        async with broker_process(config) as broker:
            assert await asyncio.to_thread(systemd.recv, 100) == b"READY=1"
            async with broker.client() as client:
                assert (await client.get("/health")).status_code == 200
            assert await broker.stop() == 0
        assert await asyncio.to_thread(systemd.recv, 100) == b"STOPPING=1"
