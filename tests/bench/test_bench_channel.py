"""The agent channel against a server of the same library that does next to nothing.

F5: memory per channel; F6: CPU per update; F7: CPU from nothing to registered.
Both servers run in processes of their own, over TLS, with the same certificate.
"""

import asyncio
import contextlib
import json
import os
import resource
import ssl
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from broker_stub.channel import CHANNEL_PATH, SUBPROTOCOL
from broker_stub.channel_messages import Name, build
from tests.broker.raw_agent import REQUEST_ID, hello, session
from tests.running import broker_values

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

AGENTS = 300
ARRIVING_AT_ONCE = 50
ROUNDS = 5
UPDATES_EACH = 60

FLOOR = """
import json, os, sys
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

async def channel(socket):
    await socket.accept("dcvsm-agent.v1")
    try:
        while True:
            json.loads(await socket.receive_text())
            await socket.send_text('{"answer":{"requestId":"0123456789abcdef0123456789abcdef","seq":1}}')
    except WebSocketDisconnect:
        pass

certificate, key, port = sys.argv[1:]
uvicorn.run(
    Starlette(routes=[WebSocketRoute("/agent/v1/channel", channel)]), host="127.0.0.1", port=int(port),
    ws="websockets-sansio", http="httptools", ws_per_message_deflate=False, log_level="critical",
    ws_ping_interval=10, ws_ping_timeout=20, ssl_certfile=certificate, ssl_keyfile=key, lifespan="off",
)
"""


@dataclass
class Server:
    """One of the two servers that are compared."""

    process: psutil.Process
    url: str
    tls: ssl.SSLContext

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def memory_kib(self) -> float:
        return float(self.process.memory_info().rss) / 1024


@contextlib.contextmanager
def started(arguments: list[str], descriptor: int | None = None) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stderr=subprocess.DEVNULL,
        pass_fds=[descriptor] if descriptor is not None else [],
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[tuple[Server, Server]]:
    """The broker without agent authorization, and the floor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    values = broker_values(tmp_path / "broker", enable_agent_authorization=False)
    config = tmp_path / "broker.properties"
    config.write_text("".join(f"{key} = {value}\n" for key, value in values.items()))
    config.chmod(0o600)
    read_end, write_end = os.pipe()
    program = "from broker_stub.cli import broker_main; broker_main()"
    arguments = ["-c", program, "start", "--config", str(config), "--ready-fd", str(write_end)]
    with started(arguments, write_end) as broker:
        os.close(write_end)
        with os.fdopen(read_end) as notice:
            ready = json.loads(await asyncio.to_thread(notice.readline))
        security, port = tmp_path / "broker" / "security", free_port()
        files = [str(security / "dcvsmbroker.pem"), str(security / "dcvsmbroker.key")]
        tls = ssl.create_default_context(cafile=ready["ca_file"])
        with started(["-c", FLOOR, *files, str(port)]) as floor:
            both = (
                Server(broker, ready["agent_url"].replace("https", "wss"), tls),
                Server(floor, f"wss://127.0.0.1:{port}", tls),
            )
            async with asyncio.timeout(20):
                while True:
                    try:
                        async with opened(both[1]):
                            break
                    except OSError:
                        await asyncio.sleep(0.1)
            yield both
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def opened(server: Server) -> connect:
    return connect(
        server.url + CHANNEL_PATH,
        ssl=server.tls,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        compression=None,
        proxy=None,
        ping_interval=None,
    )


def greeting(number: int, epoch: int) -> str:
    members = hello(f"server-{number}", epoch=epoch, sessions=[session(f"s-{number}")])
    return build(Name.AGENT_HELLO_REQUEST, REQUEST_ID, datetime.now(UTC), members)


@contextlib.asynccontextmanager
async def fleet(server: Server, epoch: int) -> AsyncIterator[list[ClientConnection]]:
    """Agents that have said hello and got an answer."""
    places = asyncio.Semaphore(ARRIVING_AT_ONCE)

    async def arrive(stack: contextlib.AsyncExitStack, number: int) -> ClientConnection:
        async with places:
            socket = await stack.enter_async_context(opened(server))
            await socket.send(greeting(number, epoch))
            await socket.recv()
            return socket

    async with contextlib.AsyncExitStack() as stack:
        yield await asyncio.gather(*(arrive(stack, number) for number in range(AGENTS)))


Measure = Callable[[Server, int], Awaitable[float]]


async def compare(name: str, aim: str, unit: str, servers: tuple[Server, Server], measure: Measure) -> None:
    """Alternate between both servers and print the median of the ratios."""
    pairs = []
    for epoch in range(1, ROUNDS + 1):
        pairs.append((await measure(servers[0], epoch), await measure(servers[1], epoch)))
    ratio = statistics.median(ours / floor for ours, floor in pairs if floor > 0)
    ours, floor = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"\n{name}: {ratio:.2f}x (aim {aim}); {ours:.0f} {unit} against {floor:.0f} {unit}")
    assert ratio > 0


async def test_memory_per_channel(servers: tuple[Server, Server]) -> None:
    """F5; only a first fleet tells: what is let go is kept by the process for the next."""
    growth = []
    for server in servers:
        before = server.memory_kib()
        async with fleet(server, 1):
            growth.append((server.memory_kib() - before) / AGENTS)
    ours, floor = growth
    detail = f"{ours:.0f} KiB against {floor:.0f} KiB"
    print(f"\nF5 memory per channel: {ours / floor:.2f}x (aim 1.5x, limit 2.5x); {detail}")
    assert ours > 0


async def test_cpu_per_update(servers: tuple[Server, Server]) -> None:
    """F6"""

    async def update(server: Server, epoch: int) -> float:
        async with fleet(server, epoch) as sockets:
            before = server.cpu_s()

            async def report(number: int, socket: ClientConnection) -> None:
                for seq in range(1, UPDATES_EACH + 1):
                    memory = {"totalBytes": 2**33, "usedBytes": 2**30 + seq * number}
                    load = {"oneMinute": seq / 10, "fiveMinutes": 0.4, "fifteenMinutes": 0.3}
                    host = {"memory": memory, "cpuLoadAverage": load}
                    fields = {"seq": seq, "mode": "delta", "server": {"host": host}}
                    await socket.send(
                        build(Name.SERVER_UPDATE_REQUEST, REQUEST_ID, datetime.now(UTC), fields)
                    )
                    await socket.recv()

            await asyncio.gather(*(report(number, socket) for number, socket in enumerate(sockets)))
            return (server.cpu_s() - before) / AGENTS / UPDATES_EACH * 1e6

    await compare("F6 CPU per update", "1.5x, limit 3x", "µs", servers, update)


async def test_cpu_per_arrival(servers: tuple[Server, Server]) -> None:
    """F7"""

    async def arrive(server: Server, epoch: int) -> float:
        before = server.cpu_s()
        async with fleet(server, epoch):
            return (server.cpu_s() - before) / AGENTS * 1e6

    await compare("F7 CPU per arriving agent", "1.3x, limit 2x", "µs", servers, arrive)
