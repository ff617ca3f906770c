"""A real broker inside the test's process: TLS, random ports, a registered API client, all in tmp_path.

Used by tests of every part that talks to a broker; no mocks.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from broker_stub.broker.coordinator import utc_now
from broker_stub.broker.rules import rules_of
from broker_stub.broker.service import Broker
from broker_stub.broker.settings_file import load_values


@dataclass(frozen=True)
class RunningBroker:
    """What a test needs of a broker that runs.

    `client` speaks to the client port with a fresh token; `broker` is the broker itself.
    """

    broker: Broker
    url: str
    agent_url: str
    ca_file: Path
    client_id: str
    client_secret: str
    client: httpx.AsyncClient

    @property
    def tls(self) -> ssl.SSLContext:
        """A context that trusts the broker, for clients of a test's own."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    async def until(self, holds: Callable[[], Any], within_s: float = 60) -> None:
        """Wait until something holds; looks every 10 ms."""
        async with asyncio.timeout(within_s):
            while not holds():  # noqa: ASYNC110  conditions of other parts have no event to wait for
                await asyncio.sleep(0.01)

    async def token(self) -> str:
        """Another access token of the registered client."""
        answer = await self.client.post(
            "/oauth2/token",
            params={"grant_type": "client_credentials"},
            auth=(self.client_id, self.client_secret),
        )
        answer.raise_for_status()
        return str(answer.json()["access_token"])


class MovedClock:
    """The real time, moved on by a test so that what ends after an hour ends now."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


def broker_values(working_path: Path, **settings: Any) -> dict[str, str]:
    """Settings by key for a broker in a test; `enable_gateway=True` sets `enable-gateway`."""
    values: dict[str, Any] = {
        "session-manager-working-path": working_path,
        "client-to-broker-connector-https-port": 0,
        "client-to-broker-connector-bind-host": "127.0.0.1",
        "agent-to-broker-connector-https-port": 0,
        "agent-to-broker-connector-bind-host": "127.0.0.1",
        "gateway-to-broker-connector-https-port": 0,
        "gateway-to-broker-connector-bind-host": "127.0.0.1",
        "ext-shutdown-grace-seconds": 2,
    }
    values |= {name.replace("_", "-"): value for name, value in settings.items()}
    return {key: str(value) for key, value in values.items()}


@contextlib.asynccontextmanager
async def running_broker(
    tmp_path: Path,
    rules: Mapping[str, Any] | None = None,
    now: Any = utc_now,
    steady: Any = None,  # any type, so that settings may come from a dictionary of texts
    **settings: Any,
) -> AsyncIterator[RunningBroker]:
    """Run a broker for the length of the block.

    Args:
        tmp_path: Where it keeps everything; the same folder again is a restart of the same broker.
        rules: Limits and times of the registry to change, for tests that cannot wait a minute.
        now: The broker's clock.
        steady: The clock for deadlines and silence; the broker's clock if only that is given.
        settings: Settings of the properties file, with `_` for `-`.
    """
    loaded = load_values(broker_values(tmp_path / "broker", **settings)).settings
    rules_now = replace(rules_of(loaded), **(rules or {}))
    broker = Broker(loaded, rules_now, now, steady or (None if now is utc_now else now))
    await broker.start()
    try:
        client_id, secret = await broker.tokens.register_client("test", allow_duplicate=True)
        trusted = ssl.create_default_context(cafile=str(broker.ca_file))
        token, _ = broker.tokens.issue_access(client_id)
        async with httpx.AsyncClient(
            base_url=broker.client_url,
            verify=trusted,
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        ) as client:
            yield RunningBroker(
                broker, broker.client_url, broker.agent_url, broker.ca_file, client_id, secret, client
            )
    finally:
        await broker.stop()
