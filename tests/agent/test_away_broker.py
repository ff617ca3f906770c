"""Agents whose broker is away: for a minute, for an hour, behind a proxy; and how they come back."""

import asyncio
import gc
import logging
import random
import ssl
import tracemalloc
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from broker_stub.agent.access import BrokerAccess, BrokerAddress
from broker_stub.agent.conversation import Pace
from broker_stub.agent.service import Agent
from broker_stub.broker import certificates
from broker_stub.channel import SUBPROTOCOL, CloseCode, Unreachable
from tests.agent.fast_time import run_fast
from tests.agent.idle_proxy import idle_proxy
from tests.agent.relay import ThroughRelay
from tests.agent.small_host import SmallHost, access_to, until, until_async
from tests.broker.raw_agent import create, sessions
from tests.running import running_broker

AGENTS = 1000


class AwayAccess(BrokerAccess):
    """The way to a broker that is not there; notes when it was tried."""

    def __init__(self) -> None:
        super().__init__(BrokerAddress("broker.example", 8445, is_strict=False), "test")
        self.tried_at: list[float] = []

    async def token(self) -> str:
        self.tried_at.append(asyncio.get_running_loop().time())
        raise Unreachable("The broker cannot be reached.")


def agent_of(access: BrokerAccess, number: int, chance: Callable[[], float]) -> tuple[SmallHost, Agent]:
    host = SmallHost(access, number)
    agent = host.agent()
    agent._chance = chance
    return host, agent


@pytest.mark.covers("G37")
def test_agents_do_not_all_come_back_at_once() -> None:
    """A thousand agents lose their broker in the same moment. When it is back a minute later their attempts
    are spread: no two seconds hold more than 15 of 100, and the last comes within half a minute."""
    accesses = [AwayAccess() for _ in range(AGENTS)]
    chance = random.Random(4)  # noqa: S311  waits that can be repeated, not a secret

    async def minute_without() -> None:
        agents = [agent_of(access, n, chance.random)[1] for n, access in enumerate(accesses)]
        running = [asyncio.create_task(agent.run()) for agent in agents]
        await asyncio.sleep(100)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    run_fast(minute_without())
    returns = [next(at for at in access.tried_at if at >= 60) for access in accesses]
    assert max(returns) < 90
    windows = Counter(int((at - 60) * 2) for at in returns)  # of half a second
    for begin in range(60):
        assert sum(windows[begin + one] for one in range(4)) <= 0.15 * AGENTS
    assert all(len(access.tried_at) < 40 for access in accesses), "an absent broker is not hammered"


@pytest.mark.covers("G44")
def test_an_hour_without_a_broker_costs_no_memory_and_no_session() -> None:
    """While the broker is away sessions come and go on the host and no one is closed, what the agent
    remembers stays of the same size, and it tries again at least every half minute."""
    access = AwayAccess()

    async def hour_without() -> None:
        host, agent = agent_of(access, 1, random.Random(5).random)  # noqa: S311  as above
        running = asyncio.create_task(agent.run())
        sizes = []
        for minute in range(60):
            host.backend.appear(f"made in minute {minute}")
            await asyncio.sleep(60)
            if minute > 1:
                host.backend.disappear(f"made in minute {minute - 1}")
            if minute in (20, 59):
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
        assert "close" not in host.backend.calls
        assert len(host.backend.sessions) == 2
        assert sizes[1] - sizes[0] < 30_000
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    tracemalloc.start()
    logging.disable()  # what pytest keeps of the log is not the agent's memory
    try:
        run_fast(hour_without())
    finally:
        logging.disable(logging.NOTSET)
        tracemalloc.stop()
    gaps = [after - before for before, after in zip(access.tried_at, access.tried_at[1:], strict=False)]
    assert max(gaps) <= 30
    assert access.tried_at[-1] > 3500


@pytest.mark.covers("G44")
async def test_the_first_hello_after_a_long_time_tells_all(tmp_path: Path) -> None:
    """What happened on the host while the broker was away is right in the API with the first hello: what
    ended is DELETED, what began is READY, what stayed is READY."""
    async with running_broker(tmp_path) as broker:
        host = SmallHost(access_to(broker.agent_url, broker.ca_file), folder=tmp_path)
        async with host.running():
            ended, stayed = await create(broker, 2)

            async def are_ready() -> bool:
                shown = await sessions(broker)
                return {shown[one]["State"] for one in (ended, stayed)} == {"READY"}

            await until_async(are_ready)
        host.backend.disappear(ended)
        host.backend.appear("begun", owner="bo")
        async with host.running():
            shown = await sessions(broker)
            states = {key: shown[key]["State"] for key in (ended, stayed, "begun")}
            assert states == {ended: "DELETED", stayed: "READY", "begun": "READY"}


@pytest.mark.covers("G42")
async def test_the_channel_stands_behind_a_proxy_that_ends_tls_and_drops_idle_connections(
    tmp_path: Path,
) -> None:
    """A load balancer that ends TLS, speaks HTTP/1 and drops connections on which nothing moves: pings keep
    the channel open, though reports are far apart, and sessions are created over it."""
    async with running_broker(tmp_path) as broker, idle_proxy(broker, idle_s=1.5) as proxy:
        straight = access_to(broker.agent_url, broker.ca_file)
        access = ThroughRelay(straight, BrokerAddress(proxy.host, proxy.port, broker.ca_file))
        quiet = SmallHost(access, 2, pace=Pace(update_interval_s=3600, ping_interval_s=3600))
        async with quiet.running() as agent:
            await until(lambda: proxy.dropped == 1)  # it does what it says
            await until(lambda: not agent.is_connected)
        host = SmallHost(access, 1, pace=Pace(update_interval_s=3600, ping_interval_s=0.2))
        async with host.running() as agent:
            dropped = proxy.dropped
            loop = asyncio.get_running_loop()
            until_s = loop.time() + 4.0
            await until(lambda: loop.time() > until_s or not agent.is_connected)
            assert agent.is_connected
            assert proxy.dropped == dropped
            (session_id,) = await create(broker)
            await until(lambda: session_id in host.backend.sessions)


class OtherVersion(BrokerAccess):
    """The way to a broker that is reached and ends every channel the same way."""

    def __init__(self, url: str) -> None:
        host, _, port = url.rpartition("/")[2].partition(":")
        super().__init__(BrokerAddress(host, int(port), is_strict=False), "test")

    async def token(self) -> str:
        return "token"


@pytest.mark.covers("G28")
async def test_an_agent_without_a_common_version_says_so_and_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An agent whose broker ends the channel for want of a common version logs that in words, and asks
    again only after minutes."""
    files = certificates.prepare(tmp_path, ["127.0.0.1"], datetime.now(UTC))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.chain_file, files.key_file)
    channels = 0

    async def refuse(socket: ServerConnection) -> None:
        nonlocal channels
        channels += 1
        await socket.recv()
        await socket.close(CloseCode.NO_COMMON_VERSION, "this broker speaks version 9 only")

    async with serve(refuse, "127.0.0.1", 0, ssl=tls, subprotocols=[Subprotocol(SUBPROTOCOL)]) as server:
        port = server.sockets[0].getsockname()[1]
        _, agent = agent_of(OtherVersion(f"https://127.0.0.1:{port}"), 1, lambda: 0.5)
        running = asyncio.create_task(agent.run())
        await until(lambda: "Next attempt" in caplog.text)
        agent.stop()
        await running
    assert "speaks no common version: this broker speaks version 9 only" in caplog.text
    assert "Next attempt in 300.0 s" in caplog.text
    assert channels == 1
