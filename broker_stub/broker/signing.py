"""Signed tokens (JWT, RS256) of one purpose: a ring of keys, issuing and checking.

Knows nothing of clients or sessions; `oauth` says what the claims mean. Checking
accepts only what was issued here: one algorithm, a known key id, the plain
encoding, an end in the future.
"""

import base64
import binascii
import hashlib
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import RSAKey

_ALGORITHM = "RS256"
_KEY_BITS = 2048
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
_LONGEST = 8192  # far above any token of ours; keeps the decoder away from nonsense


def new_key_pem() -> bytes:
    """A fresh private key. Takes tens of milliseconds: not for the event loop."""
    return RSAKey.generate_key(_KEY_BITS).as_pem(private=True)


def public_pem(pem: bytes) -> bytes:
    """The public half of a key."""
    return RSAKey.import_key(pem).as_pem(private=False)


@dataclass(frozen=True, slots=True)
class RingKey:
    """A key of a ring; one with an end (seconds since the epoch) only checks what it signed before."""

    pem: bytes
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a token says that was issued here; `is_over` when its end has passed."""

    claims: dict[str, Any]
    is_over: bool


@dataclass(frozen=True, slots=True)
class _Verified:
    kid: str
    claims: dict[str, Any]
    good_until: float
    """Until the token or its key ends."""
    reading: Reading
    """What is answered until then."""


class Signer:
    """Issues and checks the tokens of one purpose.

    Args:
        issuer: The `iss` claim.
        keys: Keys by key id; the last one signs and must be private.
        now: Seconds since the epoch.
        remembered: How many verified tokens to keep, so that a busy client costs no signature check.
    """

    def __init__(
        self, issuer: str, keys: Mapping[str, RingKey], now: Callable[[], float], remembered: int = 10_000
    ) -> None:
        self._issuer = issuer
        self._now = now
        self._remembered = remembered
        self.replace_keys(keys)

    def replace_keys(self, keys: Mapping[str, RingKey]) -> None:
        """Sign and check with other keys from now on; tokens of the others are refused at once."""
        self._keys = {kid: (RSAKey.import_key(key.pem), key.ends_at) for kid, key in keys.items()}
        self._kid = list(self._keys)[-1]
        self._verified: dict[bytes, _Verified] = {}

    def issue(self, lifetime_s: float, **claims: str) -> str:
        """A new token, different from every other.

        Args:
            lifetime_s: Seconds until it ends.
            claims: What it states.
        """
        now = int(self._now())
        stated = {
            "iss": self._issuer,
            "iat": now,
            "exp": now + int(lifetime_s),
            "jti": uuid.uuid4().hex,
            **claims,
        }
        header = {"alg": _ALGORITHM, "kid": self._kid, "typ": "JWT"}
        return jwt.encode(header, stated, self._keys[self._kid][0], algorithms=[_ALGORITHM])

    def check(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that was issued here and has not ended, else `None`."""
        reading = self.read(token)
        return None if reading is None or reading.is_over else reading.claims

    def read(self, token: str) -> Reading | None:
        """What a token says that was issued here, also after its end; else `None`."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        now = self._now()
        verified = self._verified.get(digest)
        if verified is not None and now < verified.good_until:  # nearly all requests end here
            return verified.reading
        verified = verified or self._verify(token)
        if verified is None:
            return None
        is_over = verified.claims["exp"] <= now
        if is_over or not self._checks(verified.kid, now):
            self._verified.pop(digest, None)
        elif digest not in self._verified:
            while len(self._verified) >= self._remembered:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = verified
        return Reading(verified.claims, is_over) if self._checks(verified.kid, now) else None

    def _verify(self, token: str) -> _Verified | None:
        if len(token) > _LONGEST or not is_compact(token):
            return None
        try:
            decoded = jwt.decode(token, self._key_of, algorithms=[_ALGORITHM])
        except (JoseError, ValueError, TypeError):
            return None
        claims = decoded.claims
        if claims.get("iss") != self._issuer or not isinstance(claims.get("exp"), int):
            return None
        kid = str(decoded.header["kid"])
        _, ends_at = self._keys[kid]
        good_until = claims["exp"] if ends_at is None else min(claims["exp"], ends_at)
        return _Verified(kid, claims, good_until, Reading(claims, is_over=False))

    def _checks(self, kid: str, now: float) -> bool:
        """Whether a key is still good for checking."""
        _, ends_at = self._keys[kid]
        return ends_at is None or now < ends_at

    def _key_of(self, token: Any) -> RSAKey:
        key, _ = self._keys.get(str(token.headers().get("kid")), (None, None))
        if key is None:
            raise InvalidKeyIdError
        return key


def is_compact(token: str) -> bool:
    """Whether a text has the three parts of a signed token, its signature in the one plain encoding."""
    return bool(_COMPACT.match(token)) and _is_canonical(token.rpartition(".")[2])


def _is_canonical(signature: str) -> bool:
    """Whether the text is the one encoding of its bytes.

    The last letter of Base64 can have unused bits, so that a changed token would still verify.
    """
    try:
        decoded = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    except binascii.Error:
        return False
    return base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() == signature
