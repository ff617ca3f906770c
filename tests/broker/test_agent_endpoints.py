"""The agent listener over plain HTTP: health, registration, agents' tokens."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker_stub import software_statement
from broker_stub.broker.agent_endpoints import FailureLimit
from broker_stub.channel import REGISTER_PATH, TOKEN_PATH
from tests.broker.raw_agent import agent_token, post, register
from tests.running import RunningBroker, running_broker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path) as running:
        yield running


async def get(broker: RunningBroker, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=broker.agent_url, verify=broker.tls, trust_env=False) as client:
        return await client.get(path)


@pytest.mark.covers("B44")
async def test_health_answers_without_credentials(broker: RunningBroker) -> None:
    """The agent port tells load balancers that it serves, and asks them for nothing."""
    answer = await get(broker, "/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "UP"})


# ------------------------------------------------------------------ registration (B30)


@pytest.mark.covers("B30")
async def test_a_registered_agent_gets_a_token(broker: RunningBroker) -> None:
    """An agent that registered with the statement it came with gets tokens for its credentials alone."""
    answer = await register(broker)
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    credentials = answer.json()
    grant = {"grant_type": "client_credentials"}
    good = await post(
        broker, TOKEN_PATH, data=grant, auth=(credentials["client_id"], credentials["client_secret"])
    )
    assert good.json()["expires_in"] == 3600
    bad = await post(broker, TOKEN_PATH, data=grant, auth=(credentials["client_id"], "guess"))
    assert bad.status_code == 401


async def test_credentials_of_api_clients_are_none_for_agents(broker: RunningBroker) -> None:
    answer = await post(
        broker,
        TOKEN_PATH,
        data={"grant_type": "client_credentials"},
        auth=(broker.client_id, broker.client_secret),
    )
    assert answer.status_code == 401


@pytest.mark.covers("B30")
@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"json": {"software_statement": "guess"}}, "invalid_software_statement"),
        ({"json": {"software_statement": 5}}, "invalid_client_metadata"),
        ({"json": {}}, "invalid_client_metadata"),
        ({"json": []}, "invalid_client_metadata"),
        ({"content": b"nonsense"}, "invalid_client_metadata"),
        ({"content": b"x" * 20_000}, "invalid_client_metadata"),
        (
            {"json": {"software_statement": software_statement.DEFAULT, "grant_types": ["password"]}},
            "invalid_client_metadata",
        ),
    ],
)
async def test_a_registration_that_makes_no_sense_is_refused(
    broker: RunningBroker, content: dict[str, Any], error: str
) -> None:
    """A registration with an unknown or malformed statement, or without one, is refused and says why."""
    answer = await post(broker, REGISTER_PATH, **content)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_the_default_statement_can_be_refused(tmp_path: Path) -> None:
    async with running_broker(tmp_path, ext_reject_default_software_statement=True) as broker:
        assert (await register(broker)).status_code == 400


async def test_only_failed_registrations_are_limited(broker: RunningBroker) -> None:
    """One agent with a wrong statement does not keep the others out that stand behind the same address."""
    for _ in range(10):
        assert (await post(broker, REGISTER_PATH, json={"software_statement": "guess"})).status_code == 400
    answer = await post(broker, REGISTER_PATH, json={"software_statement": "guess"})
    assert (answer.status_code, answer.json()["error"]) == (429, "too_many_requests")
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    for _ in range(12):
        assert (await register(broker)).status_code == 201


@pytest.mark.parametrize("name", ["\ud800", "x" * 1000, "", None, 5, ["a"], "\x1b[2J", "名前"])
async def test_an_agent_may_call_itself_anything(broker: RunningBroker, name: Any) -> None:
    asked = {"software_statement": software_statement.DEFAULT, "client_name": name}
    answer = await post(broker, REGISTER_PATH, content=json.dumps(asked))
    assert answer.status_code == 201
    (kept,) = (
        one.name for one in broker.broker.tokens.agents.all() if one.client_id == answer.json()["client_id"]
    )
    assert len(kept) <= 256
    assert kept.encode("utf-8")


def test_failures_are_forgotten_after_a_minute_and_counted_by_caller() -> None:
    now = 0.0
    limit = FailureLimit(lambda: now)
    for _ in range(10):
        limit.note("a")
    assert limit.wait_s("a") == 60
    assert limit.wait_s("b") == 0
    now = 60.0
    assert limit.wait_s("a") == 0


# ------------------------------------------------------------------ logs


@pytest.mark.covers("B33")
async def test_no_secret_or_statement_is_logged(
    broker: RunningBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """A registration leaves no secret, no statement and no token in a log."""
    caplog.set_level("DEBUG", "broker_stub")
    answer = await register(broker)
    token = await agent_token(broker)
    # What goes into the files, the fields of structured lines included.
    logged = caplog.text + repr([vars(record) for record in caplog.records])
    assert answer.json()["client_id"] in logged
    for secret in (answer.json()["client_secret"], token, software_statement.DEFAULT):
        assert secret not in logged
