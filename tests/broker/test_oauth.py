"""Clients and their tokens, over a real store (C27 to C30, C130, B14, B16, B30 to B32)."""

import base64
import binascii
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker_stub import software_statement
from broker_stub.broker.oauth import DuplicateName, StatementRefused, Tokens, UnknownClient
from broker_stub.broker.store import Store


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, **span: float) -> None:
        self.time += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "broker.db")
    yield opened
    await opened.close()


async def load(store: Store, clock: Clock) -> Tokens:
    return await Tokens.load(store, access_token_s=60, connection_token_s=600, now=clock)


async def test_b14_a_registered_client_is_known_by_its_secret_alone(store: Store, clock: Clock) -> None:
    tokens = await load(store, clock)
    client_id, secret = await tokens.register_client("console")
    assert tokens.clients.check(client_id, secret)
    for other in ("", secret[:-1], secret + "x", secret.lower(), "\ud800"):
        assert not tokens.clients.check(client_id, other)
    assert not tokens.clients.check("nobody", secret)
    assert not tokens.clients.check("", "")


async def test_b14_the_secret_is_nowhere_in_the_database(store: Store, clock: Clock, tmp_path: Path) -> None:
    _, secret = await (await load(store, clock)).register_client("console")
    written = everything_in(tmp_path)
    assert b"console" in written
    assert secret.encode() not in written


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_passwords_are_base64_of_text_with_256_bits(store: Store, clock: Clock) -> None:
    tokens = await load(store, clock)
    secrets = [(await tokens.register_client(f"c{number}"))[1] for number in range(5)]
    assert len(set(secrets)) == 5
    for secret in secrets:
        assert secret.isalnum(), "no character that a form, a header or a shell would change"
        assert len(binascii.unhexlify(base64.b64decode(secret, validate=True))) >= 32


async def test_names_of_active_clients_are_unique_unless_allowed(store: Store, clock: Clock) -> None:
    tokens = await load(store, clock)
    client_id, _ = await tokens.register_client("one")
    with pytest.raises(DuplicateName):
        await tokens.register_client("one")
    await tokens.register_client("one", allow_duplicate=True)
    await tokens.clients.unregister(client_id)
    with pytest.raises(DuplicateName):
        await tokens.register_client("one")


async def test_c29_b16_an_unregistered_client_loses_its_tokens(store: Store, clock: Clock) -> None:
    tokens = await load(store, clock)
    client_id, secret = await tokens.register_client("one")
    token, _ = tokens.issue_access(client_id)
    assert tokens.check_access(token) == client_id
    await tokens.clients.unregister(client_id)
    await tokens.clients.unregister(client_id)
    assert tokens.check_access(token) is None
    assert not tokens.clients.check(client_id, secret)
    assert [client.status for client in tokens.clients.all()] == ["inactive"]
    with pytest.raises(UnknownClient):
        await tokens.clients.unregister("nobody")
    again = await load(store, clock)
    assert again.check_access(token) is None
    assert not again.clients.check(client_id, secret)


async def test_c28_an_access_token_ends(store: Store, clock: Clock) -> None:
    tokens = await load(store, clock)
    client_id, _ = await tokens.register_client("one")
    token, seconds = tokens.issue_access(client_id)
    assert seconds == 60
    clock.advance(seconds=59)
    assert tokens.check_access(token) == client_id
    clock.advance(seconds=1)
    assert tokens.check_access(token) is None


async def test_c30_b32_clients_and_tokens_outlive_a_restart(store: Store, clock: Clock) -> None:
    before = await load(store, clock)
    client_id, secret = await before.register_client("one")
    access, _ = before.issue_access(client_id)
    connection = before.issue_connection("s1", "alice")
    agent_id, agent_secret = await before.register_agent(software_statement.DEFAULT, "host")
    agent, _ = before.issue_agent(agent_id)
    after = await load(store, clock)
    assert after.clients.check(client_id, secret)
    assert after.check_access(access) == client_id
    assert after.check_connection(connection, "s1") == "alice"
    assert after.agents.check(agent_id, agent_secret)
    assert after.check_agent(agent) == agent_id


async def test_tokens_of_one_kind_are_none_of_another(store: Store, clock: Clock) -> None:
    tokens = await load(store, clock)
    client_id, _ = await tokens.register_client("one")
    agent_id, _ = await tokens.register_agent(software_statement.DEFAULT, "host")
    access, agent = tokens.issue_access(client_id)[0], tokens.issue_agent(agent_id)[0]
    connection = tokens.issue_connection("s1", client_id)
    assert [tokens.check_access(each) for each in (access, agent, connection)] == [client_id, None, None]
    assert [tokens.check_agent(each) for each in (access, agent, connection)] == [None, agent_id, None]
    assert [tokens.check_connection(each, "s1") for each in (access, agent, connection)] == [
        None,
        None,
        client_id,
    ]


async def test_c130_b31_connection_tokens(store: Store, clock: Clock) -> None:
    tokens = await load(store, clock)
    first, second = tokens.issue_connection("s1", "CORP\\alice"), tokens.issue_connection("s1", "CORP\\alice")
    assert first != second
    assert tokens.check_connection(first, "s1") == tokens.check_connection(second, "s1") == "CORP\\alice"
    assert tokens.check_connection(first, "s2") is None
    assert tokens.check_connection(first[:-2] + "AA", "s1") is None
    clock.advance(seconds=600)
    assert tokens.check_connection(first, "s1") is None


async def test_b34_users_of_any_language(store: Store, clock: Clock) -> None:
    tokens = await load(store, clock)
    for user in ("zoë & co", "名前", 'a"b<c>\\', "x" * 256):
        assert tokens.check_connection(tokens.issue_connection("s", user), "s") == user


@pytest.mark.parametrize("statement", ["", "nonsense", "é", "\ud800", software_statement.DEFAULT[:-4]])
async def test_b30_only_a_known_statement_registers_an_agent(
    store: Store, clock: Clock, statement: str
) -> None:
    tokens = await load(store, clock)
    agent_id, secret = await tokens.register_agent(f" {software_statement.DEFAULT}\n", "host")
    assert tokens.agents.check(agent_id, secret)
    with pytest.raises(StatementRefused):
        await tokens.register_agent(statement, "host")
    assert tokens.agents.active_count == 1


async def test_b30_the_public_statement_can_be_refused(store: Store, clock: Clock) -> None:
    tokens = await Tokens.load(store, accept_default_statement=False, now=clock)
    with pytest.raises(StatementRefused):
        await tokens.register_agent(software_statement.DEFAULT, "host")
