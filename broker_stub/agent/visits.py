"""What the entrance of a host asks of its backend: let a person in to a session, or say why not.

The entrance speaks HTTP and WebSocket and knows no session; the backend knows its
sessions and no network. A visit is what they share while somebody is connected.
"""

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol


class EntryRefused(Exception):  # noqa: N818  named by what happened
    """Nobody gets in that way.

    Args:
        status: The answer in HTTP.
        sentence: Why, for the person who tried; it holds nothing about other people.
    """

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


@dataclass(slots=True, eq=False, kw_only=True)
class Visit:
    """One client connected to a session.

    Attributes:
        rights: The features that the session's permissions give this person now; may change.
        ended: Set when the person must go; `reason` says why.
    """

    session_id: str
    user: str
    rights: frozenset[str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""

    def end(self, reason: str) -> None:
        """Show the person out.

        Args:
            reason: One short sentence for the person, at most 120 bytes.
        """
        self.reason = reason
        self.ended.set()


class Reception(Protocol):
    """Lets people in to the sessions of a host."""

    async def admit(self, session_id: str, user: str) -> Visit:
        """Let somebody in whose identity has been checked.

        Raises:
            EntryRefused: no such session, no permission, too many clients, or its screen is gone.
        """
        ...

    async def leave(self, visit: Visit) -> None:
        """A visit is over; called once for each visit that was admitted."""
        ...
