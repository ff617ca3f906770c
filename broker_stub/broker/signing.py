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


class Signer:
    """Issues and checks the tokens of one purpose.

    Args:
        issuer: The `iss` claim.
        keys: Private keys (PEM) by key id, the one that signs last.
        now: Seconds since the epoch.
        remembered: How many verified tokens to keep, so that a busy client costs no signature check.
    """

    def __init__(
        self, issuer: str, keys: Mapping[str, bytes], now: Callable[[], float], remembered: int = 10_000
    ) -> None:
        self._issuer = issuer
        self._keys = {kid: RSAKey.import_key(pem) for kid, pem in keys.items()}
        self._kid = list(self._keys)[-1]
        self._now = now
        self._remembered = remembered
        self._verified: dict[bytes, dict[str, Any]] = {}

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
        header = {"alg": _ALGORITHM, "kid": self._kid}
        return jwt.encode(header, stated, self._keys[self._kid], algorithms=[_ALGORITHM])

    def check(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that was issued here and has not ended, else `None`."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._verified.get(digest)
        if claims is None:
            claims = self._verify(token)
            if claims is None:
                return None
            while len(self._verified) >= self._remembered:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = claims
        if claims["exp"] <= self._now():
            self._verified.pop(digest, None)
            return None
        return claims

    def _verify(self, token: str) -> dict[str, Any] | None:
        if len(token) > _LONGEST or not _COMPACT.match(token) or not _is_canonical(token.rpartition(".")[2]):
            return None
        try:
            claims = jwt.decode(token, self._key_of, algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError, TypeError):
            return None
        known = claims.get("iss") == self._issuer and isinstance(claims.get("exp"), int)
        return claims if known else None

    def _key_of(self, token: Any) -> RSAKey:
        key = self._keys.get(str(token.headers().get("kid")))
        if key is None:
            raise InvalidKeyIdError
        return key


def _is_canonical(signature: str) -> bool:
    """Whether the text is the one encoding of its bytes.

    The last letter of Base64 can have unused bits, so that a changed token would still verify.
    """
    try:
        decoded = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    except binascii.Error:
        return False
    return base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() == signature
