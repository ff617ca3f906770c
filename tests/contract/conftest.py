"""Fixtures that several modules of these tests have in common."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.running import MovedClock, RunningBroker, running_broker


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    """A broker without hosts, one for all tests of a module: a start costs more than a test."""
    folder = tmp_path_factory.mktemp("broker")
    async with running_broker(folder, create_sessions_queue_max_size=10_000) as running:
        yield running
