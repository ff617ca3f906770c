"""Access tokens: how a client gets one, how long it is good, and what is answered without one."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests import wire_schema
from tests.broker.api_calls import OPERATIONS, call, error_of, without_header
from tests.running import MovedClock, RunningBroker, running_broker

# One broker for the tests of this module that change nothing: a start costs more than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")

GRANT = {"grant_type": "client_credentials"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path_factory.mktemp("tokens")) as running:
        yield running


async def token_request(broker: RunningBroker, **kwargs: Any) -> httpx.Response:
    """What somebody without a token sends to the token endpoint."""
    async with httpx.AsyncClient(base_url=broker.url, verify=broker.tls, trust_env=False) as client:
        return await client.post("/oauth2/token", **kwargs)


def credentials(broker: RunningBroker) -> tuple[str, str]:
    return broker.client_id, broker.client_secret


async def with_token(broker: RunningBroker, token: str) -> httpx.Response:
    """An operation with a token of one's own."""
    return await broker.client.post("/describeServers", headers={"Authorization": f"Bearer {token}"})


async def assert_refused(broker: RunningBroker, token: str) -> None:
    """The operations take a token no more."""
    answer = await with_token(broker, token)
    assert (answer.status_code, error_of(answer)) == (401, "Invalid access token")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


# ------------------------------------------------------------------ the token endpoint


@pytest.mark.covers("C20", "C23")
async def test_a_token_is_given_for_a_client_id_and_its_password(broker: RunningBroker) -> None:
    """Basic credentials and the grant in the address bring a token, its kind and its lifetime, uncached."""
    answer = await token_request(broker, params=GRANT, auth=credentials(broker), headers=FORM)
    body = answer.json()
    assert answer.status_code == 200
    assert sorted(body) == ["access_token", "expires_in", "token_type"]
    assert body["token_type"].lower() == "bearer"
    assert (type(body["expires_in"]), body["expires_in"]) == (int, 3600)
    assert re.fullmatch(r"[A-Za-z0-9._~+/=-]+", body["access_token"])
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert (await with_token(broker, body["access_token"])).status_code == 200


@pytest.mark.covers("C21", "C22")
async def test_grant_and_credentials_may_be_sent_as_a_form(broker: RunningBroker) -> None:
    """The grant may stand in the posted form, and so may the credentials instead of a Basic header."""
    client_id, secret = credentials(broker)
    in_form = {**GRANT, "client_id": client_id, "client_secret": secret}
    for answer in (
        await token_request(broker, data={**GRANT, "scope": "ignored"}, auth=credentials(broker)),
        await token_request(broker, data=in_form),
    ):
        assert answer.status_code == 200
        assert (await with_token(broker, answer.json()["access_token"])).status_code == 200


@pytest.mark.covers("C24")
async def test_wrong_credentials_are_told_in_the_standards_words(broker: RunningBroker) -> None:
    """A wrong password, an unknown client and no credentials at all get 401 and are asked for Basic ones."""
    client_id, secret = credentials(broker)
    for auth in ((client_id, "wrong"), ("nobody", secret), (client_id, ""), None):
        answer = await token_request(broker, params=GRANT, auth=auth)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
        assert answer.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.covers("C25", "C26")
async def test_other_grants_and_misplaced_secrets_are_refused(broker: RunningBroker) -> None:
    """Without a grant, with another one, or with a secret in the address, there is 400 and no token."""
    for fields, error in (
        ({}, "invalid_request"),
        ({"params": {"grant_type": "password"}}, "unsupported_grant_type"),
        ({"params": {**GRANT, "client_secret": broker.client_secret}}, "invalid_request"),
        ({"params": GRANT, "data": {"grant_type": "password"}}, "invalid_request"),
    ):
        answer = await token_request(broker, auth=credentials(broker), **fields)
        assert (answer.status_code, answer.json()["error"]) == (400, error)
        assert "access_token" not in answer.text


@pytest.mark.covers("C27")
async def test_tokens_of_one_client_live_side_by_side(broker: RunningBroker) -> None:
    """A second token of a client does not end the first one."""
    first, second = await broker.token(), await broker.token()
    assert first != second
    for token in (first, second, first):
        assert (await with_token(broker, token)).status_code == 200


@pytest.mark.covers("C28")
async def test_a_token_ends_when_it_was_said_to(tmp_path: Path) -> None:
    """A token works until the seconds that came with it are over, then it is refused as no longer good."""
    clock = MovedClock()
    async with running_broker(tmp_path, now=clock, ext_access_token_duration_seconds=900) as broker:
        answer = await token_request(broker, params=GRANT, auth=credentials(broker))
        token, seconds = answer.json()["access_token"], answer.json()["expires_in"]
        assert seconds == 900
        clock.advance(seconds - 60)
        assert (await with_token(broker, token)).status_code == 200
        clock.advance(61)
        await assert_refused(broker, token)
        assert (await with_token(broker, await broker.token())).status_code == 200


