"""Software statements: made, listed, deactivated, and what they let in, over a real store."""

import base64
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from broker_stub import software_statement
from broker_stub.broker.oauth import StatementRefused, Tokens
from broker_stub.broker.statements import UnknownStatement
from broker_stub.broker.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "broker.db")
    yield opened
    await opened.close()


async def load(store: Store, accept_default: bool = True) -> Tokens:
    return await Tokens.load(store, accept_default_statement=accept_default, now=lambda: NOW)


@pytest.mark.covers("B19")
async def test_a_statement_is_base64_of_json_that_nobody_can_guess(store: Store) -> None:
    """A generated statement is one line of Base64 of a JSON object with id, state, time and version."""
    tokens = await load(store)
    texts = [await tokens.statements.generate() for _ in range(3)]
    assert len(set(texts)) == 3
    for text in texts:
        assert re.fullmatch(r"[A-Za-z0-9+/]+=*", text)
        raw = base64.b64decode(text, validate=True).decode()
        content = json.loads(raw)
        assert str(UUID(content["id"])) == content["id"]
        assert content["active"] is True
        assert content["brokerVersion"] == "1.0.0"
        assert re.search(r'"issuedAt":1772366400\.000000000\b', raw), "seconds with nine decimals"
        assert len(content["secret"]) >= 40


@pytest.mark.covers("B30", "B21")
async def test_a_deactivated_statement_lets_no_further_agent_in(store: Store) -> None:
    """Agents register with a generated statement until it is deactivated; those that did stay known."""
    tokens = await load(store)
    text = await tokens.statements.generate()
    agent_id, secret = await tokens.register_agent(f" {text}\n", "host")
    agent, _ = tokens.issue_agent(agent_id)
    await tokens.statements.deactivate(text)
    await tokens.statements.deactivate(text)
    for at in (tokens, await load(store)):
        with pytest.raises(StatementRefused):
            await at.register_agent(text, "host")
        assert at.agents.check(agent_id, secret)
        assert at.check_agent(agent) == agent_id
        assert await at.register_agent(software_statement.DEFAULT, "host")


async def test_the_statement_that_everybody_knows_is_listed_and_can_be_deactivated(store: Store) -> None:
    tokens = await load(store)
    assert [one.text for one in tokens.statements.all()] == [software_statement.DEFAULT]
    assert tokens.statements.is_default_active
    await tokens.statements.deactivate(software_statement.DEFAULT)
    for at in (tokens, await load(store)):
        assert [(one.text, one.status) for one in at.statements.all()] == [
            (software_statement.DEFAULT, "inactive")
        ]
        assert not at.statements.is_default_active
        with pytest.raises(StatementRefused):
            await at.register_agent(software_statement.DEFAULT, "host")


async def test_a_refused_default_is_listed_as_inactive(store: Store) -> None:
    tokens = await load(store, accept_default=False)
    assert [one.status for one in tokens.statements.all()] == ["inactive"]


async def test_an_unknown_statement_cannot_be_deactivated(store: Store) -> None:
    tokens = await load(store)
    for text in ("", "nonsense", "\ud800", software_statement.DEFAULT[:-4]):
        with pytest.raises(UnknownStatement):
            await tokens.statements.deactivate(text)
