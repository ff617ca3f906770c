"""Walks over all pages of a fleet, one after another: where the present one is, and what it has seen.

A page that tells the same as in the walk before need not be read again, unless
something else has changed meanwhile what it told. Pure; the poller asks and waits.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from dcvtui.fleet import Key

SERVERS, SESSIONS = "servers", "sessions"


@dataclass(slots=True, frozen=True)
class SweptPage:
    """What a page told.

    Attributes:
        digest: tells it from other pages; empty if the source does not say.
        keys: of the records on it.
        next_token: of the page after it.
    """

    digest: bytes
    keys: tuple[Key, ...]
    next_token: str | None


class Turn(Enum):
    """What follows a page."""

    PAGE = "another one"
    KIND = "the first page of sessions: all servers have been seen"
    END = "a new sweep: all sessions have been seen"


@dataclass(slots=True)
class Sweeps:
    """The present sweep, first over the servers, then over the sessions.

    Attributes:
        kind: what the next page holds.
        token: of the next page.
        pages: how many there were in this sweep.
        seen: the keys met in this sweep, by kind, also in other answers while it ran.
    """

    kind: str = SERVERS
    token: str | None = None
    pages: int = 0
    seen: dict[str, set[Key]] = field(default_factory=lambda: {SERVERS: set(), SESSIONS: set()})
    _read: dict[tuple[str, str | None], SweptPage] = field(default_factory=dict)
    _before: dict[tuple[str, str | None], SweptPage] = field(default_factory=dict)
    _touched: set[Key] = field(default_factory=set)

    @property
    def known_page(self) -> SweptPage | None:
        """The next page as it was in the sweep before, if all that it told still holds."""
        known = self._before.get((self.kind, self.token))
        return known if known and self._touched.isdisjoint(known.keys) else None

    def touch(self, keys: Iterable[Key]) -> None:
        """Something else than a page has changed these."""
        self._touched.update(keys)

    def take(self, page: SweptPage) -> Turn:
        """Go on after a page."""
        self.seen[self.kind].update(page.keys)
        self._touched.difference_update(page.keys)
        if page.digest:
            self._read[self.kind, self.token] = page
        self.pages += 1
        self.token = page.next_token
        if self.token:
            return Turn.PAGE
        if self.kind == SERVERS:
            self.kind = SESSIONS
            return Turn.KIND
        self._before = self._read
        # What is on no page any more need not be remembered.
        self._touched.intersection_update(key for one in self._before.values() for key in one.keys)
        self.restart()
        return Turn.END

    def restart(self) -> None:
        """Begin anew: what was seen so far says nothing about what was not."""
        self.kind, self.token, self.pages = SERVERS, None, 0
        self.seen = {SERVERS: set(), SESSIONS: set()}
        self._read = {}
