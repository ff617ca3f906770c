"""A load balancer before a broker: ends TLS, opens it anew, and drops connections on which nothing moves."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.running import RunningBroker


@dataclass
class IdleProxy:
    """Where it is and what it did.

    Attributes:
        dropped: How many connections it found idle.
    """

    broker: RunningBroker
    idle_s: float
    host: str = "127.0.0.1"
    port: int = 0
    dropped: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its begin to its end."""
        target = urlsplit(self.broker.agent_url)
        context = ssl.create_default_context(cafile=str(self.broker.ca_file))
        context.set_alpn_protocols(["http/1.1"])
        outer_reader, outer_writer = await asyncio.open_connection(
            target.hostname, target.port, ssl=context, server_hostname=target.hostname
        )
        moved = asyncio.Event()
        ways = {
            asyncio.create_task(_pass_on(reader, outer_writer, moved)),
            asyncio.create_task(_pass_on(outer_reader, writer, moved)),
        }
        self._tasks |= ways
        try:
            while not any(way.done() for way in ways):
                moved.clear()
                idle = asyncio.create_task(moved.wait())
                done, _ = await asyncio.wait(
                    {*ways, idle}, timeout=self.idle_s, return_when=asyncio.FIRST_COMPLETED
                )
                idle.cancel()
                if not done:
                    self.dropped += 1
                    break
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._tasks -= ways
            for end in (writer, outer_writer):
                end.transport.abort()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, moved: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError):
        while part := await source.read(65536):
            moved.set()
            target.write(part)
            await target.drain()


@contextlib.asynccontextmanager
async def idle_proxy(broker: RunningBroker, idle_s: float) -> AsyncIterator[IdleProxy]:
    """A proxy with the broker's own certificate for the length of the block."""
    security = broker.ca_file.parent
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(security / "dcvsmbroker.pem", security / "dcvsmbroker.key")
    proxy = IdleProxy(broker, idle_s)
    server = await asyncio.start_server(proxy.carry, "127.0.0.1", 0, ssl=context)
    proxy.port = server.sockets[0].getsockname()[1]
    proxy.host = urlsplit(broker.agent_url).hostname or proxy.host
    async with server:
        yield proxy
