"""An agent that says on the channel exactly what a test wants said."""

import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from broker_stub import software_statement
from broker_stub.channel import CHANNEL_PATH, REGISTER_PATH, SUBPROTOCOL, TOKEN_PATH
from broker_stub.channel_messages import FROM_BROKER, Message, Name, build, read
from tests.running import RunningBroker

REQUEST_ID = "0123456789abcdef" * 2


def session(session_id: str, **members: Any) -> dict[str, Any]:
    return {"id": session_id, "owner": "ana", "type": "VIRTUAL", "name": session_id, **members}


def hello(server_id: str = "server-1", **members: Any) -> dict[str, Any]:
    return {
        "protocolVersions": [1],
        "capabilities": ["screenshot", "virtual", "console", "setPermissions"],
        "agentVersion": "test",
        "epoch": 1,
        "serverId": server_id,
        "machineFingerprint": f"machine of {server_id}",
        "server": {
            "ip": "198.18.0.1",
            "hostname": "host",
            "healthy": True,
            "consoleAllowed": True,
            "virtualAllowed": True,
            "host": {"os": {"family": "linux"}},
            "tags": [],
        },
        "sessions": [],
        "updateIntervalSeconds": 30,
        **members,
    }


class RawAgent:
    """One channel, spoken by hand."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, name: str, **fields: Any) -> None:
        await self.socket.send(build(name, REQUEST_ID, datetime.now(UTC), fields))

    async def say_text(self, text: str | bytes) -> None:
        await self.socket.send(text)

    async def hear(self, name: str | None = None) -> Message:
        """The next message, or the next of that name."""
        while True:
            message = read(await self.socket.recv(), FROM_BROKER)
            if name in (None, message.name):
                return message

    async def greet(self, server_id: str = "server-1", **members: Any) -> dict[str, Any]:
        """Say hello and return the answer's body."""
        await self.say(Name.AGENT_HELLO_REQUEST, **hello(server_id, **members))
        return (await self.hear(Name.AGENT_HELLO_RESPONSE)).body

    async def take_command(self) -> dict[str, Any]:
        """The next command, acknowledged."""
        command = (await self.hear(Name.COMMAND_REQUEST)).body
        await self.say(Name.COMMAND_ACK, commandId=command["commandId"], accepted=True)
        return command

    async def finish(self, command: dict[str, Any], **result: Any) -> None:
        body = {"success": True, "code": "OK", "data": {}} | result
        await self.say(Name.COMMAND_RESULT, commandId=command["commandId"], **body)

    async def end(self) -> tuple[int | None, str]:
        """Read until the broker closes the channel; its close code and reason."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.socket.recv()
        return self.socket.close_code, self.socket.close_reason or ""


async def register(broker: RunningBroker, statement: str = software_statement.DEFAULT) -> httpx.Response:
    return await post(broker, REGISTER_PATH, json={"software_statement": statement, "client_name": "raw"})


async def post(broker: RunningBroker, path: str, **content: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=broker.agent_url, verify=broker.tls, trust_env=False) as client:
        return await client.post(path, **content)


async def agent_token(broker: RunningBroker, statement: str = software_statement.DEFAULT) -> str:
    credentials = (await register(broker, statement)).json()
    answer = await post(
        broker,
        TOKEN_PATH,
        data={"grant_type": "client_credentials"},
        auth=(credentials["client_id"], credentials["client_secret"]),
    )
    return str(answer.json()["access_token"])


@contextlib.asynccontextmanager
async def raw_agent(
    broker: RunningBroker, token: str | None = None, **options: Any
) -> AsyncIterator[RawAgent]:
    """An open channel without a hello yet."""
    token = await agent_token(broker) if token is None else token
    context: ssl.SSLContext = broker.tls
    async with connect(
        broker.agent_url.replace("https", "wss") + CHANNEL_PATH,
        ssl=context,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        additional_headers={"Authorization": f"Bearer {token}"} if token else {},
        compression=None,
        proxy=None,
        **options,
    ) as socket:
        yield RawAgent(socket)


async def servers(broker: RunningBroker) -> dict[str, Any]:
    """The servers by id, as the API shows them."""
    answer = await broker.client.post("/describeServers", json={})
    return {server["Id"]: server for server in answer.json()["Servers"]}


async def sessions(broker: RunningBroker) -> dict[str, Any]:
    """The sessions by id, as the API shows them."""
    answer = await broker.client.post("/describeSessions", json={})
    return {one["Id"]: one for one in answer.json()["Sessions"]}


async def create(broker: RunningBroker, count: int = 1, **members: Any) -> list[str]:
    """Ask for sessions; their ids."""
    item = {"Name": "s", "Owner": "ana", "Type": "VIRTUAL", **members}
    answer = (await broker.client.post("/createSessions", json=[item] * count)).json()
    assert not answer["UnsuccessfulList"], answer
    return [one["Id"] for one in answer["SuccessfulList"]]


def text_of(name: str, body: Any) -> str:
    """A message of any content, well formed or not."""
    return json.dumps({name: body})
