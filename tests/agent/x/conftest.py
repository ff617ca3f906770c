"""A host with X sessions for each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker_stub.agent.x_backend import XBackend
from broker_stub.agent.x_session import XSettings
from tests.agent.x_sessions import opened, passable_place, script, settings_in


@pytest.fixture
def place() -> Iterator[Path]:
    with passable_place() as place:
        yield place


@pytest.fixture
def settings(place: Path) -> XSettings:
    settings = settings_in(place)
    script(settings.init_folder / "stay.sh", "exec sleep 600")
    return settings


@pytest.fixture
async def backend(settings: XSettings) -> AsyncIterator[XBackend]:
    async with opened(settings) as backend:
        yield backend
