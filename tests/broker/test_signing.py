"""Tokens of one purpose: what is accepted, and above all what is not."""

import base64
import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from broker_stub.broker.signing import RingKey, Signer, new_key_pem, public_pem

PEM = new_key_pem()
OTHER_PEM = new_key_pem()


class Clock:
    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def signer(clock: Clock, remembered: int = 100, **keys: bytes) -> Signer:
    ring = {kid: RingKey(pem) for kid, pem in (keys or {"one": PEM}).items()}
    return Signer("us", ring, clock, remembered)


def test_a_token_states_what_it_was_issued_for(clock: Clock) -> None:
    claims = signer(clock).check(signer(clock).issue(60, sub="alice"))
    assert claims is not None
    assert (claims["iss"], claims["sub"], claims["exp"] - claims["iat"]) == ("us", "alice", 60)


def test_two_tokens_of_one_moment_differ(clock: Clock) -> None:
    tokens = signer(clock)
    assert tokens.issue(60, sub="a") != tokens.issue(60, sub="a")


def test_a_token_ends_when_it_said_also_when_remembered(clock: Clock) -> None:
    tokens = signer(clock)
    token = tokens.issue(60, sub="a")
    clock.time += 59
    assert tokens.check(token)
    clock.time += 1
    assert tokens.check(token) is None
    assert signer(clock).check(token) is None


def test_older_keys_still_check_and_the_last_one_signs(clock: Clock) -> None:
    old = signer(clock, one=PEM).issue(60, sub="a")
    ring = signer(clock, one=PEM, two=OTHER_PEM)
    assert ring.check(old)
    assert signer(clock, two=OTHER_PEM).check(ring.issue(60, sub="b"))
    assert signer(clock, two=OTHER_PEM).check(old) is None


def test_every_changed_character_is_noticed(clock: Clock) -> None:
    tokens = signer(clock)
    token = tokens.issue(60, sub="a")
    assert tokens.check(token)
    for at in range(len(token)):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        assert tokens.check(changed) is None, f"character {at}"


def test_spare_characters_are_not_skipped(clock: Clock) -> None:
    tokens = signer(clock)
    token = tokens.issue(60, sub="a")
    for changed in (token + "=", token + "\n", " " + token, token + "!", token.replace(".", "..", 1)):
        assert tokens.check(changed) is None


def encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


@pytest.mark.covers("B28")
def test_other_algorithms_are_refused(clock: Clock) -> None:
    """Unsigned tokens are refused, and those of a shared secret, another key or another algorithm."""
    tokens = signer(clock)
    claims = {"iss": "us", "sub": "a", "exp": int(clock.time) + 60}
    unsigned = f"{encoded({'alg': 'none', 'kid': 'one'})}.{encoded(claims)}."
    public = RSAKey.import_key(PEM).as_pem(private=False)
    keyed = jwt.encode({"alg": "HS256", "kid": "one"}, claims, OctKey.import_key(base64.b64encode(public)))
    other = jwt.encode({"alg": "RS256", "kid": "one"}, claims, RSAKey.import_key(OTHER_PEM))
    no_kid = jwt.encode({"alg": "RS256"}, claims, RSAKey.import_key(PEM))
    wider = jwt.encode({"alg": "PS256", "kid": "one"}, claims, RSAKey.import_key(PEM), algorithms=["PS256"])
    for token in (unsigned, keyed, other, no_kid, wider):
        assert tokens.check(token) is None


@pytest.mark.parametrize(
    "claims", [{}, {"iss": "us"}, {"iss": "them", "exp": 2_000_000_000}, {"iss": "us", "exp": "2000000000"}]
)
def test_what_the_right_key_signed_for_another_purpose_is_refused(
    clock: Clock, claims: dict[str, Any]
) -> None:
    token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, RSAKey.import_key(PEM))
    assert signer(clock).check(token) is None


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b", "a.b.c", "é.é.é", "\ud800", "a" * 100_000, "e30.e30.e30"]
)
def test_nonsense_is_refused(clock: Clock, text: str) -> None:
    assert signer(clock).check(text) is None


def test_the_memory_of_verified_tokens_is_bounded(clock: Clock) -> None:
    tokens = signer(clock, remembered=3)
    issued = [tokens.issue(60, sub=str(number)) for number in range(10)]
    for token in issued * 2:
        assert tokens.check(token)
    assert len(tokens._verified) == 3


def test_a_key_with_an_end_checks_until_then_and_never_signs(clock: Clock) -> None:
    old = signer(clock).issue(600, sub="a")
    retired = RingKey(public_pem(PEM), clock.time + 30)
    ring = Signer("us", {"one": retired, "two": RingKey(OTHER_PEM)}, clock)
    assert ring.check(old)
    assert signer(clock, two=OTHER_PEM).check(ring.issue(60, sub="b"))
    clock.time += 30
    assert ring.check(old) is None, "also when it was remembered"
    assert ring.read(old) is None


def test_other_keys_take_effect_at_once(clock: Clock) -> None:
    tokens = signer(clock)
    old = tokens.issue(60, sub="a")
    assert tokens.check(old)
    tokens.replace_keys({"two": RingKey(OTHER_PEM)})
    assert tokens.check(old) is None
    assert tokens.check(tokens.issue(60, sub="a"))


def test_a_token_that_has_ended_can_still_be_told_from_a_forged_one(clock: Clock) -> None:
    tokens = signer(clock)
    token = tokens.issue(60, sub="a")
    clock.time += 60
    reading = tokens.read(token)
    assert reading is not None
    assert (reading.is_over, reading.claims["sub"]) == (True, "a")
    assert tokens.read(token[:-4] + "AAAA") is None
