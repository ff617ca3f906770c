"""The administration commands about trust, as installed, against a running broker: what they print."""

import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from broker_stub import software_statement
from broker_stub.channel import REGISTER_PATH, CloseCode
from tests.broker.raw_agent import agent_token, post, raw_agent, register
from tests.broker_process import broker_command, write_config
from tests.hosts import B, running_hosts
from tests.running import RunningBroker, running_broker

# One broker for all tests of this module: a start costs more than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")

# Nobody listens there: the broker looks for keys at once, and registers a server that is away all the same.
URL = "https://127.0.0.1:1/my-pool/.well-known/jwks.json"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path_factory.mktemp("trust")) as running:
        yield running


@pytest.fixture
def config(broker: RunningBroker) -> Path:
    # The ports are not asked for here: commands find the broker by its working path.
    return write_config(broker.ca_file.parents[2])


async def printed(config: Path, *arguments: object) -> str:
    """What a command that succeeds prints; it says nothing on standard error."""
    status, output, errors = await broker_command(*arguments, "--config", config)
    assert (status, errors) == (0, "")
    return output


async def refusal(config: Path, *arguments: object) -> str:
    """The sentence of a command that is refused."""
    status, output, errors = await broker_command(*arguments, "--config", config)
    assert (status, output) == (1, "")
    assert re.fullmatch(r"error: .+\n", errors)
    return errors


def rows(output: str, heading: str) -> list[dict[str, Any]]:
    """The JSON below a heading."""
    first, _, rest = output.partition("\n")
    assert first == heading
    found: list[dict[str, Any]] = json.loads(rest)
    return found


# ------------------------------------------------------------------ authorization servers


@pytest.mark.covers("B18")
async def test_authorization_servers_are_registered_listed_and_unregistered(
    broker: RunningBroker, config: Path
) -> None:
    """The commands for external authorization servers print the published texts byte for byte."""
    assert await printed(config, "list-auth-servers") == "Urls: [ ]\n"
    assert await printed(config, "register-auth-server", "--url", URL) == "Jwk url registered.\n"
    assert await printed(config, "list-auth-servers") == f'Urls: [ "{URL}" ]\n'
    again = ("register-auth-server", f"--url={URL}", "--algorithm", "es256")
    assert await printed(config, *again) == "Jwk url registered.\n"
    other = URL.replace("my", "your")
    assert await printed(config, "register-auth-server", "-u", other, "--alg", "RS512")
    assert await printed(config, "list-auth-servers") == f'Urls: [ "{URL}", "{other}" ]\n'
    listed = json.loads(await printed(config, "list-auth-servers", "--json"))
    assert listed == [{"url": URL, "algorithm": "ES256"}, {"url": other, "algorithm": "RS512"}]
    for url in (URL, other):
        output = await printed(config, "unregister-auth-server", "--url", url)
        assert output == f"Jwk url{url} unregistered\n"
    assert URL in await refusal(config, "unregister-auth-server", "--url", URL)
    assert await printed(config, "list-auth-servers") == "Urls: [ ]\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["http://my-auth-server.com/.well-known/jwks.json"], "https://"),
        (["ftp://localhost/.well-known/jwks.json"], "https://"),
        (["my-auth-server.com"], "must look like"),
        (["https://ana:secret@a.example/.well-known/jwks.json"], "credentials"),
        ([URL, "--algorithm", "HS256"], "RS256"),
        ([URL, "--algorithm", "none"], "RS256"),
        (["http://127.0.0.1:1/.well-known/jwks.json", "--check"], "cannot be had"),
    ],
)
async def test_an_authorization_server_that_cannot_be_trusted_is_refused(
    broker: RunningBroker, config: Path, arguments: list[str], reason: str
) -> None:
    sentence = await refusal(config, "register-auth-server", "--url", *arguments)
    assert reason in sentence
    assert await printed(config, "list-auth-servers") == "Urls: [ ]\n"


