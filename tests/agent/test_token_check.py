"""The question to the broker whether a connection token is good, as the entrance of a host asks it."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest

from broker_stub.agent.token_check import VERIFIER_PATH, TokenCheck, read_verdict
from broker_stub.channel import NotUnderstood, TimedOut, Unreachable
from tests.broker.raw_agent import raw_agent, session
from tests.running import RunningBroker, running_broker

SESSION = "00000000-0000-4000-8000-000000000001"


@asynccontextmanager
async def asked(tmp_path: Path, user: str) -> AsyncIterator[tuple[RunningBroker, str]]:
    """A broker with a session that is ready, and a token for it."""
    async with running_broker(tmp_path) as broker, raw_agent(broker) as agent:
        await agent.greet(sessions=[session(SESSION)])
        answer = await broker.client.get(f"/sessionConnectionData/{SESSION}/{user}")
        yield broker, answer.json()["ConnectionToken"]


@pytest.mark.parametrize("user", ["ana", "b%26%3Cd%22", "%C3%A9mile"])
async def test_a_good_token_stands_for_its_user(tmp_path: Path, user: str) -> None:
    async with asked(tmp_path, user) as (broker, token):
        check = TokenCheck(broker.agent_url + VERIFIER_PATH, lambda: broker.tls)
        assert await check.user_of(SESSION, token, "198.18.0.1") == unquote(user)
        assert await check.user_of("another", token, "198.18.0.1") is None
        assert await check.user_of(SESSION, token[:-2], "198.18.0.1") is None
        assert await check.user_of(SESSION, "", "198.18.0.1") is None


async def test_a_broker_that_cannot_be_asked_is_said_without_the_token(tmp_path: Path) -> None:
    check = TokenCheck("https://127.0.0.1:9/x", ssl.create_default_context)
    with pytest.raises(Unreachable) as failure:
        await check.user_of(SESSION, "the-secret-token", "")
    assert "the-secret-token" not in str(failure.value)


async def test_a_broker_whose_certificate_is_not_trusted_is_not_asked(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        check = TokenCheck(broker.agent_url + VERIFIER_PATH, ssl.create_default_context)
        with pytest.raises(Unreachable):
            await check.user_of(SESSION, "token", "")


async def test_a_broker_that_says_nothing_is_not_waited_for_for_ever() -> None:
    # Connections wait in the queue of a listener that never takes them.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(TimedOut):
            await TokenCheck(url, ssl.create_default_context, limit_s=0.2).user_of(SESSION, "token", "")


@pytest.mark.parametrize(
    ("body", "user"),
    [
        ('<auth result="yes"><username>ana</username></auth>', "ana"),
        ("<auth result='yes'>\n <username>a&amp;b</username>\n</auth>", "a&b"),
        ('<?xml version="1.0"?><auth result="yes"><username>ana</username></auth>', "ana"),
        ('<auth result="no"/>', None),
        ('<auth result="no"><message>Token expired</message></auth>', None),
    ],
)
def test_both_forms_of_the_answer_are_read(body: str, user: str | None) -> None:
    assert read_verdict(body.encode()) == user


@pytest.mark.parametrize(
    "body",
    [
        "",
        "yes",
        "<html/>",
        "<auth/>",
        '<auth result="maybe"/>',
        '<auth result="yes"/>',
        '<auth result="yes"><username/></auth>',
        f'<auth result="yes"><username>{"x" * 300}</username></auth>',
        '<!DOCTYPE a [<!ENTITY b "c">]><auth result="yes"><username>&b;</username></auth>',
    ],
)
def test_everything_else_lets_nobody_in(body: str) -> None:
    with pytest.raises(NotUnderstood):
        read_verdict(body.encode())
