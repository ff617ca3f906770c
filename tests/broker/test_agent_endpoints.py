"""The agent listener over plain HTTP: health, registration, tokens, and what DCV servers ask."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker_stub import software_statement
from broker_stub.broker.agent_endpoints import FailureLimit
from broker_stub.channel import REGISTER_PATH, TOKEN_PATH
from tests.broker.raw_agent import post, raw_agent, register, session
from tests.running import RunningBroker, running_broker

VALIDATE = "/agent/validate-authentication-token"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path) as running:
        yield running


async def get(broker: RunningBroker, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=broker.agent_url, verify=broker.tls, trust_env=False) as client:
        return await client.get(path)


async def test_health_answers_without_credentials(broker: RunningBroker) -> None:
    """B44"""
    answer = await get(broker, "/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "UP"})


# ------------------------------------------------------------------ registration (B30)


async def test_a_registered_agent_gets_a_token(broker: RunningBroker) -> None:
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
    answer = await post(broker, REGISTER_PATH, **content)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_the_default_statement_can_be_refused(tmp_path: Path) -> None:
    async with running_broker(tmp_path, ext_reject_default_software_statement=True) as broker:
        assert (await register(broker)).status_code == 400


async def test_only_failed_registrations_are_limited(broker: RunningBroker) -> None:
    for _ in range(12):
        assert (await register(broker)).status_code == 201
    for _ in range(10):
        await post(broker, REGISTER_PATH, json={"software_statement": "guess"})
    answer = await register(broker)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 60


def test_failures_are_forgotten_after_a_minute_and_counted_by_caller() -> None:
    now = 0.0
    limit = FailureLimit(lambda: now)
    for _ in range(10):
        limit.note("a")
    assert limit.wait_s("a") == 60
    assert limit.wait_s("b") == 0
    now = 60.0
    assert limit.wait_s("a") == 0


# ------------------------------------------------------------------ connection tokens


async def ask(broker: RunningBroker, session_id: str, token: str, path: str = VALIDATE) -> httpx.Response:
    form = {"sessionId": session_id, "authenticationToken": token, "clientAddress": "198.18.7.7"}
    return await post(broker, path, data=form)


@pytest.mark.parametrize("path", [VALIDATE, "/"])
async def test_a_good_token_names_its_user(broker: RunningBroker, path: str) -> None:
    """B31, B33, B34"""
    async with raw_agent(broker) as agent:
        await agent.greet(sessions=[session("a", owner="DOMAIN\\ana")])
        token = broker.broker.tokens.issue_connection("a", 'R&D\\<zoë>"')
        answer = await ask(broker, "a", token, path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/xml")
    assert answer.text == '<auth result="yes"><username>R&amp;D\\&lt;zoë&gt;"</username></auth>'


async def test_a_session_out_of_sight_is_still_open_to_its_clients(broker: RunningBroker) -> None:
    """B31: the very question shows that its DCV server lives."""
    async with raw_agent(broker) as agent:
        await agent.greet(sessions=[session("a")])
        await agent.say("agentGoodbye", reason="shutdown")
        await agent.end()
    token = broker.broker.tokens.issue_connection("a", "ana")
    assert 'result="yes"' in (await ask(broker, "a", token)).text


async def test_every_other_token_is_refused_with_a_message(broker: RunningBroker) -> None:
    """B31"""
    async with raw_agent(broker) as agent:
        await agent.greet(sessions=[session("a"), session("b")])
        token = broker.broker.tokens.issue_connection("a", "ana")
        access, _ = broker.broker.tokens.issue_access(broker.client_id)
        gone = broker.broker.tokens.issue_connection("gone", "ana")
        for session_id, shown in [("b", token), ("a", token + "x"), ("a", access), ("gone", gone)]:
            answer = await ask(broker, session_id, shown)
            assert answer.status_code == 200
            assert answer.text.startswith('<auth result="no"><message>')
            assert "ana" not in answer.text


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"sessionId": "a"},
        {"authenticationToken": "t"},
        {"sessionId": "a", "authenticationToken": "t", "more": "x" * 20_000},
    ],
)
async def test_a_question_without_its_parts_is_bad(broker: RunningBroker, form: dict[str, str]) -> None:
    answer = await post(broker, VALIDATE, data=form)
    assert (answer.status_code, answer.text) == (400, '<auth result="no"/>')


async def test_only_post_asks(broker: RunningBroker) -> None:
    assert (await get(broker, VALIDATE)).status_code == 405


async def test_no_token_or_secret_is_logged(broker: RunningBroker, caplog: pytest.LogCaptureFixture) -> None:
    """B33"""
    caplog.set_level("DEBUG", "broker_stub")
    secret = (await register(broker)).json()["client_secret"]
    token = broker.broker.tokens.issue_connection("a", "ana")
    await ask(broker, "a", token)
    assert token not in caplog.text
    assert secret not in caplog.text
    assert software_statement.DEFAULT not in caplog.text
