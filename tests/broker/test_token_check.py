"""What a DCV server asks about connection tokens, and what it is told, to the letter."""

import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from tests.broker.raw_agent import create, post, raw_agent, session
from tests.running import RunningBroker, running_broker

# One broker for most tests of this module: a start costs more than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")

VALIDATE = "/agent/validate-authentication-token"
INVALID = '<auth result="no"><message>Invalid token</message></auth>'
EXPIRED = '<auth result="no"><message>Token expired</message></auth>'
NOT_FOUND = '<auth result="no"><message>Session not found</message></auth>'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path_factory.mktemp("token_check")) as running:
        yield running


async def ask(
    broker: RunningBroker, session_id: str, token: str, path: str = VALIDATE, **more: str
) -> httpx.Response:
    """What a DCV server asks: a form, and no credentials."""
    form = {"sessionId": session_id, "authenticationToken": token, "clientAddress": "198.18.7.7"} | more
    return await post(broker, path, data=form)


async def told(broker: RunningBroker, session_id: str, token: str) -> str:
    """The answer's body; its status is 200 for yes and for no."""
    answer = await ask(broker, session_id, token)
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == "text/xml"
    assert answer.headers["cache-control"] == "no-store"
    return answer.text


async def connection_token(broker: RunningBroker, session_id: str, user: str) -> str:
    """A token as the API gives it."""
    answer = await broker.client.get(f"/sessionConnectionData/{quote(session_id)}/{quote(user, safe='')}")
    answer.raise_for_status()
    return str(answer.json()["ConnectionToken"])


# ------------------------------------------------------------------ yes


@pytest.mark.covers("W5", "B31", "B33", "C130")
@pytest.mark.parametrize("path", [VALIDATE, "/"])
async def test_a_good_token_names_its_user(broker: RunningBroker, path: str) -> None:
    """A DCV server without credentials asks about a fresh token and gets its user, again and again."""
    async with raw_agent(broker) as agent:
        await agent.greet(sessions=[session("a", owner="ana")])
        first = await connection_token(broker, "a", "ana")
        guest = await connection_token(broker, "a", "DOMAIN\\guest")
        for _ in range(2):
            answer = await ask(broker, "a", first, path)
            assert answer.status_code == 200
            assert answer.text == '<auth result="yes"><username>ana</username></auth>'
        answer = await ask(broker, "a", guest, path)
        assert answer.text == '<auth result="yes"><username>DOMAIN\\guest</username></auth>'


@pytest.mark.covers("W7", "B34")
@pytest.mark.parametrize("user", ["R&D\\<zoë>\"'", "a]]>b", "&amp;", "名前", "x" * 256, "a  b", "😀"])
async def test_every_user_name_comes_out_of_the_xml_unchanged(broker: RunningBroker, user: str) -> None:
    """Ampersands, brackets, quotes, backslashes and letters of all languages are escaped as XML wants it."""
    async with raw_agent(broker) as agent:
        await agent.greet(sessions=[session("a")])
        text = await told(broker, "a", await connection_token(broker, "a", user))
    verdict = ET.fromstring(text)  # noqa: S314  of our own broker
    assert (verdict.tag, verdict.attrib) == ("auth", {"result": "yes"})
    assert [(one.tag, one.text) for one in verdict] == [("username", user)]
    assert "<zoë>" not in text


async def test_a_name_that_no_xml_can_carry_is_nobody(broker: RunningBroker) -> None:
    async with raw_agent(broker) as agent:
        await agent.greet(sessions=[session("a")])
        assert await told(broker, "a", broker.broker.tokens.issue_connection("a", "ana\ufffe")) == INVALID


@pytest.mark.covers("W8")
@pytest.mark.parametrize("address", [None, "", "203.0.113.7", "2001:db8::7", "::ffff:10.0.0.1", "x" * 5000])
async def test_the_clients_address_may_be_anything_or_missing(
    broker: RunningBroker, address: str | None
) -> None:
    """The check gives the same answer whatever the client's address is, and without one."""
    async with raw_agent(broker) as agent:
        await agent.greet(sessions=[session("a")])
        form = {"sessionId": "a", "authenticationToken": await connection_token(broker, "a", "ana")}
        form |= {} if address is None else {"clientAddress": address}
        answer = await post(broker, VALIDATE, data=form)
    assert (answer.status_code, answer.text) == (
        200,
        '<auth result="yes"><username>ana</username></auth>',
    )


@pytest.mark.covers("B31")
async def test_a_session_out_of_sight_is_still_open_to_its_clients(broker: RunningBroker) -> None:
    """A session whose agent is lost is still open: the very question shows that its DCV server lives."""
    async with raw_agent(broker) as agent:
        await agent.greet("server-out-of-sight", sessions=[session("out-of-sight")])
        await agent.say("agentGoodbye", reason="shutdown")
        await agent.end()
    await broker.until(
        lambda: broker.broker.registry.session("out-of-sight").state == "UNKNOWN"  # type: ignore[union-attr]  # it was reported
    )
    token = await connection_token(broker, "out-of-sight", "ana")
    assert 'result="yes"' in await told(broker, "out-of-sight", token)


