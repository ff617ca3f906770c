"""A broker as administrators run it: started from their file, killed, restarted under load, told to stop."""

import asyncio
import contextlib
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.broker.installed_settings import INSTALLED
from tests.broker_process import BrokerProcess, broker_command, broker_process, write_config
from tests.end_to_end.stand import free_port
from tests.hosts import A, B, running_hosts

EVERYWHERE = "0.0.0.0"  # noqa: S104  taken out of the file
NOW = {"Name": "n", "Owner": "alice", "Type": "VIRTUAL"}
QUEUED = {"Name": "n", "Owner": "alice", "Type": "VIRTUAL", "EnqueueRequest": True}


async def register(config: Path, name: str = "console") -> tuple[str, str]:
    status, output, errors = await broker_command("register-api-client", "--config", config, "-cn", name)
    assert status == 0, errors
    found = re.search(r"client-id: (\S+)\n client-password: (\S+)\n\Z", output)
    assert found
    return found[1], found[2]


@contextlib.asynccontextmanager
async def client_of(broker: BrokerProcess, credentials: tuple[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API with a token."""
    async with broker.client() as client:
        answer = await client.post("/oauth2/token?grant_type=client_credentials", auth=credentials)
        client.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"
        yield client


async def sessions_of(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    """All sessions by id."""
    found: dict[str, dict[str, Any]] = {}
    asked: dict[str, Any] = {}
    while True:
        answer = (await client.post("/describeSessions", json=asked)).raise_for_status().json()
        found |= {session["Id"]: session for session in answer["Sessions"]}
        if not answer.get("NextToken"):
            return found
        asked = {"NextToken": answer["NextToken"]}


def installed_file(folder: Path) -> Path:
    """The file of an installer, with this test's folder and ports."""
    text = INSTALLED
    for key, value in {
        "session-manager-working-path": folder / "broker",
        "client-to-broker-connector-https-port": free_port(),
        "agent-to-broker-connector-https-port": free_port(),
        "gateway-to-broker-connector-https-port": free_port(),
    }.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        assert count == 1
    path = folder / "session-manager-broker.properties"
    path.write_text(text.replace(EVERYWHERE, "127.0.0.1"))
    path.chmod(0o640)
    return path


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.covers("B1", "B47")
async def test_a_file_of_the_original_product_starts_serves_reloads_and_drains(tmp_path: Path) -> None:
    """With the file of an installer of the original the broker starts, serves, reloads and ends with 0."""
    config = installed_file(tmp_path)
    async with broker_process(config) as broker:
        credentials = await register(config)
        async with client_of(broker, credentials) as client, running_hosts(broker, B):
            created = (await client.post("/createSessions", json=[NOW])).json()
            (session_id,) = (session["Id"] for session in created["SuccessfulList"])
            async with asyncio.timeout(30):
                while (await sessions_of(client))[session_id]["State"] != "READY":  # noqa: ASYNC110  as scripts do
                    await asyncio.sleep(0.02)
            data = (await client.get(f"/sessionConnectionData/{session_id}/alice")).json()
            assert data["ConnectionToken"]
            port = int(re.search(r"gateway-\S*-port = (\d+)", config.read_text())[1])  # type: ignore[index]  # it is there
            async with httpx.AsyncClient(verify=broker.tls, trust_env=False) as gateway:
                asked = f"https://127.0.0.1:{port}/resolveSession?sessionId={session_id}&transport=HTTP"
                assert (await gateway.post(asked)).json()["SessionId"] == session_id
            # The file keeps ended sessions for 0 hours.
            await client.post("/deleteSessions", json=[{"SessionId": session_id, "Owner": "alice"}])
            async with asyncio.timeout(30):
                while session_id in await sessions_of(client):  # noqa: ASYNC110  as scripts do
                    await asyncio.sleep(0.02)
            assert (await client.get("/dcv-session-manager-api.yaml")).status_code == 200
            config.write_text(config.read_text() + "enable-api-yaml = false\n")
            broker.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(30):
                while (await client.get("/dcv-session-manager-api.yaml")).status_code != 404:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        assert await broker.stop() == 0
    assert not is_open(port)
    log = (tmp_path / "broker" / "log" / "broker.log").read_text()
    assert "broker-to-broker-port has no effect" in log
    assert "Traceback" not in log


@pytest.mark.covers("B37", "B38")
async def test_kill_minus_9_loses_nothing_that_administrators_did(tmp_path: Path) -> None:
    """After kill -9 and a restart all that was registered, closed, queued and mapped is as before.

    API clients, software statements, agents, closed servers, queued and running sessions and DNS
    mappings are there; sessions are UNKNOWN until their agents report, then READY again.
    """
    ports: dict[str, Any] = {
        "client_to_broker_connector_https_port": free_port(),
        "agent_to_broker_connector_https_port": free_port(),
    }
    config = write_config(tmp_path, **ports)
    mappings = tmp_path / "mappings.json"
    mappings.write_text(
        '[{"ServerIdType": "Ip", "ServerId": "192.0.2.12", "DnsNames": {"InternalDnsName": "b"}}]'
    )
    described = (
        "describe-api-clients",
        "describe-software-statements",
        "describe-agent-clients",
        "describe-server-dns-mappings",
        "list-auth-servers",
    )

    async def all_described() -> list[str]:
        return [(await broker_command(command, "--config", config))[1] for command in described]

    async with broker_process(config) as broker:
        credentials = await register(config)
        for command in (
            ("generate-software-statement",),
            ("register-server-dns-mappings", "--file-path", mappings),
            ("register-auth-server", "--url", "https://127.0.0.1:1/.well-known/jwks.json"),
        ):
            assert (await broker_command(*command, "--config", config))[0] == 0
        async with client_of(broker, credentials) as client:
            async with running_hosts(broker, A, B) as hosts:
                created = (await client.post("/createSessions", json=[NOW])).json()
                (running,) = (session["Id"] for session in created["SuccessfulList"])
                await broker.until(lambda: hosts[1].server.sessions)
                async with asyncio.timeout(30):
                    while (await sessions_of(client))[running]["State"] != "READY":  # noqa: ASYNC110  as scripts do
                        await asyncio.sleep(0.02)
                for server in (await client.post("/describeServers")).json()["Servers"]:
                    closed = await client.post(
                        "/closeServers", json=[{"ServerId": server["Id"], "Force": True}]
                    )
                    assert closed.json()["SuccessfulList"]
                created = (await client.post("/createSessions", json=[QUEUED])).json()
                (queued,) = (session["Id"] for session in created["SuccessfulList"])
                before, servers = await all_described(), [host.server for host in hosts]
                assert await broker.stop(signal.SIGKILL) == -signal.SIGKILL
    async with broker_process(config) as broker:
        assert await all_described() == before
        async with client_of(broker, credentials) as client:
            found = await sessions_of(client)
            assert (found[running]["State"], found[queued]["State"]) == ("UNKNOWN", "CREATING")
            async with running_hosts(broker, servers=servers):
                async with asyncio.timeout(30):
                    while (await sessions_of(client))[running]["State"] != "READY":  # noqa: ASYNC110  as scripts do
                        await asyncio.sleep(0.02)
                reasons = {
                    server["UnavailabilityReason"]
                    for server in (await client.post("/describeServers")).json()["Servers"]
                }
                assert reasons == {"SERVER_CLOSED"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_under_load_loses_nothing_that_was_acknowledged(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Every session that was acknowledged before the broker went is there when it is back."""
    config = write_config(tmp_path, create_sessions_queue_max_size=100_000)
    acknowledged: set[str] = set()
    deleted: set[str] = set()
    refusals: set[int] = set()

    async def load(broker: BrokerProcess, client: httpx.AsyncClient, worker: int) -> None:
        for _ in range(10_000):  # the broker goes long before
            try:
                answer = await client.post("/createSessions", json=[{**QUEUED, "Owner": f"o{worker}"}] * 3)
                if answer.status_code != 200:
                    refusals.add(answer.status_code)
                    return
                ids = [session["Id"] for session in answer.json()["SuccessfulList"]]
                acknowledged.update(ids)
                item = {"SessionId": ids[0], "Owner": f"o{worker}"}
                answer = await client.post("/deleteSessions", json=[item])
                if answer.status_code != 200:
                    refusals.add(answer.status_code)
                    return
                deleted.update(each["SessionId"] for each in answer.json()["SuccessfulList"])
            except httpx.TransportError:
                return

    async with broker_process(config) as broker:
        credentials = await register(config)
        async with client_of(broker, credentials) as client:
            workers = [asyncio.create_task(load(broker, client, worker)) for worker in range(6)]
            await broker.until(lambda: len(acknowledged) >= 200)
            assert await broker.stop(number) == (0 if number is signal.SIGTERM else -number)
            await asyncio.gather(*workers)
    assert refusals <= {503}
    async with broker_process(config) as broker, client_of(broker, credentials) as client:
        found = await sessions_of(client)
    assert acknowledged <= found.keys()
    assert len(deleted) >= 50
    assert {found[session_id]["State"] for session_id in deleted} == {"DELETED"}
    assert {found[session_id]["State"] for session_id in acknowledged - deleted} <= {"CREATING", "DELETED"}
