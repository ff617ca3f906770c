"""A small VNC client for tests: WebSocket to an entrance, or straight to a socket, and RFB on top."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol


@dataclass(frozen=True)
class Screen:
    """What a server says of its screen when the handshake ends."""

    width: int
    height: int
    name: str


class RfbOverWebSocket:
    """Bytes of RFB in the messages of a WebSocket, whatever way they are cut."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._rest = b""

    async def read(self, length: int) -> bytes:
        while len(self._rest) < length:
            message = await self.connection.recv()
            assert isinstance(message, bytes)
            self._rest += message
        data, self._rest = self._rest[:length], self._rest[length:]
        return data

    async def write(self, data: bytes) -> None:
        await self.connection.send(data)

    async def handshake(self) -> Screen:
        """RFB 3.8 up to the size and name of the screen."""
        version = await self.read(12)
        assert version == b"RFB 003.008\n"
        await self.write(version)
        kinds = await self.read((await self.read(1))[0])
        assert 1 in kinds, f"no security is not among {kinds!r}"
        await self.write(b"\x01")
        assert await self.read(4) == bytes(4), "the server refused the client"
        await self.write(b"\x01")  # shared
        width, height = struct.unpack(">HH", await self.read(4))
        await self.read(16)
        (length,) = struct.unpack(">I", await self.read(4))
        return Screen(width, height, (await self.read(length)).decode())

    async def point(self, x: int, y: int) -> None:
        """Move the pointer."""
        await self.write(struct.pack(">BBHH", 5, 0, x, y))

    async def type(self, text: str) -> None:
        """Press and release the keys of a text; a carriage return is the key of that name."""
        for sign in text:
            key = 0xFF0D if sign == "\r" else ord(sign)
            await self.write(struct.pack(">BBxxI", 4, 1, key) + struct.pack(">BBxxI", 4, 0, key))


def url_of(port: int, session_id: str, token: str, path: str = "/") -> str:
    """The address that a client opens."""
    return f"wss://127.0.0.1:{port}{path}?{urlencode({'authToken': token, 'sessionId': session_id})}"


def any_certificate() -> ssl.SSLContext:
    """A client that asks no questions about certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def websocket(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[RfbOverWebSocket]:
    """A connection to an entrance."""
    async with connect(
        url,
        ssl=tls or any_certificate(),
        subprotocols=[Subprotocol("binary")],
        compression=None,
        proxy=None,
        close_timeout=5,
    ) as connection:
        yield RfbOverWebSocket(connection)


async def stranger(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that the owner connects by hand, past the entrance."""
    reader, writer = await asyncio.open_unix_connection(path)
    assert await reader.readexactly(12) == b"RFB 003.008\n"
    return reader, writer
