"""The gateway's listener: where sessions are, under which names, who may ask, and when it is closed."""

import json
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.broker.raw_agent import RawAgent, create, hello, raw_agent, session
from tests.broker_process import broker_command, write_config
from tests.client_certificates import ClientCa, with_certificate
from tests.hosts import B, running_hosts
from tests.running import RunningBroker, running_broker

# One broker for most tests of this module: a start costs more than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")

NOT_THERE = {"error": "The requested combination of transport and sessionId does not exist"}
HTTP = {"ipAddress": "198.18.0.1", "port": 8443, "protocol": "HTTP", "webUrlPath": "/dcv"}
QUIC = {"ipAddress": "198.18.0.1", "port": 8444, "protocol": "QUIC"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path_factory.mktemp("resolver"), enable_gateway=True) as running:
        yield running


async def ask(broker: RunningBroker, **parameters: str) -> httpx.Response:
    """What a gateway asks, as it asks it: everything in the query, an empty body."""
    return await ask_with(broker, broker.tls, **parameters)


async def ask_with(broker: RunningBroker, tls: ssl.SSLContext, **parameters: str) -> httpx.Response:
    url = broker.broker.gateway_url
    assert url is not None
    async with httpx.AsyncClient(base_url=url, verify=tls, trust_env=False) as client:
        return await client.post("/resolveSession", params=parameters, headers={"accept": "application/json"})


async def greet(agent: RawAgent, server_id: str, *session_ids: str, **server: Any) -> None:
    """Say hello as a server with endpoints for both transports, unless told otherwise."""
    block = hello(server_id)["server"] | {"endpoints": [HTTP, QUIC]} | server
    await agent.greet(server_id, server=block, sessions=[session(one) for one in session_ids])


# ------------------------------------------------------------------ answers


@pytest.mark.covers("W9", "B35")
async def test_each_transport_has_its_own_port(broker: RunningBroker) -> None:
    """The five fields of the answer say host, port and path of the transport that was asked for."""
    async with raw_agent(broker) as agent:
        await greet(agent, "both", "two-ways", hostname="host-1")
        answer = await ask(broker, sessionId="two-ways", transport="HTTP", clientIpAddress="203.0.113.7")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "SessionId": "two-ways",
            "TransportProtocol": "HTTP",
            "DcvServerEndpoint": "host-1",
            "Port": 8443,
            "WebUrlPath": "/dcv",
        }
        answer = await ask(broker, sessionId="two-ways", transport="QUIC", clientIpAddress="2001:db8::7")
        assert answer.json() == {
            "SessionId": "two-ways",
            "TransportProtocol": "QUIC",
            "DcvServerEndpoint": "host-1",
            "Port": 8444,
            "WebUrlPath": "",
        }


@pytest.mark.covers("W9")
async def test_a_server_without_quic_is_not_there_by_quic(broker: RunningBroker) -> None:
    """A transport that the session's server does not offer gets 404 and the known text, to the letter."""
    async with raw_agent(broker) as agent:
        await greet(agent, "one-way", "by-http", endpoints=[HTTP])
        assert (await ask(broker, sessionId="by-http", transport="HTTP")).status_code == 200
        answer = await ask(broker, sessionId="by-http", transport="QUIC")
    assert (answer.status_code, answer.json()) == (404, NOT_THERE)


@pytest.mark.covers("W10")
async def test_the_clients_address_may_be_missing(broker: RunningBroker) -> None:
    """A gateway that does not know the client's address leaves it out and gets the same answer."""
    async with raw_agent(broker) as agent:
        await greet(agent, "no-address", "somewhere")
        answers = [
            await ask(broker, sessionId="somewhere", transport="HTTP", **more)
            for more in ({}, {"clientIpAddress": ""}, {"clientIpAddress": "203.0.113.7"})
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].json() == answers[1].json() == answers[2].json()


