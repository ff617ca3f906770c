"""A broker with an external authorization server: whose tokens are accepted, rotated, refused."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from tests.authorization_server import (
    Authorization,
    authorization_server,
    new_key,
    trust_of,
    trusted_by_this_process,
    unsigned,
)
from tests.broker.api_calls import queue
from tests.broker_process import broker_command, write_config
from tests.client_certificates import ClientCa
from tests.running import RunningBroker, running_broker


@pytest.fixture
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientCa:
    made = ClientCa.make(tmp_path, "outside")
    trusted_by_this_process(made, monkeypatch.setenv)
    return made


@pytest.fixture
async def server(ca: ClientCa) -> AsyncIterator[Authorization]:
    async with authorization_server(ca) as running:
        yield running


async def answer_to(broker: RunningBroker, token: str) -> httpx.Response:
    return await broker.client.post("/describeServers", json={}, headers={"Authorization": f"Bearer {token}"})


async def status_with(broker: RunningBroker, token: str) -> int:
    return (await answer_to(broker, token)).status_code


async def command(folder: Path, name: str, *arguments: object) -> str:
    status, output, errors = await broker_command(name, *arguments, "--config", write_config(folder))
    assert (status, errors) == (0, "")
    return output


@pytest.mark.covers("C31", "B27")
async def test_an_external_server_in_place_of_the_brokers_own(
    tmp_path: Path, ca: ClientCa, server: Authorization
) -> None:
    """Without a token endpoint of its own the broker takes the tokens of a registered server, and only those.

    The server's rotation of keys is followed without a restart. Tokens of another key, past
    their time or forged are refused, and so are tokens that the broker itself once issued.
    """
    async with running_broker(tmp_path) as broker:
        own, _ = broker.broker.tokens.issue_access(broker.client_id)
        assert await status_with(broker, own) == 200
    async with running_broker(tmp_path, enable_authorization_server=False) as broker:
        grant = {"grant_type": "client_credentials"}
        answer = await broker.client.post("/oauth2/token", params=grant, auth=("a", "b"))
        assert (answer.status_code, answer.json()) == (404, {"error": "Not found"})
        assert await status_with(broker, own) == 401

        good = await server.token(trust_of(ca))
        refused = await answer_to(broker, good)
        assert (refused.status_code, refused.json()) == (401, {"error": "Invalid access token"})
        assert refused.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        output = await command(tmp_path, "register-auth-server", "--url", server.keys_url, "--check")
        assert output == "Jwk url registered.\n"
        assert await status_with(broker, good) == 200

        server.rotate()
        rotated = await server.token(trust_of(ca))
        assert await status_with(broker, rotated) == 200
        assert await status_with(broker, good) == 401, "its key is published no more"

        server.lifetime_s = -61
        assert await status_with(broker, await server.token(trust_of(ca))) == 401
        server.lifetime_s = 600
        signing, kid = server.keys[-1], server.keys[-1].kid
        claims = jwt.decode(rotated, signing).claims
        stranger = new_key("RS256")
        shared = OctKey.import_key(str(kid) * 2)
        for forged in (
            unsigned(rotated),
            jwt.encode({"alg": "RS256", "kid": kid}, claims, stranger),
            jwt.encode({"alg": "HS256", "kid": kid}, claims, shared),
            jwt.encode({"alg": "RS384", "kid": kid}, claims, signing, algorithms=["RS384"]),
            jwt.encode({"alg": "RS256"}, claims, signing),
            rotated[:-4] + ("AAAA" if not rotated.endswith("AAAA") else "BBBB"),
            f"{rotated}=",
        ):
            assert await status_with(broker, forged) == 401
        assert await status_with(broker, rotated) == 200

        await command(tmp_path, "unregister-auth-server", "--url", server.keys_url)
        assert await status_with(broker, rotated) == 401


async def test_both_sources_of_tokens_are_good_side_by_side(
    tmp_path: Path, ca: ClientCa, server: Authorization
) -> None:
    async with running_broker(tmp_path) as broker:
        await broker.broker.external.register(server.keys_url, None)
        assert await status_with(broker, await server.token(trust_of(ca))) == 200
        assert await status_with(broker, await broker.token()) == 200


async def test_a_live_stream_lives_as_long_as_its_external_token(
    tmp_path: Path, ca: ClientCa, server: Authorization
) -> None:
    async with running_broker(tmp_path) as broker:
        await broker.broker.external.register(server.keys_url, None)
        headers = {"Authorization": f"Bearer {await server.token(trust_of(ca))}"}
        async with broker.client.stream("GET", "/liveChanges", headers=headers, timeout=30) as answer:
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            await until_line(lines, "event: reset")
            for _ in range(2):
                await queue(broker, "ana")
                await until_line(lines, "event: changes")
            await broker.broker.external.unregister(server.keys_url)
            await queue(broker, "ana")
            async with asyncio.timeout(30):
                assert [line async for line in lines].count("event: changes") <= 1, "and then it ends"


async def until_line(lines: AsyncIterator[str], wanted: str) -> None:
    while await anext(lines) != wanted:
        pass


async def test_a_server_whose_keys_say_no_algorithm_is_registered_with_one(
    tmp_path: Path, ca: ClientCa
) -> None:
    async with authorization_server(ca, "ES256") as server, running_broker(tmp_path) as broker:
        await broker.broker.external.register(server.keys_url, None)
        token = await server.token(trust_of(ca))
        assert await status_with(broker, token) == 401
        await broker.broker.external.register(server.keys_url, "ES256")
        assert await status_with(broker, token) == 200


async def test_a_server_that_goes_away_leaves_its_keys(
    tmp_path: Path, ca: ClientCa, server: Authorization
) -> None:
    async with running_broker(tmp_path) as broker:
        await broker.broker.external.register(server.keys_url, None)
        token = await server.token(trust_of(ca))
        assert await status_with(broker, token) == 200
        server.is_down = True
        assert await status_with(broker, await server.token(trust_of(ca))) == 200
    async with running_broker(tmp_path) as broker:
        assert await status_with(broker, token) == 401, "nobody can tell whether it is good"
        server.is_down = False
        await broker.broker.external.check_keys(server.keys_url)


@pytest.mark.parametrize(
    ("settings", "claims", "scope", "status"),
    [
        ({"issuers": "{issuer}"}, {}, "a", 200),
        ({"issuers": "https://elsewhere, {issuer}"}, {}, "a", 200),
        ({"issuers": "https://elsewhere"}, {}, "a", 401),
        ({"audiences": "dcv-session-manager"}, {}, "a", 200),
        ({"audiences": "other"}, {}, "a", 401),
        ({"audiences": "other"}, {"aud": ["one", "other"]}, "a", 200),
        ({"required_scopes": "dcv-session-manager/sm_scope"}, {}, "x dcv-session-manager/sm_scope", 200),
        ({"required_scopes": "dcv-session-manager/sm_scope"}, {}, "dcv-session-manager/sm_scope_2", 401),
        ({"required_scopes": "a, b"}, {}, "b", 401),
        ({"required_scopes": "a, b"}, {}, "b a", 200),
        ({"required_scopes": "a"}, {"scp": ["a"]}, "b", 200),
    ],
)
async def test_what_the_settings_ask_of_tokens_is_checked(
    tmp_path: Path,
    ca: ClientCa,
    server: Authorization,
    settings: dict[str, str],
    claims: dict[str, Any],
    scope: str,
    status: int,
) -> None:
    named: dict[str, Any] = {
        f"ext_external_auth_{name}": value.replace("{issuer}", server.issuer)
        for name, value in settings.items()
    }
    async with running_broker(tmp_path, None, **named) as broker:
        await broker.broker.external.register(server.keys_url, None)
        server.claims = claims
        assert await status_with(broker, await server.token(trust_of(ca), scope)) == status


async def test_a_server_whose_certificate_nobody_vouches_for_is_not_asked(
    tmp_path: Path, ca: ClientCa, server: Authorization, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ClientCa.make(tmp_path, "other")
    monkeypatch.setenv("SSL_CERT_FILE", str(other.file))
    async with running_broker(tmp_path) as broker:
        config = write_config(tmp_path)
        status, _, errors = await broker_command(
            "register-auth-server", "--url", server.keys_url, "--check", "--config", config
        )
        assert status == 1
        assert "certificate" in errors
        await broker.broker.external.register(server.keys_url, None)
        assert await status_with(broker, await server.token(trust_of(ca))) == 401
    assert server.fetches == 0
