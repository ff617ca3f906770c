"""Software statements: what an agent shows to be allowed to register (RFC 7591).

A statement is Base64 of a small JSON object. Broker and agent come with one
that everybody knows; it makes a plain installation work and protects nothing.
Used by the broker's `oauth` and by the agent's first contact.
"""

import base64
import json
from datetime import datetime


def make(id: str, secret: str, issued_at: datetime) -> str:
    """The text of a statement.

    Args:
        id: A UUID.
        secret: What keeps the statement from being guessed; empty for the public one.
        issued_at: When it was made.
    """
    # The original writes nine decimals; its own tools print the number as it stands.
    content = f'{{"id":{json.dumps(id)},"active":true,"issuedAt":{issued_at.timestamp():.9f}'
    content += ',"brokerVersion":"1.0.0"' + (f',"secret":{json.dumps(secret)}' if secret else "") + "}"
    return base64.b64encode(content.encode()).decode()


DEFAULT_ISSUED_AT = datetime.fromisoformat("2025-01-01T00:00:00+00:00")
DEFAULT = make("3f6c8a14-6d0e-4b6c-9a55-0d6f5e0c7b21", "", DEFAULT_ISSUED_AT)
"""The statement that every installation knows."""
