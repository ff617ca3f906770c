"""A small connection gateway for tests: asks the broker where a session is, and carries the bytes there.

It shows clients its own certificate, shows the resolver the one that was made for
gateways, and takes the host's whatever it is, as gateways do with servers inside.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.agent.vnc_client import any_certificate
from tests.client_certificates import ClientCa

_REFUSED = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Gateway:
    """A gateway that runs.

    Attributes:
        port: Where clients connect.
        ca_file: What they trust.
        resolved: The answers of the resolver so far.
    """

    resolver_url: str
    resolver_trust: ssl.SSLContext
    port: int = 0
    ca_file: Path = Path()
    resolved: list[dict[str, Any]] = field(default_factory=list)

    @property
    def client_tls(self) -> ssl.SSLContext:
        """A context for clients that trust it."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one client's bytes to the session that its first line names."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(_closed, writer)
            head = await reader.readuntil(b"\r\n\r\n")
            query = parse_qs(urlsplit(head.split(b" ", 2)[1].decode()).query)
            place = await self._ask(query["sessionId"][0], str(writer.get_extra_info("peername")[0]))
            if place is None:
                writer.write(_REFUSED)
                return
            inner_reader, inner_writer = await asyncio.open_connection(
                place["DcvServerEndpoint"], place["Port"], ssl=any_certificate()
            )
            stack.push_async_callback(_closed, inner_writer)
            inner_writer.write(head)
            ways = [
                asyncio.create_task(_carry(reader, inner_writer)),
                asyncio.create_task(_carry(inner_reader, writer)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _ask(self, session_id: str, address: str) -> dict[str, Any] | None:
        asked = {"sessionId": session_id, "transport": "HTTP", "clientIpAddress": address}
        async with httpx.AsyncClient(verify=self.resolver_trust, trust_env=False) as client:
            answer = await client.post(
                f"{self.resolver_url}/resolveSession", params=asked, headers={"accept": "application/json"}
            )
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        self.resolved.append(answer.raise_for_status().json())
        return self.resolved[-1]


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := await reader.read(64 * 1024):
            writer.write(piece)
            await writer.drain()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def running_gateway(
    folder: Path, port: int, resolver_url: str, resolver_trust: ssl.SSLContext
) -> AsyncIterator[Gateway]:
    """Run a gateway on that port inside the block.

    Args:
        folder: For its certificate.
        port: Where clients connect.
        resolver_url: The broker's port for gateways.
        resolver_trust: Trusts the broker, and shows the certificate made for gateways.
    """
    ca = ClientCa.make(folder, "gateway-ca")
    gateway = Gateway(resolver_url, resolver_trust, port, ca.file)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(ca.issue("gateway", "localhost"))
    tasks: set[asyncio.Task[None]] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await gateway.serve(reader, writer)

    server = await asyncio.start_server(take, "localhost", port, ssl=tls)
    try:
        yield gateway
    finally:
        server.close()
        await asyncio.gather(*tasks, return_exceptions=True)