@pytest.mark.covers("B35")
@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({}, "Missing sessionId parameter"),
        ({"sessionId": "", "transport": "HTTP"}, "Missing sessionId parameter"),
        ({"sessionId": "a"}, "Invalid transport parameter: "),
        ({"sessionId": "a", "transport": "http"}, "Invalid transport parameter: http"),
        ({"sessionId": "a", "transport": "TCP"}, "Invalid transport parameter: TCP"),
    ],
)
async def test_a_question_that_makes_no_sense_is_bad(
    broker: RunningBroker, parameters: dict[str, str], text: str
) -> None:
    """A question without a session, or by a transport that nobody knows, gets 400 and says why."""
    answer = await ask(broker, **parameters)
    assert (answer.status_code, answer.json()) == (400, {"error": text})


async def test_a_hostile_question_is_answered_shortly(broker: RunningBroker) -> None:
    answer = await ask(broker, sessionId="a", transport="x" * 5000)
    assert answer.status_code == 400
    assert len(answer.content) < 500
    answer = await ask(broker, sessionId="\x1b[2J\n" + "x" * 5000, transport="HTTP")
    assert (answer.status_code, answer.json()) == (404, NOT_THERE)


@pytest.mark.covers("B35")
async def test_only_sessions_that_can_be_connected_to_are_there(broker: RunningBroker) -> None:
    """A session is there while it is READY, and UNKNOWN with a server; in all other states it is not."""

    async def status(session_id: str) -> int:
        return (await ask(broker, sessionId=session_id, transport="HTTP")).status_code

    assert await status("nobody") == 404
    async with raw_agent(broker) as agent:
        await greet(agent, "states", "open-to-all")
        (creating,) = await create(broker)
        command = await agent.take_command()
        assert await status(creating) == 404
        await agent.finish(command, data={"session": session(creating)})
        await broker.until(lambda: broker.broker.registry.session(creating).state == "READY")  # type: ignore[union-attr]  # it was created
        assert await status(creating) == 200
        await agent.say("agentGoodbye", reason="shutdown")
        await agent.end()
    assert await status("open-to-all") == 200, "its DCV server may well be alive"
    async with raw_agent(broker) as agent:
        await greet(agent, "states", "open-to-all", creating, epoch=2)
        await broker.client.post("/deleteSessions", json=[{"SessionId": creating, "Owner": "ana"}])
        assert await status(creating) == 404


async def test_an_id_that_several_hosts_have_is_not_there(broker: RunningBroker) -> None:
    async with raw_agent(broker) as one, raw_agent(broker) as two:
        await greet(one, "first", "console")
        assert (await ask(broker, sessionId="console", transport="HTTP")).status_code == 200
        await greet(two, "second", "console")
        answer = await ask(broker, sessionId="console", transport="HTTP")
    assert (answer.status_code, answer.json()) == (404, NOT_THERE)


async def test_of_several_endpoints_the_one_with_the_servers_address_is_told(
    broker: RunningBroker,
) -> None:
    async with raw_agent(broker) as agent:
        other = HTTP | {"ipAddress": "198.18.9.9", "port": 1}
        await greet(agent, "many", "of-many", endpoints=[other, HTTP])
        assert (await ask(broker, sessionId="of-many", transport="HTTP")).json()["Port"] == 8443


async def test_other_paths_and_methods_are_refused_in_json(broker: RunningBroker) -> None:
    url = broker.broker.gateway_url
    assert url is not None
    async with httpx.AsyncClient(base_url=url, verify=broker.tls, trust_env=False) as client:
        assert (await client.get("/health")).json() == {"status": "UP"}
        answer = await client.get("/resolveSession")
        assert (answer.status_code, answer.json()) == (405, {"error": "Method not allowed"})
        for path in ("/", "/resolveSession/", "/describeSessions", "/oauth2/token", "/agent/v1/channel"):
            answer = await client.post(path)
            assert (answer.status_code, answer.json()) == (404, {"error": "Not found"})


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"defaultDnsName": "ip-1.internal", "hostname": "host-1"}, "ip-1.internal"),
        ({"hostname": "host-1"}, "host-1"),
        ({"hostname": ""}, "198.18.0.1"),
    ],
)
async def test_without_a_mapping_the_servers_own_name_is_told(
    broker: RunningBroker, names: dict[str, str], told: str
) -> None:
    async with raw_agent(broker) as agent:
        await greet(agent, "named", "of-named", **names)
        answer = await ask(broker, sessionId="of-named", transport="HTTP")
    assert answer.json()["DcvServerEndpoint"] == told


