"""Clients and their tokens, over a real store."""

import base64
import binascii
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker_stub import software_statement
from broker_stub.broker.clients import DuplicateName, UnknownClient
from broker_stub.broker.oauth import ConnectionRefused, StatementRefused, Tokens
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


@pytest.mark.covers("B14")
async def test_a_registered_client_is_known_by_its_secret_alone(store: Store, clock: Clock) -> None:
    """The credentials that registration gives out are good at once, and nothing near them is."""
    tokens = await load(store, clock)
    client_id, secret = await tokens.register_client("console")
    assert tokens.clients.check(client_id, secret)
    for other in ("", secret[:-1], secret + "x", secret.lower(), "\ud800"):
        assert not tokens.clients.check(client_id, other)
    assert not tokens.clients.check("nobody", secret)
    assert not tokens.clients.check("", "")


@pytest.mark.covers("B14")
async def test_the_secret_is_nowhere_in_the_database(store: Store, clock: Clock, tmp_path: Path) -> None:
    """Of a client's password the database holds nothing that could be used."""
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


@pytest.mark.covers("C29", "B16")
async def test_an_unregistered_client_loses_its_tokens(store: Store, clock: Clock) -> None:
    """After a client was unregistered its tokens and its password are refused, also after a restart."""
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


@pytest.mark.covers("C28")
async def test_an_access_token_ends(store: Store, clock: Clock) -> None:
    """An access token is good for the seconds that were told with it, and no longer."""
    tokens = await load(store, clock)
    client_id, _ = await tokens.register_client("one")
    token, seconds = tokens.issue_access(client_id)
    assert seconds == 60
    clock.advance(seconds=59)
    assert tokens.check_access(token) == client_id
    clock.advance(seconds=1)
    assert tokens.check_access(token) is None


@pytest.mark.covers("C30", "B32")
async def test_clients_and_tokens_outlive_a_restart(store: Store, clock: Clock) -> None:
    """Tokens of all kinds that were issued before a restart are good after it."""
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
    assert tokens.check_connection(connection, "s1") == client_id
    for other in (access, agent):
        with pytest.raises(ConnectionRefused, match="Invalid token"):
            tokens.check_connection(other, "s1")


@pytest.mark.covers("C130", "B31")
async def test_connection_tokens_are_for_one_session_and_one_user_for_a_while(
    store: Store, clock: Clock
) -> None:
    """Two connection tokens differ, both are good for their session and user alone, and end in time."""
    tokens = await load(store, clock)
    first, second = tokens.issue_connection("s1", "CORP\\alice"), tokens.issue_connection("s1", "CORP\\alice")
    assert first != second
    assert tokens.check_connection(first, "s1") == tokens.check_connection(second, "s1") == "CORP\\alice"
    for token, session_id in ((first, "s2"), (first[:-2] + "AA", "s1"), ("", "s1")):
        with pytest.raises(ConnectionRefused, match="Invalid token"):
            tokens.check_connection(token, session_id)
    clock.advance(seconds=599)
    assert tokens.check_connection(first, "s1")
    clock.advance(seconds=1)
    with pytest.raises(ConnectionRefused, match="Token expired"):
        tokens.check_connection(first, "s1")
    with pytest.raises(ConnectionRefused, match="Invalid token"):
        tokens.check_connection(first, "s2")


@pytest.mark.covers("B34")
async def test_users_of_any_language(store: Store, clock: Clock) -> None:
    """A connection token carries every user name unchanged."""
    tokens = await load(store, clock)
    for user in ("zoë & co", "名前", 'a"b<c>\\', "x" * 256):
        assert tokens.check_connection(tokens.issue_connection("s", user), "s") == user


@pytest.mark.covers("B30")
@pytest.mark.parametrize("statement", ["", "nonsense", "é", "\ud800", software_statement.DEFAULT[:-4]])
async def test_only_a_known_statement_registers_an_agent(store: Store, clock: Clock, statement: str) -> None:
    """An agent registers with the statement that comes with it, and not with an unknown or damaged one."""
    tokens = await load(store, clock)
    agent_id, secret = await tokens.register_agent(f" {software_statement.DEFAULT}\n", "host")
    assert tokens.agents.check(agent_id, secret)
    with pytest.raises(StatementRefused):
        await tokens.register_agent(statement, "host")
    assert tokens.agents.active_count == 1


async def test_the_public_statement_can_be_refused(store: Store, clock: Clock) -> None:
    tokens = await Tokens.load(store, accept_default_statement=False, now=clock)
    with pytest.raises(StatementRefused):
        await tokens.register_agent(software_statement.DEFAULT, "host")


@pytest.mark.covers("B17")
async def test_renewed_keys_refuse_all_tokens_that_are_out(store: Store, clock: Clock) -> None:
    """With new signing keys old access tokens are refused and new ones work, also after a restart."""
    tokens = await load(store, clock)
    client_id, secret = await tokens.register_client("one")
    old, _ = tokens.issue_access(client_id)
    connection = tokens.issue_connection("s", "ana")
    await tokens.renew_access_keys()
    new, _ = tokens.issue_access(client_id)
    for at in (tokens, await load(store, clock)):
        assert at.check_access(old) is None
        assert at.check_access(new) == client_id
        assert at.clients.check(client_id, secret)
        assert at.check_connection(connection, "s") == "ana"
    assert len(await store.signing_keys("access")) == 1, "nothing is left of the old key"


@pytest.mark.covers("B17")
async def test_renewed_keys_can_leave_the_tokens_that_are_out_a_while(store: Store, clock: Clock) -> None:
    """On request old access tokens stay good for a time, and not a second longer, also over a restart."""
    tokens = await load(store, clock)
    client_id, _ = await tokens.register_client("one")
    old, _ = tokens.issue_access(client_id)
    clock.advance(seconds=1)
    await tokens.renew_access_keys(grace_s=30)
    again = await load(store, clock)
    assert tokens.check_access(old) == again.check_access(old) == client_id
    retired, signing = await store.signing_keys("access")
    assert "PRIVATE" not in retired.pem, "what is on its way out cannot sign again"
    assert "PRIVATE" in signing.pem
    clock.advance(seconds=30)
    assert tokens.check_access(old) is again.check_access(old) is None
    assert (await load(store, clock)).check_access(old) is None
    assert [key.kid for key in await store.signing_keys("access")] == [signing.kid]


async def test_a_second_renewal_makes_no_grace_longer(store: Store, clock: Clock) -> None:
    tokens = await load(store, clock)
    client_id, _ = await tokens.register_client("one")
    first, _ = tokens.issue_access(client_id)
    await tokens.renew_access_keys(grace_s=10)
    second, _ = tokens.issue_access(client_id)
    await tokens.renew_access_keys(grace_s=50)
    clock.advance(seconds=10)
    assert tokens.check_access(first) is None
    assert tokens.check_access(second) == client_id
    await tokens.renew_access_keys()
    assert tokens.check_access(second) is None
