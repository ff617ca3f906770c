"""Tokens of external servers: what is accepted, for how long, and how often their keys are asked for."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from broker_stub.broker.external_tokens import Demands, ExternalServers, ServerRefused, UnknownServer
from broker_stub.broker.key_sets import ALGORITHMS, KeysNotFetched
from broker_stub.broker.store import AuthServer
from tests.authorization_server import Key, new_key

URL = "https://my-auth-server.com/.well-known/jwks.json"
OTHER = "https://your-auth-server.com/.well-known/jwks.json"


class World:
    """The servers of the world, their keys, and the time."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, tzinfo=UTC)
        self.documents: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.kept: dict[str, AuthServer] = {}

    def now(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    def publish(self, *keys: Key, url: str = URL) -> None:
        self.documents[url] = json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode()

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        await self.answers.wait()
        if url not in self.documents:
            raise KeysNotFetched("nobody is there")
        return self.documents[url]

    async def save(self, server: AuthServer) -> None:
        self.kept[server.url] = server

    async def remove(self, url: str) -> None:
        del self.kept[url]

    def token(self, key: Key, algorithm: str = "RS256", kid: Any = None, **claims: Any) -> str:
        stated = {"exp": self.time.timestamp() + 600, "client_id": "a-program", **claims}
        header = {"alg": algorithm, "kid": key.kid if kid is None else kid}
        return jwt.encode(header, stated, key, algorithms=[algorithm])


async def settled() -> None:
    """Let everything go on that waits for nothing from outside."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def key() -> Key:
    return new_key("RS256")


@pytest.fixture(scope="module")
def later_key() -> Key:
    return new_key("RS256")


@pytest.fixture
async def servers(world: World, key: Key) -> AsyncIterator[ExternalServers]:
    """One server that is registered and whose keys were fetched."""
    world.publish(key)
    made = ExternalServers((), world.save, world.remove, world.fetch, world.now)
    await made.register(URL, None)
    assert await made.check(world.token(key))
    assert world.asked == [URL]
    yield made
    made.close()


# ------------------------------------------------------------------ signatures


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_every_allowed_algorithm_is_taken_from_its_key(world: World, algorithm: str) -> None:
    key = new_key(algorithm, alg=algorithm)
    world.publish(key)
    servers = ExternalServers((), world.save, world.remove, world.fetch, world.now)
    await servers.register(URL, None)
    token = world.token(key, algorithm)
    assert await servers.check(token) == "external client a-program"
    for other in set(ALGORITHMS) - {algorithm}:
        await servers.register(URL, other)
        assert await servers.check(token) is None, "the server was registered with another algorithm"


async def test_a_key_without_an_algorithm_signs_with_rs256_or_what_was_registered(
    world: World, key: Key, servers: ExternalServers
) -> None:
    assert await servers.check(world.token(key, "RS256"))
    assert await servers.check(world.token(key, "RS512")) is None
    await servers.register(URL, "RS512")
    assert await servers.check(world.token(key, "RS512"))
    assert await servers.check(world.token(key, "RS256")) is None


@pytest.mark.covers("B28")
async def test_forged_tokens_are_refused(
    world: World, key: Key, later_key: Key, servers: ExternalServers
) -> None:
    """Tokens that are unsigned, signed with a public key as a shared secret, or by a stranger are refused."""
    good = world.token(key)
    header, claims, signature = good.split(".")
    none = (
        base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": key.kid}).encode()).rstrip(b"=").decode()
    )
    public = base64.b64encode(json.dumps(key.as_dict(private=False)).encode())
    for forged in (
        f"{none}.{claims}.",
        f"{none}.{claims}.{signature}",
        jwt.encode(
            {"alg": "HS256", "kid": key.kid}, {"exp": 2_000_000_000}, OctKey.import_key(public.decode())
        ),
        world.token(later_key, kid=key.kid),
        world.token(key, kid=""),
        world.token(key, kid="unknown"),
        jwt.encode({"alg": "RS256"}, {"exp": 2_000_000_000}, key),
        f"{header}.{claims}.{signature[:-4]}AAAA",
        f"{header}.{claims}.{signature}=",
        f"{header}.{claims[:-2]}.{signature}",
        f" {good}",
        "",
        "a.b.c",
        "\ud800",
        "x" * 100_000,
        f"{'x' * 30_000}.{claims}.{signature}",
    ):
        assert await servers.check(forged) is None
    assert await servers.check(good)


# ------------------------------------------------------------------ claims


@pytest.mark.covers("B28")
async def test_a_token_counts_in_its_time_with_a_minute_of_leeway(
    world: World, key: Key, servers: ExternalServers
) -> None:
    """A token past its end or not yet valid is refused; clocks may differ by up to a minute."""
    now = world.time.timestamp()
    token = world.token(key, exp=now + 10)
    for at, is_good in ((0, True), (10, True), (69.9, True), (70, False)):
        world.time = datetime.fromtimestamp(now + at, UTC)
        assert (await servers.check(token) is not None) is is_good, at
    world.time = datetime.fromtimestamp(now, UTC)
    early = world.token(key, nbf=now + 70)
    assert await servers.check(early) is None
    world.advance(10)
    assert await servers.check(early)


@pytest.mark.parametrize(
    "claims",
    [{"exp": None}, {"exp": "soon"}, {"exp": True}, {"exp": [1]}, {"nbf": "now"}, {"nbf": True}],
)
async def test_times_that_are_no_numbers_are_no_times(
    world: World, key: Key, servers: ExternalServers, claims: dict[str, Any]
) -> None:
    token = world.token(key)
    stated = {"exp": world.time.timestamp() + 600} | claims
    token = jwt.encode({"alg": "RS256", "kid": key.kid}, stated, key)
    assert await servers.check(token) is None


async def test_demands_that_change_count_for_remembered_tokens_too(
    world: World, key: Key, servers: ExternalServers
) -> None:
    token = world.token(key, iss="https://a", aud=["one", 5], scope="x y")
    assert await servers.check(token)
    for demands, is_good in (
        (Demands(issuers=("https://a",), audiences=("two", "one"), scopes=("y", "x")), True),
        (Demands(issuers=("https://b",)), False),
        (Demands(audiences=("5",)), False),
        (Demands(scopes=("x", "z")), False),
    ):
        servers.demands = demands
        assert (await servers.check(token) is not None) is is_good


async def test_a_caller_is_named_by_what_the_token_says(
    world: World, key: Key, servers: ExternalServers
) -> None:
    assert await servers.check(world.token(key, client_id=None, azp="app", sub="s")) == "external client app"
    assert await servers.check(world.token(key, client_id=None, sub="s")) == "external client s"
    assert await servers.check(world.token(key, client_id=None)) == "external client"
    assert len(await servers.check(world.token(key, client_id="x" * 5000)) or "") < 300


# ------------------------------------------------------------------ keys


@pytest.mark.covers("B27")
async def test_a_rotation_is_followed_with_one_question_a_minute(
    world: World, key: Key, later_key: Key, servers: ExternalServers
) -> None:
    """A token of a new key makes the broker look for it at once, but unknown keys only once a minute."""
    world.publish(later_key)
    old, new = world.token(key), world.token(later_key)
    assert await servers.check(new)
    assert await servers.check(old) is None
    assert world.asked == [URL] * 2
    for at in range(20):
        assert await servers.check(world.token(key, kid=f"made-up-{at}")) is None
    assert world.asked == [URL] * 2
    world.publish(key)
    world.advance(59)
    assert await servers.check(old) is None
    world.advance(1)
    assert await servers.check(world.token(key))
    assert await servers.check(new) is None
    assert world.asked == [URL] * 3


async def test_many_tokens_of_a_new_key_wait_for_one_answer(
    world: World, later_key: Key, servers: ExternalServers
) -> None:
    world.publish(later_key)
    world.answers.clear()
    tokens = [world.token(later_key, jti=str(number)) for number in range(20)]
    checks = [asyncio.create_task(servers.check(token)) for token in tokens]
    while len(world.asked) < 2:  # noqa: ASYNC110  the question has no event to wait for
        await asyncio.sleep(0)
    world.answers.set()
    assert all(await asyncio.gather(*checks))
    assert world.asked == [URL] * 2


async def test_known_keys_need_no_answer_while_they_are_renewed_or_the_server_is_down(
    world: World, key: Key, servers: ExternalServers
) -> None:
    world.advance(3600)
    world.answers.clear()
    assert await servers.check(world.token(key)), "the set is old, and the answer to come is not waited for"
    while len(world.asked) < 2:  # noqa: ASYNC110  the question has no event to wait for
        await asyncio.sleep(0)
    del world.documents[URL]
    world.answers.set()
    await settled()
    for _ in range(22):
        world.advance(3600)
        assert await servers.check(world.token(key))
        await settled()
    assert len(world.asked) == 24, "the server is asked again and again"
    world.advance(3600)
    assert await servers.check(world.token(key)) is None, "a day without an answer"


async def test_a_key_that_is_withdrawn_goes_with_the_next_renewal(
    world: World, key: Key, later_key: Key, servers: ExternalServers
) -> None:
    token = world.token(key, exp=world.time.timestamp() + 10_000)
    world.publish(later_key)
    world.advance(3599)
    assert await servers.check(token)
    world.advance(1)
    await servers.check(token)
    await settled()
    assert await servers.check(token) is None


async def test_equal_keys_after_a_renewal_leave_remembered_tokens_alone(
    world: World, key: Key, servers: ExternalServers
) -> None:
    token = world.token(key, exp=world.time.timestamp() + 100_000)
    assert await servers.check(token)
    before = dict(servers._verified)
    world.advance(3600)
    await servers.check(token)
    await settled()
    assert await servers.check(token)
    assert all(servers._verified[digest] is one for digest, one in before.items())


async def test_servers_with_keys_of_one_name_do_not_stand_in_each_others_way(
    world: World, key: Key, later_key: Key, servers: ExternalServers
) -> None:
    world.publish(new_key("RS256", kid=str(key.kid)), url=OTHER)
    await servers.register(OTHER, None)
    await settled()
    assert await servers.check(world.token(key))
    world.publish(later_key, url=OTHER)
    assert await servers.check(world.token(later_key))
    await servers.unregister(OTHER)
    assert await servers.check(world.token(later_key)) is None
    assert await servers.check(world.token(key))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"keys": 5}',
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [5, null, {}]}',
        b"[" * 100_000,
        b'{"keys": [{"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB"}]}',
        b'{"keys": [{"kty": "RSA", "kid": "k", "n": "!", "e": 5}]}',
        b'{"keys": [{"kty": "oct", "kid": "k", "k": "c2VjcmV0"}]}',
        b'{"keys": [{"kty": "EC", "kid": "k", "crv": "P-256", "x": "AA", "y": "AA"}]}',
        b'{"keys": [{"kty": "OKP", "kid": "k", "crv": "Ed25519", "x": "AA"}]}',
    ],
)
async def test_a_document_without_a_key_that_can_be_used_is_told(world: World, document: bytes) -> None:
    world.documents[URL] = document
    servers = ExternalServers((), world.save, world.remove, world.fetch, world.now)
    with pytest.raises(KeysNotFetched):
        await servers.check_keys(URL)


async def test_of_a_mixed_document_the_keys_that_can_be_used_are(world: World, key: Key) -> None:
    other = new_key("RS256")
    encrypting = other.as_dict(private=False) | {"use": "enc"}
    nameless = new_key("RS256").as_dict(private=False)
    del nameless["kid"]
    odd = new_key("RS256").as_dict(private=False) | {"alg": "HS256"}
    good = key.as_dict(private=False) | {"use": "sig", "x5c": ["nonsense"], "x5t": "!"}
    listed = [encrypting, nameless, odd, 5, good]
    world.documents[URL] = json.dumps({"keys": listed}).encode()
    servers = ExternalServers((), world.save, world.remove, world.fetch, world.now)
    await servers.register(URL, None)
    assert await servers.check(world.token(key))
    assert await servers.check(world.token(other)) is None


# ------------------------------------------------------------------ registration


async def test_servers_are_kept(world: World, key: Key, servers: ExternalServers) -> None:
    await servers.register(URL, "RS256")
    assert world.kept[URL].algorithm == "RS256"
    again = ExternalServers(world.kept.values(), world.save, world.remove, world.fetch, world.now)
    again.warm_up()
    assert await again.check(world.token(key))
    await again.unregister(URL)
    assert world.kept == {}
    assert await again.check(world.token(key)) is None
    with pytest.raises(UnknownServer):
        await again.unregister(URL)


@pytest.mark.parametrize(
    ("url", "algorithm"),
    [
        ("", None),
        ("https://", None),
        ("http://a.example/.well-known/jwks.json", None),
        ("http://127.0.0.1.example/", None),
        ("file:///etc/passwd", None),
        ("https://ana@a.example/", None),
        ("https://a.example/\n", None),
        ("https://a.example/ b", None),
        (f"https://a.example/{'x' * 600}", None),
        ("https://[::1", None),
        (URL, "HS256"),
        (URL, ""),
    ],
)
async def test_what_cannot_be_trusted_is_not_registered(
    world: World, url: str, algorithm: str | None
) -> None:
    servers = ExternalServers((), world.save, world.remove, world.fetch, world.now)
    with pytest.raises(ServerRefused):
        await servers.register(url, algorithm)
    assert world.kept == {}
    assert servers.all() == []