@pytest.mark.covers("W11", "B35", "B37")
async def test_a_registered_name_counts_at_once_and_after_a_restart(tmp_path: Path) -> None:
    """A DNS name that an administrator registers is told from then on, also after the broker's restart."""
    file = tmp_path / "mappings.json"

    def write(*mappings: tuple[str, str, str]) -> None:
        entries = [
            {"ServerIdType": kind, "ServerId": id, "DnsNames": {"InternalDnsName": name}}
            for kind, id, name in mappings
        ]
        file.write_text(json.dumps(entries))

    async def told(broker: RunningBroker) -> str:
        answer = await ask(broker, sessionId="s", transport="HTTP")
        return str(answer.json()["DcvServerEndpoint"])

    async def register(broker: RunningBroker) -> None:
        config = write_config(tmp_path)
        status, _, errors = await broker_command(
            "register-server-dns-mappings", "--file-path", file, "--config", config
        )
        assert (status, errors) == (0, "")

    aws = {"host": {"os": {"family": "linux"}, "aws": {"ec2InstanceId": "i-0abc", "region": "eu-1"}}}
    async with running_broker(tmp_path, enable_gateway=True) as broker:
        async with raw_agent(broker) as agent:
            await greet(agent, "mapped", "s", hostname="own-name", **aws)
            assert await told(broker) == "own-name"
            for kind, id in (("Ip", "198.18.0.1"), ("Host.Aws.Ec2InstanceId", "i-0abc"), ("Id", "mapped")):
                write((kind, id, f"by-{kind.lower()}"))
                await register(broker)
                assert await told(broker) == f"by-{kind.lower()}"
    async with running_broker(tmp_path, enable_gateway=True) as broker:
        assert await told(broker) == "by-id", "and that before the server's agent is back"


# ------------------------------------------------------------------ who may ask


@pytest.mark.covers("W12", "B36")
async def test_with_client_certificates_on_only_a_gateway_with_one_gets_anything(tmp_path: Path) -> None:
    """Without a certificate that the trust store vouches for, the handshake fails and nothing is answered."""
    ours, theirs = ClientCa.make(tmp_path, "ours"), ClientCa.make(tmp_path, "theirs")
    settings: dict[str, Any] = {
        "enable_gateway": True,
        "enable_tls_client_auth_gateway": True,
        "gateway_to_broker_connector_trust_store_file": ours.file,
    }
    async with running_broker(tmp_path, **settings) as broker:
        async with raw_agent(broker) as agent:
            await greet(agent, "guarded", "s")
            good = with_certificate(broker.tls, ours.issue("gateway"))
            assert (await ask_with(broker, good, sessionId="s", transport="HTTP")).status_code == 200
            bad = with_certificate(broker.tls, theirs.issue("stranger"))
            for tls in (broker.tls, bad):
                with pytest.raises((httpx.TransportError, ssl.SSLError)):
                    await ask_with(broker, tls, sessionId="s", transport="HTTP")
            assert (await ask_with(broker, good, sessionId="s", transport="HTTP")).status_code == 200


@pytest.mark.covers("W13", "B35")
async def test_nothing_listens_unless_the_gateway_is_enabled(tmp_path: Path) -> None:
    """Without the setting that enables the gateway its port is closed; with it, it is open."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for is_enabled in (False, True):
        async with running_broker(
            tmp_path, enable_gateway=is_enabled, gateway_to_broker_connector_https_port=port
        ) as broker:
            with socket.socket() as client:
                client.settimeout(10)
                assert (client.connect_ex(("127.0.0.1", port)) == 0) is is_enabled
            assert broker.broker.gateway_url == (f"https://127.0.0.1:{port}" if is_enabled else None)


async def test_a_simulated_host_is_found(broker: RunningBroker) -> None:
    async with running_hosts(broker, B):
        (session_id,) = await create(broker)
        await broker.until(lambda: broker.broker.registry.session(session_id).state == "READY")  # type: ignore[union-attr]  # it was created
        answer = await ask(broker, sessionId=session_id, transport="HTTP")
        assert answer.json()["SessionId"] == session_id
        assert answer.json()["Port"] == 8443
