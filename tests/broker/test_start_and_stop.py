"""The broker starts and stops: who asks too early or too late hears so, and what was asked is answered."""

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from broker_stub.broker.registry import Registry
from broker_stub.broker.service import Broker
from broker_stub.broker.settings import Settings
from broker_stub.broker.settings_file import load_values
from broker_stub.broker.store import StoreUnavailable
from broker_stub.channel_messages import Name
from tests.broker.raw_agent import agent_token, create, raw_agent, session
from tests.broker_process import broker_command, write_config
from tests.end_to_end.stand import free_port
from tests.running import RunningBroker, broker_values, running_broker

PERMISSIONS = "W3Blcm1pc3Npb25zXQolb3duZXIlIGFsbG93IGJ1aWx0aW4K"


class SlowBroker(Broker):
    """A broker whose fleet takes its time to be read."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.read_on = asyncio.Event()

    async def _restored(self) -> Registry:
        await self.read_on.wait()
        return await super()._restored()


async def asked_anew(broker: RunningBroker, url: str, path: str) -> httpx.Response:
    """Ask on a connection of its own."""
    headers = {"Authorization": f"Bearer {broker.broker.tokens.issue_access(broker.client_id)[0]}"}
    async with httpx.AsyncClient(base_url=url, verify=broker.tls, trust_env=False) as client:
        return await client.request("GET" if path == "/health" else "POST", path, headers=headers)


@pytest.mark.covers("B44")
async def test_both_ports_answer_while_the_broker_reads_its_fleet(tmp_path: Path) -> None:
    """A load balancer that asks a broker which is still starting hears 503 on both ports, then 200."""
    ports = {"client": free_port(), "agent": free_port()}
    values = {f"{name}_to_broker_connector_https_port": port for name, port in ports.items()}
    broker = SlowBroker(load_values(broker_values(tmp_path / "broker", **values)).settings)
    starting = asyncio.create_task(broker.start())
    async with asyncio.timeout(30):
        while not hasattr(broker, "store"):  # noqa: ASYNC110  listeners are up before it is opened
            await asyncio.sleep(0.01)
    trusted = ssl.create_default_context(cafile=str(broker.ca_file))
    async with httpx.AsyncClient(verify=trusted, trust_env=False) as client:
        for port in ports.values():
            answer = await client.get(f"https://127.0.0.1:{port}/health")
            assert (answer.status_code, answer.json()["reason"]) == (503, "the broker is starting")
        assert not starting.done()
        broker.read_on.set()
        await starting
        for port in ports.values():
            assert (await client.get(f"https://127.0.0.1:{port}/health")).status_code == 200
    await broker.stop()


async def test_a_broker_that_cannot_go_on_closes_what_it_opened(tmp_path: Path) -> None:
    port = free_port()
    values = broker_values(tmp_path / "broker", client_to_broker_connector_https_port=port)
    (tmp_path / "broker").mkdir(mode=0o700)
    (tmp_path / "broker" / "broker.db").write_text("this is no database, and long enough to tell" * 40)
    with pytest.raises(StoreUnavailable):
        await Broker(load_values(values).settings).start()
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize(
    ("in_the_way", "status", "sentence"),
    [("security", 1, "certificate cannot be made"), ("broker.lock/x", 78, "cannot be written")],
)
async def test_a_working_path_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, in_the_way: str, status: int, sentence: str
) -> None:
    path = tmp_path / "broker" / in_the_way
    path.parent.mkdir(mode=0o700, parents=True)
    path.parent.parent.chmod(0o700)
    path.write_text("")
    (tmp_path / "broker").chmod(0o700)
    ended, _, errors = await broker_command("start", "--config", write_config(tmp_path))
    assert ended == status
    assert sentence in errors
    assert "Traceback" not in errors


@pytest.mark.covers("B44", "B47")
async def test_a_request_that_waits_for_its_host_is_answered_before_the_broker_ends(
    tmp_path: Path,
) -> None:
    """While the broker drains, a request under way still gets its host's answer.

    New requests and new agents get 503, `/health` says so on both ports, and agents are
    asked to come back only when nobody waits for them.
    """
    async with running_broker(tmp_path, ext_shutdown_grace_seconds=20) as broker:
        spare_token = await agent_token(broker)
        async with raw_agent(broker) as agent:
            await agent.greet()
            (session_id,) = await create(broker)
            created = await agent.take_command()
            await agent.finish(created, data={"session": session(session_id)})
            await broker.until(lambda: broker.broker.registry.counts()["sessions_ready"])
            item = {"SessionId": session_id, "Owner": "ana", "PermissionsFile": PERMISSIONS}
            waiting = asyncio.create_task(broker.client.put("/sessionPermissions", json=[item]))
            command = await agent.take_command()

            stopping = asyncio.create_task(broker.broker.stop())
            await broker.until(lambda: broker.broker.health().is_stopping)
            for url in (broker.url, broker.agent_url):
                answer = await asked_anew(broker, url, "/health")
                assert (answer.status_code, answer.json()["reason"]) == (503, "the broker is stopping")
            answer = await asked_anew(broker, broker.url, "/describeServers")
            assert (answer.status_code, answer.json()) == (503, {"error": "Service unavailable"})
            assert answer.headers["connection"] == "close"
            with pytest.raises(InvalidStatus) as refused:
                async with raw_agent(broker, spare_token):
                    pass
            assert refused.value.response.status_code == 503
            assert not waiting.done()

            await agent.finish(command)
            assert (await waiting).json()["SuccessfulList"] == [{"SessionId": session_id}]
            goodbye = (await agent.hear(Name.BROKER_GOODBYE)).body
            assert goodbye["reason"] == "shutdown"
            assert goodbye["reconnectAfterMs"] >= 1000
            async with asyncio.timeout(20):
                await stopping


@pytest.mark.covers("B47")
async def test_clients_that_go_on_asking_do_not_hold_the_stop_up(tmp_path: Path) -> None:
    """Clients that ask again and again get 503 and do not keep the broker for its grace time."""

    async def ask_on(client: httpx.AsyncClient, statuses: set[int]) -> None:
        while True:
            try:
                statuses.add((await client.post("/describeServers")).status_code)
            except httpx.TransportError:
                return

    async with running_broker(tmp_path, ext_shutdown_grace_seconds=600) as broker:
        statuses: set[int] = set()
        asking = [asyncio.create_task(ask_on(broker.client, statuses)) for _ in range(5)]
        await broker.until(lambda: statuses == {200})
        async with asyncio.timeout(60):
            await broker.broker.stop()
        await asyncio.gather(*asking)
    assert statuses <= {200, 503}


@pytest.mark.covers("B47")
async def test_a_request_that_never_ends_does_not_hold_the_stop_up(
    tmp_path: Path,
) -> None:
    """A client that does not finish its request cannot keep the broker longer than the grace time."""
    async with running_broker(tmp_path, ext_shutdown_grace_seconds=1) as broker:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(broker.url.rpartition(":")[2]), ssl=broker.tls
        )
        token, _ = broker.broker.tokens.issue_access(broker.client_id)
        head = f"POST /createSessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        writer.write(f"{head}Content-Length: 20\r\n\r\n[".encode())
        await broker.until(lambda: broker.broker.requests_under_way)
        async with asyncio.timeout(20):
            await broker.broker.stop()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert b"200" not in await reader.read()
        writer.close()
