"""The software statements that let agents register: known ones, new ones, ones that were deactivated.

The one that every installation knows is among them, although the store holds it
only once it was deactivated. Their texts and how they are made: `software_statement`.
"""

import hashlib
import secrets
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import datetime

from broker_stub import software_statement
from broker_stub.broker.store import SoftwareStatement

ACTIVE, INACTIVE = "active", "inactive"

Clock = Callable[[], datetime]


class UnknownStatement(Exception):  # noqa: N818  named by what happened
    """No statement has the text."""


class Statements:
    """All statements of a broker.

    Args:
        known: What the store held.
        save: Writes one durably.
        now: The clock.
        accept_default: Whether the statement that every installation knows may be used at all.
    """

    def __init__(
        self,
        known: Iterable[SoftwareStatement],
        save: Callable[[SoftwareStatement], Awaitable[None]],
        now: Clock,
        accept_default: bool = True,
    ) -> None:
        default = SoftwareStatement(
            software_statement.DEFAULT,
            ACTIVE if accept_default else INACTIVE,
            software_statement.DEFAULT_ISSUED_AT,
        )
        # By digest: how long a look-up takes must not tell how much of a guess was right.
        self._statements = {_digest(one.text): one for one in (default, *known)}
        self._save = save
        self._now = now
        if not accept_default:
            self._statements[_digest(default.text)] = default

    @property
    def is_default_active(self) -> bool:
        """Whether anybody who knows this program can register an agent."""
        return self.is_active(software_statement.DEFAULT)

    def all(self) -> list[SoftwareStatement]:
        """Every statement, oldest first, inactive ones included."""
        return sorted(self._statements.values(), key=lambda one: one.created_at)

    def is_active(self, text: str) -> bool:
        """Whether an agent may register with the statement."""
        found = self._statements.get(_digest(text))
        return found is not None and found.status == ACTIVE

    async def generate(self) -> str:
        """Make a statement that nobody can guess; its text is what agents are given.

        Raises:
            StoreUnavailable: it cannot be kept; it does not count.
        """
        now = self._now()
        text = software_statement.make(str(uuid.uuid4()), secrets.token_urlsafe(32), now)
        statement = SoftwareStatement(text, ACTIVE, now)
        await self._save(statement)
        self._statements[_digest(text)] = statement
        return text

    async def deactivate(self, text: str) -> None:
        """Let no further agent register with a statement; those that did stay registered.

        Raises:
            UnknownStatement: there is none with that text.
            StoreUnavailable: the change cannot be kept; it does not count.
        """
        found = self._statements.get(_digest(text))
        if found is None:
            raise UnknownStatement
        if found.status == INACTIVE:
            return
        inactive = replace(found, status=INACTIVE)
        await self._save(inactive)
        self._statements[_digest(text)] = inactive


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).digest()
