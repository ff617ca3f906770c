"""`NextToken`: the last key a client has seen, signed so that only what was issued is accepted.

A token says where to go on, not how far; it does not end and survives a restart
as long as the secret does.
"""

import base64
import binascii
import hashlib
import hmac
import json

_MAC_BYTES = 16
_LONGEST = 1024
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class PageTokens:
    """Issues and reads the tokens of one broker.

    Args:
        secret: Kept in the store, at least 32 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, operation: str, key: tuple[str, ...]) -> str:
        """The token that continues after a key.

        Args:
            operation: The operation whose pages it continues; others do not accept it.
            key: The key of the last entity on the page.
        """
        payload = _ENCODER.encode(key).encode("utf-8", "surrogatepass")
        return _encode(self._mac(operation, payload) + payload)

    def read(self, operation: str, token: str) -> tuple[str, ...] | None:
        """The key of a token, or `None` if it was not issued by this operation of this broker."""
        if len(token) > _LONGEST or not token.isascii():
            return None
        try:
            content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        if _encode(content) != token:  # the last letter can have unused bits
            return None
        mac, payload = content[:_MAC_BYTES], content[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(operation, payload)):
            return None
        return tuple(json.loads(payload.decode("utf-8", "surrogatepass")))

    def _mac(self, operation: str, payload: bytes) -> bytes:
        return hmac.digest(self._secret, operation.encode() + b"\0" + payload, hashlib.sha256)[:_MAC_BYTES]


def _encode(content: bytes) -> str:
    return binascii.b2a_base64(content, newline=False).translate(_URL_SAFE).rstrip(b"=").decode()
