"""A man in the middle of the channel: passes messages on, loses those a test wants lost, cuts."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from broker_stub.agent.access import BrokerAccess, BrokerAddress
from broker_stub.channel import CHANNEL_PATH, SUBPROTOCOL
from tests.agent.small_host import access_to
from tests.running import RunningBroker

Loses = Callable[[str], bool]


class Relay:
    """What passed through, by message name, and what is to be lost.

    Attributes:
        loses: Told each message's name; true drops the message.
        is_split: No new channel gets through; `cut` breaks those that are open.
        passed: Names of what went through, in both directions.
    """

    def __init__(self, broker: RunningBroker) -> None:
        self._broker = broker
        self._open: list[tuple[ServerConnection, ClientConnection]] = []
        self.loses: Loses = lambda _: False
        self.is_split = False
        self.passed: list[str] = []

    def cut(self) -> None:
        """Break every channel without a word to either side."""
        for inner, outer in self._open:
            inner.transport.abort()
            outer.transport.abort()

    async def carry(self, inner: ServerConnection) -> None:
        if self.is_split:
            inner.transport.abort()
            return
        token = (inner.request.headers if inner.request else {}).get("Authorization", "")
        async with connect(
            self._broker.agent_url.replace("https", "wss") + CHANNEL_PATH,
            ssl=self._broker.tls,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            additional_headers={"Authorization": token},
            compression=None,
            proxy=None,
        ) as outer:
            self._open.append((inner, outer))
            there = asyncio.create_task(self._pass_on(inner, outer))
            back = asyncio.create_task(self._pass_on(outer, inner))
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            self._open.remove((inner, outer))

    async def _pass_on(
        self, source: ServerConnection | ClientConnection, target: ServerConnection | ClientConnection
    ) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in source:
                (name,) = json.loads(frame)
                if not self.loses(name):
                    self.passed.append(name)
                    await target.send(frame)


class ThroughRelay(BrokerAccess):
    """Tokens from the broker itself, the channel through the relay."""

    def __init__(self, straight: BrokerAccess, address: BrokerAddress) -> None:
        super().__init__(address, "relayed")
        self._straight = straight

    async def token(self) -> str:
        return await self._straight.token()


@contextlib.asynccontextmanager
async def relay_to(broker: RunningBroker) -> AsyncIterator[tuple[Relay, BrokerAccess]]:
    """A relay with the broker's own certificate, and the way through it."""
    relay = Relay(broker)
    security = broker.ca_file.parent
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(security / "dcvsmbroker.pem", security / "dcvsmbroker.key")
    async with serve(
        relay.carry, "127.0.0.1", 0, ssl=context, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        host = urlsplit(broker.agent_url).hostname or ""
        straight = access_to(broker.agent_url, broker.ca_file)
        yield relay, ThroughRelay(straight, BrokerAddress(host, port, broker.ca_file))