async def test_an_address_of_another_form_is_registered_with_a_warning(
    broker: RunningBroker, config: Path
) -> None:
    url = "https://127.0.0.1:1/tenant/discovery/keys"
    status, output, errors = await broker_command(
        "register-auth-server", "--url", url, "--alg", "RS256", "--config", config
    )
    assert (status, output) == (0, "Jwk url registered.\n")
    assert errors == "warning: the URL does not end in .well-known/jwks.json\n"
    await printed(config, "unregister-auth-server", "--url", url)


# ------------------------------------------------------------------ keys, statements, agents


@pytest.mark.covers("B17")
async def test_renewing_the_keys_refuses_the_tokens_that_are_out(broker: RunningBroker, config: Path) -> None:
    """Renewing the signing keys says so; tokens that are out get 401, new ones work."""
    client_id, _ = await broker.broker.tokens.register_client("renewing")
    token, _ = broker.broker.tokens.issue_access(client_id)

    async def status_with(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return (await broker.client.post("/describeServers", json={}, headers=headers)).status_code

    assert await status_with(token) == 200
    assert await printed(config, "renew-auth-server-api-key", "--grace-seconds", 600) == "Keys renewed.\n"
    assert await status_with(token) == 200
    assert await printed(config, "renew-auth-server-api-key") == "Keys renewed.\n"
    assert await status_with(token) == 401
    assert await status_with(broker.broker.tokens.issue_access(client_id)[0]) == 200
    broker.client.headers["Authorization"] = f"Bearer {await broker.token()}"


@pytest.mark.covers("B19", "B20", "B21", "B30")
async def test_a_statement_from_its_making_to_its_end(broker: RunningBroker, config: Path) -> None:
    """A statement is printed on one line, listed, lets agents register, and no longer once deactivated."""
    output = await printed(config, "generate-software-statement")
    found = re.fullmatch(r"software-statement: ([A-Za-z0-9+/]+=*)\n", output)
    assert found
    text = found[1]
    assert set(json.loads(base64.b64decode(text))) >= {"id", "active", "issuedAt", "brokerVersion"}
    token = await agent_token(broker, text)

    output = await printed(config, "describe-software-statements")
    listed = {one["software-statement"]: one for one in rows(output, "Software Statements")}
    assert re.fullmatch(r"\d{4}\.\d\d\.\d\d \d\d:\d\d:\d\d \+0000", listed[text]["issued-at"])
    assert listed[software_statement.DEFAULT] == {
        "software-statement": software_statement.DEFAULT,
        "issued-at": "2025.01.01 00:00:00 +0000",
        "is-active": "true",
    }
    assert listed[text]["is-active"] == "true"

    async with raw_agent(broker, token) as agent:
        await agent.greet("server-of-statement")
        output = await printed(config, "deactivate-software-statement", "--software-statement", text)
        assert output == f"Software statement {text} deactivated\n"
        assert (await register(broker, text)).status_code == 400
        await (await agent.socket.ping())
        assert broker.broker.registry.server("server-of-statement").channel_id  # type: ignore[union-attr]  # it greeted
    output = await printed(config, "describe-software-statements")
    listed = {one["software-statement"]: one for one in rows(output, "Software Statements")}
    assert listed[text]["is-active"] == "false"
    assert "no such software statement" in await refusal(config, "deactivate-software-statement", "-ss", "x")


@pytest.mark.covers("B22")
async def test_unregistering_an_agent_closes_its_channel_at_once(broker: RunningBroker, config: Path) -> None:
    """Agents are listed; unregistering one closes its open channel, and only a new registration helps."""
    answer = await post(
        broker,
        REGISTER_PATH,
        json={"software_statement": software_statement.DEFAULT, "client_name": "höst\u202e-1"},
    )
    credentials = answer.json()
    client_id = credentials["client_id"]
    token, _ = broker.broker.tokens.issue_agent(client_id)
    async with raw_agent(broker, token) as agent, raw_agent(broker) as other:
        await agent.greet("server-1")
        await other.greet("server-2")
        output = await printed(config, "describe-agent-clients")
        assert "höst\\u202e-1" in output, "what a terminal would obey is shown as a code"
        listed = {one["id"]: one for one in rows(output, "Session manager agent clients")}
        assert listed[client_id] == {"name": "höst\u202e-1", "id": client_id, "active": True}
        output = await printed(config, "unregister-agent-client", "--client-id", client_id)
        assert output == f"agent client {client_id} unregistered\n"
        assert (await agent.end())[0] == CloseCode.FORBIDDEN
        assert broker.broker.registry.server("server-2").channel_id  # type: ignore[union-attr]  # it greeted
    listed = {
        one["id"]: one
        for one in rows(await printed(config, "describe-agent-clients"), "Session manager agent clients")
    }
    assert listed[client_id]["active"] is False
    assert "no agent client" in await refusal(config, "unregister-agent-client", "-ci", "nobody")
    assert (await register(broker)).status_code == 201


@pytest.mark.covers("G41")
async def test_an_unregistered_agent_returns_only_while_its_statement_is_active(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An agent whose registration is ended registers anew; without an active statement it stays away."""
    config = write_config(tmp_path)
    async with running_broker(tmp_path) as broker, running_hosts(broker, B) as [host]:
        clients = broker.broker.tokens.agents
        (first,) = (client.client_id for client in clients.all())
        await printed(config, "unregister-agent-client", "--client-id", first)
        await broker.until(lambda: clients.active_count == 1 and host.agent.is_connected, within_s=60)
        (second,) = (one.client_id for one in clients.all() if one.status == "active")
        assert second != first

        await printed(config, "deactivate-software-statement", "-ss", software_statement.DEFAULT)
        assert host.agent.is_connected, "agents that registered before keep working"
        await printed(config, "unregister-agent-client", "--client-id", second)
        await broker.until(lambda: not host.agent.is_connected)
        await broker.until(lambda: "not known or not active" in caplog.text, within_s=60)
        assert not host.agent.is_connected
        assert clients.active_count == 0


# ------------------------------------------------------------------ DNS names


@pytest.mark.covers("B23")
async def test_dns_names_are_loaded_from_a_file_and_described(
    broker: RunningBroker, config: Path, tmp_path: Path
) -> None:
    """Mappings of every kind and spelling are loaded and counted, and described in lower camel case."""
    kinds = ["Ip", "ipAddress", "Id", "agentServerId", "Host.Aws.Ec2InstanceId", "instanceId"]
    entries = [
        {
            "ServerIdType": kind,
            "ServerId": f"192.168.0.{at}",
            "DnsNames": {"InternalDnsName": f"internal{at}"},
        }
        for at, kind in enumerate(kinds)
    ]
    entries[0]["DnsNames"] = {"InternalDnsName": "internal", "ExternalDnsName": "external.example"}
    file = tmp_path / "mappings.json"
    file.write_text(json.dumps(entries))
    assert await printed(config, "describe-server-dns-mappings") == "[ ]\n"
    output = await printed(config, "register-server-dns-mappings", "--file-path", file)
    assert output == f"Successfully loaded 6 server id - dns name mappings from file {file}\n"
    listed = json.loads(await printed(config, "describe-server-dns-mappings"))
    assert len(listed) == 6
    assert {
        "serverIdType": "Ip",
        "serverId": "192.168.0.0",
        "dnsNames": {"internalDnsName": "internal", "externalDnsName": "external.example"},
    } in listed
    assert [one["serverIdType"] for one in listed].count("Host.Aws.Ec2InstanceId") == 2

    file.write_text(json.dumps([entries[0], {**entries[1], "ServerId": "no address"}]))
    assert "entry 2" in await refusal(config, "register-server-dns-mappings", "-fp", file, "--replace")
    assert json.loads(await printed(config, "describe-server-dns-mappings")) == listed
    file.write_text(json.dumps(entries[2:3]))
    output = await printed(config, "register-server-dns-mappings", f"--file-path={file}", "--replace")
    assert output.startswith("Successfully loaded 1 server id")
    assert await printed(config, "describe-server-dns-mappings") == (
        '[ {\n  "serverIdType" : "Id",\n  "serverId" : "192.168.0.2",\n'
        '  "dnsNames" : {\n    "internalDnsName" : "internal2"\n  }\n} ]\n'
    )
    assert "cannot be read" in await refusal(config, "register-server-dns-mappings", "-fp", tmp_path / "no")
