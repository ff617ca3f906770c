"""Collections of cycles do not hold the broker up, and it leaves nothing for them to find."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker_stub.broker.garbage import keep_collections_short
from broker_stub.broker.http_connection import HttpConnection
from tests.broker.raw_agent import raw_agent
from tests.running import running_broker


@contextlib.asynccontextmanager
async def sparing(arrived_s: float = 3600, collected_every_s: float = 3600) -> AsyncIterator[None]:
    task = asyncio.create_task(keep_collections_short(arrived_s, collected_every_s))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


@pytest.fixture
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_what_lives_long_is_not_looked_at_while_it_runs() -> None:
    before = gc.get_threshold()
    async with sparing():
        assert gc.get_threshold()[2] > 1_000_000
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


class _Node:
    def __init__(self) -> None:
        self.me = self


async def test_a_cycle_that_was_left_over_goes_in_the_end(no_collections: None) -> None:
    async with sparing(arrived_s=0, collected_every_s=0.01):
        await asyncio.sleep(0.01)  # what is there by then is set aside for good
        left_over = weakref.ref(_Node())
        async with asyncio.timeout(20):
            while left_over() is not None:  # noqa: ASYNC110  a collection tells nobody
                await asyncio.sleep(0.01)


async def test_an_agents_channel_leaves_nothing_for_the_collector(
    tmp_path: Path, no_collections: None
) -> None:
    def connections() -> list[HttpConnection]:
        return [one for one in gc.get_objects() if type(one) is HttpConnection]

    async with running_broker(tmp_path, enable_agent_authorization=False) as broker:
        for epoch in (1, 2):
            async with raw_agent(broker, token="") as agent:
                await agent.greet(epoch=epoch)
                # The upgrade has put another protocol in the place of the one for HTTP.
                assert connections() == []