@pytest.mark.covers("C29")
async def test_an_unregistered_client_is_refused_at_once(tmp_path: Path) -> None:
    """With its client's registration a token ends too, and no new one is given."""
    async with running_broker(tmp_path) as broker:
        token = await broker.token()
        assert (await with_token(broker, token)).status_code == 200
        await broker.broker.tokens.clients.unregister(broker.client_id)
        await assert_refused(broker, token)
        answer = await token_request(broker, params=GRANT, auth=credentials(broker))
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.covers("C30")
async def test_a_token_outlives_a_restart_of_the_broker(tmp_path: Path) -> None:
    """A token from before a restart is as good after it."""
    async with running_broker(tmp_path) as broker:
        token = await broker.token()
    async with running_broker(tmp_path) as broker:
        assert (await with_token(broker, token)).status_code == 200


# ------------------------------------------------------------------ the operations


@pytest.mark.covers("C32", "B26")
async def test_the_documented_probe_is_answered_to_the_letter(broker: RunningBroker) -> None:
    """The request that administrators are told to try an installation with gets 401 and exactly that body."""
    answer = await without_header(broker, "GET", "/sessionConnectionData/aSession/aOwner")
    assert answer.status_code == 401
    assert answer.json() == {"error": "No authorization header"}
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.covers("C33")
async def test_every_operation_needs_a_token(broker: RunningBroker) -> None:
    """None of the nine operations is carried out for somebody who sends no `Authorization`."""
    operations = {f"/{name}": method for name, (method, _) in OPERATIONS.items()}
    operations["/sessionConnectionData/a/b"] = "GET"
    assert len(operations) == 9
    for path, method in operations.items():
        answer = await without_header(broker, method, path)
        assert (answer.status_code, error_of(answer)) == (401, "No authorization header")


@pytest.mark.covers("C34")
async def test_the_header_has_the_form_of_a_bearer_token(broker: RunningBroker) -> None:
    """Other schemes and bare tokens are refused as wrong headers; the letter case of `bearer` is free."""
    token = await broker.token()
    for header in ("Basic eDp5", token, "Bearer", "Bearer a b"):
        answer = await broker.client.post("/describeServers", headers={"Authorization": header})
        assert (answer.status_code, error_of(answer)) == (401, "Invalid authorization header"), header
        assert answer.headers["www-authenticate"] == "Bearer"
    for scheme in ("bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {token}"}
        assert (await broker.client.post("/describeServers", headers=headers)).status_code == 200


@pytest.mark.covers("C35")
async def test_a_changed_token_is_refused(broker: RunningBroker) -> None:
    """One character of a good token changed, wherever it is, and the token is good no more."""
    token = await broker.token()
    for at in (0, 30, token.index(".") + 3, len(token) // 2, len(token) - 20, len(token) - 1):
        if token[at] != ".":
            await assert_refused(broker, token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :])
    assert (await with_token(broker, token)).status_code == 200


@pytest.mark.covers("C36", "B26")
async def test_without_authorization_nobody_needs_a_token(tmp_path: Path) -> None:
    """With authorization switched off operations work for everybody; a token is not looked at."""
    async with running_broker(tmp_path, enable_authorization=False) as broker:
        headers: list[dict[str, str]] = [{"Authorization": text} for text in ("nonsense", "Bearer nonsense")]
        headers.append({})
        async with httpx.AsyncClient(base_url=broker.url, verify=broker.tls, trust_env=False) as client:
            for name, (method, _) in OPERATIONS.items():
                body = "{}" if name.startswith("describe") else "[]"
                for each in headers:
                    answer = await client.request(method, f"/{name}", headers=each, content=body)
                    assert answer.status_code == 200
            for each in headers:
                answer = await client.get("/sessionConnectionData/a/b", headers=each)
                assert (answer.status_code, error_of(answer)) == (400, "Dcv session not found.")


@pytest.mark.covers("C37", "B11")
async def test_the_definition_is_there_for_everybody(broker: RunningBroker) -> None:
    """The API definition is served as YAML without a token."""
    answer = await without_header(broker, "GET", "/dcv-session-manager-api.yaml")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/yaml")
    assert answer.content == wire_schema.OWN_PATH.read_bytes()


@pytest.mark.covers("C31", "C37", "B11")
async def test_what_is_switched_off_is_not_found(tmp_path: Path) -> None:
    """A broker that issues no tokens, or does not serve the definition, does not know those paths."""
    async with running_broker(tmp_path, enable_authorization_server=False, enable_api_yaml=False) as broker:
        for method, path in (("POST", "/oauth2/token"), ("GET", "/dcv-session-manager-api.yaml")):
            answer = await without_header(broker, method, path)
            assert (answer.status_code, error_of(answer)) == (404, "Not found")


async def test_health_needs_no_token(broker: RunningBroker) -> None:
    """Whoever watches over the broker needs no credentials for it."""
    answer = await without_header(broker, "GET", "/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "UP")
    assert (await without_header(broker, "HEAD", "/health")).status_code == 200


async def test_many_requests_with_one_token_at_once(broker: RunningBroker) -> None:
    """A token is checked once and remembered, for as many requests as come at the same time."""
    answers = await asyncio.gather(*(call(broker, "describeServers", {}) for _ in range(20)))
    assert len({answer["RequestId"] for answer in answers}) == 20
