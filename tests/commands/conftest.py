"""A recording broker that the environment leads to, and a shell."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.awkward_broker import AwkwardBroker, awkward_broker
from tests.commands.recording import Fleet, Shell


@pytest.fixture
def fleet() -> Fleet:
    """What the recording broker answers with; a test fills it."""
    return Fleet()


@pytest.fixture
async def broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleet: Fleet
) -> AsyncIterator[AwkwardBroker]:
    """A recording broker with that fleet."""
    async with awkward_broker(tmp_path, fleet.answer) as running:
        monkeypatch.setenv("DCV_SM_BROKER_URL", running.url)
        monkeypatch.setenv("DCV_SM_CLIENT_ID", "an-id")
        monkeypatch.setenv("DCV_SM_CLIENT_PASSWORD", "a-secret")
        monkeypatch.setenv("DCV_SM_CA_BUNDLE", str(running.ca_file))
        yield running


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)