@pytest.mark.covers("B32")
async def test_a_token_outlives_a_restart_of_the_broker(tmp_path: Path) -> None:
    """A token from before a restart is good after it, also before the session's agent is back."""
    async with running_broker(tmp_path) as broker, raw_agent(broker) as agent:
        await agent.greet(sessions=[session("a")])
        token = await connection_token(broker, "a", "ana")
    async with running_broker(tmp_path) as broker:
        assert await told(broker, "a", token) == '<auth result="yes"><username>ana</username></auth>'
        async with raw_agent(broker) as agent:
            await agent.greet(sessions=[session("a")])
            assert 'result="yes"' in await told(broker, "a", token)


# ------------------------------------------------------------------ no


@pytest.mark.covers("W6", "B31", "C130")
async def test_every_other_token_is_refused_shortly(broker: RunningBroker) -> None:
    """A token of another session, altered, of another kind, past its time, or for no session: no, and 200."""
    tokens = broker.broker.tokens
    async with raw_agent(broker) as agent:
        await agent.greet(sessions=[session("a"), session("b")])
        token = await connection_token(broker, "a", "ana")
        access, _ = tokens.issue_access(broker.client_id)
        lifetime_s, tokens.connection_token_s = tokens.connection_token_s, -1
        over = tokens.issue_connection("a", "ana")
        tokens.connection_token_s = lifetime_s
        for session_id, shown, text in [
            ("b", token, INVALID),
            ("a", token + "x", INVALID),
            ("a", token[:30] + ("A" if token[30] != "A" else "B") + token[31:], INVALID),
            ("a", access, INVALID),
            ("a", "nonsense", INVALID),
            ("a", "é", INVALID),
            ("a", over, EXPIRED),
            ("b", over, INVALID),
            ("gone", tokens.issue_connection("gone", "ana"), NOT_FOUND),
        ]:
            assert await told(broker, session_id, shown) == text
        assert 'result="yes"' in await told(broker, "a", token)


@pytest.mark.covers("W6", "B31")
async def test_a_token_ends_with_its_session(broker: RunningBroker) -> None:
    """A session that is not yet ready, or deleted, lets nobody in, whatever tokens there are for it."""
    async with raw_agent(broker) as agent:
        await agent.greet("server-of-life")
        (session_id,) = await create(broker)
        token = broker.broker.tokens.issue_connection(session_id, "ana")
        assert await told(broker, session_id, token) == NOT_FOUND
        await agent.finish(await agent.take_command(), data={"session": session(session_id)})
        await broker.until(lambda: broker.broker.registry.session(session_id).state == "READY")  # type: ignore[union-attr]  # it was created
        assert 'result="yes"' in await told(broker, session_id, token)
        await broker.client.post("/deleteSessions", json=[{"SessionId": session_id, "Owner": "ana"}])
        assert await told(broker, session_id, token) == NOT_FOUND
        await agent.finish(await agent.take_command())
        await broker.until(lambda: broker.broker.registry.session(session_id).state == "DELETED")  # type: ignore[union-attr]  # it was created
        assert await told(broker, session_id, token) == NOT_FOUND


# ------------------------------------------------------------------ what is no question


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"sessionId": "a"},
        {"authenticationToken": "t"},
        {"sessionId": "", "authenticationToken": "t"},
        {"sessionId": "a", "authenticationToken": "t", "more": "x" * 20_000},
        {"sessionId": "a", "authenticationToken": "t"} | {f"more{number}": "x" for number in range(50)},
    ],
)
async def test_a_question_without_its_parts_is_bad(broker: RunningBroker, form: dict[str, str]) -> None:
    answer = await post(broker, VALIDATE, data=form)
    assert (answer.status_code, answer.text) == (400, '<auth result="no"/>')


async def test_what_is_no_form_is_bad(broker: RunningBroker) -> None:
    for content in (b"\xff\xfe", b"{}", b"sessionId=%FF&authenticationToken=\xff"):
        answer = await post(broker, VALIDATE, content=content)
        assert (answer.status_code, answer.text) == (400, '<auth result="no"/>')


async def test_only_post_asks(broker: RunningBroker) -> None:
    async with httpx.AsyncClient(base_url=broker.agent_url, verify=broker.tls, trust_env=False) as client:
        for path in (VALIDATE, "/"):
            assert (await client.get(path)).status_code == 405


@pytest.mark.covers("B33")
async def test_a_check_is_logged_without_its_token(
    broker: RunningBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Who asked for which session from where is in the log, at every level without the token."""
    caplog.set_level("DEBUG")
    async with raw_agent(broker) as agent:
        await agent.greet(sessions=[session("a")])
        token = await connection_token(broker, "a", "ana")
        await ask(broker, "a", token, clientAddress="203.0.113.7")
        await ask(broker, "a", token + "x", clientAddress="203.0.113.8\n forged line")
    assert "Connection to session a from 203.0.113.7 let in as ana." in caplog.text
    assert "203.0.113.8" in caplog.text
    # The client of this test logs what it sends itself; the broker must not.
    own = "\n".join(one.getMessage() for one in caplog.records if not one.name.startswith("http"))
    assert token not in own
    assert token.split(".")[2] not in own
