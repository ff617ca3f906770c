"""A fleet as a client of the API sees it: what tests ask again and again."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx

from broker_stub.agent.backend import SessionSpec
from tests.broker.api_calls import call
from tests.hosts import Host
from tests.running import RunningBroker


class Fleet:
    """A broker with hosts, spoken to as a client."""

    def __init__(self, broker: RunningBroker, *hosts: Host) -> None:
        self.broker = broker
        self.hosts = hosts

    async def call(self, operation: str, body: Any = None) -> dict[str, Any]:
        return await call(self.broker, operation, body)

    async def create(self, **fields: Any) -> dict[str, Any]:
        """A session that must be accepted."""
        item = {"Name": "n", "Owner": f"o-{uuid4()}", "Type": "VIRTUAL", **fields}
        answer = await self.call("createSessions", [item])
        assert answer["UnsuccessfulList"] == []
        created: dict[str, Any] = answer["SuccessfulList"][0]
        return created

    async def refusal(self, **fields: Any) -> str:
        """Why a session is not accepted."""
        item = {"Name": "n", "Owner": f"o-{uuid4()}", "Type": "VIRTUAL", **fields}
        answer = await self.call("createSessions", [item])
        assert answer["SuccessfulList"] == []
        return str(answer["UnsuccessfulList"][0]["FailureReason"])

    async def session(self, session_id: str) -> dict[str, Any] | None:
        found: list[dict[str, Any]] = (await self.call("describeSessions", {"SessionIds": [session_id]}))[
            "Sessions"
        ]
        return found[0] if found else None

    async def server(self, server_id: str) -> dict[str, Any]:
        (found,) = (await self.call("describeServers", {"ServerIds": [server_id]}))["Servers"]
        assert isinstance(found, dict)
        return found

    async def until(self, session_id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The session once something holds of it."""
        async with asyncio.timeout(60):
            while True:
                found = await self.session(session_id)
                if found is not None and holds(found):
                    return found
                await asyncio.sleep(0.02)

    async def until_gone(self, session_id: str) -> None:
        """Wait until a session is described no more."""
        async with asyncio.timeout(60):
            while await self.session(session_id):  # noqa: ASYNC110  a client can only ask
                await asyncio.sleep(0.02)

    async def until_state(self, session_id: str, state: str) -> dict[str, Any]:
        return await self.until(session_id, lambda session: session["State"] == state)

    async def ready(self, **fields: Any) -> dict[str, Any]:
        """A new session that can be used."""
        return await self.until_state((await self.create(**fields))["Id"], "READY")

    async def until_server(self, server_id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The server once something holds of it."""
        async with asyncio.timeout(60):
            while True:
                found = await self.server(server_id)
                if holds(found):
                    return found
                await asyncio.sleep(0.02)

    async def delete(self, session: dict[str, Any], **fields: Any) -> None:
        """Delete a session, which must be accepted."""
        item = {"SessionId": session["Id"], "Owner": session["Owner"], **fields}
        answer = await self.call("deleteSessions", [item])
        assert answer["SuccessfulList"] == [{"SessionId": session["Id"], "State": "DELETING"}]

    async def clear(self) -> None:
        """Delete every session by force and wait until the hosts are empty."""
        while sessions := (await self.call("describeSessions"))["Sessions"]:
            items = [{"SessionId": one["Id"], "Owner": one["Owner"], "Force": True} for one in sessions]
            await self.call("deleteSessions", items)
        await self.broker.until(lambda: not any(host.server.sessions for host in self.hosts))

    def order_of(self, session: dict[str, Any]) -> SessionSpec:
        """What a host was last told to make for a session."""
        orders = [order for host in self.hosts for order in host.server.orders]
        return [order for order in orders if order.session_id == session["Id"]][-1]

    async def connection_data(self, session_id: str, user: str = "alice") -> httpx.Response:
        return await self.broker.client.get(f"{self.broker.url}/sessionConnectionData/{session_id}/{user}")
