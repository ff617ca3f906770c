"""A broker that behaves as no good one does, over real TLS: for tests of the client.

It answers what the test's function says, byte for byte if need be, and records
what it was asked. Ordinary answers come from the real broker, see `tests.running`.
"""

import asyncio
import contextlib
import datetime
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HangUp(Exception):
    """An answer function raises it to close the connection without an answer, or after a part of one."""


Answer = Callable[[Asked], Awaitable[bytes]]


def reply(body: Any = None, status: str = "200 OK", headers: str = "", content: bytes | None = None) -> bytes:
    """An HTTP answer; `body` is sent as JSON, `content` as it is."""
    data = json.dumps(body).encode() if content is None else content
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{headers}\r\n".encode() + data


TOKEN = {"access_token": "token-1", "token_type": "Bearer", "expires_in": 3600}


@dataclass
class AwkwardBroker:
    """The running server. Tests may change `answer`, and `token_answer` for token requests, at any time."""

    url: str
    ca_file: Path
    answer: Answer
    token_answer: Answer | None = None
    asked: list[Asked] = field(default_factory=list)
    token_requests: list[Asked] = field(default_factory=list)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(HangUp, ConnectionError, asyncio.IncompleteReadError):
            while True:
                asked = await _read(reader)
                if asked.path.startswith("/oauth2/token"):
                    self.token_requests.append(asked)
                    number = len(self.token_requests)
                    usual = reply(TOKEN | {"access_token": f"token-{number}"})
                    writer.write(await self.token_answer(asked) if self.token_answer else usual)
                else:
                    self.asked.append(asked)
                    try:
                        writer.write(await self.answer(asked))
                    except HangUp as end:
                        writer.writelines(end.args)
                        await writer.drain()
                        raise
                await writer.drain()
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    return Asked(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


@contextlib.asynccontextmanager
async def awkward_broker(
    folder: Path, answer: Answer, *, names: tuple[str, ...] = ("localhost", "127.0.0.1")
) -> AsyncIterator[AwkwardBroker]:
    """Run one for the length of the block; its certificate stands for the names."""
    certificate, key = make_certificate(folder, names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    broker = AwkwardBroker("", certificate, answer)
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(broker._serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    broker.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield broker
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


def make_certificate(folder: Path, names: tuple[str, ...], days: int = 1) -> tuple[Path, Path]:
    """A certificate that signs itself; a negative number of days makes an expired one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    start, end = sorted((now - datetime.timedelta(hours=1), now + datetime.timedelta(days=days)))
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
    builder = builder.add_extension(
        x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False
    )
    certificate = builder.sign(key, hashes.SHA256())
    pem, key_file = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return pem, key_file


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
